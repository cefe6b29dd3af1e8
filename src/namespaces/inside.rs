//! Running a piece of our own work as root of a user namespace: unpacking layers whose owners are subordinate ids, and
//! deleting what containers left behind under them.

use super::{unshare, user::Mapping};
use crate::{
    error::{self, Explain, OURS},
    sys::fork,
};
use anyhow::{Context, Result, anyhow};
use rustix::{
    mount::{MountPropagationFlags, mount_change},
    pipe::{PipeFlags, pipe_with},
    process::{Signal, WaitOptions, set_parent_process_death_signal, waitpid},
    thread::{UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
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
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context("make a pipe");
    let (ready, tell_ready) = pipe()?;
    let (mapped, tell_mapped) = pipe()?;
    let (said, say) = pipe()?;
    let Some(child) = fork::split().context("fork")? else {
        // Here: the child. While it holds an end that is its parent's, no end of file tells it that the parent gave up.
        drop((ready, tell_mapped, said));
        let outcome = enter(tell_ready, mapped).and_then(|()| work());
        fork::exit_now(report(outcome, say))
    };
    // Here: the caller, in its own namespaces.
    drop((tell_ready, mapped, say));
    // A child that ends before it is ready says why itself.
    let mapped = match one_byte(ready) {
        Ok(()) => mapping.write(child).and_then(|()| Ok(rustix::io::write(tell_mapped, &[1])?)).map(drop),
        Err(_) => {
            drop(tell_mapped);
            Ok(())
        }
    };
    let mut words = String::new();
    let _ = File::from(said).take(64 * 1024).read_to_string(&mut words);
    let status = waitpid(Some(child), WaitOptions::empty()).context("wait for the process inside")?;
    mapped?;
    outcome(status.and_then(|(_, status)| status.exit_status()), &words)
}

/// The child: still the user, about to be root of a namespace where it maps nobody yet.
fn enter(tell_ready: OwnedFd, mapped: OwnedFd) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("follow our parent")?;
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)
        .context("make a user namespace")
        .hint(super::NO_USER_NAMESPACES)?;
    rustix::io::write(&tell_ready, &[1]).context("report to our parent")?;
    drop(tell_ready);
    one_byte(mapped)?;
    // From here: root of the namespace, with every capability over the ids it maps and none over the host.
    set_thread_res_gid(ROOT_GID, ROOT_GID, ROOT_GID).context("become group 0")?;
    set_thread_res_uid(ROOT_UID, ROOT_UID, ROOT_UID).context("become user 0")?;
    // A namespace of one id keeps its groups (setgroups is denied there).
    let _ = set_thread_groups(&[]);
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)
        .context("keep mounts to ourselves")
}

/// First line the exit status, second the hint, then the message.
fn report(outcome: Result<()>, say: OwnedFd) -> i32 {
    let Err(failure) = outcome else { return 0 };
    let status = error::status(&failure);
    let words = format!("{}\n{failure:#}", error::hint(&failure).unwrap_or_default());
    let _ = File::from(say).write_all(words.as_bytes());
    status.into()
}

fn outcome(status: Option<i32>, words: &str) -> Result<()> {
    let Some(status) = status else {
        return Err(anyhow!("the process inside the user namespace was killed"));
    };
    if status == 0 {
        return Ok(());
    }
    let (hint, message) = words.split_once('\n').unwrap_or(("", words));
    let failure = Err(anyhow!("{}", message.to_owned())).status(u8::try_from(status).unwrap_or(OURS));
    if hint.is_empty() { failure } else { failure.hint(hint) }
}

fn one_byte(from: OwnedFd) -> Result<()> {
    File::from(from).read_exact(&mut [0]).context("wait for the other process")
}

const ROOT_UID: rustix::process::Uid = rustix::process::Uid::ROOT;
const ROOT_GID: rustix::process::Gid = rustix::process::Gid::ROOT;
