//! The client of a container in the foreground: keys, signals and the size of the terminal go in, the exit status comes
//! out. What the container prints the monitor writes by itself.

use super::{
    control::{Ask, Channel, Tell},
    input::Input,
    keys::Keys,
    notify::Manager,
    terminal::{self, Raw},
};
use crate::{error::Explain, sys::signal::is_ignored};
use anyhow::{Context, Result, anyhow};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Pid, WaitOptions, pidfd_send_signal, waitpid},
};
use std::os::fd::{AsFd, OwnedFd};

/// How it ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The container ended.
    Exited {
        /// With this status.
        code: u8,
        /// What it printed could not all be passed on, for this reason.
        lost: Option<Errno>,
    },
    /// The user left it running.
    Detached,
    /// The monitor is gone, and has not said how it ended.
    Untold,
}

/// What a client does before the start, so that no signal is lost in between and nothing of the output is shown by a
/// terminal that isn't ready for it. Dropped, the terminal is as it was.
#[derive(Debug)]
pub struct Readiness {
    signals: SignalFd,
    _raw: Option<Raw>,
}

impl Readiness {
    /// Signals are kept for [`attend`]; with `raw`, so is every key.
    pub fn new(raw: bool) -> Result<Readiness> {
        use Signal::*;
        // Not SIGCHLD, SIGCONT and the stop signals, which are between us and our shell, nor faults of our own.
        let caught = [
            SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR,
            SIGWINCH,
        ];
        // Nor one that nohup(1) keeps from us.
        let caught: SigSet =
            caught.into_iter().filter(|s| *s != SIGHUP || !is_ignored(libc::SIGHUP)).collect();
        caught.thread_block().context("block signals")?;
        let signals = SignalFd::with_flags(&caught, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let signals = signals.context("make a signalfd")?;
        // Without a container's terminal ^C is still ours to pass on.
        Ok(Readiness { signals, _raw: raw.then(Raw::enter).flatten() })
    }
}

/// What the client is attached to.
#[derive(Debug)]
pub struct Attendance {
    /// The line to the monitor.
    pub line: Channel,
    /// The container's first process.
    pub pidfd: Option<OwnedFd>,
    /// The way to its stdin.
    pub input: Option<OwnedFd>,
    /// That is a terminal.
    pub tty: bool,
    /// What we read goes there; else its size alone is ours to set.
    pub stdin: bool,
    /// Signals are passed on.
    pub sig_proxy: bool,
    /// The container ends with us: a signal that ends us is a wish to stop it.
    pub foreground: bool,
    /// The keys that detach us from its terminal.
    pub keys: Keys,
    /// The monitor, when it is our child.
    pub monitor: Option<Pid>,
    /// A service manager waits for us.
    pub service: bool,
    /// It wants to hear of the container.
    pub manager: Option<Manager>,
}

/// Stay until the container ends for good or the user leaves.
pub fn attend(attendance: Attendance, readiness: &Readiness) -> Result<Outcome> {
    let Attendance { line, mut pidfd, input: way, tty, stdin, sig_proxy, foreground, keys, .. } = attendance;
    let Attendance { monitor, service, manager, .. } = attendance;
    let mut input = Input::new(tty, stdin, keys);
    input.connect(way)?;
    let mut outcome = None;
    let mut failure = None;
    loop {
        let mut fds = vec![PollFd::new(&line, PollFlags::IN), PollFd::new(&readiness.signals, PollFlags::IN)];
        fds.extend(input.waits_for().map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno).context("poll"),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready[2..].contains(&true) && input.step()? {
            line.say(&Ask::Detach, &[])?;
            return Ok(Outcome::Detached);
        }
        if ready[1] {
            let lasting = foreground && outcome.is_none();
            let ends = take(&readiness.signals, &line, &input, sig_proxy, lasting, service)?;
            // Who closed it would wait for nothing more, and the container doesn't outlive us.
            if let (Some(code), true, true) = (ends, foreground, terminal::is_gone()) {
                return Ok(Outcome::Exited { code, lost: None });
            }
            // A reader of its output that stalls is given up.
            if let (Some(_), Some(outcome)) = (ends, outcome) {
                return Ok(outcome);
            }
            // Neither the container nor its end is ours.
            if let (Some(code), false, false) = (ends, sig_proxy, foreground) {
                return Ok(Outcome::Exited { code, lost: None });
            }
        }
        if ready[0] {
            match line.hear::<Tell>()? {
                Some((Tell::Started { .. }, descriptors)) => {
                    let mut descriptors = descriptors.into_iter();
                    (pidfd, failure) = (descriptors.next(), None);
                    input.connect(descriptors.next())?;
                }
                Some((Tell::Notify(text), _)) => manager.iter().for_each(|manager| manager.say(&text)),
                Some((Tell::Exited { restarts: true, .. }, _)) => input.disconnect(),
                Some((Tell::Exited { code, lost, .. }, _)) => {
                    outcome = Some(Outcome::Exited { code, lost: lost.map(Errno::from_raw_os_error) });
                    input.close();
                }
                Some((Tell::Failed(told), _)) => failure = Some(told),
                Some((Tell::LetGo, _)) if !foreground => {
                    return Err(anyhow!("the container printed faster than its output was read: detached"))
                        .hint("`ctr logs` shows all of it");
                }
                Some(_) => {}
                None => {
                    // Where process 1 reaps nothing, as in many a CI container, a zombie would be left.
                    let _ = monitor.map(|monitor| waitpid(Some(monitor), WaitOptions::empty()));
                    if let Some(told) = failure.filter(|_| outcome.is_none()) {
                        return Err(told.into_error());
                    }
                    if let (true, None, Some(pidfd)) = (foreground, outcome, &pidfd) {
                        let _ = pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
                    }
                    return Ok(outcome.unwrap_or(Outcome::Untold));
                }
            }
        }
    }
}

/// Pass on the signals that came; the exit status that stands for one that asks us to end.
fn take(
    signals: &SignalFd,
    line: &Channel,
    input: &Input,
    sig_proxy: bool,
    foreground: bool,
    service: bool,
) -> Result<Option<u8>> {
    let mut ends = None;
    while let Some(info) = signals.read_signal().context("read a signal")? {
        let number = info.ssi_signo as i32;
        ends = ends.or(ends_us(number).then_some(128 + number as u8));
        // A monitor that doesn't hear is gone, which its line tells.
        let _ = match number {
            libc::SIGWINCH if input.fits() => Ok(()),
            // `systemctl stop` means what `ctr stop` does.
            libc::SIGTERM if service && foreground => {
                line.say(&Ask::Stop { signal: None, milliseconds: None }, &[])
            }
            _ if sig_proxy => line.say(&Ask::Signal(number), &[]),
            // The container doesn't see our signals, but it doesn't outlive us either.
            _ if ends_us(number) && foreground => {
                line.say(&Ask::Stop { signal: None, milliseconds: None }, &[])
            }
            _ => Ok(()),
        };
    }
    Ok(ends)
}

/// Signals that ask a program to end.
fn ends_us(number: i32) -> bool {
    [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGQUIT].contains(&number)
}

/// Let the monitor of `line` know our stdout and stderr, and with `input` get the way to the container's stdin, if there is
/// one already; `None` when the container has ended.
pub fn ask_to_attach(line: &Channel, input: bool) -> Result<Option<Option<OwnedFd>>> {
    let asked = line.say(&Ask::Attach { input }, &[std::io::stdout().as_fd(), std::io::stderr().as_fd()]);
    while let (Ok(()), Some((said, descriptors))) = (&asked, line.hear::<Tell>()?) {
        if said == Tell::Attached {
            return Ok(Some(descriptors.into_iter().next()));
        }
    }
    Ok(None)
}
