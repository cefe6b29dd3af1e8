//! `ctr image mount` and `ctr image unmount`: an image's files in the host's tree, read-only (podman-image-mount(1),
//! podman-image-unmount(1)).

use super::{Globals, each, mount::root_only, output, run_args::takes_a_truth_value, tag};
use crate::{
    container::files::image_mounts,
    storage::{Digest, Image, Store},
};
use anyhow::Result;
use serde_json::{Value, json};
use std::path::Path;

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct MountArgs {
    /// Mount all images
    #[arg(short, long)]
    all: bool,
    /// json: list what is mounted that way
    #[arg(long, value_name = "FORMAT", value_parser = ["json"], hide_possible_values = true)]
    format: Option<String>,
    /// Name, id or the beginning of an id; none: list what is mounted
    #[arg(value_name = "IMAGE", conflicts_with = "all")]
    images: Vec<String>,
}

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct UnmountArgs {
    /// Unmount all images
    #[arg(short, long)]
    all: bool,
    /// Even while somebody is in them
    #[arg(short, long)]
    force: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "IMAGE", required_unless_present = "all", conflicts_with = "all")]
    images: Vec<String>,
}

/// Mount them and print where; without any, list those that are mounted.
pub fn mount(args: &MountArgs, globals: &Globals) -> Result<u8> {
    let store = root_only("image mount", globals)?;
    if let ([name], None) = (args.images.as_slice(), &args.format) {
        let place = image_mounts::mount(&store, &tag::find(&store, name)?)?;
        return output::line(place.display()).map(|()| 0);
    }
    let mut mounted = Vec::new();
    let mut add = |image: Image| {
        let place = image_mounts::mount(&store, &image)?;
        mounted.push((image.config, place));
        Ok(())
    };
    let status = if args.all {
        let mut images = store.images()?;
        images.dedup_by_key(|image| image.config);
        each(images, &mut add)
    } else {
        each(&args.images, |name| add(tag::find(&store, name)?))
    };
    if args.images.is_empty() && !args.all {
        mounted = image_mounts::list(&store)?;
    }
    mounted.sort();
    mounted.dedup();
    let rows = mounted.iter().map(|(id, place)| row(&store, id, place)).collect::<Result<Vec<_>>>()?;
    if args.format.is_some() {
        output::print(&output::json(&rows.into_iter().collect()))?;
        return Ok(status);
    }
    let cells = |row: &Value| {
        let name = row["Repositories"][0].as_str().unwrap_or("<none>");
        vec![name.to_owned(), row["mountpoint"].as_str().unwrap_or_default().to_owned()]
    };
    output::print(&output::table(&[], &rows.iter().map(cells).collect::<Vec<_>>()))?;
    Ok(status)
}

/// Unmount them and print which.
pub fn unmount(args: &UnmountArgs, globals: &Globals) -> Result<u8> {
    let store = root_only("image unmount", globals)?;
    let gone = |id: &Digest| {
        if image_mounts::unmount(&store, id, args.force)? { output::line(id.hex()) } else { Ok(()) }
    };
    if args.all {
        return Ok(each(image_mounts::list(&store)?, |(id, _)| gone(&id)));
    }
    Ok(each(&args.images, |name| match tag::find(&store, name) {
        Ok(image) => gone(&image.config),
        // A mount may outlive its image.
        Err(missing) => match image_mounts::list(&store)?.iter().find(|(id, _)| id.hex().starts_with(name)) {
            Some((id, _)) => gone(id),
            None => Err(missing),
        },
    }))
}

fn row(store: &Store, id: &Digest, place: &Path) -> Result<Value> {
    let images = store.images()?;
    let names: Vec<_> = images.iter().filter(|image| image.config == *id).filter_map(Image::name).collect();
    let digests: Vec<_> =
        images.iter().find(|image| image.config == *id).map(|image| image.manifest).into_iter().collect();
    Ok(json!({ "id": id.hex(), "Names": digests, "Repositories": names, "mountpoint": place }))
}
