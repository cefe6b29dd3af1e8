//! `ctr rm`: containers by name, id, or all of them.

use super::{
    Globals, each, output,
    targets::{self, Targets},
};
use crate::{
    container::{remove, state::Status},
    monitor,
    storage::{ContainerDir, Store},
};
use anyhow::Result;
use std::{path::PathBuf, time::Duration};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Remove all containers
    #[arg(short, long)]
    all: bool,
    /// Kill running containers first
    #[arg(short, long)]
    force: bool,
    /// Don't complain about containers that don't exist
    #[arg(short, long)]
    ignore: bool,
    /// The newest container
    #[arg(short, long, conflicts_with = "all")]
    latest: bool,
    /// Read the container's id from a file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Remove its anonymous volumes, too; there are none yet
    #[arg(short, long)]
    volumes: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "latest", "cidfile"], conflicts_with_all = ["all", "latest"])]
    containers: Vec<String>,
}

/// Remove them and print what each was called by.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    if args.all {
        // By their directories: one that is damaged is to go, too.
        return Ok(each(store.containers()?, |id| {
            remove(&store, &store.container(&id), args.force)?;
            output::line(id)
        }));
    }
    let Args { latest, force, .. } = *args;
    // podman-rm(1): --force, too, is content with a container that is gone.
    let ignore = args.ignore || force;
    let targets = Targets { names: &args.containers, cidfiles: &args.cidfile, latest, ignore, all: false };
    targets::for_each(&store, &targets, |_| true, |dir| remove(&store, dir, force))
}

/// Remove one; `force`: kill it first.
pub fn remove(store: &Store, dir: &ContainerDir, force: bool) -> Result<()> {
    if force {
        // Its monitor is told, so that it does not start it again.
        monitor::stop(dir, Some(libc::SIGKILL), Some(Duration::ZERO))?;
    }
    remove::remove(store, dir, force)
}

#[derive(clap::Args, Debug)]
pub struct PruneArgs {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
}

/// `ctr container prune`: remove all that don't run.
pub fn prune(args: &PruneArgs, globals: &Globals) -> Result<u8> {
    if !args.force && !output::confirm("This removes all containers that don't run. Go on? [y/N] ")? {
        return Ok(0);
    }
    let store = globals.store()?;
    let stopped = |status: &Status| matches!(status, Status::Created | Status::Exited(_));
    let targets = Targets { all: true, ..Targets::default() };
    targets::for_each(&store, &targets, stopped, |dir| remove(&store, dir, false))
}
