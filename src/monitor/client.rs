//! The client of a container in the foreground: keys, signals and the size of the terminal go in, the exit status comes
//! out. What the container prints the monitor writes by itself.

use super::{
    control::{Ask, Channel, Tell},
    keys::Keys,
    pump::{Flow, Pump},
    terminal::{self, Raw},
};
use crate::error::Explain;
use anyhow::{Context, Result, anyhow};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, fcntl_dupfd_cloexec, read, write},
    process::{Pid, WaitOptions, pidfd_send_signal, waitpid},
};
use std::{
    io::stdin,
    os::fd::{AsFd, OwnedFd},
};

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
        let caught: SigSet = caught.into_iter().collect();
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
    pub pidfd: OwnedFd,
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
}

/// Stay until the container ends or the user leaves.
pub fn attend(attendance: Attendance, readiness: &Readiness) -> Result<Outcome> {
    let Attendance { line, pidfd, input, tty, stdin: typing, sig_proxy, foreground, mut keys, monitor } =
        attendance;
    let mut master = None;
    let mut pump = None;
    match input {
        Some(input) if tty => {
            terminal::fit(&input);
            master = Some(input);
        }
        Some(input) if typing => {
            let stdin = fcntl_dupfd_cloexec(stdin(), 3).context("duplicate stdin")?;
            pump = Some(Pump::new(stdin, input));
        }
        _ => {}
    }
    let mut keyboard = master.is_some() && typing;
    let mut outcome = None;
    loop {
        let own = stdin();
        let mut fds = vec![PollFd::new(&line, PollFlags::IN), PollFd::new(&readiness.signals, PollFlags::IN)];
        let waits = pump.as_ref().map(Pump::waits_for);
        if let Some((fd, flags)) = waits {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        } else if keyboard {
            fds.push(PollFd::new(&own, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno).context("poll"),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready.get(2) == Some(&true) {
            if let Some(carried) = &mut pump {
                if carried.step() != Flow::Open {
                    pump = None;
                }
            } else if let Some(master) = &master {
                match type_into(master, &mut keys)? {
                    Typed::On => {}
                    Typed::End => keyboard = false,
                    Typed::Detach => {
                        line.say(&Ask::Detach, &[])?;
                        return Ok(Outcome::Detached);
                    }
                }
            }
        }
        if ready[1] {
            let ends = take(
                &readiness.signals,
                &line,
                &pidfd,
                master.as_ref(),
                sig_proxy,
                foreground && outcome.is_none(),
            )?;
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
                Some((Tell::Exited { code, lost, restarts: false }, _)) => {
                    outcome = Some(Outcome::Exited { code, lost: lost.map(Errno::from_raw_os_error) });
                    (pump, keyboard) = (None, false);
                }
                Some((Tell::LetGo, _)) if !foreground => {
                    return Err(anyhow!("the container printed faster than its output was read: detached"))
                        .hint("`ctr logs` shows all of it");
                }
                Some(_) => {}
                None => {
                    // Where process 1 reaps nothing, as in many a CI container, a zombie would be left.
                    let _ = monitor.map(|monitor| waitpid(Some(monitor), WaitOptions::empty()));
                    if let Some(outcome) = outcome {
                        return Ok(outcome);
                    }
                    if foreground {
                        let _ = pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
                    }
                    return Err(anyhow!("the container's monitor was killed"));
                }
            }
        }
    }
}

enum Typed {
    On,
    End,
    Detach,
}

fn type_into(master: &OwnedFd, keys: &mut Keys) -> Result<Typed> {
    let mut typed = [0; 4096];
    let typed = match read(stdin(), &mut typed) {
        Ok(0) | Err(Errno::IO) => return Ok(Typed::End),
        Ok(count) => &typed[..count],
        Err(Errno::AGAIN | Errno::INTR) => return Ok(Typed::On),
        Err(errno) => return Err(errno).context("read the keyboard"),
    };
    let (passed, detach) = keys.scan(typed);
    let mut rest = &passed[..];
    while !rest.is_empty() {
        match write(master, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::new(master, PollFlags::OUT)];
                let _ = poll(&mut fds, None);
            }
            // It is ending.
            Err(_) => return Ok(Typed::End),
        }
    }
    Ok(if detach { Typed::Detach } else { Typed::On })
}

/// Pass on the signals that came; the exit status that stands for one that asks us to end.
fn take(
    signals: &SignalFd,
    line: &Channel,
    pidfd: &OwnedFd,
    master: Option<&OwnedFd>,
    sig_proxy: bool,
    foreground: bool,
) -> Result<Option<u8>> {
    let mut ends = None;
    while let Some(info) = signals.read_signal().context("read a signal")? {
        let number = info.ssi_signo as i32;
        ends = ends.or(ends_us(number).then_some(128 + number as u8));
        match master {
            Some(master) if number == libc::SIGWINCH => terminal::fit(master),
            _ if sig_proxy => {
                let _ = crate::sys::signal::send(pidfd.as_fd(), number);
            }
            // The container doesn't see our signals, but it doesn't outlive us either.
            _ if ends_us(number) && foreground => {
                line.say(&Ask::Stop { signal: None, milliseconds: None }, &[])?;
            }
            _ => {}
        }
    }
    Ok(ends)
}

/// Signals that ask a program to end.
fn ends_us(number: i32) -> bool {
    [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGQUIT].contains(&number)
}

/// For a client whose monitor knows it by descriptors: its stdout and stderr.
pub fn ask_to_attach(line: &Channel, stdin: bool) -> Result<(bool, Option<OwnedFd>)> {
    line.say(&Ask::Attach { stdin }, &[std::io::stdout().as_fd(), std::io::stderr().as_fd()])?;
    loop {
        match line.hear::<Tell>()? {
            Some((Tell::Attached { tty }, descriptors)) => return Ok((tty, descriptors.into_iter().next())),
            Some(_) => {}
            None => return Err(anyhow!("the container ended")),
        }
    }
}
