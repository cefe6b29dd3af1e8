//! The cage of a network's process: it reads what containers send, and needs nothing but sockets for that.

use crate::{
    namespaces::{root, unshare},
    security::seccomp,
    sys, weakened,
};
use anyhow::{Context, Result};
use rustix::{
    fs::{CWD, Mode, OFlags, open},
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::{
        DumpableBehavior, Gid, Resource, Rlimit, Uid, getegid, geteuid, getrlimit, set_dumpable_behavior,
        setrlimit,
    },
    stdio,
    thread::{
        CapabilitySets, UnshareFlags, set_capabilities, set_no_new_privs, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};

/// Give up the files of the host, all privileges and nearly all system calls. What is open stays open.
///
/// # Errors
/// Anything that can't be given up.
pub fn confine() -> Result<()> {
    let (user, group) = (geteuid(), getegid());
    // Root keeps its namespace, to become nobody in it.
    let privileged = user.is_root() && unshare(UnshareFlags::NEWNS).is_ok();
    if !privileged {
        unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).context("make a user namespace")?;
        // Ourselves alone: everybody else's uid looks like nobody's from here.
        std::fs::write("/proc/self/setgroups", "deny").context("give up groups")?;
        std::fs::write("/proc/self/uid_map", format!("{0} {0} 1", user.as_raw())).context("map our user")?;
        std::fs::write("/proc/self/gid_map", format!("{0} {0} 1", group.as_raw()))
            .context("map our group")?;
    }
    if !weakened::is("network-root") {
        leave_files().context("leave the host's files")?;
    }
    if privileged {
        become_nobody();
    }
    let empty = rustix::thread::CapabilitySet::empty();
    if !weakened::is("network-capabilities") {
        set_capabilities(None, CapabilitySets { effective: empty, permitted: empty, inheritable: empty })
            .context("give up capabilities")?;
    }
    set_no_new_privs(true).context("give up privileges")?;
    if !weakened::is("network-dumpable") {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).context("close our memory to others")?;
    }
    if weakened::is("network-filter") { Ok(()) } else { filter() }
}

/// /dev/null in place of the standard streams: a number that is free would become a connection, which a last word of ours
/// must not go to.
pub fn leave_streams() -> Result<()> {
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context("open /dev/null")?;
    stdio::dup2_stdin(&null)?;
    stdio::dup2_stdout(&null)?;
    stdio::dup2_stderr(&null)?;
    if null.as_raw_fd() <= 2 {
        // It is one of the three.
        let _ = null.into_raw_fd();
    }
    Ok(())
}

/// As many descriptors as we may have, and no core file; gives how many.
pub fn raise_limits() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum });
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    usize::try_from(most).unwrap_or(0)
}

const MOST_DESCRIPTORS: u64 = 32 << 10;

/// An empty directory that can't be written becomes the root.
fn leave_files() -> Result<()> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    // Any directory will do, and nothing runs without this one.
    mount("tmpfs", "/proc", "tmpfs", flags, Some(c"size=4k,nr_inodes=2,mode=0555"))?;
    let empty =
        rustix::fs::openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(root::pivot(empty.as_fd())?)
}

/// Inside another container there may be nobody to become; what root is without capabilities and files has to do then.
fn become_nobody() {
    let (nobody, nogroup) = (Uid::from_raw(65534), Gid::from_raw(65534));
    let _ = set_thread_groups(&[]);
    let _ = set_thread_res_gid(nogroup, nogroup, nogroup);
    let _ = set_thread_res_uid(nobody, nobody, nobody);
}

fn filter() -> Result<()> {
    let to_kernel = |i: &seccomp::Instruction| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
    let program: Vec<_> = seccomp::network_filter().iter().map(to_kernel).collect();
    sys::seccomp::install(&program).context("filter system calls")
}
