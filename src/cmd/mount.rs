//! `ctr mount` and `ctr unmount`: a container's root file system in the host's tree (podman-mount(1), podman-unmount(1)).

use super::{
    Globals, each, output,
    targets::{self, Choice},
};
use crate::{
    container::{
        files::{Reached, mounts},
        find,
        state::Record,
    },
    error::Explain,
    namespaces::Mapping,
    storage::{ContainerId, Store},
};
use anyhow::{Result, anyhow};
use serde_json::{Value, json};

#[derive(clap::Args, Debug)]
pub struct MountArgs {
    /// Mount all containers
    #[arg(short, long)]
    all: bool,
    /// The newest container
    #[arg(short, long, conflicts_with = "all")]
    latest: bool,
    /// Name, id or the beginning of an id; none: list what is mounted
    #[arg(value_name = "CONTAINER", conflicts_with_all = ["all", "latest"])]
    containers: Vec<String>,
    /// json: list what is mounted that way
    #[arg(long, value_name = "FORMAT", value_parser = ["json"], hide_possible_values = true)]
    format: Option<String>,
    /// List whole ids
    #[arg(long, alias = "notruncate")]
    no_trunc: bool,
}

#[derive(clap::Args, Debug)]
pub struct UnmountArgs {
    #[command(flatten)]
    choice: Choice,
    /// Even while somebody is in them
    #[arg(short, long)]
    force: bool,
}

/// Mount them and print where; without any, list those that are mounted.
pub fn mount(args: &MountArgs, globals: &Globals) -> Result<u8> {
    let store = root_only("mount", globals)?;
    if !args.all && !args.latest && args.containers.is_empty() {
        return list(args, &store).map(|()| 0);
    }
    let all = if args.all { store.containers()? } else { Vec::new() };
    let latest = newest(&store, args.latest)?;
    let names = all.iter().chain(&latest).map(|id| id.as_str());
    let names = names.chain(args.containers.iter().map(String::as_str));
    Ok(each(names, |name| {
        let place = mounts::mount(&store, &Reached::find(&store, name)?)?;
        output::line(place.display())
    }))
}

/// Unmount them and print which.
pub fn unmount(args: &UnmountArgs, globals: &Globals) -> Result<u8> {
    let store = root_only("unmount", globals)?;
    let choice = &args.choice;
    let all = if choice.all { mounts::list(&store)? } else { Vec::new() };
    let latest = newest(&store, choice.latest)?;
    let names = all.iter().map(|(id, _)| id).chain(&latest).map(|id| id.as_str());
    let names = names.chain(choice.containers.iter().map(String::as_str));
    Ok(each(names, |name| {
        // A mount may outlive its container.
        let id = all.iter().map(|(id, _)| id).find(|id| id.as_str() == name);
        let dir = id.map_or_else(|| find::find(&store, name), |id| Ok(store.container(id)))?;
        mounts::unmount(&store, &dir, args.force)?;
        output::line(dir.id())
    }))
}

fn newest(store: &Store, wanted: bool) -> Result<Option<ContainerId>> {
    wanted.then(|| targets::one(store, None, true).map(|container| container.dir.id().clone())).transpose()
}

fn list(args: &MountArgs, store: &Store) -> Result<()> {
    let mounted = mounts::list(store)?;
    if args.format.is_some() {
        let entry = |(id, place): &(ContainerId, std::path::PathBuf)| {
            let record = Record::read(&store.container(id)).ok().flatten();
            let names: Vec<_> = record.iter().map(|record| record.name.as_str()).collect();
            json!({ "id": id.as_str(), "Names": names, "mountpoint": place })
        };
        return output::print(&output::json(&Value::Array(mounted.iter().map(entry).collect())));
    }
    mounted.iter().try_for_each(|(id, place)| {
        let id = if args.no_trunc { id.as_str() } else { id.short() };
        output::line(format_args!("{id}  {}", place.display()))
    })
}

/// The store, unless nobody but root of a namespace of ours would see the mount.
pub fn root_only(verb: &str, globals: &Globals) -> Result<Store> {
    if Mapping::detect().is_rootless() {
        return Err(anyhow!("cannot run command \"ctr {verb}\" in rootless mode")).hint(
            "nobody else could see the mount: `ctr cp` and `ctr export` reach the files of a container as any user",
        );
    }
    globals.store()
}
