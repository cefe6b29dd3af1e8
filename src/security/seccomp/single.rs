//! The filter of a container that has one user and one group: what asks for another owner or another user is answered with
//! success and not done, as fakeroot(1) and Charliecloud do, so that package managers, su(1) and daemons that drop privileges go
//! on. They keep the one id there is. The kernel answers whatever names that id alone.
//!
//! It is a program of its own, installed before the container's other one: of two verdicts the kernel takes the stricter, and
//! an error number of 0 is stricter than to allow.

use super::{CapSet, Instruction, from_profile};
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The filter where user `uid` and group `gid` are the only ones.
pub fn single_id_filter(uid: u32, gid: u32) -> Result<Vec<Instruction>> {
    let profile = serde_json::to_vec(&profile(uid, gid)).context("encode a filter")?;
    from_profile(&profile, CapSet::EMPTY)
}

/// Calls, and which of their arguments are a user and which a group; what is -1 stays as it is.
const CALLS: [(&[&str], &[u8], &[u8]); 9] = [
    (&["chown", "lchown", "fchown", "chown32", "lchown32", "fchown32"], &[1], &[2]),
    (&["fchownat"], &[2], &[3]),
    (&["setuid", "setfsuid", "setuid32", "setfsuid32"], &[0], &[]),
    (&["setgid", "setfsgid", "setgid32", "setfsgid32"], &[], &[0]),
    (&["setreuid", "setreuid32"], &[0, 1], &[]),
    (&["setregid", "setregid32"], &[], &[0, 1]),
    (&["setresuid", "setresuid32"], &[0, 1, 2], &[]),
    (&["setresgid", "setresgid32"], &[], &[0, 1, 2]),
    // In a user namespace of one id the kernel forbids it altogether.
    (&["setgroups", "setgroups32"], &[], &[]),
];

fn profile(uid: u32, gid: u32) -> Value {
    let mut rules = Vec::new();
    for (names, users, groups) in CALLS {
        let ids: Vec<(u8, u32)> =
            users.iter().map(|index| (*index, uid)).chain(groups.iter().map(|index| (*index, gid))).collect();
        for choice in (0..1u32 << ids.len()).filter(|_| !ids.is_empty()) {
            // An id is 32 bits wide, whatever else is in the register.
            let args: Vec<Value> = ids
                .iter()
                .enumerate()
                .map(|(at, (index, id))| {
                    let id = if choice >> at & 1 == 0 { *id } else { u32::MAX };
                    masked(*index, u64::from(u32::MAX), id.into())
                })
                .collect();
            rules.push(json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": args}));
        }
        rules.push(json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 0}));
    }
    // Devices; but overlay's whiteout, device 0:0, can be made.
    for (name, mode) in [("mknod", 1), ("mknodat", 2)] {
        let whiteout = [masked(mode + 1, u64::from(u32::MAX), 0)];
        rules.push(json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": whiteout}));
        for kind in [libc::S_IFCHR, libc::S_IFBLK] {
            let device = [masked(mode, libc::S_IFMT.into(), kind.into())];
            rules.push(json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 0, "args": device}));
        }
    }
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": rules})
}

fn masked(index: u8, mask: u64, value: u64) -> Value {
    json!({"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value})
}

#[cfg(test)]
mod tests {
    use super::super::{
        differential::{Call, run},
        native,
    };
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const SUCCESS: u32 = 0x0005_0000;

    fn verdict(filter: &[Instruction], name: &str, args: &[u64]) -> u32 {
        let abi = native().unwrap();
        let mut padded = [0; 6];
        padded[..args.len()].copy_from_slice(args);
        // x86 has calls that aarch64 never had.
        let Some(number) = abi.numbers().get(name).copied() else { return SUCCESS };
        run(filter, &Call { arch: abi.audit_arch(), number, args: padded }).0
    }

    #[test]
    fn only_what_the_kernel_could_not_do_is_answered() {
        const NO_CHANGE: u64 = 0xffff_ffff;
        let root = single_id_filter(0, 0).unwrap();
        for (name, args) in [
            ("chown", &[1, 33, 33][..]),
            ("chown", &[1, 0, 33]),
            ("chown", &[1, 33, NO_CHANGE]),
            ("lchown", &[1, NO_CHANGE, 4]),
            ("fchown", &[1, 1 << 31, 0]),
            ("fchownat", &[3, 1, 0, 5, 0]),
            ("fchownat", &[3, 1, 5, 0, 0x1000]),
            ("setuid", &[33]),
            ("setgid", &[33]),
            ("setfsuid", &[33]),
            ("setfsgid", &[33]),
            ("setreuid", &[NO_CHANGE, 33]),
            ("setregid", &[33, 0]),
            ("setresuid", &[0, 0, 33]),
            ("setresuid", &[33, 33, 33]),
            ("setresgid", &[33, NO_CHANGE, NO_CHANGE]),
            ("setgroups", &[0, 0]),
            ("setgroups", &[1, 0x7fff_0000]),
            ("mknod", &[1, 0o020_666, 0x103]),
            ("mknodat", &[3, 1, 0o060_600, 0x800]),
        ] {
            assert_eq!(verdict(&root, name, args), SUCCESS, "{name} {args:?}");
        }
        for (name, args) in [
            ("chown", &[1, 0, 0][..]),
            ("chown", &[1, NO_CHANGE, NO_CHANGE]),
            ("chown", &[1, u64::MAX, u64::MAX]),
            ("lchown", &[1, 0, NO_CHANGE]),
            ("fchown", &[1, NO_CHANGE, 0]),
            ("fchownat", &[3, 1, 0, NO_CHANGE, 0]),
            ("setuid", &[0]),
            ("setgid", &[0]),
            ("setreuid", &[0, NO_CHANGE]),
            ("setresuid", &[NO_CHANGE, 0, NO_CHANGE]),
            ("setresgid", &[0, 0, 0]),
            ("mknod", &[1, 0o010_644, 0]),
            ("mknod", &[1, 0o100_644, 0x103]),
            ("mknodat", &[3, 1, 0o020_000, 0]),
            ("read", &[33, 33, 33]),
            ("capset", &[33, 33]),
            ("mount", &[]),
        ] {
            let known = native().unwrap().numbers().contains_key(name);
            let expected = if known { ALLOW } else { SUCCESS };
            assert_eq!(verdict(&root, name, args), expected, "{name} {args:?}");
        }
        let user = single_id_filter(1000, 100).unwrap();
        assert_eq!(verdict(&user, "fchownat", &[3, 1, 1000, 100, 0]), ALLOW);
        assert_eq!(verdict(&user, "fchownat", &[3, 1, 100, 1000, 0]), SUCCESS);
        assert_eq!(verdict(&user, "setresuid", &[0, 0, 0]), SUCCESS);
        assert!(root.len() < 320, "{} instructions", root.len());
    }
}
