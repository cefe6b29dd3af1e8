//! What a container without a control group leaves running in a pid namespace that is not its own, where no kernel ends it with the
//! first process: it is known by its mount namespace, which a process can't leave without privileges.

use super::record::Record;
use crate::{
    sys::{fork::Child, signal},
    weakened,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use std::{fs, os::fd::AsFd, os::unix::fs::MetadataExt};

/// Dropped, it ends.
#[derive(Debug)]
pub struct Leftovers {
    mounts: (u64, u64),
}

impl Leftovers {
    /// Those of the container whose first process is `child`; none where its pid namespace or its control group ends them.
    pub fn of(child: &Child, record: &Record, has_group: bool) -> Option<Leftovers> {
        if record.sharing.pid.is_own() || has_group {
            return None;
        }
        let ours = mounts(rustix::process::getpid())?;
        mounts(child.pid).filter(|mounts| *mounts != ours).map(|mounts| Leftovers { mounts })
    }

    /// Kill each; whether there was one.
    fn kill(&self) -> bool {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        let is_one = |pid: &Pid| mounts(*pid) == Some(self.mounts);
        let mut killed = Vec::new();
        for pid in pids.filter(is_one) {
            // Only now, as the number may have become another's.
            if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
                && is_one(&pid)
                && signal::send(process.as_fd(), libc::SIGKILL).is_ok()
            {
                killed.push(process);
            }
        }
        for process in &killed {
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&second));
        }
        !killed.is_empty()
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        // While one is killed another may be born.
        let _ = weakened::is("leftovers") || !(0..ROUNDS).any(|_| !self.kill());
    }
}

const ROUNDS: usize = 100;

/// The mount namespace of process `pid`; none of one that has ended.
fn mounts(pid: Pid) -> Option<(u64, u64)> {
    let meta = fs::metadata(format!("/proc/{}/ns/mnt", pid.as_raw_pid())).ok()?;
    Some((meta.dev(), meta.ino()))
}
