//! `ctr rm`: containers by name, id, or all of them.

use super::{
    Globals,
    container_filter::Filter,
    each, output,
    stop::grace,
    targets::{self, Choice, Selection},
};
use crate::{
    container::{pod, record::Record, remove, state::Status},
    error::Explain,
    monitor,
    storage::{ContainerDir, Store},
};
use anyhow::{Result, anyhow, bail};
use std::{str::FromStr, time::Duration};

#[derive(clap::Args, Debug)]
#[command(mut_arg("filter", |filter| filter.short(None)))]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Kill running containers first
    #[arg(short, long)]
    force: bool,
    /// Don't complain about containers that don't exist
    #[arg(short, long)]
    ignore: bool,
    /// Stop running containers first, and kill them after so many seconds
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true, requires = "force")]
    time: Option<i64>,
    /// Remove those of its volumes that have no name, too
    #[arg(short, long)]
    volumes: bool,
}

/// Remove them and print what each was called by.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let Args { selection, force, .. } = args;
    if selection.choice.all && selection.filter.is_empty() {
        // By their directories: one that is damaged is to go, too.
        let mut all = store.containers()?;
        // Pods after their members.
        all.sort_by_cached_key(|id| is_pod(&store.container(id)));
        return Ok(each(all, |id| {
            end_and_remove(&store, &store.container(&id), args)?;
            output::line(id)
        }));
    }
    // podman-rm(1): --force, too, is content with a container that is gone.
    let ignore = args.ignore || *force;
    targets::for_each(&store, selection, ignore, &|_| true, &mut |dir| end_and_remove(&store, dir, args))
}

fn is_pod(dir: &ContainerDir) -> bool {
    Record::read(dir).is_ok_and(|record| record.is_some_and(|record| record.pod.is_some()))
}

fn end_and_remove(store: &Store, dir: &ContainerDir, args: &Args) -> Result<()> {
    if is_pod(dir) && !pod::members(store, dir.id())?.is_empty() {
        let short = dir.id().short();
        return Err(anyhow!("container {short} is a pod, and has containers"))
            .hint(format!("ctr pod rm {short}"))
            .status(2);
    }
    if args.time.is_some() {
        monitor::stop(dir, None, grace(args.time))?;
    }
    remove(store, dir, args.force, args.volumes)
}

/// Remove one; `force`: kill it first; `volumes`: those of its volumes that have no name, too.
pub fn remove(store: &Store, dir: &ContainerDir, force: bool, volumes: bool) -> Result<()> {
    if force {
        // Its monitor is told, so that it does not start it again.
        monitor::stop(dir, Some(libc::SIGKILL), Some(Duration::ZERO))?;
    }
    remove::remove(store, dir, force, volumes)
}

#[derive(clap::Args, Debug)]
pub struct PruneArgs {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Of those only the ones with until=TIME (made before), label=KEY[=VALUE] or label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER")]
    filter: Vec<PruneFilter>,
}

/// `ctr container prune`: remove all that don't run.
pub fn prune(args: &PruneArgs, globals: &Globals) -> Result<u8> {
    if !args.force && !output::confirm("This removes all containers that don't run. Go on? [y/N] ")? {
        return Ok(0);
    }
    let store = globals.store()?;
    let stopped = |status: &Status| matches!(status, Status::Created | Status::Exited(_));
    let choice = Choice { all: true, ..Choice::default() };
    let filter = args.filter.iter().map(|PruneFilter(filter)| filter.clone()).collect();
    let selection = Selection { choice, filter, ..Selection::default() };
    targets::for_each(&store, &selection, false, &stopped, &mut |dir| remove(&store, dir, false, false))
}

/// One of the few filters that `prune` takes.
#[derive(Clone, Debug)]
struct PruneFilter(Filter);

impl FromStr for PruneFilter {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<PruneFilter> {
        match text.parse()? {
            filter @ (Filter::Label(..) | Filter::NotLabel(..) | Filter::Until(_)) => Ok(PruneFilter(filter)),
            _ => bail!("prune knows the filters until, label and label! only"),
        }
    }
}
