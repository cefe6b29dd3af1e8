//! `ctr diff` and `ctr image diff` of images: against what they were built upon, or each other (podman-image-diff(1)).

use super::{Globals, diff::Listed, tag};
use crate::{
    container::{
        files::{Stack, compare},
        find, plain,
    },
    storage::Store,
};
use anyhow::Result;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// json in place of lines
    #[arg(long, value_name = "FORMAT", value_parser = ["json"], hide_possible_values = true)]
    format: Option<String>,
    /// Name, id or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// What to compare with: the image without its topmost layer
    #[arg(value_name = "IMAGE")]
    other: Option<String>,
}

/// Print a line for each path: A is new, C is changed, D is gone.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let new = tag::find(&store, &args.image)?.layers;
    let old = match &args.other {
        Some(other) => tag::find(&store, other)?.layers,
        None => new.split_last().map(|(_, below)| below.to_vec()).unwrap_or_default(),
    };
    let stacks = [old, new].map(|layers| Stack::of_layers(&store, &layers));
    between(&store, &stacks, args.format.is_some())
}

/// Print what the second of `stacks` has otherwise than the first.
pub fn between(store: &Store, [old, new]: &[Stack; 2], json: bool) -> Result<u8> {
    let _hold = store.hold()?;
    let mut listed = Listed::new(json);
    compare(store, old, new, |change| listed.take(&change))?;
    listed.finish().map(|()| 0)
}

/// What the container or image `name` consists of.
pub fn stack(store: &Store, name: &str) -> Result<Stack> {
    if let Some(dir) = find::lookup(store, name)? {
        let Stack(mut layers) = Stack::of_layers(store, &dir.layers()?);
        if plain::is_made(&dir) {
            layers.clear();
        }
        layers.insert(0, dir.upper());
        return Ok(Stack(layers));
    }
    Ok(Stack::of_layers(store, &tag::find(store, name)?.layers))
}
