//! `ctr diff`: what a container has changed in its root file system, or how an image differs (podman-diff(1)).

use super::{Globals, image_diff, output, targets};
use crate::{
    container::{
        files::{self, Change, Kind, Stack},
        find,
    },
    registry,
};
use anyhow::Result;
use serde_json::json;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// json in place of lines
    #[arg(long, value_name = "FORMAT", value_parser = ["json"], hide_possible_values = true)]
    format: Option<String>,
    /// The newest container
    #[arg(short, long, conflicts_with = "name")]
    latest: bool,
    /// Container or image: name, id or the beginning of an id
    #[arg(value_name = "NAME", required_unless_present = "latest")]
    name: Option<String>,
    /// What to compare with: a container's image, an image without its topmost layer
    #[arg(value_name = "NAME")]
    other: Option<String>,
}

/// Print a line for each path: A is new, C is changed, D is gone.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let json = args.format.is_some();
    match (&args.name, &args.other) {
        (Some(name), Some(other)) => {
            let stacks = [image_diff::stack(&store, other)?, image_diff::stack(&store, name)?];
            return image_diff::between(&store, &stacks, json);
        }
        (Some(name), None) if find::lookup(&store, name)?.is_none() => {
            if let Some(image) = registry::find(&store, store.dirs(), name)? {
                let below = image.layers.split_last().map_or(&[][..], |(_, below)| below);
                let stacks = [below, &image.layers].map(|layers| Stack::of_layers(&store, layers));
                return image_diff::between(&store, &stacks, json);
            }
        }
        _ => {}
    }
    let container = targets::one(&store, args.name.as_ref(), args.latest)?;
    let mut listed = Listed::new(json);
    files::changes(&store, &container.dir, &container.record, |change| listed.take(&change))?;
    listed.finish().map(|()| 0)
}

/// Changes as they are printed: each at once, or all of them as JSON at the end.
pub struct Listed(Option<[Vec<String>; 3]>);

impl Listed {
    /// Nothing yet.
    pub fn new(json: bool) -> Listed {
        Listed(json.then(Default::default))
    }

    /// One more.
    pub fn take(&mut self, change: &Change) -> Result<()> {
        let path = String::from_utf8_lossy(&change.path).into_owned();
        let (letter, at) = match change.kind {
            Kind::Changed => ('C', 0),
            Kind::Added => ('A', 1),
            Kind::Deleted => ('D', 2),
        };
        match &mut self.0 {
            Some(lists) => lists[at].push(path),
            None => output::line(format_args!("{letter} {}", output::printable(&path)))?,
        }
        Ok(())
    }

    /// That was all.
    pub fn finish(self) -> Result<()> {
        let Some(lists) = self.0 else { return Ok(()) };
        let lists =
            ["changed", "added", "deleted"].into_iter().zip(lists).filter(|(_, list)| !list.is_empty());
        output::print(&output::json(&lists.map(|(name, list)| (name.to_owned(), json!(list))).collect()))
    }
}
