//! `ctr rm`: containers by name, id, or all of them.

use super::{Globals, each, output};
use crate::container::{find, remove};
use anyhow::Result;

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
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER", required_unless_present = "all", conflicts_with = "all")]
    containers: Vec<String>,
}

/// Remove them and print what each was called by.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    if args.all {
        return Ok(each(store.containers()?, |id| {
            remove::remove(&store, &store.container(&id), args.force)?;
            output::line(id)
        }));
    }
    Ok(each(&args.containers, |given| {
        // podman-rm(1): --force, too, is content with a container that is gone.
        let dir = match find::lookup(&store, given)? {
            None if args.ignore || args.force => return Ok(()),
            Some(dir) => dir,
            None => find::find(&store, given)?,
        };
        remove::remove(&store, &dir, args.force)?;
        output::line(given)
    }))
}
