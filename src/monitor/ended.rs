//! How a container's first process ended.

use anyhow::{Context, Result};
use rustix::{
    io::Errno,
    process::{Pid, WaitId, WaitIdOptions, waitid},
};
use std::{fs, os::fd::BorrowedFd};

/// How a container's process 1 ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status, or 128 + the number of the signal that ended it.
    pub code: u8,
    /// That signal.
    pub signal: Option<i32>,
    /// The kernel killed one of its processes for want of memory.
    pub oom: bool,
    /// What it printed could not all be passed on, for this reason.
    pub lost: Option<Errno>,
}

/// Take the exit status of the child `pidfd`, which has ended.
pub fn reap(pidfd: BorrowedFd<'_>) -> Result<Ended> {
    let status = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED).context("wait for the container")?;
    let signal = status.as_ref().and_then(|status| status.terminating_signal());
    let code = status.and_then(|status| status.exit_status()).or(signal.map(|number| 128 + number));
    Ok(Ended {
        code: code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255),
        signal,
        oom: false,
        lost: None,
    })
}

/// Whether SIGPIPE would end process `pid` anywhere else. Process 1 of a pid namespace is spared signals that it doesn't
/// handle (pid_namespaces(7)): it sees EPIPE and fails with a status of its own, where a shell expects 141.
pub fn leaves_broken_pipes_to_the_kernel(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).unwrap_or_default();
    let handled = |mask: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(mask));
        mask.is_none_or(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|m| m & SIGPIPE_BIT != 0))
    };
    !handled("SigIgn:") && !handled("SigCgt:")
}

const SIGPIPE_BIT: u64 = 1 << (libc::SIGPIPE - 1);
/// What a shell sees of a program that SIGPIPE ended.
pub const BROKEN_PIPE: Ended =
    Ended { code: 128 + libc::SIGPIPE as u8, signal: Some(libc::SIGPIPE), oom: false, lost: None };
