//! Which containers a verb acts on: those named, the latest, or all that fit.

use super::{each, output};
use crate::{
    container::{
        find,
        state::{self, Container, Status},
    },
    storage::{ContainerDir, Store},
};
use anyhow::{Context, Result, anyhow};
use std::path::PathBuf;

/// How they are chosen.
#[derive(Debug, Default)]
pub struct Targets<'a> {
    /// Names, ids, beginnings of ids.
    pub names: &'a [String],
    /// Files that hold an id each.
    pub cidfiles: &'a [PathBuf],
    /// All that fit.
    pub all: bool,
    /// The newest one.
    pub latest: bool,
    /// What doesn't exist is no error.
    pub ignore: bool,
}

/// Do `work` with each; prints what each was called by. `fits`: which of `all` are meant.
pub fn for_each(
    store: &Store,
    targets: &Targets<'_>,
    fits: impl Fn(&Status) -> bool,
    mut work: impl FnMut(&ContainerDir) -> Result<()>,
) -> Result<u8> {
    let chosen = choose(store, targets, fits)?;
    Ok(each(chosen, |(called, dir)| {
        let dir = match dir {
            Some(dir) => dir,
            None => match find::lookup(store, &called)? {
                None if targets.ignore => return Ok(()),
                Some(dir) => dir,
                None => find::find(store, &called)?,
            },
        };
        work(&dir)?;
        output::line(&called)
    }))
}

/// The one container that is meant.
pub fn one(store: &Store, name: Option<&String>, latest: bool) -> Result<Container> {
    let dir = match name {
        Some(name) if !latest => find::find(store, name)?,
        _ => newest(store)?.dir,
    };
    let short = dir.id().short().to_owned();
    Container::read(dir)?.ok_or_else(|| anyhow!("container {short} was never finished"))
}

fn choose(
    store: &Store,
    targets: &Targets<'_>,
    fits: impl Fn(&Status) -> bool,
) -> Result<Vec<(String, Option<ContainerDir>)>> {
    let by_id = |container: Container| (container.record.id.to_string(), Some(container.dir));
    if targets.all {
        let (containers, _) = state::list(store)?;
        return Ok(containers.into_iter().filter(|c| fits(&c.status)).map(by_id).collect());
    }
    if targets.latest {
        return Ok(vec![by_id(newest(store)?)]);
    }
    let mut chosen: Vec<_> = targets.names.iter().map(|name| (name.clone(), None)).collect();
    for file in targets.cidfiles {
        let id = std::fs::read_to_string(file);
        match id {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && targets.ignore => {}
            id => {
                let id = id.with_context(|| format!("read a container's id from {}", file.display()))?;
                chosen.push((id.trim().to_owned(), None));
            }
        }
    }
    Ok(chosen)
}

fn newest(store: &Store) -> Result<Container> {
    let (containers, _) = state::list(store)?;
    containers.into_iter().next().ok_or_else(|| anyhow!("there are no containers"))
}
