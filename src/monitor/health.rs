//! Health checks beside a running container: when the next one is due, the one that runs, and what came of it. Each is a
//! process of ours that lets another join the container, and says at its end what it saw.

use super::{control::Tell, ended::reap, event::Subject, exec, launch::Started, watch::Watch};
use crate::{
    container::{
        exec::{self as joining, Plan, Request},
        health::{Check, Checks, Health, OnFailure, Outcome, Status},
        plan::Stdio,
        record::Record,
        state,
    },
    storage::ContainerDir,
    sys::fork::{self, close_descriptors_except},
};
use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use nix::sys::signal::SigSet;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, setsid, waitpid},
    stdio::{stderr, stdin, stdout},
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

/// A container's checks while it runs. Dropped, the one that runs ends.
#[derive(Debug)]
pub struct Supervision<'a> {
    dir: &'a ContainerDir,
    record: &'a Record,
    checks: Option<Checks>,
    since: Instant,
    due: Option<Instant>,
    probe: Option<Probe>,
    /// Successes and failures of the startup check; `None` once it is over.
    startup: Option<(u32, u32)>,
}

/// What follows from a check.
#[derive(Debug)]
pub struct Verdict {
    /// The container's health, if it is another now.
    pub changed: Option<Status>,
    /// What is to be done about it.
    pub action: OnFailure,
}

impl<'a> Supervision<'a> {
    /// The container has just started: the first check is due at once.
    pub fn new(dir: &'a ContainerDir, record: &'a Record) -> Result<Supervision<'a>> {
        let now = Instant::now();
        if record.health.is_some() {
            Health::STARTING.write(dir)?;
        }
        let mut supervision =
            Supervision { dir, record, checks: None, since: now, due: None, probe: None, startup: None };
        supervision.take_up(record.health.clone());
        Ok(supervision)
    }

    /// The container's checks are others now: what was known stays, and the next check is due at once.
    pub fn change(&mut self, checks: Option<Checks>) {
        if checks == self.checks {
            return;
        }
        if self.checks.is_none() {
            let _ = Health::STARTING.write(self.dir);
        }
        self.probe = None;
        self.take_up(checks);
    }

    fn take_up(&mut self, checks: Option<Checks>) {
        let startup = checks.as_ref().and_then(|checks| checks.startup.as_ref());
        // A startup check that is over stays so.
        let begins = self.checks.is_none() || self.startup.is_some();
        self.startup = startup.filter(|_| begins).map(|_| (0, 0));
        let runs =
            checks.as_ref().is_some_and(|checks| checks.regular.interval > 0 || self.startup.is_some());
        self.due = runs.then(Instant::now);
        self.checks = checks;
    }

    /// When [`Supervision::begin_if_due`] is to be called.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Readable when [`Supervision::finish`] is to be called.
    pub fn event(&self) -> Option<BorrowedFd<'_>> {
        self.probe.as_ref().map(|probe| probe.said.as_fd())
    }

    /// Begin a check if it is time. One that can't be begun is tried again later.
    pub fn begin_if_due(&mut self) {
        if self.due.is_none_or(|due| due > Instant::now()) {
            return;
        }
        self.due = None;
        let Some((check, _)) = self.current() else { return };
        let interval = check.interval;
        if self.is_paused() {
            self.due = after(interval);
            return;
        }
        match Probe::begin(self.dir, self.record, &check) {
            Ok(probe) => self.probe = Some(probe),
            Err(_) => self.due = after(interval),
        }
    }

    /// Take in what the check said.
    pub fn finish(&mut self) -> Option<Verdict> {
        let outcome = self.probe.take()?.finish();
        let checks = self.checks.clone()?;
        let (check, counts) = self.current()?;
        let (interval, forgiven) =
            (check.interval, self.since.elapsed() < Duration::from_nanos(check.start_period));
        self.due = after(interval);
        // What it saw of a container that is paused, or nothing when it was killed, says nothing.
        let outcome = outcome.filter(|_| !self.is_paused())?;
        let succeeded = outcome.exit_code == 0;
        let mut health = Health::read(self.dir).ok().flatten().unwrap_or(Health::STARTING);
        let before = health.status;
        health.learn(outcome, counts, forgiven);
        let _ = health.write(self.dir);
        let mut action = OnFailure::None;
        if let (Some((successes, failures)), Some((startup, enough))) = (&mut self.startup, &checks.startup) {
            *(if succeeded { successes } else { &mut *failures }) += 1;
            if startup.retries > 0 && *failures >= startup.retries {
                action = OnFailure::Restart;
            } else if self.startup.is_some_and(|(successes, _)| successes >= *enough) {
                self.startup = None;
                self.due = (checks.regular.interval > 0).then(Instant::now);
            }
        }
        let changed = (health.status != before).then_some(health.status);
        // Each time: one that was unhealthy already when the user said what is to be done about it is meant, too.
        if health.status == Status::Unhealthy {
            action = checks.on_failure;
        }
        Some(Verdict { changed, action })
    }

    fn is_paused(&self) -> bool {
        state::Process::read(self.dir).is_ok_and(|process| process.is_some_and(|process| process.paused))
    }

    /// The check whose turn it is, and with how many retries it counts.
    fn current(&self) -> Option<(Check, Option<u32>)> {
        let checks = self.checks.as_ref()?;
        Some(match (&self.startup, &checks.startup) {
            (Some(_), Some((startup, _))) => (startup.clone(), None),
            _ => (checks.regular.clone(), Some(checks.regular.retries)),
        })
    }
}

