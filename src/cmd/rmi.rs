//! `ctr rmi`: names of images, and what no name keeps (podman-rmi(1)).

use super::{
    Globals,
    image_entry::{self, Entry},
    images::is_called,
    manifest, output, report,
    run_args::takes_a_truth_value,
};
use crate::{
    container::{
        events,
        files::image_mounts,
        state::{self, Container},
    },
    error::{self, Explain},
    namespaces::{Mapping, run_inside},
    registry::{self, lists},
    storage::{Digest, Image, Store},
};
use anyhow::{Result, anyhow};
use std::{cmp::Reverse, collections::HashSet};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// Remove all images
    #[arg(short, long)]
    all: bool,
    /// Remove containers of the image, and all its names
    #[arg(short, long)]
    force: bool,
    /// Don't complain about images that don't exist
    #[arg(short, long)]
    ignore: bool,
    /// Keep images without a name that a removed one was built from
    #[arg(long)]
    no_prune: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "IMAGE", required_unless_present = "all", conflicts_with = "all")]
    images: Vec<String>,
}

/// How images are removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Together with the containers that use them.
    pub force: bool,
    /// Without those that they were built from.
    pub no_prune: bool,
}

/// An image that lost its last name.
#[derive(Debug)]
pub struct Removed {
    /// Of the image.
    pub id: Digest,
    /// The names that it had.
    pub names: Vec<String>,
    /// Nothing was built from it, so that nothing of it is left.
    pub deleted: bool,
}

/// Take away names; what no name and no container keeps any more is deleted.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let how = How { force: args.force, no_prune: args.no_prune };
    let mut status = Status::default();
    if args.all {
        for record in store.list_images()?.damaged {
            status.note(store.untag_file(&record.file).map(drop));
        }
        let mut all = image_entry::all(&store)?;
        for id in children_first(&all) {
            status.note(remove(&store, &mut all, &id, how, &mut tell));
        }
    }
    for list in store.lists()?.iter().filter(|_| args.all) {
        status.note(manifest::forget(&store, list));
    }
    for given in &args.images {
        let found = registry::find(&store, store.dirs(), given);
        status.note(match found.and_then(|image| Ok((image, lists::find_list(&store, given)?))) {
            Ok((Some(image), _)) => one(&store, &image, given, how),
            Ok((None, Some(list))) => manifest::forget(&store, &list),
            Ok((None, None)) if args.ignore || args.force => Ok(()),
            Ok((None, None)) => missing(given),
            Err(failure) => Err(failure),
        });
    }
    collect(&store)?;
    Ok(status.code())
}

/// Let go of what nothing names any more. While somebody holds the store the next collection does.
pub fn collect(store: &Store) -> Result<()> {
    // Inside, as root of the namespace that owns the layers' files: most belong to subordinate ids.
    run_inside(&Mapping::detect(), || store.collect_garbage().map(drop))
}

/// Nothing has the name `given`.
pub fn missing<T>(given: &str) -> Result<T> {
    let shown: String = given.chars().take(80).collect();
    Err(anyhow!("no image has the name or id {shown:?}")).hint("`ctr images` lists all images").status(1)
}

