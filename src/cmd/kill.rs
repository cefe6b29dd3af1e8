//! `ctr kill`.

use super::{
    Globals,
    targets::{self, Targets},
};
use crate::{
    container::{events, signal::Signal},
    error::Explain,
    monitor,
};
use anyhow::{Context, Result};
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// All running containers
    #[arg(short, long)]
    all: bool,
    /// The newest container
    #[arg(short, long, conflicts_with = "all")]
    latest: bool,
    /// Read the container's id from a file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// The signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "latest", "cidfile"], conflicts_with_all = ["all", "latest"])]
    containers: Vec<String>,
}

/// Send them the signal.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let signal: Signal = args
        .signal
        .parse()
        .with_context(|| format!("--signal {}", args.signal))
        .hint("write it as --signal TERM or --signal 15")?;
    let Args { all, latest, .. } = *args;
    let targets =
        Targets { names: &args.containers, cidfiles: &args.cidfile, all, latest, ..Targets::default() };
    targets::for_each(
        &store,
        &targets,
        |status| status.process().is_some(),
        |dir| {
            monitor::signal(dir, signal.number())?;
            events::of(&store, "kill", dir);
            Ok(())
        },
    )
}
