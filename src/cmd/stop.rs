//! `ctr stop` and `ctr restart`.

use super::{
    Globals, start,
    targets::{self, Targets},
};
use crate::{
    container::{
        events,
        state::{Container, Status},
    },
    monitor,
    storage::{ContainerDir, Store},
};
use anyhow::Result;
use std::{path::PathBuf, time::Duration};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// All running containers
    #[arg(short, long)]
    all: bool,
    /// The newest container
    #[arg(short, long, conflicts_with = "all")]
    latest: bool,
    /// Don't complain about containers that don't exist
    #[arg(short, long)]
    ignore: bool,
    /// Read the container's id from a file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Seconds between the stop signal and SIGKILL [default: the container's]
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "latest", "cidfile"], conflicts_with_all = ["all", "latest"])]
    containers: Vec<String>,
}

#[derive(clap::Args, Debug)]
pub struct RestartArgs {
    #[command(flatten)]
    stop: Args,
    /// Of all containers, only those that run
    #[arg(long)]
    running: bool,
}

impl Args {
    fn targets(&self) -> Targets<'_> {
        let Args { all, latest, ignore, .. } = *self;
        Targets { names: &self.containers, cidfiles: &self.cidfile, all, latest, ignore }
    }

    /// Negative: without limit, as with Podman.
    fn time(&self) -> Option<Duration> {
        self.time.map(|seconds| Duration::from_secs(seconds.try_into().unwrap_or(u64::from(u32::MAX))))
    }
}

/// Stop them; those that don't run stay as they are.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let runs = |status: &Status| status.process().is_some() || matches!(status, Status::Restarting(_));
    targets::for_each(&store, &args.targets(), runs, |dir| stop(&store, dir, args.time()))
}

fn stop(store: &Store, dir: &ContainerDir, time: Option<Duration>) -> Result<()> {
    // One with --rm is gone afterwards.
    let before = Container::read(dir.clone()).ok().flatten();
    monitor::stop(dir, None, time)?;
    if let Some(container) = before.filter(|container| container.status.process().is_some()) {
        events::record(store, "stop", &container.record);
    }
    Ok(())
}

/// Stop and start them.
pub fn restart(args: &RestartArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let fits = |status: &Status| !args.running || status.process().is_some();
    let mut targets = args.stop.targets();
    targets.all |= args.running && targets.names.is_empty();
    targets::for_each(&store, &targets, fits, |dir| {
        stop(&store, dir, args.stop.time())?;
        start::in_background(&store, dir)?;
        events::of(&store, "restart", dir);
        Ok(())
    })
}
