//! System call filters: the default one, compiled by build.rs, and those of profile files.

mod abi;
mod bpf;
mod compile;
#[cfg(test)]
mod differential;
mod profile;
mod single;

use super::capset::{self, CapSet};
use crate::error::Explain;
use abi::Abi;
use anyhow::{Context, Result, ensure};
pub use bpf::Instruction;
use profile::Environment;
pub use single::single_id_filter;
use std::borrow::Cow;

/// The filter of containers that ask for none: `default.json` for a container with the bounding set `caps`.
pub fn default_filter(caps: CapSet) -> Cow<'static, [Instruction]> {
    let gates = CapSet::from_bits(built::GATES);
    if caps.intersection(gates) == CapSet::DEFAULT.intersection(gates) {
        return Cow::Borrowed(&built::DEFAULT);
    }
    match from_profile(DEFAULT_PROFILE, caps) {
        Ok(filter) => Cow::Owned(filter),
        // Can't happen to a file of ours (a test tries every capability); if it does, the stricter filter it is.
        Err(_) => Cow::Borrowed(&built::DEFAULT),
    }
}

/// The filter of a network's process: `network.json`.
pub fn network_filter() -> &'static [Instruction] {
    &built::NETWORK
}

/// The filter that a profile of Docker's or Podman's JSON format asks for, on this machine and kernel, for a container
/// with the bounding set `caps`.
///
/// # Errors
/// More than 1 MiB, not a profile, something in it that `ctr` can't do, or too long a program.
pub fn from_profile(json: &[u8], caps: CapSet) -> Result<Vec<Instruction>> {
    ensure!(json.len() <= MAX_PROFILE, "seccomp profile: {} bytes, more than {MAX_PROFILE}", json.len());
    let environment = Environment { abi: native()?, caps, kernel: kernel_version() };
    profile::parse(json)
        .and_then(|profile| compile::compile(&profile, &environment))
        .context("seccomp profile")
        .hint("`--security-opt seccomp=unconfined` runs without a filter; the format is that of containers-seccomp.json(5)")
}

/// `static DEFAULT` and `NETWORK: [Instruction; _]`, and `const GATES: u64`, the capabilities that make a difference to the first.
mod built {
    use super::bpf::Instruction;
    include!(concat!(env!("OUT_DIR"), "/filters.rs"));
}

const DEFAULT_PROFILE: &[u8] = include_bytes!("default.json");
const MAX_PROFILE: usize = 1 << 20;

fn native() -> Result<Abi> {
    Abi::of_target(std::env::consts::ARCH).context("seccomp filters are for x86_64 and aarch64")
}

