//! `ctr rmi`: names of images, and what no name keeps.

use super::{Globals, each, images::is_called, output};
use crate::{
    container::{
        events, remove,
        state::{self, Container},
    },
    error::Explain,
    namespaces::{Mapping, run_inside},
    registry,
    storage::{Image, Store},
};
use anyhow::{Result, anyhow};
use std::collections::BTreeSet;

#[derive(clap::Args, Debug)]
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
    /// Name, id or the beginning of an id
    #[arg(value_name = "IMAGE", required_unless_present = "all", conflicts_with = "all")]
    images: Vec<String>,
}

/// Take away names; what no name and no container keeps any more is deleted.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let status = if args.all {
        let ids: BTreeSet<_> = store.images()?.iter().map(|image| image.config).collect();
        each(ids, |id| {
            let names = store.images()?.into_iter().filter(|image| image.config == id).collect();
            untag(&store, names, args.force)
        })
    } else {
        each(&args.images, |given| match chosen(&store, given, args.force)? {
            Some(names) => untag(&store, names, args.force),
            None if args.ignore => Ok(()),
            None => Err(anyhow!("no image has the name or id {given:?}"))
                .hint("`ctr images` lists all images")
                .status(1),
        })
    };
    // Inside, as root of the namespace that owns the layers' files: most belong to subordinate ids.
    run_inside(&Mapping::detect(), || store.collect_garbage().map(drop))?;
    Ok(status)
}

/// The names that `given` means: the one, or by id all that the image has.
fn chosen(store: &Store, given: &str, force: bool) -> Result<Option<Vec<Image>>> {
    let Some(image) = registry::find(store, store.dirs(), given)? else { return Ok(None) };
    let id = given.strip_prefix("sha256:").unwrap_or(given);
    if !image.config.hex().starts_with(id) || is_called(&image.reference, given) {
        return Ok(Some(vec![image]));
    }
    let names: Vec<_> = store.images()?.into_iter().filter(|other| other.config == image.config).collect();
    if names.len() > 1 && !force {
        let all: Vec<_> = names.iter().map(|image| image.reference.as_str()).collect();
        return Err(anyhow!("image {given} has several names: {}", all.join(", ")))
            .hint(format!("`ctr rmi -f {given}` removes all of them"))
            .status(2);
    }
    Ok(Some(names))
}

fn untag(store: &Store, names: Vec<Image>, force: bool) -> Result<()> {
    let Some(id) = names.first().map(|image| image.config) else { return Ok(()) };
    let left = store.images()?.iter().filter(|image| image.config == id).count() - names.len();
    if left == 0 {
        let (containers, _) = state::list(store)?;
        let users: Vec<_> = containers.into_iter().filter(|c| c.record.image_id == Some(id)).collect();
        if force {
            users.iter().try_for_each(|user| remove::remove(store, &user.dir, true))?;
        } else if let [user, ..] = users.as_slice() {
            return in_use(&names[0], user);
        }
    }
    let references: Vec<_> = names.iter().map(|image| image.reference.as_str()).collect();
    let gone = store.forget(&id, &references)?;
    for name in names.iter().filter_map(Image::name) {
        events::image(store, "untag", name, &id);
        output::line(format_args!("Untagged: {name}"))?;
    }
    if gone {
        events::image(store, "remove", &names[0].reference, &id);
        output::line(format_args!("Deleted: {}", id.hex()))?;
    }
    Ok(())
}

/// podman-rmi(1), "Exit Status": 2.
fn in_use(image: &Image, user: &Container) -> Result<()> {
    let (name, id) = (&user.record.name, user.record.id.short());
    Err(anyhow!("image {} is used by container {id} ({name})", image.reference))
        .hint(format!(
            "remove the container first (`ctr rm {name}`), or both: `ctr rmi -f {}`",
            image.config.short()
        ))
        .status(2)
}
