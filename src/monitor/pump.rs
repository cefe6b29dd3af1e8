//! Carrying bytes from one descriptor to another without ever blocking the rest: spliced inside the kernel where it can,
//! copied through one buffer where it can't (terminals, files opened for appending).

use crate::container::plan::Stdio;
use anyhow::{Context, Result};
use rustix::{
    event::PollFlags,
    fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, openat},
    io::{Errno, read, write},
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Our ends of the pipes to a payload's descriptors.
#[derive(Debug)]
pub struct Ends {
    /// Into its stdin; `None` when that is /dev/null.
    pub stdin: Option<OwnedFd>,
    /// Out of its stdout.
    pub stdout: OwnedFd,
    /// Out of its stderr.
    pub stderr: OwnedFd,
}

/// Bytes that a payload may be ahead of its monitor.
pub const PIPE: usize = 256 << 10;

/// Pipes for a payload: its ends and ours. Without `interactive` its stdin is /dev/null.
pub fn pipes(interactive: bool) -> Result<(Stdio, Ends)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context("make a pipe");
    let (stdin, our_stdin) = match interactive {
        true => pipe().map(|(theirs, ours)| (Some(theirs), Some(ours)))?,
        false => (None, None),
    };
    let (our_stdout, stdout) = pipe()?;
    let (our_stderr, stderr) = pipe()?;
    // Not our end of stdin: whoever writes there may be a client that waits.
    for ours in [&our_stdout, &our_stderr] {
        let flags = fcntl_getfl(ours).context("read the flags of a pipe")?;
        fcntl_setfl(ours, flags | OFlags::NONBLOCK).context("set the flags of a pipe")?;
        // More at once for who prints much; a user with many pipes gets the usual size (pipe(7)).
        let _ = fcntl_setpipe_size(ours, PIPE);
    }
    Ok((
        Stdio::Pipes { stdin, stdout, stderr },
        Ends { stdin: our_stdin, stdout: our_stdout, stderr: our_stderr },
    ))
}

/// One direction of one stream. `to` may be shared with other processes, so its flags are left alone and it is written
/// to only when poll(2) says that it takes something.
#[derive(Debug)]
pub struct Pump {
    from: OwnedFd,
    to: OwnedFd,
    way: Way,
    sink_is_full: bool,
}

#[derive(Debug)]
enum Way {
    Splice,
    Copy { buffer: Box<[u8; BUFFER]>, start: usize, end: usize },
}

/// What is left to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More may come.
    Open,
    /// The source ended: drop the pump, which closes both ends.
    Closed,
    /// The same, because nobody reads the sink any more.
    Lost,
    /// The same, because the sink takes no more: a full disk.
    Failed(Errno),
}

const BUFFER: usize = 64 * 1024;
/// What a pipe or terminal that polls as writable takes at least without blocking (pipe(7), PIPE_BUF).
const SURE: usize = 4096;

impl Pump {
    /// Carry from `from` to `to`.
    pub fn new(from: OwnedFd, to: OwnedFd) -> Pump {
        // One of the two has to be a pipe for splice(2).
        let way = if is_pipe(&from) || is_pipe(&to) { Way::Splice } else { Way::copy() };
        Pump { from, to, way, sink_is_full: false }
    }

    /// Carry it to another place from now on.
    pub fn redirect(&mut self, to: OwnedFd) {
        (self.to, self.sink_is_full) = (to, false);
    }

    /// What to wait for.
    pub fn waits_for(&self) -> (BorrowedFd<'_>, PollFlags) {
        let pending = matches!(&self.way, Way::Copy { start, end, .. } if start < end);
        match self.sink_is_full || pending {
            true => (self.to.as_fd(), PollFlags::OUT),
            false => (self.from.as_fd(), PollFlags::IN),
        }
    }

    /// Move what can be moved now.
    pub fn step(&mut self) -> Flow {
        let moved = match &mut self.way {
            Way::Splice => self.splice(),
            Way::Copy { .. } => self.copy(),
        };
        match moved {
            Ok(0) => Flow::Closed,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Flow::Open,
            Err(Errno::PIPE) => Flow::Lost,
            // The last user side of a terminal was closed.
            Err(Errno::IO) if !is_pipe(&self.from) => Flow::Closed,
            Err(errno) => Flow::Failed(errno),
        }
    }

    fn splice(&mut self) -> rustix::io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        match splice(&self.from, None, &self.to, None, BUFFER, flags) {
            Err(Errno::INVAL) => {
                self.way = Way::copy();
                self.sink_is_full = false;
                Err(Errno::AGAIN)
            }
            Err(Errno::AGAIN) => {
                // Called because one side was ready, so it is the other one that is not.
                self.sink_is_full = !self.sink_is_full;
                Err(Errno::AGAIN)
            }
            other => {
                self.sink_is_full = false;
                other
            }
        }
    }

    fn copy(&mut self) -> rustix::io::Result<usize> {
        let Way::Copy { buffer, start, end } = &mut self.way else { return Err(Errno::AGAIN) };
        if start == end {
            (*start, *end) = (0, read(&self.from, &mut buffer[..])?);
            return Ok(*end);
        }
        let chunk = &buffer[*start..*end.min(&mut (*start + SURE))];
        let written = write(&self.to, chunk)?;
        *start += written;
        Ok(written)
    }
}

/// Whether splice(2) can move what comes from `fd` or goes there.
pub fn is_pipe(fd: &OwnedFd) -> bool {
    fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

impl Way {
    fn copy() -> Way {
        Way::Copy { buffer: Box::new([0; BUFFER]), start: 0, end: 0 }
    }
}

/// From here on our standard streams are nobody's: nobody waits for their end because of us.
pub fn leave_streams() {
    if let Ok(null) = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
    }
}
