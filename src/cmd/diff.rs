//! `ctr diff`: what a container has changed in its root file system (podman-diff(1)).

use super::{Globals, output, targets};
use crate::container::files::{self, Kind};
use anyhow::Result;
use serde_json::json;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// json in place of lines
    #[arg(long, value_name = "FORMAT", value_parser = ["json"], hide_possible_values = true)]
    format: Option<String>,
    /// The newest container
    #[arg(short, long, conflicts_with = "container")]
    latest: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    container: Option<String>,
}

/// Print a line for each path: A is new, C is changed, D is gone.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let (mut added, mut changed, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    let container = targets::one(&store, args.container.as_ref(), args.latest)?;
    files::changes(&store, &container.dir, &container.record, |change| {
        let path = String::from_utf8_lossy(&change.path).into_owned();
        let (letter, list) = match change.kind {
            Kind::Added => ('A', &mut added),
            Kind::Changed => ('C', &mut changed),
            Kind::Deleted => ('D', &mut deleted),
        };
        match &args.format {
            Some(_) => list.push(path),
            None => output::line(format_args!("{letter} {}", output::printable(&path)))?,
        }
        Ok(())
    })?;
    if args.format.is_some() {
        let lists = [("changed", changed), ("added", added), ("deleted", deleted)];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        output::print(&output::json(&lists.map(|(name, list)| (name.to_owned(), json!(list))).collect()))?;
    }
    Ok(0)
}
