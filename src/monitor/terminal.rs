//! The user's terminal while a container's terminal is shown on it.

use anyhow::{Context, Result};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize},
};
use std::{
    io::{stdin, stdout},
    os::fd::OwnedFd,
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
