//! Programs of a few bytes of machine code, in sealed memory files: what a container sees as /proc/PID/exe of a process that was
//! `ctr`, so that it never finds `ctr` there (CVE-2019-5736).

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::{Errno, write},
};
use std::{ffi::CStr, io, os::fd::OwnedFd};

/// `code` as an executable in memory that nobody can write.
pub fn program(name: &CStr, code: &[u8]) -> io::Result<OwnedFd> {
    let base = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC says that we mean it (vm.memfd_noexec); kernels before 6.3 don't know the flag.
    let file = match memfd_create(name, base | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create(name, base)?,
        other => other?,
    };
    let image = image(code);
    let mut rest = image.as_slice();
    while !rest.is_empty() {
        rest = &rest[write(&file, rest)?..];
    }
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// An ELF executable of one segment around the code (elf(5)).
fn image(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut elf = Vec::with_capacity(size as usize);
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2 /* ET_EXEC */, MACHINE] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    elf.extend_from_slice(&1u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    for word in [1 /* PT_LOAD */, 5u32 /* PF_R | PF_X */] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(code);
    elf
}

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
