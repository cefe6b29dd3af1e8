//! `ctr image prune`: images that serve nobody (podman-image-prune(1)).

use super::{
    Globals,
    image_entry::{self, Entry},
    image_filter::{self, Filter},
    output,
    rmi::{self, How},
    run_args::takes_a_truth_value,
};
use crate::{
    container::files::image_mounts,
    storage::{Digest, Store},
};
use anyhow::{Result, bail};
use std::str::FromStr;

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// Those with names that no container uses, too
    #[arg(short, long)]
    all: bool,
    /// What builds have left, too: without effect, as there is no such thing
    #[arg(long)]
    build_cache: bool,
    /// Those that other tools' containers use, too: without effect, as none know this store
    #[arg(long)]
    external: bool,
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Of those only the ones with until=TIME (made before), label=KEY[=VALUE] or label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER")]
    filter: Vec<PruneFilter>,
}

/// Remove them and print their ids.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let what = if args.all { WHAT_ALL } else { "all dangling images" };
    let question =
        format!("WARNING! This command removes {what}.\nAre you sure you want to continue? [y/N] ");
    if !args.force && !output::confirm(&question)? {
        return Ok(0);
    }
    let store = globals.store()?;
    let filters: Vec<_> = args.filter.iter().map(|PruneFilter(filter)| filter.clone()).collect();
    let mut status = rmi::Status::default();
    let pruned = prune(&store, args.all, &filters, &mut status);
    rmi::collect(&store)?;
    pruned?.iter().try_for_each(|id| output::line(id.hex()))?;
    Ok(status.code())
}

/// As Podman words it.
pub const WHAT_ALL: &str = "all images without at least one container associated with them";

/// Remove the images that no container uses: without a name, or `all`. What fails is reported; the ids of those that went.
pub fn prune(store: &Store, all: bool, filters: &[Filter], status: &mut rmi::Status) -> Result<Vec<Digest>> {
    let mut gone = Vec::new();
    let mut left = Vec::new();
    let mut entries = image_entry::all(store)?;
    // What a removed image was built from serves nobody from then on, and comes next.
    let how = How { no_prune: true, ..How::default() };
    while let Some(id) = next(store, &entries, all, filters, &left)? {
        let removed = rmi::remove(store, &mut entries, &id, how, &mut |removed| {
            gone.push(removed.id);
            Ok(())
        });
        left.push(id);
        status.note(removed);
    }
    Ok(gone)
}

fn next(
    store: &Store,
    entries: &[Entry],
    all: bool,
    filters: &[Filter],
    left: &[Digest],
) -> Result<Option<Digest>> {
    for entry in entries.iter().filter(|entry| entry.containers == 0 && !left.contains(&entry.image.config)) {
        if (all || entry.is_dangling(entries))
            && image_filter::passes(filters, entry, entries)
            && image_mounts::place_of(store, &entry.image.config)?.is_none()
        {
            return Ok(Some(entry.image.config));
        }
    }
    Ok(None)
}

/// One of the few filters that `prune` takes.
#[derive(Clone, Debug)]
pub struct PruneFilter(pub Filter);

impl FromStr for PruneFilter {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<PruneFilter> {
        match text.parse()? {
            filter @ (Filter::Label(..) | Filter::NotLabel(..) | Filter::Until(_)) => Ok(PruneFilter(filter)),
            _ => bail!("prune knows the filters until, label and label! only"),
        }
    }
}
