//! Running a piece of our own work as root of a user namespace: unpacking layers whose owners are subordinate ids, deleting
//! what containers left behind under them, reaching the files of a container.

use super::{unshare, user::Mapping};
use crate::{
    error::{self, Explain, OURS},
    sys::fork::{self, Child},
};
use anyhow::{Context, Result, anyhow};
use rustix::{
    mount::{MountPropagationFlags, mount_change},
    pipe::{PipeFlags, pipe_with},
    process::{
        Gid, Pid, PidfdFlags, Signal, Uid, WaitOptions, pidfd_open, pidfd_send_signal,
        set_parent_process_death_signal, waitpid,
    },
    thread::{
        CapabilitySet, CapabilitySets, ThreadNameSpaceType, UnshareFlags, capabilities,
        move_into_thread_name_spaces, set_capabilities, set_keep_capabilities, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Run `work` as root of a user namespace with `mapping` and in a mount namespace of its own, and hand back what it said;
/// directly when we are root. Must be called before any thread exists.
///
/// # Errors
/// What `work` says; or no user namespace can be made.
pub fn run_inside(mapping: &Mapping, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if !mapping.is_rootless() {
        return work();
    }
    start_inside(mapping, |_| Ok(()), |_| work())?.0.wait()
}

/// A process of ours that works in other namespaces. Dropped, it ends.
#[derive(Debug)]
pub struct Inside {
    pid: Pid,
    pidfd: OwnedFd,
    said: OwnedFd,
    waited: bool,
}

/// Start a process that does `work` in a mount namespace of its own and, unless we are root, as root of a user namespace
/// with `mapping`. `prepare` sees it before it begins. `work` is told the descriptor over which it reports.
pub fn start_inside<T>(
    mapping: &Mapping,
    prepare: impl FnOnce(&Child) -> Result<T>,
    work: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
) -> Result<(Inside, T)> {
    start_inside_with(mapping, prepare, || Ok(()), |(), report| work(report))
}

/// [`start_inside`]; what `open` opens there, still as the user who runs us, is for `work`: a namespace may lack that user,
/// and then its root can't walk through the user's private directories.
pub fn start_inside_with<T, O>(
    mapping: &Mapping,
    prepare: impl FnOnce(&Child) -> Result<T>,
    open: impl FnOnce() -> Result<O>,
    work: impl FnOnce(O, BorrowedFd<'_>) -> Result<()>,
) -> Result<(Inside, T)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context("make a pipe");
    let (ready, tell_ready) = pipe()?;
    let (mapped, tell_mapped) = pipe()?;
    let (said, say) = pipe()?;
    let Some(pid) = fork::split().context("fork")? else {
        // Here: the child. While it holds an end that is its parent's, no end of file tells it that the parent gave up.
        drop((ready, tell_mapped, said));
        let outcome = enter(mapping, tell_ready, mapped, open).and_then(|opened| work(opened, say.as_fd()));
        fork::exit_now(report(outcome, say))
    };
    // Here: the caller, in its own namespaces.
    drop((tell_ready, mapped, say));
    let inside = Inside::watch(pid, said)?;
    if one_byte(ready).is_err() {
        // A child that ends before it is ready says why itself.
        drop(tell_mapped);
        return Err(inside.wait().err().unwrap_or_else(killed));
    }
    mapping.write(pid)?;
    let child = Child { pid, pidfd: inside.pidfd.try_clone().context("watch the process inside")? };
    let prepared = prepare(&child)?;
    rustix::io::write(tell_mapped, &[1]).context("let the process inside go on")?;
    Ok((inside, prepared))
}

/// Start a process that does `work` in the mount namespace of `process` and, with `user`, as these user and group of its user
/// namespace, with every capability over the ids that it maps.
/// `work` is told the descriptor over which it reports.
pub fn start_beside(
    process: BorrowedFd<'_>,
    user: Option<(u32, u32)>,
    work: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
) -> Result<Inside> {
    start_in(process, ThreadNameSpaceType::MOUNT, user, work)
}

/// The same in its namespaces of `kinds`.
pub fn start_in(
    process: BorrowedFd<'_>,
    kinds: ThreadNameSpaceType,
    user: Option<(u32, u32)>,
    work: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
) -> Result<Inside> {
    let (said, say) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let Some(pid) = fork::split().context("fork")? else {
        // Here: the child, on its way into namespaces that others live in.
        drop(said);
        let joined = join(process, kinds, user).context("enter the namespaces of the container");
        fork::exit_now(report(joined.and_then(|()| work(say.as_fd())), say))
    };
    drop(say);
    Inside::watch(pid, said)
}

/// Start a process that does `work` where this one is.
pub fn start_here(work: impl FnOnce() -> Result<()>) -> Result<Inside> {
    let (said, say) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let Some(pid) = fork::split().context("fork")? else {
        drop(said);
        fork::exit_now(report(follow_parent().and_then(|()| work()), say))
    };
    drop(say);
    Inside::watch(pid, said)
}

impl Inside {
    fn watch(pid: Pid, said: OwnedFd) -> Result<Inside> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("watch the process inside")?;
        Ok(Inside { pid, pidfd, said, waited: false })
    }

    /// Its process; and what is readable when it has spoken or ended.
    pub fn watched(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.pidfd.as_fd(), self.said.as_fd())
    }

    /// Wait for its end and hand back what it said.
    pub fn wait(mut self) -> Result<()> {
        let mut words = String::new();
        let said = self.said.try_clone().context("hear the process inside")?;
        let _ = File::from(said).take(64 * 1024).read_to_string(&mut words);
        let status = waitpid(Some(self.pid), WaitOptions::empty()).context("wait for the process inside")?;
        self.waited = true;
        outcome(status.and_then(|(_, status)| status.exit_status()), &words)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if !self.waited {
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
            let _ = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

/// The child: still the user, about to be root of a namespace where it maps nobody yet.
fn enter<O>(
    mapping: &Mapping,
    tell_ready: OwnedFd,
    mapped: OwnedFd,
    open: impl FnOnce() -> Result<O>,
) -> Result<O> {
    follow_parent()?;
    let user = if mapping.is_rootless() { UnshareFlags::NEWUSER } else { UnshareFlags::empty() };
    unshare(user | UnshareFlags::NEWNS).context("make a user namespace").hint(super::mend())?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)
        .context("keep mounts to ourselves")?;
    rustix::io::write(&tell_ready, &[1]).context("report to our parent")?;
    drop(tell_ready);
    one_byte(mapped)?;
    let opened = open()?;
    if mapping.is_rootless() {
        become_builder(mapping.builder())?;
    }
    Ok(opened)
}

fn join(process: BorrowedFd<'_>, kinds: ThreadNameSpaceType, user: Option<(u32, u32)>) -> Result<()> {
    let mut namespaces = kinds;
    namespaces.set(ThreadNameSpaceType::USER, user.is_some());
    move_into_thread_name_spaces(process, namespaces)?;
    if let Some(user) = user {
        become_builder(user)?;
    }
    follow_parent()
}

/// From here: root of the namespace (or the user, where there is no root), with every capability over the ids it maps and none
/// over the host.
fn become_builder((uid, gid): (u32, u32)) -> Result<()> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_keep_capabilities(true).context("keep capabilities")?;
    set_thread_res_gid(group, group, group).with_context(|| format!("become group {gid}"))?;
    set_thread_res_uid(user, user, user).with_context(|| format!("become user {uid}"))?;
    let held = capabilities(None).context("look at capabilities")?.permitted;
    let sets = CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context("take capabilities up")?;
    // A namespace of one id keeps its groups (setgroups is denied there).
    let _ = set_thread_groups(&[]);
    Ok(())
}

fn follow_parent() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("follow our parent")
}

/// First line the exit status, second the hint, then the message.
fn report(outcome: Result<()>, say: OwnedFd) -> i32 {
    let Err(failure) = outcome else { return 0 };
    let status = error::status(&failure);
    if error::is_reported(&failure) {
        return status.into();
    }
    let words = format!("{}\n{failure:#}", error::hint(&failure).unwrap_or_default());
    let _ = File::from(say).write_all(words.as_bytes());
    status.into()
}

fn outcome(status: Option<i32>, words: &str) -> Result<()> {
    let Some(status) = status else { return Err(killed()) };
    if status == 0 {
        return Ok(());
    }
    if words.is_empty() {
        return Err(error::already_reported());
    }
    let (hint, message) = words.split_once('\n').unwrap_or(("", words));
    let failure = Err(anyhow!("{}", message.to_owned())).status(u8::try_from(status).unwrap_or(OURS));
    if hint.is_empty() { failure } else { failure.hint(hint) }
}

fn killed() -> anyhow::Error {
    anyhow!("the process inside the namespaces was killed")
}

fn one_byte(from: OwnedFd) -> Result<()> {
    File::from(from).read_exact(&mut [0]).context("wait for the other process")
}
