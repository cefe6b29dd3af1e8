//! What a client orders of a running container: to its monitor; where that was killed, to its process by hand.

use super::{
    control::{Ask, Channel, Tell, reach},
    event::ENDING,
};
use crate::{
    container::{
        pause,
        record::Record,
        signal::Signal,
        state::{Process, Status},
    },
    error::{Explain, OURS},
    storage::ContainerDir,
};
use anyhow::{Context, Result, anyhow};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::retry_on_intr,
};
use std::{
    os::fd::{AsFd, OwnedFd},
    thread::sleep,
    time::{Duration, Instant},
};

/// Ask the container to end, kill it after `time`, and return when it has ended for good. One that does not run is left
/// alone. `None`s: as its record says.
pub fn stop(dir: &ContainerDir, signal: Option<i32>, time: Option<Duration>) -> Result<()> {
    begin_stop(dir, signal, time)?.finish()
}

/// The same without waiting for the end, so that several can end at a time.
pub fn begin_stop(dir: &ContainerDir, signal: Option<i32>, time: Option<Duration>) -> Result<Stopping> {
    let channel = reach(dir)?;
    if let Some(channel) = &channel {
        let milliseconds = time.map(|time| time.as_millis().try_into().unwrap_or(u64::MAX));
        let _ = channel.say(&Ask::Stop { signal, milliseconds }, &[]);
    }
    Ok(Stopping { dir: dir.clone(), signal, time, channel })
}

/// A container that was asked to end.
#[derive(Debug)]
pub struct Stopping {
    dir: ContainerDir,
    signal: Option<i32>,
    time: Option<Duration>,
    channel: Option<Channel>,
}

impl Stopping {
    /// Return when it has ended for good.
    pub fn finish(self) -> Result<()> {
        if let Some(channel) = self.channel
            && hear_the_end(&channel, true)?.is_some()
        {
            return Ok(());
        }
        stop_by_hand(&self.dir, self.signal, self.time)
    }
}

/// Send the first process signal `number`.
///
/// # Errors
/// The container does not run (podman-kill(1)).
pub fn signal(dir: &ContainerDir, number: i32) -> Result<()> {
    let status = Status::of(dir)?;
    let Some(process) = status.process() else {
        return Err(anyhow!(
            "can only kill running containers. {} is in state {}: container state improper",
            dir.id(),
            status.word()
        ))
        .hint(status.hint(dir.id().short()))
        .status(OURS);
    };
    if let Some(channel) = reach(dir)?
        && channel.say(&Ask::Signal(number), &[]).is_ok()
        && channel.hear::<Tell>()?.is_some()
    {
        return Ok(());
    }
    match process.open()? {
        Some(pidfd) => {
            crate::sys::signal::send(pidfd.as_fd(), number)
                .with_context(|| format!("send signal {number} to process {}", process.pid))?;
            if ENDING.contains(&number) { pause::resume(dir) } else { Ok(()) }
        }
        None => Ok(()),
    }
}

/// Wait until the container ends; its exit status. At once for one that has ended, be it to be started again: that is the
/// first end that podman-wait(1) would see. `None` when it was removed before anybody could see it.
pub fn wait(dir: &ContainerDir) -> Result<Option<u8>> {
    if let Some(channel) = reach(dir)? {
        // A monitor that just ends hears nothing more; it has said all in the container's files.
        let _ = channel.say(&Ask::Watch, &[]);
        if let Some(code) = hear_the_end(&channel, false)? {
            return Ok(Some(code));
        }
    }
    loop {
        match Status::of(dir)? {
            _ if !dir.path().exists() => return Ok(None),
            Status::Exited(exit) | Status::Restarting(exit) => return Ok(Some(exit.code)),
            Status::Initialized(process) | Status::Running(process) | Status::Paused(process) => {
                if let Some(pidfd) = process.open()? {
                    ended(&pidfd, None)?;
                }
            }
            Status::Created => return Ok(Some(0)),
        }
    }
}

/// Wait until the container's status `fits`; it. A container that is removed meanwhile has ended.
pub fn wait_until(dir: &ContainerDir, fits: impl Fn(&Status) -> bool) -> Result<Status> {
    let watching = || format!("watch container {}", dir.id().short());
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).with_context(watching)?;
    let flags = WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE_SELF;
    for place in [Some(dir.path()), dir.pid_file().parent()].into_iter().flatten() {
        inotify::add_watch(&events, place, flags).with_context(watching)?;
    }
    loop {
        let status = Status::of(dir)?;
        if fits(&status) || !dir.path().exists() {
            return Ok(status);
        }
        let mut fds = [PollFd::new(&events, PollFlags::IN)];
        // Whether processes are stopped is known to the kernel alone, which tells nobody.
        retry_on_intr(|| poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 200_000_000 })))
            .with_context(watching)?;
        while rustix::io::read(&events, &mut [0; 4096]).is_ok() {}
    }
}

