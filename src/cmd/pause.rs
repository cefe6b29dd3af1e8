//! `ctr pause` and `ctr unpause`.

use super::{
    Globals,
    targets::{self, Targets},
};
use crate::{
    container::{
        events, pause,
        state::{Container, Status},
    },
    storage::ContainerDir,
};
use anyhow::{Result, anyhow};
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// All that there is to do it with
    #[arg(short, long)]
    all: bool,
    /// The newest container
    #[arg(short, long, conflicts_with = "all")]
    latest: bool,
    /// Read the container's id from a file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "latest", "cidfile"], conflicts_with_all = ["all", "latest"])]
    containers: Vec<String>,
}

/// Stop all their processes.
pub fn pause(args: &Args, globals: &Globals) -> Result<u8> {
    each(args, globals, "pause", |status| matches!(status, Status::Running(_)), pause::pause)
}

/// Let them go on.
pub fn unpause(args: &Args, globals: &Globals) -> Result<u8> {
    each(args, globals, "unpause", |status| matches!(status, Status::Paused(_)), pause::unpause)
}

fn each(
    args: &Args,
    globals: &Globals,
    event: &str,
    fits: impl Fn(&Status) -> bool,
    act: impl Fn(&Container) -> Result<()>,
) -> Result<u8> {
    let Args { all, latest, .. } = *args;
    let targets =
        Targets { names: &args.containers, cidfiles: &args.cidfile, all, latest, ..Targets::default() };
    let store = globals.store()?;
    targets::for_each(&store, &targets, fits, |dir| {
        let container = read(dir)?;
        act(&container)?;
        events::record(&store, event, &container.record);
        Ok(())
    })
}

fn read(dir: &ContainerDir) -> Result<Container> {
    let container = Container::read(dir.clone())?;
    container.ok_or_else(|| anyhow!("container {} was never finished", dir.id().short()))
}
