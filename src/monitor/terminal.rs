//! The user's terminal while a container's terminal is shown on it.

use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat},
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize},
};
use std::{
    io::{stderr, stdin, stdout},
    os::fd::{AsFd, OwnedFd},
};

/// Raw mode on stdin; dropped, the terminal is as it was.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Every key goes to the container. `None` when stdin is no terminal.
    pub fn enter() -> Option<Raw> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Raw { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Whether a terminal among our standard streams was closed: nobody sees what is shown there, nor types.
pub fn is_gone() -> bool {
    [stdin().as_fd(), stdout().as_fd(), stderr().as_fd()].into_iter().any(|stream| {
        let is_device =
            || fstat(stream).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::CharacterDevice);
        let mut fds = [PollFd::from_borrowed_fd(stream, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|count| count > 0) && is_device()
    })
}

/// A new master side: sized as the user's terminal, and never blocking us.
pub fn adopt(master: &OwnedFd) -> Result<()> {
    fit(master);
    let flags = fcntl_getfl(master).context("read the flags of the container's terminal")?;
    fcntl_setfl(master, flags | OFlags::NONBLOCK).context("set the flags of the container's terminal")
}

/// Give the container's terminal the size of the user's.
pub fn fit(master: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(stdout()).or_else(|_| tcgetwinsize(stdin())) {
        let _ = tcsetwinsize(master, size);
    }
}
