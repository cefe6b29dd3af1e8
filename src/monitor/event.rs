//! What a monitor watches, and what it is woken up for.

use super::{control::KNOCK, ended::Ended, networks::Membership};
use crate::{cgroups::Group, sys::fork::Child};
use anyhow::{Context, Result};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{event::Timespec, process::Pid};
use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Instant,
};

/// What [`super::watch::Watch::until`] returns for.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The first process has ended.
    Ended(Ended),
    /// The time has come.
    Due,
    /// Somebody wants the container to end, and not to be started again.
    Stop,
    /// The health check has ended.
    Checked,
    /// `start` lets an initialized container go on.
    Go,
    /// The record was changed.
    Reload,
    /// The networks that the container is in have changed: this client waits until all is as the record says.
    Networks(u64),
    /// The process of a network is gone, or there again.
    Line,
    /// The payload has something for the service manager.
    Notice(String),
}

/// A container's first process, as far as it is watched.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its process id.
    pub pid: Pid,
    /// Readable when it ends.
    pub pidfd: BorrowedFd<'a>,
    /// Readable when the health check that runs has ended.
    pub check: Option<BorrowedFd<'a>>,
    /// Its networks.
    pub networks: &'a [Membership],
    /// Its control group, which systemd removes soon after the end.
    pub group: Option<&'a Group>,
}

impl<'a> Subject<'a> {
    /// Without a health check that runs.
    pub fn new(child: &'a Child, networks: &'a [Membership], group: Option<&'a Group>) -> Subject<'a> {
        Subject { pid: child.pid, pidfd: child.pidfd.as_fd(), check: None, networks, group }
    }
}

/// Which of the descriptors of one poll(2) have something to say.
#[derive(Default)]
pub struct Ready {
    /// Signals have come.
    pub signals: bool,
    /// A client has come.
    pub door: bool,
    /// Clients, in order.
    pub clients: Vec<bool>,
    /// The first process has ended.
    pub ended: bool,
    /// The health check has ended.
    pub checked: bool,
    /// What is watched of networks, in order.
    pub lines: Vec<bool>,
    /// The payload has a notice.
    pub noticed: bool,
    /// Streams, in order: something has come, or a reader takes more.
    pub streams: Vec<bool>,
}

/// The time from now to `at`.
pub fn remaining(at: Instant) -> Timespec {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Timespec::try_from(at.saturating_duration_since(Instant::now())).unwrap_or(now)
}

/// The signals that a monitor hears; from here on they are kept for the descriptor.
pub fn signals() -> Result<SignalFd> {
    // Whoever ends a session or shuts the machine down means the container.
    let caught: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, KNOCK].into_iter().collect();
    SigSet::all().thread_block().context("block signals")?;
    SignalFd::with_flags(&caught, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("make a signalfd")
}

/// Signals that ask for the end, whatever becomes of the process.
pub const ENDING: [i32; 4] = [libc::SIGTERM, libc::SIGKILL, libc::SIGINT, libc::SIGQUIT];

/// What the processes of networks ask for; whether one is gone or there again.
pub fn serve(networks: &[Membership], ready: &[bool]) -> bool {
    let watched = networks.iter().filter(|membership| membership.watched().is_some());
    let ready: Vec<_> = watched.zip(ready).filter(|(_, ready)| **ready).collect();
    ready.into_iter().filter(|(membership, _)| membership.serve(networks)).count() > 0
}
