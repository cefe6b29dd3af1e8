//! Which containers a verb acts on: those named, the latest, or all that fit.

use super::{
    container_filter::{Filter, passes, resolve},
    each, output,
};
use crate::{
    container::{
        find,
        state::{self, Container, Status},
    },
    storage::{ContainerDir, Store},
};
use anyhow::{Context, Result, anyhow};
use std::path::PathBuf;

// No docs on these two: a verb that flattens one would show them as its own help.

// Names, the newest, or all: what most verbs take.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(group = clap::ArgGroup::new(WITHOUT_NAMES).multiple(true))]
pub struct Choice {
    /// All containers that it applies to
    #[arg(short, long, group = WITHOUT_NAMES)]
    pub all: bool,
    /// The newest container
    #[arg(short, long, group = WITHOUT_NAMES, conflicts_with = "all")]
    pub latest: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER", required_unless_present = WITHOUT_NAMES, conflicts_with = WITHOUT_NAMES)]
    pub containers: Vec<String>,
}

// That, and what some verbs take beside it.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Selection {
    #[command(flatten)]
    pub choice: Choice,
    /// Read the container's id from a file
    #[arg(long, value_name = "FILE", group = WITHOUT_NAMES, conflicts_with_all = ["all", "latest"])]
    pub cidfile: Vec<PathBuf>,
    /// Those with KEY=VALUE, as `ctr ps` has it
    #[arg(short, long, value_name = "FILTER", group = WITHOUT_NAMES, conflicts_with_all = ["latest", "cidfile"])]
    pub filter: Vec<Filter>,
}

/// The options that say which containers in place of names.
pub const WITHOUT_NAMES: &str = "chosen";

/// Do `work` with each; prints what each was called by. `fits`: which are meant when no names say so. `ignore`: what doesn't
/// exist is no error.
pub fn for_each(
    store: &Store,
    selection: &Selection,
    ignore: bool,
    fits: &dyn Fn(&Status) -> bool,
    work: &mut dyn FnMut(&ContainerDir) -> Result<()>,
) -> Result<u8> {
    let chosen = choose(store, selection, ignore, fits)?;
    Ok(each(chosen, |(called, dir)| {
        if let Some(dir) = found(store, &called, dir, ignore)? {
            work(&dir)?;
            output::line(&called)?;
        }
        Ok(())
    }))
}

/// The same, but all are begun before the first is finished, since that takes long.
pub fn for_each_at_once<T>(
    store: &Store,
    selection: &Selection,
    ignore: bool,
    fits: &dyn Fn(&Status) -> bool,
    begin: &mut dyn FnMut(ContainerDir) -> Result<T>,
    finish: &mut dyn FnMut(T) -> Result<()>,
) -> Result<u8> {
    let chosen = choose(store, selection, ignore, fits)?;
    let mut begun = Vec::with_capacity(chosen.len());
    for (called, dir) in chosen {
        let work = found(store, &called, dir, ignore).and_then(|dir| dir.map(&mut *begin).transpose());
        begun.push((called, work));
    }
    Ok(each(begun, |(called, work)| {
        if let Some(work) = work? {
            finish(work)?;
            output::line(&called)?;
        }
        Ok(())
    }))
}

fn found(
    store: &Store,
    called: &str,
    dir: Option<ContainerDir>,
    ignore: bool,
) -> Result<Option<ContainerDir>> {
    match dir {
        Some(dir) => Ok(Some(dir)),
        None => match find::lookup(store, called)? {
            None if ignore => Ok(None),
            Some(dir) => Ok(Some(dir)),
            None => find::find(store, called).map(Some),
        },
    }
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
    Selection { choice, cidfile, filter }: &Selection,
    ignore: bool,
    fits: &dyn Fn(&Status) -> bool,
) -> Result<Vec<(String, Option<ContainerDir>)>> {
    let by_id = |container: Container| (container.record.id.to_string(), Some(container.dir));
    if choice.all || !filter.is_empty() {
        let filter = resolve(filter, store)?;
        let meant = |container: &Container| fits(&container.status) && passes(&filter, container);
        return Ok(state::list(store)?.0.into_iter().filter(meant).map(by_id).collect());
    }
    if choice.latest {
        return Ok(vec![by_id(newest(store)?)]);
    }
    let mut chosen: Vec<_> = choice.containers.iter().map(|name| (name.clone(), None)).collect();
    for file in cidfile {
        let id = std::fs::read_to_string(file);
        match id {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && ignore => {}
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
