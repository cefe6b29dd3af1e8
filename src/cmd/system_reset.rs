//! `ctr system reset`: everything goes (podman-system-reset(1)).

use super::{Globals, each, output, report, rm, run_args::takes_a_truth_value};
use crate::{
    container::{files::image_mounts, volumes},
    namespaces::{Mapping, run_inside},
};
use anyhow::Result;

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
}

/// Stop and remove all containers, then the store.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let dirs = globals.dirs()?;
    let question = format!(
        "WARNING! This will remove:\n        - all containers\n        - all images\n        - all build cache\n        \
         - all volumes\n        - the graphRoot directory: {:?}\n        - the runRoot directory: {:?}\n\
         Are you sure you want to continue? [y/N] ",
        dirs.data, dirs.runtime
    );
    if !args.force && !output::confirm(&question)? {
        return Ok(0);
    }
    let store = globals.store()?;
    let status = each(store.containers()?, |id| rm::remove(&store, &store.container(&id), true, true));
    if status != 0 {
        return Ok(status);
    }
    for (id, _) in image_mounts::list(&store)? {
        if let Err(failure) = image_mounts::unmount(&store, &id, true) {
            report(&failure);
            return Ok(crate::error::OURS);
        }
    }
    // What is mounted there is not ours to erase.
    for volume in store.volumes()?.0 {
        volumes::unmount(&store, &volume)?;
    }
    run_inside(&Mapping::detect(), || store.erase())?;
    Ok(0)
}
