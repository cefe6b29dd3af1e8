//! Beside a running container: bytes, signals and the deadline, until it ends.

use super::{
    launch::Started,
    pump::{Ends, Flow, Pump},
    terminal::{self, Raw},
};
use anyhow::{Context, Result, bail};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, fcntl_dupfd_cloexec},
    process::{Pid, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
};
use std::{
    fs,
    io::{stderr, stdin, stdout},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

/// How a container's process 1 ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit status, or 128 + the number of the signal that ended it.
    pub code: u8,
    /// That signal.
    pub signal: Option<i32>,
    /// What it printed could not all be passed on, for this reason.
    pub lost: Option<Errno>,
}

/// How to watch. Made before the start, so that no signal is lost in between.
#[derive(Debug)]
pub struct Watch {
    signals: SignalFd,
    interactive: bool,
    proxy: bool,
    stop_signal: i32,
    stop_timeout: Duration,
    deadline: Option<Duration>,
}

impl Watch {
    /// From here on signals are kept for [`watch`]. `timeout`: kill the container after this time.
    pub fn new(
        interactive: bool,
        proxy: bool,
        stop: (i32, Duration),
        timeout: Option<Duration>,
    ) -> Result<Watch> {
        use Signal::*;
        // Not SIGCHLD, SIGCONT and the stop signals, which are between us and our shell, nor faults of our own.
        let caught = [
            SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR,
            SIGWINCH,
        ];
        let caught: SigSet = caught.into_iter().collect();
        caught.thread_block().context("block signals")?;
        let signals = SignalFd::with_flags(&caught, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        Ok(Watch {
            signals: signals.context("make a signalfd")?,
            interactive,
            proxy,
            stop_signal: stop.0,
            stop_timeout: stop.1,
            deadline: timeout,
        })
    }
}

/// Carry the streams of `started` until it ends and everything it said has been passed on. With a terminal `ends` is
/// `None`.
pub fn watch(watch: &Watch, started: &Started, ends: Option<Ends>) -> Result<Exit> {
    let pidfd = started.child.pidfd.as_fd();
    // Only when keys go to the container: otherwise ^C is still ours to pass on.
    let _raw = (started.terminal.is_some() && watch.interactive).then(Raw::enter);
    let (mut input, mut outputs) = pumps(watch, started, ends)?;
    let mut kill_at = watch.deadline.map(|after| Instant::now() + after);
    let (mut broken, mut lost) = (false, None);
    loop {
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&watch.signals, PollFlags::IN)];
        let waits: Vec<(BorrowedFd<'_>, PollFlags)> =
            input.iter().chain(&outputs).map(Pump::waits_for).collect();
        fds.extend(waits.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
        match poll(&mut fds, kill_at.map(remaining).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut pumps_ready = ready[2..].iter().copied();
        if input.is_some()
            && pumps_ready.next() == Some(true)
            && input.as_mut().map(Pump::step) != Some(Flow::Open)
        {
            input = None;
        }
        outputs.retain_mut(|pump| {
            let flow = if pumps_ready.next() == Some(true) { pump.step() } else { Flow::Open };
            // Asked before the payload hears of it: afterwards it may be gone.
            broken |= flow == Flow::Lost && leaves_broken_pipes_to_the_kernel(started.child.pid);
            lost = lost.or(failure(flow));
            flow == Flow::Open
        });
        if ready[1] {
            pass_signals(watch, started, &mut kill_at)?;
        }
        if kill_at.is_some_and(|at| at <= Instant::now()) {
            let _ = pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
            kill_at = None;
        }
        if ready[0] {
            let exit = reap(pidfd)?;
            for pump in &mut outputs {
                lost = lost.or(drain(pump, &watch.signals));
            }
            return Ok(Exit { lost, ..if broken && exit.code != 0 { BROKEN_PIPE } else { exit } });
        }
    }
}

fn pumps(watch: &Watch, started: &Started, ends: Option<Ends>) -> Result<(Option<Pump>, Vec<Pump>)> {
    let ours = |fd: BorrowedFd<'_>| fcntl_dupfd_cloexec(fd, 3).context("duplicate a standard stream");
    if let Some(master) = &started.terminal {
        let input = match watch.interactive {
            true => Some(Pump::new(ours(stdin().as_fd())?, ours(master.as_fd())?)),
            false => None,
        };
        return Ok((input, vec![Pump::new(ours(master.as_fd())?, ours(stdout().as_fd())?)]));
    }
    let Some(ends) = ends else { bail!("a container has neither terminal nor pipes") };
    let input = match ends.stdin {
        Some(pipe) => Some(Pump::new(ours(stdin().as_fd())?, pipe)),
        None => None,
    };
    let outputs = vec![
        Pump::new(ends.stdout, ours(stdout().as_fd())?),
        Pump::new(ends.stderr, ours(stderr().as_fd())?),
    ];
    Ok((input, outputs))
}

fn pass_signals(watch: &Watch, started: &Started, kill_at: &mut Option<Instant>) -> Result<()> {
    while let Some(info) = watch.signals.read_signal().context("read a signal")? {
        let number = info.ssi_signo as i32;
        if let (Some(master), true) = (&started.terminal, number == Signal::SIGWINCH as i32) {
            terminal::fit(master);
            continue;
        }
        let signal = match watch.proxy {
            true => Some(number),
            // The container doesn't see our signals, but it doesn't outlive us either.
            false if ends_us(number) => {
                kill_at.get_or_insert(Instant::now() + watch.stop_timeout);
                Some(watch.stop_signal)
            }
            false => None,
        };
        if let Some(signal) = signal {
            let _ = crate::sys::signal::send(&started.child.pidfd, signal);
        }
    }
    Ok(())
}

fn reap(pidfd: BorrowedFd<'_>) -> Result<Exit> {
    let status = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED).context("wait for the container")?;
    let signal = status.as_ref().and_then(|status| status.terminating_signal());
    let code = status.and_then(|status| status.exit_status()).or(signal.map(|number| 128 + number));
    Ok(Exit { code: code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255), signal, lost: None })
}

