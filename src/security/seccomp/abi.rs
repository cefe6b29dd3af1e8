//! The system call conventions that a filter can tell apart, and their numbers.

use std::collections::HashMap;
use syscalls::{aarch64, x86, x86_64};

/// A calling convention: what linux/audit.h calls an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// 64-bit x86, without x32.
    X86_64,
    /// 32-bit x86, guest of a 64-bit kernel.
    I386,
    /// 64-bit Arm.
    Aarch64,
}

/// x32 calls come as `X86_64` with this bit set (arch/x86/include/uapi/asm/unistd.h).
pub const X32_BIT: u32 = 0x4000_0000;

impl Abi {
    /// The convention of `target_arch`, as Rust spells it.
    pub fn of_target(target_arch: &str) -> Option<Abi> {
        match target_arch {
            "x86_64" => Some(Abi::X86_64),
            "aarch64" => Some(Abi::Aarch64),
            _ => None,
        }
    }

    /// `AUDIT_ARCH_*` of linux/audit.h.
    pub fn audit_arch(self) -> u32 {
        match self {
            Abi::X86_64 => 0xc000_003e,
            Abi::I386 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
        }
    }

    /// What profiles call it in `includes.arches`: Go's name.
    pub fn go_name(self) -> &'static str {
        match self {
            Abi::X86_64 => "amd64",
            Abi::I386 => "x86",
            Abi::Aarch64 => "arm64",
        }
    }

    /// Are arguments 32 bits wide?
    pub fn is_narrow(self) -> bool {
        self == Abi::I386
    }

    /// Every system call with its number, by the name libseccomp uses.
    pub fn numbers(self) -> HashMap<&'static str, u32> {
        let last = match self {
            Abi::X86_64 => x86_64::Sysno::last().id(),
            Abi::I386 => x86::Sysno::last().id(),
            Abi::Aarch64 => aarch64::Sysno::last().id(),
        };
        (0..=last as u32).filter_map(|number| Some((self.name(number)?, number))).collect()
    }

    /// The name of system call `number`.
    pub fn name(self, number: u32) -> Option<&'static str> {
        let number = number as usize;
        match self {
            Abi::X86_64 => x86_64::Sysno::new(number).map(|call| call.name()),
            Abi::I386 => x86::Sysno::new(number).map(|call| call.name()),
            Abi::Aarch64 => match aarch64::Sysno::new(number)?.name() {
                "fstatat" => Some("newfstatat"),
                name => Some(name),
            },
        }
    }
}
