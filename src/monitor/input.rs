//! What a client reads, on its way to the container: through a pipe as it is, or key by key to its terminal. The way may
//! be closed for a while, before the first start and between two.

use super::{
    keys::Keys,
    pump::{Flow, Pump},
    terminal,
};
use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, fcntl_dupfd_cloexec, read, write},
};
use std::{
    io::stdin,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// A client's stdin and where it goes.
#[derive(Debug)]
pub struct Input {
    tty: bool,
    /// There may be more to read that is to be passed on.
    open: bool,
    keys: Keys,
    /// Typed, and not taken by the container yet.
    typed: Vec<u8>,
    master: Option<OwnedFd>,
    pump: Option<Pump>,
}

/// Bytes that may be typed ahead.
const AHEAD: usize = 4096;

impl Input {
    /// The container has a terminal (`tty`); what we read goes there (`open`), else its size alone is ours to set.
    pub fn new(tty: bool, open: bool, keys: Keys) -> Input {
        Input { tty, open, keys, typed: Vec::new(), master: None, pump: None }
    }

    /// `way` leads to the stdin of the process that has just started.
    pub fn connect(&mut self, way: Option<OwnedFd>) -> Result<()> {
        self.disconnect();
        match way {
            Some(master) if self.tty => {
                terminal::fit(&master);
                self.master = Some(master);
                self.pour();
            }
            Some(pipe) if self.open => {
                let stdin = fcntl_dupfd_cloexec(stdin(), 3).context("duplicate stdin")?;
                self.pump = Some(Pump::new(stdin, pipe));
            }
            // Dropped: the end of its input.
            _ => {}
        }
        Ok(())
    }

    /// The process has ended; another may come.
    pub fn disconnect(&mut self) {
        (self.master, self.pump) = (None, None);
    }

    /// No other comes.
    pub fn close(&mut self) {
        self.disconnect();
        self.open = false;
    }

    /// The container has a terminal, whose size follows ours.
    pub fn fits(&self) -> bool {
        let _ = self.master.as_ref().map(terminal::fit);
        self.tty
    }

    /// What to wait for before the next [`Input::step`].
    pub fn waits_for(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let pump = self.pump.as_ref().map(Pump::waits_for);
        let keyboard = self.tty && self.open && self.typed.len() < AHEAD;
        let keyboard = keyboard.then(|| (rustix::stdio::stdin(), PollFlags::IN));
        let behind = self.master.as_ref().filter(|_| !self.typed.is_empty());
        pump.into_iter().chain(keyboard).chain(behind.map(|master| (master.as_fd(), PollFlags::OUT)))
    }

    /// Pass on what can be passed on now; true when the user leaves.
    pub fn step(&mut self) -> Result<bool> {
        match self.pump.as_mut().map(Pump::step) {
            None | Some(Flow::Open) => {}
            // Of our stdin there is no more, for the next process either.
            Some(Flow::Closed) => self.close(),
            Some(Flow::Lost | Flow::Failed(_)) => self.pump = None,
        }
        let leaves =
            self.tty && self.open && self.typed.len() < AHEAD && is_readable(stdin()) && self.take()?;
        self.pour();
        Ok(leaves)
    }

    /// Read keys; whether they are those that detach.
    fn take(&mut self) -> Result<bool> {
        let mut keys = [0; AHEAD];
        match read(stdin(), &mut keys) {
            Ok(0) | Err(Errno::IO) => self.open = false,
            Ok(count) => {
                let (passed, leaves) = self.keys.scan(&keys[..count]);
                self.typed.extend(passed);
                return Ok(leaves);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno).context("read the keyboard"),
        }
        Ok(false)
    }

    /// A container that reads slowly is not waited for: its master side never blocks.
    fn pour(&mut self) {
        while let (Some(master), false) = (&self.master, self.typed.is_empty()) {
            match write(master, &self.typed) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // It is ending.
                Err(_) => self.master = None,
            }
        }
    }
}

fn is_readable(fd: impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}