/// What the container in `dir` is doing, for whoever wants to start it: one that runs does so under a monitor that answers. A
/// monitor that was killed takes its container along, but not at once.
pub fn settled(dir: &ContainerDir) -> Result<Status> {
    let begin = Instant::now();
    loop {
        match Status::of(dir)? {
            Status::Running(process) if process.is_watched() && begin.elapsed() < SOON && !answers(dir)? => {
                sleep(SOON / 1000);
            }
            status => return Ok(status),
        }
    }
}

fn answers(dir: &ContainerDir) -> Result<bool> {
    let Some(channel) = reach(dir)? else { return Ok(false) };
    Ok(channel.say(&Ask::Watch, &[]).is_ok() && channel.hear::<Tell>()?.is_some())
}

const SOON: Duration = Duration::from_secs(1);

/// Let a container that `init` set up go on.
pub fn go(dir: &ContainerDir) -> Result<()> {
    let Some(channel) = reach(dir)? else { return Err(anyhow!("the container's monitor was killed")) };
    channel.say(&Ask::Go { foreground: false }, &[])?;
    loop {
        match channel.hear::<Tell>()? {
            Some((Tell::Started { .. }, _)) => return Ok(()),
            Some((Tell::Failed(told), _)) => return Err(told.into_error()),
            Some(_) => {}
            None => return Err(anyhow!("the container ended")),
        }
    }
}

/// The record was changed: the monitor, if there is one, is to read it again.
pub fn reload(dir: &ContainerDir) -> Result<()> {
    if let Some(channel) = reach(dir)?
        && channel.say(&Ask::Reload, &[]).is_ok()
    {
        let _ = channel.hear::<Tell>()?;
    }
    Ok(())
}

/// Let the container, if it runs, be in the networks that its record names; those whose processes are gone come back.
///
/// # Errors
/// What its monitor says.
pub fn follow_networks(dir: &ContainerDir) -> Result<()> {
    let Some(channel) = reach(dir)? else { return Ok(()) };
    if channel.say(&Ask::Networks, &[]).is_err() {
        return Ok(());
    }
    match channel.hear::<Tell>()? {
        Some((Tell::Failed(told), _)) => Err(told.into_error()),
        // One that has just ended reads its record when it is started again.
        _ => Ok(()),
    }
}

/// The exit status of the next end, or of the last one (`for_good`); `None` when the monitor is gone without a word.
fn hear_the_end(channel: &Channel, for_good: bool) -> Result<Option<u8>> {
    while let Some((said, _)) = channel.hear::<Tell>()? {
        if let Tell::Exited { code, restarts, .. } = said
            && !(for_good && restarts)
        {
            return Ok(Some(code));
        }
    }
    Ok(None)
}

fn stop_by_hand(dir: &ContainerDir, signal: Option<i32>, time: Option<Duration>) -> Result<()> {
    let status = Status::of(dir)?;
    let Some(process) = status.process() else { return Ok(()) };
    let Some(pidfd) = process.open()? else { return Ok(()) };
    let record = Record::read(dir)?;
    let recorded = record.as_ref().and_then(|record| record.stop_signal.parse().ok()).map(Signal::number);
    let number = signal.or(recorded).unwrap_or(libc::SIGTERM);
    let time = time.unwrap_or(Duration::from_secs(record.map_or(10, |record| record.stop_timeout.into())));
    let doing = || format!("stop process {}", process.pid);
    for (number, time) in [(number, Some(time)), (libc::SIGKILL, None)] {
        if crate::sys::signal::send(pidfd.as_fd(), number).is_err()
            || pause::resume(dir).is_err()
            || ended(&pidfd, time).with_context(doing)?
        {
            break;
        }
    }
    Ok(())
}

/// Wait a moment for the end of `process`, which was killed.
pub fn wait_for_the_end_of(process: &Process) -> Result<()> {
    process.open()?.map_or(Ok(()), |pidfd| ended(&pidfd, Some(SOON)).map(drop))
}

/// Whether the process of `pidfd` has ended within `time`.
fn ended(pidfd: &OwnedFd, time: Option<Duration>) -> Result<bool> {
    // As long as there is no clock for it means for ever.
    let due = time.and_then(|time| Instant::now().checked_add(time));
    let left = due.map(|due| due.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    let mut end = [PollFd::new(pidfd, PollFlags::IN)];
    Ok(retry_on_intr(|| poll(&mut end, left.as_ref())).context("wait for a process's end")? > 0)
}
