//! `--init`: a process 1 that passes signals on and reaps what the payload leaves behind, without a helper binary.

use crate::sys::{fork, fork::close_descriptors_from, signal, title::CommandLine};
use nix::sys::signal::{SigSet, Signal};
use rustix::{
    io::{Errno, Result},
    process::{DumpableBehavior, Pid, WaitOptions, kill_process, set_dumpable_behavior, setpgid, wait},
    termios::tcsetpgrp,
};
use std::os::fd::AsFd;

/// Which of the two processes this is after [`split`].
#[derive(Debug)]
pub enum Side {
    /// Process 1.
    Reaper {
        /// Process 2.
        payload: Pid,
    },
    /// Process 2, which goes on to execute the payload.
    Payload,
}

/// Stay as process 1 and let a copy go on as the payload.
pub fn split() -> Result<Side> {
    // Process 1 remains a copy of `ctr`: neither its memory nor its executable may be looked at from inside.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    block_all();
    match fork::split().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::AGAIN))? {
        Some(payload) => Ok(Side::Reaper { payload }),
        None => {
            lead_terminal();
            signal::reset();
            Ok(Side::Payload)
        }
    }
}

/// Pass signals to `payload` and reap children until it ends, then end with its status (128+n for a signal). Never back to
/// the caller, whose descriptors are closed.
pub fn reap(payload: Pid, command_line: CommandLine) -> ! {
    // The link to our starter among them: that it closes says that the payload runs.
    close_descriptors_from(3);
    command_line.replace("ctr-init");
    let _ = rustix::thread::set_name(c"ctr-init");
    let all = SigSet::all();
    loop {
        match all.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(status) = reap_finished(payload) {
                    fork::exit_now(status);
                }
            }
            // The terminal's own; the payload has them from the terminal too.
            Ok(Signal::SIGTTIN | Signal::SIGTTOU | Signal::SIGTSTP) => {}
            Ok(other) => {
                if let Some(signal) = rustix::process::Signal::from_named_raw(other as i32) {
                    let _ = kill_process(payload, signal);
                }
            }
            Err(_) => {}
        }
    }
}

fn reap_finished(payload: Pid) -> Option<i32> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == payload => {
                return status.exit_status().or_else(|| status.terminating_signal().map(|n| 128 + n));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// The payload's group is the one that the terminal's keys reach.
fn lead_terminal() {
    let _ = setpgid(None, None);
    let _ = tcsetpgrp(std::io::stdin().as_fd(), rustix::process::getpid());
}

fn block_all() {
    let _ = SigSet::all().thread_block();
}
