//! `ctr system prune`: containers that don't run and images that serve nobody (podman-system-prune(1)).

use super::{
    Globals, answer,
    container_filter::{self, Filter as ContainerFilter},
    image_filter::Filter as ImageFilter,
    image_prune, network, output, rm, rmi,
    run_args::takes_a_truth_value,
    volume,
    volume_filter::Filter as VolumeFilter,
};
use crate::{
    container::state::{self, Status},
    storage::Store,
};
use anyhow::Result;
use std::str::FromStr;

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// All images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// What builds have left, too: without effect, as there is no such thing
    #[arg(long)]
    build: bool,
    /// What other tools have left, too: without effect, as none know this store
    #[arg(long)]
    external: bool,
    /// Of those only the ones with until=TIME (made before), label=KEY[=VALUE] or label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER")]
    filter: Vec<Both>,
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Volumes that no container uses, too
    #[arg(long)]
    volumes: bool,
}

/// Remove them and print which, and how much that freed.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    if !args.force && !output::confirm(&question(args))? {
        return Ok(0);
    }
    let store = globals.store()?;
    let before = answer::ask(|| store.measure())?;
    let mut failures = rmi::Status::default();
    list("Deleted Containers", containers(&store, &args.filter, &mut failures)?)?;
    if args.volumes {
        list("Deleted Volumes", volumes(&store, &args.filter, &mut failures)?)?;
    }
    if args.filter.is_empty() {
        list("Deleted Networks", network::remove_unused(&store, &mut failures)?)?;
    }
    let filters: Vec<_> = args.filter.iter().map(|both| both.image.clone()).collect();
    let images = image_prune::prune(&store, args.all, &filters, &mut failures)?;
    list("Deleted Images", images.iter().map(|id| id.hex()).collect())?;
    store.forget_partials()?;
    rmi::collect(&store)?;
    let after = answer::ask(|| store.measure())?;
    let [before, after] = [before, after]
        .map(|accounts| accounts.of_images() + accounts.of_containers() + accounts.of_volumes());
    output::line(format_args!(
        "Total reclaimed space: {}",
        output::short_size(before.saturating_sub(after))
    ))?;
    Ok(failures.code())
}

fn question(args: &Args) -> String {
    let volumes = if args.volumes { "\t- all volumes not used by at least one container\n" } else { "" };
    let images = if args.all { image_prune::WHAT_ALL } else { "all dangling images" };
    format!(
        "WARNING! This command removes:\n\t- all stopped containers\n\t- all networks not used by at least one container\n\
         {volumes}\t- {images}\n\t- all dangling build cache\n\nAre you sure you want to continue? [y/N] "
    )
}

fn containers(store: &Store, filters: &[Both], failures: &mut rmi::Status) -> Result<Vec<String>> {
    let filters: Vec<_> = filters.iter().map(|both| both.container.clone()).collect();
    let mut gone = Vec::new();
    for container in state::list(store)?.0 {
        let at_rest = matches!(container.status, Status::Created | Status::Exited(_));
        if at_rest && container_filter::passes(&filters, &container) {
            let removed = rm::remove(store, &container.dir, false, false);
            if removed.is_ok() {
                gone.push(container.record.id.to_string());
            }
            failures.note(removed);
        }
    }
    Ok(gone)
}

fn volumes(store: &Store, filters: &[Both], failures: &mut rmi::Status) -> Result<Vec<String>> {
    let filters: Vec<_> = filters.iter().map(|both| both.volume.clone()).collect();
    let mut gone = Vec::new();
    for volume in volume::unused(store, &filters)? {
        match volume::remove_unused(store, &volume) {
            Ok(removed) => gone.extend(removed.then(|| volume.name.to_string())),
            failed => failures.note(failed.map(drop)),
        }
    }
    Ok(gone)
}

fn list(heading: &str, what: Vec<String>) -> Result<()> {
    if what.is_empty() {
        return Ok(());
    }
    output::line(heading)?;
    what.iter().try_for_each(output::line)
}

/// One of the filters that containers, images and volumes have in common.
#[derive(Clone, Debug)]
struct Both {
    container: ContainerFilter,
    image: ImageFilter,
    volume: VolumeFilter,
}

impl FromStr for Both {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Both> {
        let image_prune::PruneFilter(image) = text.parse()?;
        Ok(Both { container: text.parse()?, image, volume: text.parse()? })
    }
}
