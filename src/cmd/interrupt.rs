//! Signals that ask a verb to end, which first leaves everything as it should be.

use crate::{
    namespaces::{Mapping, start_inside},
    sys::signal,
};
use anyhow::{Context, Result};
use nix::sys::{
    signal::{SigSet, Signal, raise},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::retry_on_intr,
};
use std::os::fd::{AsFd, BorrowedFd};

/// They wait until this is asked for them.
pub struct Interrupt {
    held: SigSet,
    came: SignalFd,
}

impl Interrupt {
    /// Hold back SIGINT, SIGTERM and SIGHUP, as far as they are not ignored. Before any thread exists.
    pub fn hold() -> Result<Interrupt> {
        let ours = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter();
        let held: SigSet = ours.filter(|signal| !signal::is_ignored(*signal as i32)).collect();
        held.thread_block().context("hold back signals")?;
        let came = SignalFd::with_flags(&held, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        Ok(Interrupt { held, came: came.context("make a signalfd")? })
    }

    /// Run `work` as [`crate::namespaces::run_inside`] does. It ends early when what it is given becomes readable; then this
    /// process ends of the signal that came.
    pub fn run_inside(
        &self,
        mapping: &Mapping,
        work: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
    ) -> Result<()> {
        if !mapping.is_rootless() {
            let outcome = work(self.came.as_fd());
            self.next().into_iter().for_each(|signal| self.end(signal));
            return outcome;
        }
        let (inside, ()) = start_inside(mapping, |_| Ok(()), |_| work(self.came.as_fd()))?;
        // Here: the user's own process, beside the one that works inside.
        let mut first = None;
        loop {
            let (process, said) = inside.watched();
            let mut events = [PollFd::new(&said, PollFlags::IN), PollFd::new(&self.came, PollFlags::IN)];
            retry_on_intr(|| poll(&mut events, None)).context("wait for the process inside")?;
            let is_over = !events[0].revents().is_empty();
            match (self.next(), first) {
                // Who asks twice doesn't want to wait: the process inside dies with us.
                (Some(signal), Some(_)) => self.end(signal),
                (Some(signal), None) => {
                    first = Some(signal);
                    signal::send(process, signal as i32).context("pass a signal on")?;
                }
                (None, _) => {}
            }
            if is_over {
                break;
            }
        }
        let outcome = inside.wait();
        first.into_iter().for_each(|signal| self.end(signal));
        outcome
    }

    fn next(&self) -> Option<Signal> {
        let info = self.came.read_signal().ok().flatten()?;
        Signal::try_from(info.ssi_signo as i32).ok()
    }

    /// As a process without handlers ends of `signal`.
    fn end(&self, signal: Signal) {
        let _ = self.held.thread_unblock().and_then(|()| raise(signal));
    }
}
