//! What the kernel grants here, tried out: nothing of it stays.

use super::{Mapping, mount::new_filesystem, run_inside, unshare};
use crate::sys::fork;
use anyhow::{Context, Result};
use rustix::{
    fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx},
    mount::MountAttrFlags,
    process::{WaitOptions, waitpid},
    thread::UnshareFlags,
};
use std::io;

/// A proc file system for a pid namespace of a container. Must be called before any thread exists.
///
/// # Errors
/// EPERM: something covers parts of the one that is there (mount_namespaces(7), "Restrictions on mount namespaces").
pub fn proc(mapping: &Mapping) -> Result<()> {
    run_inside(mapping, || {
        unshare(UnshareFlags::NEWPID).context("make a pid namespace")?;
        let prober = fork::fork(|| {
            // Who am I: the first process of that namespace.
            new_filesystem(c"proc", &[], MountAttrFlags::empty()).map_or_else(|e| e.raw_os_error(), |_| 0)
        });
        let ended = waitpid(Some(prober?), WaitOptions::empty())?;
        match ended.and_then(|(_, status)| status.exit_status()) {
            Some(0) => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno.unwrap_or(libc::EIO))).context("mount proc"),
        }
    })
}

/// Whether something is mounted over what containers' runtimes cover in /proc: only then a container may get none of its own.
pub fn proc_is_covered() -> bool {
    ["/proc/kcore", "/proc/sys", "/proc/sysrq-trigger"].into_iter().any(|place| {
        statx(CWD, place, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)
            .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    })
}