/// Remove the image `id` under all its names, then those without a name that it was built from and nothing else was; `all`
/// is what the store has, and has afterwards.
///
/// # Errors
/// Containers use it, or it is mounted (status 2).
pub fn remove(
    store: &Store,
    all: &mut Vec<Entry>,
    id: &Digest,
    how: How,
    told: &mut impl FnMut(Removed) -> Result<()>,
) -> Result<()> {
    let mut next = Some(*id);
    while let Some(id) = next.take() {
        let Some(entry) = all.iter().find(|entry| entry.image.config == id) else { return Ok(()) };
        release(store, &entry.image, how.force)?;
        let (deleted, parent) =
            (!entry.has_children(all), entry.parent(all).map(|parent| parent.image.config));
        let names: Vec<_> = all
            .iter()
            .filter(|e| e.image.config == id)
            .filter_map(|e| e.image.name())
            .map(str::to_owned)
            .collect();
        // A name that somebody gives it meanwhile keeps it.
        store.forget(&id, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
        for name in &names {
            events::image(store, "untag", name, &id);
        }
        events::image(store, "remove", names.first().unwrap_or(&id.hex()), &id);
        told(Removed { id, names, deleted })?;
        all.retain(|entry| entry.image.config != id);
        let dangling = |entry: &Entry| Some(entry.image.config) == parent && entry.is_dangling(all);
        next = parent.filter(|_| !how.no_prune && all.iter().any(dangling));
    }
    Ok(())
}

fn tell(removed: Removed) -> Result<()> {
    removed.names.iter().try_for_each(|name| output::line(format_args!("Untagged: {name}")))?;
    if removed.deleted { output::line(format_args!("Deleted: {}", removed.id.hex())) } else { Ok(()) }
}

/// What `given` means: by name that name, unless it is the last one; by id the image.
fn one(store: &Store, image: &Image, given: &str, how: How) -> Result<()> {
    let records = store.images()?;
    let twins = records.iter().filter(|other| other.config == image.config);
    let names: Vec<_> = twins.filter_map(Image::name).collect();
    let remove_all = || remove(store, &mut image_entry::all(store)?, &image.config, how, &mut tell);
    if names.len() < 2 {
        return remove_all();
    }
    let by_id = image.config.hex().starts_with(given.strip_prefix("sha256:").unwrap_or(given))
        && !is_called(&image.reference, given);
    if by_id && how.force {
        return remove_all();
    }
    if by_id {
        return Err(anyhow!("image {given} has several names: {}", names.join(", ")))
            .hint(format!("`ctr rmi -f {given}` removes all of them"));
    }
    store.untag(&image.reference)?;
    events::image(store, "untag", &image.reference, &image.config);
    output::line(format_args!("Untagged: {}", image.reference))
}

/// Make sure that nobody uses `image`, by force if need be.
fn release(store: &Store, image: &Image, force: bool) -> Result<()> {
    let (containers, _) = state::list(store)?;
    let users: Vec<_> = containers.into_iter().filter(|c| c.record.image_id == Some(image.config)).collect();
    if force {
        users.iter().try_for_each(|user| super::rm::remove(store, &user.dir, true, false))?;
        return image_mounts::let_go(store, &image.config);
    }
    if let [user, ..] = users.as_slice() {
        return in_use(image, user);
    }
    match image_mounts::place_of(store, &image.config)? {
        None => Ok(()),
        Some(place) => Err(anyhow!("image {} is mounted at {}", image.config.short(), place.display()))
            .hint(format!("ctr image unmount {}", image.config.short()))
            .status(2),
    }
}

/// podman-rmi(1), "Exit Status": 2.
fn in_use(image: &Image, user: &Container) -> Result<()> {
    let (name, id) = (&user.record.name, user.record.id.short());
    let what = image.name().map_or_else(|| image.config.short(), str::to_owned);
    Err(anyhow!("image {what} is used by container {id} ({name})"))
        .hint(format!(
            "remove the container first (`ctr rm {name}`), or both: `ctr rmi -f {}`",
            image.config.short()
        ))
        .status(2)
}

/// The ids of `all`, each before that of the image it was built from.
fn children_first(all: &[Entry]) -> Vec<Digest> {
    let mut images: Vec<_> = all.iter().map(|entry| &entry.image).collect();
    images.sort_by_key(|image| Reverse((image.layers.len(), image.created)));
    let mut seen = HashSet::new();
    images.iter().map(|image| image.config).filter(|id| seen.insert(*id)).collect()
}

/// podman-rmi(1), "Exit Status": any other failure counts more than an image in use, and that more than a missing one.
#[derive(Default)]
pub struct Status(Option<u8>);

impl Status {
    /// Report what failed.
    pub fn note(&mut self, outcome: Result<()>) {
        let Err(failure) = outcome else { return };
        report(&failure);
        let rank = |status: u8| [1, 2].iter().position(|known| *known == status).unwrap_or(usize::MAX);
        let new = error::status(&failure);
        self.0 = Some(self.0.map_or(new, |old| if rank(new) > rank(old) { new } else { old }));
    }

    /// The exit status.
    pub fn code(&self) -> u8 {
        self.0.unwrap_or(0)
    }
}
