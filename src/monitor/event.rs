//! What a monitor watches, and what it is woken up for.

use super::ended::Ended;
use rustix::process::Pid;
use std::os::fd::BorrowedFd;

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
}
