//! What `ctr pod` does with pods and their members together (podman-pod(1)).

use super::{Globals, each, output, rm, start, stop::grace};
use crate::{
    container::{
        pause, pod,
        state::{Container, Status},
    },
    error::Explain,
    monitor,
    storage::{ContainerDir, Store},
};
use anyhow::{Result, anyhow};
use std::time::Duration;

#[derive(clap::Args, Debug)]
pub struct OneArgs {
    /// Name, id or the beginning of an id
    #[arg(value_name = "POD")]
    pod: String,
}

/// Status 0 or 1.
pub fn exists(args: &OneArgs, globals: &Globals) -> Result<u8> {
    Ok(u8::from(pod::find(&globals.store()?, &args.pod).is_err()))
}

#[derive(clap::Args, Debug)]
pub struct SomeArgs {
    /// All pods
    #[arg(short, long)]
    all: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "POD", required_unless_present = "all", conflicts_with = "all")]
    pods: Vec<String>,
}

#[derive(clap::Args, Debug)]
pub struct StopArgs {
    #[command(flatten)]
    pods: SomeArgs,
    /// Don't complain about pods that don't exist
    #[arg(short, long)]
    ignore: bool,
    /// Seconds between the stop signal and SIGKILL [default: the containers']
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
}

#[derive(clap::Args, Debug)]
pub struct RmArgs {
    #[command(flatten)]
    pods: SomeArgs,
    /// Kill its containers first
    #[arg(short, long)]
    force: bool,
    /// Don't complain about pods that don't exist
    #[arg(short, long)]
    ignore: bool,
    /// Stop its containers first, and kill them after so many seconds
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true, requires = "force")]
    time: Option<i64>,
}

#[derive(clap::Args, Debug)]
pub struct PruneArgs {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
}

/// The pod, then its members; those that run are left alone.
pub fn start(args: &SomeArgs, globals: &Globals) -> Result<u8> {
    for_each(args, false, globals, |store, pod, members| {
        [&pod]
            .into_iter()
            .chain(&members)
            .try_for_each(|container| start::in_background(store, &container.dir))
    })
}

/// The members, all at once, then the pod.
pub fn stop(args: &StopArgs, globals: &Globals) -> Result<u8> {
    for_each(&args.pods, args.ignore, globals, |_, pod, members| end(&pod, &members, grace(args.time)))
}

/// Stop and start them.
pub fn restart(args: &SomeArgs, globals: &Globals) -> Result<u8> {
    for_each(args, false, globals, |store, pod, members| {
        end(&pod, &members, None)?;
        [&pod]
            .into_iter()
            .chain(&members)
            .try_for_each(|container| start::in_background(store, &container.dir))
    })
}

/// Kill all its processes.
pub fn kill(args: &SomeArgs, globals: &Globals) -> Result<u8> {
    for_each(args, false, globals, |_, pod, members| end(&pod, &members, Some(Duration::ZERO)))
}

/// Stop all its processes where they are.
pub fn pause(args: &SomeArgs, globals: &Globals) -> Result<u8> {
    let runs = |container: &&Container| matches!(container.status, Status::Running(_));
    for_each(args, false, globals, |_, _, members| members.iter().filter(runs).try_for_each(pause::pause))
}

/// Let them go on.
pub fn unpause(args: &SomeArgs, globals: &Globals) -> Result<u8> {
    let rests = |container: &&Container| matches!(container.status, Status::Paused(_));
    for_each(args, false, globals, |_, _, members| members.iter().filter(rests).try_for_each(pause::unpause))
}

/// Remove them with their members, and print what each was called by.
pub fn remove(args: &RmArgs, globals: &Globals) -> Result<u8> {
    for_each(&args.pods, args.ignore || args.force, globals, |store, pod, members| {
        if args.time.is_some() {
            end(&pod, &members, grace(args.time))?;
        }
        remove_one(store, &pod.dir, args.force)
    })
}

/// Remove all that don't run.
pub fn prune(args: &PruneArgs, globals: &Globals) -> Result<u8> {
    if !args.force && !output::confirm("This removes all pods that don't run. Go on? [y/N] ")? {
        return Ok(0);
    }
    let store = globals.store()?;
    let stopped = pod::list(&store)?
        .0
        .into_iter()
        .filter(|(pod, members)| matches!(pod::status(pod, members), "Exited" | "Stopped"));
    Ok(each(stopped, |(pod, _)| {
        remove_one(&store, &pod.dir, false)?;
        output::line(&pod.record.id)
    }))
}

fn end(pod: &Container, members: &[Container], time: Option<Duration>) -> Result<()> {
    let stopping: Vec<_> =
        members.iter().map(|member| monitor::begin_stop(&member.dir, None, time)).collect();
    let ended = stopping.into_iter().try_for_each(|stopping| stopping?.finish());
    monitor::stop(&pod.dir, None, time.or(Some(Duration::from_secs(1))))?;
    ended
}

/// Remove one with its members.
pub fn remove_one(store: &Store, dir: &ContainerDir, force: bool) -> Result<()> {
    let members = pod::members(store, dir.id())?;
    if let Some(runs) = members.iter().find(|member| member.status.process().is_some()).filter(|_| !force) {
        return Err(anyhow!("pod {} has a container that runs: {}", dir.id().short(), runs.record.name))
            .hint(format!(
                "`ctr pod stop {0}` ends it, `ctr pod rm -f {0}` kills and removes all",
                dir.id().short()
            ))
            .status(2);
    }
    members.iter().try_for_each(|member| rm::remove(store, &member.dir, force, true))?;
    // Nothing of anybody's is in it.
    rm::remove(store, dir, true, true)
}

fn for_each(
    args: &SomeArgs,
    ignore: bool,
    globals: &Globals,
    act: impl Fn(&Store, Container, Vec<Container>) -> Result<()>,
) -> Result<u8> {
    let store = globals.store()?;
    let all = if args.all { pod::list(&store)?.0 } else { Vec::new() };
    let names = all.into_iter().map(|(pod, _)| pod.record.id.to_string()).chain(args.pods.clone());
    Ok(each(names, |name| {
        let found = match pod::find(&store, &name) {
            Err(_) if ignore => return Ok(()),
            found => found?,
        };
        let members = pod::members(&store, &found.record.id)?;
        act(&store, found, members)?;
        output::line(&name)
    }))
}