/// Run the regular check of the container now; what is known then (podman-healthcheck-run(1)).
pub fn check_now(container: &state::Container) -> Result<Health> {
    let state::Container { dir, record, .. } = container;
    let checks = record
        .health
        .as_ref()
        .ok_or_else(|| anyhow!("container {} has no defined healthcheck", record.id))?;
    joining::subject(container)?;
    let outcome = Probe::begin(dir, record, &checks.regular)?.finish();
    let outcome = outcome.ok_or_else(|| anyhow!("the check was killed"))?;
    let mut health = Health::read(dir)?.unwrap_or(Health::STARTING);
    health.learn(outcome, Some(checks.regular.retries), false);
    health.write(dir)?;
    Ok(health)
}

fn after(interval: u64) -> Option<Instant> {
    (interval > 0).then(|| Instant::now().checked_add(Duration::from_nanos(interval))).flatten()
}

#[derive(Debug)]
struct Probe {
    process: Pid,
    said: OwnedFd,
    start: Timestamp,
}

impl Probe {
    fn begin(dir: &ContainerDir, record: &Record, check: &Check) -> Result<Probe> {
        let (said, say) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
        let start = Timestamp::now();
        let process = fork::fork(|| {
            // Who am I: a copy of the monitor with its privileges and in its namespaces, in a session of my own. Of its
            // descriptors I keep the standard streams, unused, and the end of the pipe.
            let _ = setsid();
            let _ = SigSet::all().thread_block();
            close_descriptors_except(&[stdin(), stdout(), stderr(), say.as_fd()], 0);
            let _ = rustix::thread::set_name(c"ctr-health");
            let seen = examine(dir, record, check).unwrap_or_else(|failure| (125, format!("{failure:#}")));
            i32::from(serde_json::to_writer(File::from(say), &seen).is_err())
        });
        Ok(Probe { process: process.context("fork")?, said, start })
    }

    /// What it says, for which this waits.
    fn finish(self) -> Option<Outcome> {
        let mut words = Vec::new();
        let read =
            self.said.try_clone().map(File::from).and_then(|said| said.take(LONGEST).read_to_end(&mut words));
        let (exit_code, output) = read.ok().and_then(|_| serde_json::from_slice(&words).ok())?;
        Some(Outcome { start: self.start, end: Timestamp::now(), exit_code, output })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = kill_process(self.process, Signal::KILL);
        let _ = waitpid(Some(self.process), WaitOptions::empty());
    }
}

/// Exit status, -1 when it took too long; and the beginning of what it printed.
fn examine(dir: &ContainerDir, record: &Record, check: &Check) -> Result<(i32, String)> {
    let status = state::Status::of(dir)?;
    let container = state::Container { dir: dir.clone(), record: record.clone(), status };
    let subject = joining::subject(&container)?;
    let command = check.command().ok_or_else(|| anyhow!("there is nothing to run"))?;
    let (printed, print) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let stdio = Stdio::Pipes { stdin: None, stdout: print.try_clone()?, stderr: print };
    let plan = Plan::new(&container, &subject, &Request { command, ..Request::default() }, stdio)?;
    joining::join_group(&container)?;
    joining::enter(&container, &subject)?;
    let end = Instant::now() + Duration::from_nanos(check.timeout);
    watch(&exec::start(plan, &subject)?, printed, end)
}

fn watch(started: &Started, printed: OwnedFd, end: Instant) -> Result<(i32, String)> {
    let pidfd = &started.child.pidfd;
    let mut printed = Some(File::from(printed));
    let mut output = Vec::new();
    let code = loop {
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
        fds.extend(printed.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
        match poll(&mut fds, left.as_ref()) {
            Err(Errno::INTR) => continue,
            // One that prints without end is late, too.
            Ok(_) if Instant::now() >= end => {
                // It leads its group, and its number is its own until we take its status: what it started goes with it.
                let _ = kill_process_group(started.child.pid, Signal::KILL);
                break -1;
            }
            polled => polled.context("poll")?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if let (Some(true), Some(pipe)) = (ready.get(1), &mut printed) {
            let mut chunk = [0; 4096];
            match pipe.read(&mut chunk) {
                Ok(0) | Err(_) => printed = None,
                Ok(length) => {
                    let room = OUTPUT.saturating_sub(output.len());
                    output.write_all(&chunk[..length.min(room)])?;
                }
            }
        } else if ready[0] {
            break reap(pidfd.as_fd())?.code.into();
        }
    };
    if code == -1 {
        output = b"Health check exceeded timeout".to_vec();
    }
    Ok((code, String::from_utf8_lossy(&output).into_owned()))
}

/// Bytes of a check's output that are kept, as by Podman.
const OUTPUT: usize = 500;
/// Bytes of what a check's process says: those, escaped.
const LONGEST: u64 = 16 << 10;

/// What is done about a container's health; whether it is to be started again.
pub fn act(watch: &mut Watch, subject: Subject<'_>, verdict: &Verdict) -> bool {
    if let Some(status) = verdict.changed {
        watch.announce(&Tell::Health(status.to_string()));
    }
    match verdict.action {
        OnFailure::None => {}
        OnFailure::Kill => {
            let _ = crate::sys::signal::send(subject.pidfd, libc::SIGKILL);
        }
        OnFailure::Stop => watch.begin_stop(Some(subject), None, None),
        OnFailure::Restart => watch.begin_end(Some(subject), None, None),
    }
    verdict.action == OnFailure::Restart
}
