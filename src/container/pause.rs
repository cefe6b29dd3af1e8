//! Stopping all processes of a container and letting them go on (podman-pause(1)): by its control group; without one, by signals
//! that nobody can handle. A process that forks meanwhile is asked again by the kernel, so none escapes.

use super::{
    exec, processes,
    state::{Container, Process, Status},
};
use crate::{
    cgroups::Group,
    error::Explain,
    storage::ContainerDir,
    sys::{
        fork::{self, Child},
        signal,
    },
};
use anyhow::{Context, Result, anyhow, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd,
};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::{
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

/// Stop every process of `container`; returns when they have stopped.
///
/// # Errors
/// It does not run; the words are Podman's.
pub fn pause(container: &Container) -> Result<()> {
    let id = &container.record.id;
    let _lock = container.dir.lock_changes()?;
    let status = Status::of(&container.dir)?;
    let process = match &status {
        Status::Running(process) => process,
        Status::Paused(_) => {
            return Err(anyhow!("container {id} is already paused: container state improper"))
                .hint(status.hint(id.short()));
        }
        other => {
            return Err(anyhow!("{:?} is not running, can't pause: container state improper", other.word()))
                .hint(status.hint(id.short()));
        }
    };
    if let Some(path) = &process.cgroup {
        Group::at(path).freeze(true)?;
        return Process { paused: true, ..process.clone() }.write(&container.dir);
    }
    if !container.record.sharing.pid.is_own() {
        return Err(anyhow!("container {id} shares its processes with others, who would be stopped, too"))
            .hint("a control group of its own tells them apart: `ctr info` says what this machine gives");
    }
    let subject = process.child()?.ok_or_else(|| anyhow!("the container ended"))?;
    // The first process before the others: it might start more.
    signal::send(subject.pidfd.as_fd(), libc::SIGSTOP).context("stop the container's first process")?;
    signal_all(&subject, container, Signal::SIGSTOP)?;
    // A process that waits in the kernel for a disk (D) stops when it is back.
    settled(container, || {
        Ok(processes::of(&subject)?.iter().all(|process| !matches!(process.state, 'R' | 'S')))
    })?;
    Process { paused: true, ..process.clone() }.write(&container.dir)
}

/// Let every process of `container` go on.
///
/// # Errors
/// It is not paused; the words are Podman's.
pub fn unpause(container: &Container) -> Result<()> {
    let _lock = container.dir.lock_changes()?;
    let Status::Paused(process) = Status::of(&container.dir)? else {
        return Err(anyhow!(
            "{} is not paused, can't unpause: container state improper",
            container.record.id
        ))
        .hint("`ctr ps --filter status=paused` lists those that are");
    };
    if let Some(path) = &process.cgroup {
        Group::at(path).freeze(false)?;
        return Process { paused: false, ..process }.write(&container.dir);
    }
    let subject = process.child()?.ok_or_else(|| anyhow!("the container ended"))?;
    signal_all(&subject, container, Signal::SIGCONT)?;
    signal::send(subject.pidfd.as_fd(), libc::SIGCONT).context("continue the container's first process")?;
    Process { paused: false, ..process }.write(&container.dir)
}

/// Let the container in `dir` go on if it is paused: whoever is asked to end has to be able to.
pub fn resume(dir: &ContainerDir) -> Result<()> {
    let paused = Process::read(dir)?.is_some_and(|process| process.paused);
    let container = if paused { Container::read(dir.clone())? } else { None };
    container.map_or(Ok(()), |container| unpause(&container))
}

/// To all but the first process, in one system call of a process that has joined them.
fn signal_all(subject: &Child, container: &Container, number: Signal) -> Result<()> {
    let helper = fork::fork(|| {
        // Who am I: a copy of the caller, on the way into the container's user and pid namespaces; my child gets there.
        let joined = exec::enter(container, subject).and_then(|()| Ok(fork::split()?));
        match joined {
            Ok(None) => match kill(unistd::Pid::from_raw(-1), number) {
                Ok(()) | Err(Errno::ESRCH) => 0,
                Err(errno) => errno as i32,
            },
            Ok(child) => exit_status(child).unwrap_or(1),
            Err(_) => 1,
        }
    });
    match exit_status(Some(helper.context("fork")?)) {
        Some(0) => Ok(()),
        _ => bail!("send {number} to the container's processes"),
    }
}

fn exit_status(child: Option<Pid>) -> Option<i32> {
    waitpid(child, WaitOptions::empty()).ok()??.1.exit_status()
}

/// Signals take effect when the process next runs, and nobody but its parent is told.
fn settled(container: &Container, is: impl Fn() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(5);
    while !is()? {
        if Instant::now() > end {
            bail!("container {} takes no notice of its signals", container.record.id.short());
        }
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}
