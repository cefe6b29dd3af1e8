//! `ctr network connect`, `disconnect` and `reload`: the networks of containers that are there already.

use super::{Globals, each, output};
use crate::{
    container::{
        events, find, network_files, networks,
        record::Record,
        sharing::{Whose, dependents},
        state::{self, Status},
    },
    error::Explain,
    monitor,
    network::networks::{Wish, parse_alias, parse_mac},
    storage::{ContainerDir, Store},
};
use anyhow::{Context, Result, anyhow};
use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(clap::Args, Debug)]
pub struct ConnectArgs {
    /// A name that others find the container by
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Its address there
    #[arg(long, value_name = "IP")]
    ip: Option<Ipv4Addr>,
    /// Its address of IPv6 there
    #[arg(long, value_name = "IP")]
    ip6: Option<Ipv6Addr>,
    /// Its Ethernet address there
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<String>,
    /// Name, or the beginning of an id
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Connect a container; one that runs gets an interface at once.
pub fn connect(args: &ConnectArgs, globals: &Globals) -> Result<u8> {
    let aliases = args.alias.iter().map(|text| parse_alias(text));
    let wish = Wish {
        v4: args.ip,
        v6: args.ip6,
        mac: args.mac_address.as_deref().map(parse_mac).transpose().context("--mac-address")?,
        aliases: aliases.collect::<Result<_>>().context("--alias")?,
        ..Wish::default()
    };
    let store = globals.store()?;
    let dir = find::find(&store, &args.container)?;
    let _lock = store.lock_networks()?;
    let network = networks::find(&store, &args.network).status(125)?.name;
    let before = Record::finished(&dir)?;
    if before.network != "bridge" {
        return Err(anyhow!("{:?} is not supported: invalid network mode", before.network))
            .hint("networks are for containers that were made with --network NAME");
    }
    if before.networks.iter().any(|one| one.network == network) {
        return Err(anyhow!("container {} is already connected to network {network}", args.container))
            .hint(format!("ctr network disconnect {network} {}", args.container));
    }
    let wish = Wish { network, ..wish };
    let place = networks::attach_more(&store, dir.id().as_str(), &before.networks, &wish)?;
    let after = Record { networks: [before.networks.clone(), vec![place]].concat(), ..before.clone() };
    let changed = change(&store, &dir, &before, &after);
    if changed.is_err() {
        let _ = change(&store, &dir, &after, &before);
        return changed.map(|()| 0);
    }
    events::of(&store, "connect", &dir);
    Ok(0)
}

#[derive(clap::Args, Debug)]
pub struct DisconnectArgs {
    /// Even if the container doesn't obey: from its next start on
    #[arg(short, long)]
    force: bool,
    /// Name, or the beginning of an id
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Take a container out of a network.
pub fn disconnect(args: &DisconnectArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let dir = find::find(&store, &args.container)?;
    let _lock = store.lock_networks()?;
    let network = networks::find(&store, &args.network).status(125)?.name;
    let before = Record::finished(&dir)?;
    let mut after = before.clone();
    after.networks.retain(|one| one.network != network);
    if after.networks.len() == before.networks.len() {
        return Err(anyhow!("container {} is not connected to network {network}", args.container))
            .hint(format!("`ctr inspect {}` shows its networks", args.container));
    }
    let changed = change(&store, &dir, &before, &after);
    if changed.is_err() && !args.force {
        let _ = change(&store, &dir, &after, &before);
        return changed.map(|()| 0);
    }
    events::of(&store, "disconnect", &dir);
    Ok(0)
}

/// The record, the files, and the container if it runs.
fn change(store: &Store, dir: &ContainerDir, before: &Record, after: &Record) -> Result<()> {
    Record::change(dir, |record| Ok(Record { networks: after.networks.clone(), ..record }))?;
    network_files::follow(store, dir, before, after)?;
    // Their files speak of the same network.
    for sharer in sharers(store, dir)? {
        let whose = |all: &Record| Record { networks: all.networks.clone(), ..sharer.record.clone() };
        network_files::follow(store, &sharer.dir, &whose(before), &whose(after))?;
    }
    monitor::follow_networks(dir)
}

/// Those that have the network of the container in `dir`, from it or from one another.
fn sharers(store: &Store, dir: &ContainerDir) -> Result<Vec<state::Container>> {
    let (mut found, mut last) = (Vec::new(), vec![dir.clone()]);
    while let Some(owner) = last.pop() {
        let network = Whose::Container(owner.id().as_str().to_owned());
        let mut all = dependents(store, &owner)?;
        all.retain(|one| one.record.sharing.network == network);
        last.extend(all.iter().map(|one| one.dir.clone()));
        found.extend(all);
    }
    Ok(found)
}

#[derive(clap::Args, Debug)]
pub struct ReloadArgs {
    /// All containers that run
    #[arg(short, long, conflicts_with = "names", required_unless_present = "names")]
    all: bool,
    /// A container, or a network for all that are in it
    #[arg(value_name = "CONTAINER|NETWORK")]
    names: Vec<String>,
}

/// Bring the networks of running containers back whose processes are gone; print whose.
pub fn reload(args: &ReloadArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let running = |network: Option<&str>| -> Result<Vec<ContainerDir>> {
        let mut all = state::list(&store)?.0;
        all.retain(|container| {
            let fits = |name: &str| container.record.networks.iter().any(|one| one.network == name);
            container.status.process().is_some() && network.is_none_or(fits)
        });
        Ok(all.into_iter().map(|container| container.dir).collect())
    };
    let reload = |dir: ContainerDir| {
        monitor::follow_networks(&dir)?;
        output::line(dir.id())
    };
    if args.all {
        return Ok(each(running(None)?, reload));
    }
    let mut status = 0;
    let named = each(&args.names, |name| {
        let Some(dir) = find::lookup(&store, name)? else {
            let network = networks::find(&store, name).status(125)?;
            status = status.max(each(running(Some(&network.name))?, reload));
            return Ok(());
        };
        if Status::of(&dir)?.process().is_none() {
            return Err(anyhow!("container {name} is not running")).hint(format!("ctr start {name}"));
        }
        reload(dir)
    });
    Ok(named.max(status))
}
