//! What ends a container whose monitor was killed. The payload's own PR_SET_PDEATHSIG is not enough: the kernel forgets it
//! when the payload changes its ids, as many an entrypoint does, and the payload may clear it.

use crate::sys::{
    fork::{self, Child, close_descriptors_from},
    title::CommandLine,
};
use anyhow::{Context, Result};
use nix::sys::signal::SigSet;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, retry_on_intr},
    pipe::{PipeFlags, pipe_with},
    process::{Signal, pidfd_send_signal, setsid},
    stdio::{dup2_stdin, dup2_stdout, stdin, stdout},
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A process that kills the container when the one that holds this is gone. It ends with the container, by itself: nobody
/// waits for it, which would cost each start a switch to it and back.
#[derive(Debug)]
pub struct Guard {
    /// Its other end is closed by the kernel, however this process ends.
    _leash: OwnedFd,
}

impl Guard {
    /// Guard `container`.
    pub fn over(container: &Child) -> Result<Guard> {
        let (held, leash) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
        fork::fork(|| match stand_by(container.pidfd.as_fd(), held.as_fd()) {
            Ok(()) => 0,
            Err(errno) => errno.raw_os_error(),
        })
        .context("fork the container's guard")?;
        Ok(Guard { _leash: leash })
    }
}

/// Who am I: a copy of the monitor, in its namespaces and with its privileges, but in a session of my own that no key of
/// a terminal reaches. I hold nothing but the container and the leash.
fn stand_by(container: BorrowedFd<'_>, leash: BorrowedFd<'_>) -> Result<(), Errno> {
    let _ = SigSet::all().thread_block();
    let _ = setsid();
    dup2_stdin(container)?;
    dup2_stdout(leash)?;
    close_descriptors_from(2);
    let _ = rustix::thread::set_name(c"ctr-guard");
    if let Ok(command_line) = CommandLine::of_this_process() {
        command_line.replace("ctr-guard");
    }
    let (container, leash) = (stdin(), stdout());
    let mut ends = [PollFd::new(&container, PollFlags::IN), PollFd::new(&leash, PollFlags::IN)];
    retry_on_intr(|| poll(&mut ends, None))?;
    // ESRCH: it has ended by itself.
    let _ = pidfd_send_signal(container, Signal::KILL);
    Ok(())
}