/// Major and minor version of the running kernel; (0, 0) where it doesn't begin like one.
fn kernel_version() -> (u32, u32) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::differential::{Call, run};
    use super::*;
    use std::collections::HashSet;

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const ENOSYS: u32 = 0x0005_0026;
    const EAFNOSUPPORT: u32 = 0x0005_0061;
    const KILL_PROCESS: u32 = 0x8000_0000;

    fn call(name: &str, args: &[u64]) -> Call {
        let abi = native().unwrap();
        let mut padded = [0; 6];
        padded[..args.len()].copy_from_slice(args);
        Call { arch: abi.audit_arch(), number: abi.numbers()[name], args: padded }
    }

    fn verdict(caps: CapSet, name: &str, args: &[u64]) -> u32 {
        run(&default_filter(caps), &call(name, args)).0
    }

    #[test]
    fn default_profile_decides_every_call_by_name() {
        let profile = profile::parse(DEFAULT_PROFILE).unwrap();
        let decided: HashSet<_> =
            profile.rules.iter().flat_map(|rule| &rule.names).map(String::as_str).collect();
        let known: HashSet<_> =
            [Abi::X86_64, Abi::Aarch64].iter().flat_map(|abi| abi.numbers().into_keys()).collect();
        assert_eq!(known.difference(&decided).collect::<Vec<_>>(), [&""; 0], "calls without a decision");
        assert_eq!(decided.difference(&known).collect::<Vec<_>>(), [&""; 0], "decisions without a call");
    }

    #[test]
    fn default_profile_holds_the_line() {
        let default = |name, args: &[u64]| verdict(CapSet::DEFAULT, name, args);
        for name in [
            "read",
            "openat2",
            "close_range",
            "clone",
            "futex_waitv",
            "mseal",
            "statmount",
            "ptrace",
            "chroot",
        ] {
            assert_eq!(default(name, &[]), ALLOW, "{name}");
        }
        let refused = "mount umount2 unshare setns pivot_root bpf perf_event_open keyctl add_key request_key kcmp \
            io_uring_setup io_uring_enter io_uring_register open_by_handle_at reboot swapon userfaultfd kexec_load \
            init_module syslog fsopen move_mount mount_setattr process_madvise pidfd_getfd settimeofday acct";
        for name in refused.split_whitespace() {
            assert_eq!(default(name, &[]), EPERM, "{name}");
        }
        assert_eq!(default("clone3", &[]), ENOSYS);
        for flag in [0x20000u64, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000] {
            assert_eq!(default("clone", &[flag | 17]), EPERM, "clone {flag:#x}");
            assert_eq!(default("clone", &[flag | 17 | 1 << 40]), EPERM, "clone {flag:#x}");
        }
        assert_eq!(default("clone", &[0x3d0f00]), ALLOW, "pthread_create");
        for persona in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
            assert_eq!(default("personality", &[persona]), ALLOW);
        }
        for persona in [1, 0x40000, 0x0400000, u64::MAX, 1 << 32] {
            assert_eq!(default("personality", &[persona]), EPERM, "personality {persona:#x}");
        }
    }

    #[test]
    fn default_profile_refuses_two_socket_families_however_wide() {
        for family in 0..64 {
            let expected = if family == 38 || family == 40 || family > 45 { EAFNOSUPPORT } else { ALLOW };
            assert_eq!(verdict(CapSet::DEFAULT, "socket", &[family]), expected, "family {family}");
            assert_eq!(verdict(CapSet::DEFAULT, "socketpair", &[family]), expected, "family {family}");
        }
        // The kernel drops the upper half.
        assert_eq!(verdict(CapSet::DEFAULT, "socket", &[38 | 1 << 32]), EAFNOSUPPORT);
        for request in [0x5412, 0x541c, 0x5412 | 1 << 32, 0x541c | 1 << 63] {
            assert_eq!(verdict(CapSet::DEFAULT, "ioctl", &[0, request]), EPERM, "ioctl {request:#x}");
        }
        assert_eq!(verdict(CapSet::DEFAULT, "ioctl", &[0, 0x5413]), ALLOW, "TIOCGWINSZ");
    }

    #[test]
    fn capabilities_open_their_calls() {
        let with = |name| CapSet::DEFAULT.union(CapSet::named(name).unwrap());
        for name in ["mount", "unshare", "clone3", "setns", "bpf", "pivot_root"] {
            assert_eq!(verdict(with("SYS_ADMIN"), name, &[]), ALLOW, "{name}");
        }
        assert_eq!(verdict(with("SYS_ADMIN"), "clone", &[0x10000000]), ALLOW);
        assert_eq!(verdict(with("SYS_ADMIN"), "socket", &[38]), EAFNOSUPPORT);
        assert_eq!(verdict(with("SYS_ADMIN"), "io_uring_setup", &[]), EPERM);
        assert_eq!(verdict(with("SYS_TIME"), "settimeofday", &[]), ALLOW);
        assert_eq!(verdict(with("SYS_PTRACE"), "kcmp", &[]), ALLOW);
        assert_eq!(verdict(CapSet::EMPTY, "chroot", &[]), EPERM);
    }

    #[test]
    fn foreign_architectures_are_killed() {
        for (arch, number) in
            [(0x4000_0003, 359), (0x4000_0003, 102), (0x4000_0028, 1), (native_arch(), 0x4000_0029)]
        {
            let verdict = run(&default_filter(CapSet::DEFAULT), &Call { arch, number, args: [1; 6] }).0;
            let expected =
                if arch == native_arch() && cfg!(target_arch = "aarch64") { ENOSYS } else { KILL_PROCESS };
            assert_eq!(verdict, expected, "{arch:#x} {number:#x}");
        }
    }

    fn native_arch() -> u32 {
        native().unwrap().audit_arch()
    }

    #[test]
    fn build_time_and_run_time_agree() {
        assert!(matches!(default_filter(CapSet::DEFAULT), Cow::Borrowed(_)));
        assert_eq!(*default_filter(CapSet::DEFAULT), from_profile(DEFAULT_PROFILE, CapSet::DEFAULT).unwrap());
        for capability in CapSet::from_bits(u64::MAX).iter() {
            for caps in [CapSet::of(&[capability]), CapSet::DEFAULT.union(CapSet::of(&[capability]))] {
                assert_eq!(*default_filter(caps), from_profile(DEFAULT_PROFILE, caps).unwrap(), "{caps}");
            }
        }
        let net_admin = CapSet::DEFAULT.union(CapSet::named("NET_ADMIN").unwrap());
        assert!(matches!(default_filter(net_admin), Cow::Borrowed(_)), "a capability of no rule");
    }

    /// 146 instructions, 10 for `read`, 16 for `socket` when this was written.
    #[test]
    fn default_filter_is_short() {
        let filter = default_filter(CapSet::DEFAULT);
        assert!(filter.len() <= 170, "{} instructions", filter.len());
        for name in
            ["read", "write", "openat", "futex", "mmap", "ioctl", "clone", "execve", "socket", "epoll_pwait"]
        {
            let steps = run(&filter, &call(name, &[1, 1])).1;
            assert!(steps <= 20, "{name}: {steps} steps");
        }
    }

    #[test]
    fn refuses_what_it_cannot_do_by_name() {
        let long = [b' '; MAX_PROFILE + 1];
        #[rustfmt::skip]
        let cases: [(&[u8], &str); 14] = [
            (b"", "EOF while parsing"),
            (b"\x7fELF", "expected value at line 1 column 1"),
            (b"{}", "missing field `defaultAction`"),
            (br#"{"defaultAction":"SCMP_ACT_PANIC"}"#, "unknown variant `SCMP_ACT_PANIC`"),
            (br#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "notification of another process"),
            (br#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#, "SCMP_ACT_ERRNO only"),
            (br#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"EWHAT"}"#, "unknown error EWHAT"),
            (br#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"]}"#, "flag SECCOMP_FILTER_FLAG_LOG"),
            (br#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/x"}"#, "listenerPath"),
            (br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":4096}]}"#, "rule for read: error number"),
            (br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":6,"op":"SCMP_CMP_EQ","value":1}]}]}"#, "index 6"),
            (br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":0,"op":"SCMP_CMP_NEAR","value":1}]}]}"#, "unknown variant `SCMP_CMP_NEAR`"),
            (br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG","includes":{"minKernel":"five"}}]}"#, "minKernel \"five\""),
            (&long, "more than 1048576"),
        ];
        for (json, expected) in cases {
            let error = format!("{:#}", from_profile(json, CapSet::DEFAULT).unwrap_err());
            assert!(error.starts_with("seccomp profile: ") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn hostile_size_is_bounded() {
        let args = vec![r#"{"index":0,"op":"SCMP_CMP_EQ","value":1}"#; 8000].join(",");
        let names = vec![r#""read""#; 40000].join(",");
        let rule = format!(r#"{{"names":[{names}],"action":"SCMP_ACT_LOG","args":[{args}]}}"#);
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#);
        let error = from_profile(json.as_bytes(), CapSet::DEFAULT).unwrap_err();
        assert!(error.to_string().contains("more than 65536 argument checks"), "{error}");
    }

    #[test]
    fn podmans_spelling_is_understood() {
        let json = br#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"defaultErrno":"ENOSYS","comment":"x",
            "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64"],"flags":null,"syscalls":[
            {"names":["read","a_call_of_tomorrow"],"action":"SCMP_ACT_ALLOW","args":[],"includes":{},"excludes":null},
            {"name":"write","action":"SCMP_ACT_ERRNO","errno":"EPERM","errnoRet":2,"args":null}]}"#;
        let filter = from_profile(json, CapSet::EMPTY).unwrap();
        let verdicts = ["read", "write", "close"].map(|name| run(&filter, &call(name, &[])).0);
        assert_eq!(verdicts, [ALLOW, EPERM, ENOSYS]);
    }
}