/// Whether SIGPIPE would end process `pid` anywhere else. Process 1 of a pid namespace is spared signals that it doesn't
/// handle (pid_namespaces(7)): it sees EPIPE and fails with a status of its own, where a shell expects 141.
fn leaves_broken_pipes_to_the_kernel(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).unwrap_or_default();
    let handled = |mask: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(mask));
        mask.is_none_or(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|m| m & SIGPIPE_BIT != 0))
    };
    !handled("SigIgn:") && !handled("SigCgt:")
}

const SIGPIPE_BIT: u64 = 1 << (libc::SIGPIPE - 1);
const BROKEN_PIPE: Exit = Exit { code: 128 + libc::SIGPIPE as u8, signal: Some(libc::SIGPIPE), lost: None };

/// Every writer is dead, so what is left in the pipe is all there is; somebody outside who holds its other end is not
/// waited for. A reader that stalls is, until a signal says that it is enough.
fn drain(pump: &mut Pump, signals: &SignalFd) -> Option<Errno> {
    loop {
        let (fd, flags) = pump.waits_for();
        let timeout = if flags == PollFlags::IN { Some(&NOW) } else { None };
        let mut fds = [PollFd::from_borrowed_fd(fd, flags), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut fds, timeout) {
            Err(Errno::INTR) => {}
            Ok(1..) if !fds[0].revents().is_empty() => match pump.step() {
                Flow::Open => {}
                flow => return failure(flow),
            },
            Ok(1..) if !matches!(signals.read_signal(), Ok(Some(info)) if ends_us(info.ssi_signo as i32)) => {
            }
            _ => return None,
        }
    }
}

fn failure(flow: Flow) -> Option<Errno> {
    match flow {
        Flow::Failed(errno) => Some(errno),
        _ => None,
    }
}

/// Signals that ask a program to end.
fn ends_us(number: i32) -> bool {
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT]
        .map(|signal| signal as i32)
        .contains(&number)
}

fn remaining(at: Instant) -> Timespec {
    Timespec::try_from(at.saturating_duration_since(Instant::now())).unwrap_or(NOW)
}

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
