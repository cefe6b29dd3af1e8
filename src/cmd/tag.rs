//! `ctr tag`, `ctr untag` and `ctr image exists`: names of images that are here (podman-tag(1), podman-untag(1),
//! podman-image-exists(1)).

use super::{Globals, images::names_history, rmi};
use crate::{
    container::events,
    error::Explain,
    registry,
    storage::{Image, Store},
};
use anyhow::{Result, anyhow};
use std::collections::VecDeque;

#[derive(clap::Args, Debug)]
pub struct TagArgs {
    /// Name, id or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Names to give; one that is another image's moves here
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(clap::Args, Debug)]
pub struct UntagArgs {
    /// Name, id or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Names to take away; none: all of them
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

#[derive(clap::Args, Debug)]
pub struct ExistsArgs {
    /// Name, id or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Names before it that a name's record lists: each that is given would else be as long as all before it.
const REMEMBERED: usize = 16;

/// Give an image more names.
pub fn tag(args: &TagArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let references =
        args.names.iter().map(|name| registry::reference_to_give(name)).collect::<Result<Vec<_>>>()?;
    let image = find(&store, &args.image)?;
    let records = store.images()?;
    let known = names_history(records.iter().filter(|other| other.config == image.config));
    let mut known: VecDeque<String> = known.into_iter().map(str::to_owned).collect();
    for reference in references {
        known.retain(|name| *name != reference);
        let former = known.iter().take(REMEMBERED).rev().cloned().collect();
        store.tag_image(&Image { reference: reference.clone(), former, ..image.clone() })?;
        events::image(&store, "tag", &reference, &image.config);
        known.push_front(reference);
    }
    Ok(0)
}

/// Take names away from an image, which stays.
pub fn untag(args: &UntagArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let image = find(&store, &args.image)?;
    let twins: Vec<Image> = store
        .images()?
        .into_iter()
        .filter(|other| other.config == image.config && other.name().is_some())
        .collect();
    let references = match args.names.as_slice() {
        [] => twins.iter().map(|twin| twin.reference.clone()).collect(),
        names => names.iter().map(|name| one_of(&store, &twins, name)).collect::<Result<Vec<_>>>()?,
    };
    for reference in references {
        if store.untag(&reference)? {
            events::image(&store, "untag", &reference, &image.config);
        }
    }
    Ok(0)
}

/// Status 0 or 1.
pub fn exists(args: &ExistsArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    Ok(u8::from(registry::find(&store, store.dirs(), &args.image)?.is_none()))
}

/// The image that `given` names. Status 125 without one, as Podman has it for all but `rmi`.
pub fn find(store: &Store, given: &str) -> Result<Image> {
    match registry::find(store, store.dirs(), given)? {
        Some(image) => Ok(image),
        None => rmi::missing(given).status(crate::error::OURS),
    }
}

fn one_of(store: &Store, twins: &[Image], name: &str) -> Result<String> {
    let given = registry::reference_to_give(name)?;
    let found = registry::find(store, store.dirs(), name)?.map(|image| image.reference);
    let candidates = [Some(given), found];
    let is = |reference: &&String| twins.iter().any(|twin| twin.reference == **reference);
    match candidates.iter().flatten().find(is) {
        Some(reference) => Ok(reference.clone()),
        None => Err(anyhow!("the image has no name {name:?}"))
            .hint("`ctr image inspect` shows its names (RepoTags)"),
    }
}
