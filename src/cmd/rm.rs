//! `ctr rm`: containers by name, id, or all of them.

use super::{
    Globals,
    container_filter::Filter,
    each, output,
    stop::grace,
    targets::{self, Choice, Selection},
};
use crate::{
    container::{
        pod,
        record::Record,
        remove, sharing,
        state::{Container, Status},
    },
    error::Explain,
    monitor,
    storage::{ContainerDir, Store},
};
use anyhow::{Error, Result, anyhow, bail};
use std::{str::FromStr, time::Duration};

#[derive(clap::Args, Debug)]
#[command(mut_arg("filter", |filter| filter.short(None)))]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Remove those that have their namespaces, too
    #[arg(long)]
    depend: bool,
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
        // Pods after their members, and who has namespaces of others before those.
        all.sort_by_cached_key(|id| {
            let dir = store.container(id);
            (is_pod(&dir), sharing::dependents(&store, &dir).map_or(0, |all| all.len()))
        });
        return Ok(each(all, |id| {
            let dir = store.container(&id);
            // Gone with another one.
            if dir.path().exists() {
                let args = Args { depend: true, selection: Selection::default(), ..*args };
                end_and_remove(&store, &dir, &args)?;
            }
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
    let mut dependents = sharing::dependents(store, dir)?;
    if args.depend {
        dependents.extend(if is_pod(dir) { pod::members(store, dir.id())? } else { Vec::new() });
        for dependent in dependents.iter().filter(|one| one.dir.path().exists()) {
            end_and_remove(store, &dependent.dir, args)?;
        }
    } else if is_pod(dir) && !pod::members(store, dir.id())?.is_empty() {
        let short = dir.id().short();
        return Err(anyhow!("container {short} is a pod, and has containers"))
            .hint(format!("ctr pod rm {short}"))
            .status(2);
    } else if !dependents.is_empty() {
        return Err(shared(dir, &dependents));
    }
    if args.time.is_some() {
        monitor::stop(dir, None, grace(args.time))?;
    }
    remove(store, dir, args.force, args.volumes)
}

/// Podman's words.
fn shared(dir: &ContainerDir, dependents: &[Container]) -> Error {
    let ids: Vec<&str> = dependents.iter().map(|one| one.record.id.as_str()).collect();
    let id = dir.id();
    let words = format!(
        "container {id} has dependent containers which must be removed before it: {}: container already exists",
        ids.join(", ")
    );
    let failure = Err::<(), _>(anyhow!(words));
    let hinted = failure.hint(format!("`ctr rm --depend {}` removes them, too", id.short()));
    hinted.err().unwrap_or_else(|| anyhow!("it is shared"))
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
    targets::for_each(&store, &selection, false, &stopped, &mut |dir| {
        let mut dependents = sharing::dependents(&store, dir)?;
        dependents.retain(|one| one.status.process().is_some());
        if !dependents.is_empty() {
            return Err(shared(dir, &dependents));
        }
        remove(&store, dir, false, false)
    })
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
