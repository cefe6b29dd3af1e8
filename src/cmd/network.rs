//! `ctr network`: networks that containers join by name (podman-network(1)).

use super::{
    Globals, each,
    list_args::ListArgs,
    output, rm, rmi,
    run_args::takes_a_truth_value,
    stop::grace,
    template::{Columns, Format},
};
use crate::{
    container::{grammar, networks},
    error::Explain,
    monitor,
    network::{
        networks::{Attachment, DEFAULT, Network},
        private,
        subnet::{Prefix, Subnet, free_subnet, own_subnet},
    },
    storage::{ContainerId, Name, Store},
};
use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, net::IpAddr};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct CreateArgs {
    /// Members don't find each other by name
    #[arg(long)]
    disable_dns: bool,
    /// Ask these name servers for names of the world outside, not those of the host
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    dns: Vec<IpAddr>,
    /// The kind of network: bridge is the only one
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// The address that leads out, one for each subnet
    #[arg(long, value_name = "IP")]
    gateway: Vec<IpAddr>,
    /// One that exists is no error
    #[arg(long)]
    ignore: bool,
    /// Nothing leads out of it
    #[arg(long)]
    internal: bool,
    /// Only these addresses are given away, one range for each subnet
    #[arg(long, value_name = "ADDRESS/BITS")]
    ip_range: Vec<Prefix>,
    /// Who gives addresses away: host-local is the only one
    #[arg(long, value_name = "DRIVER", default_value = "host-local")]
    ipam_driver: String,
    /// IPv6, too
    #[arg(long)]
    ipv6: bool,
    /// Attach a label to the network
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// mtu=BYTES
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Its addresses; at most one of IPv4 and one of IPv6
    #[arg(long, value_name = "ADDRESS/BITS")]
    subnet: Vec<Prefix>,
    /// Its name; without one it gets 64 hex digits
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Make one and print its name.
pub fn create(args: &CreateArgs, globals: &Globals) -> Result<u8> {
    if args.driver != "bridge" {
        return Err(anyhow!("--driver {}: there is no such network driver", args.driver))
            .hint("--driver bridge");
    }
    if args.ipam_driver != "host-local" {
        return Err(anyhow!("--ipam-driver {}: addresses are always given away by ctr", args.ipam_driver))
            .hint("--ipam-driver host-local");
    }
    let mut bytes = [0; 39];
    getrandom(&mut bytes, GetRandomFlags::empty()).context("get random bytes")?;
    let id: String = bytes[..32].iter().map(|byte| format!("{byte:02x}")).collect();
    let name = args.name.clone().unwrap_or_else(|| id.clone());
    let key: Name =
        name.parse().with_context(|| format!("network create {name:?}")).hint("ctr network create web")?;
    if matches!(
        name.as_str(),
        "none" | "host" | "private" | "pasta" | "slirp4netns" | "bridge" | "container" | "ns" | "default"
    ) {
        return Err(anyhow!("network name {name} is a mode of --network")).hint("ctr network create web");
    }
    if args.disable_dns && !args.dns.is_empty() {
        return Err(anyhow!("--dns can't be used with --disable-dns")).hint("drop one of the two");
    }
    let store = globals.store()?;
    let lock = store.lock_networks()?;
    let all = networks::list(&store)?;
    if args.ignore && all.iter().any(|network| network.name == name) {
        output::line(&name)?;
        return Ok(0);
    }
    let mut labels = BTreeMap::new();
    for text in &args.label {
        let (key, value) =
            grammar::parse_label(text).with_context(|| format!("--label {text}")).hint("--label team=web")?;
        labels.insert(key, value);
    }
    let (v4, v6) = subnets(args, &all, &bytes)?;
    let network = Network {
        id,
        name: name.clone(),
        created: Timestamp::now(),
        labels,
        v4,
        v6,
        internal: args.internal,
        dns: !args.disable_dns,
        nameservers: args.dns.clone(),
        mtu: mtu(&args.opt)?,
    };
    store.create_network(&key, &serde_json::to_vec(&network).context("encode the network")?, &lock)?;
    output::line(name)?;
    Ok(0)
}

fn subnets(args: &CreateArgs, all: &[Network], random: &[u8; 39]) -> Result<(Subnet, Option<Subnet>)> {
    let taken: Vec<Prefix> =
        all.iter().flat_map(|one| [Some(one.v4.net), one.v6.as_ref().map(|v6| v6.net)]).flatten().collect();
    let (mut v4, mut v6) = (None, None);
    let same = |prefix: &Prefix, address: IpAddr| prefix.first().is_ipv4() == address.is_ipv4();
    for subnet in &args.subnet {
        if let Some(other) = taken.iter().find(|other| other.overlaps(subnet)) {
            return Err(anyhow!("--subnet {subnet}: another network has {other}"))
                .hint("`ctr network ls` lists them; without --subnet a free one is chosen");
        }
        let place = if subnet.first().is_ipv4() { &mut v4 } else { &mut v6 };
        if place.replace(*subnet).is_some() {
            return Err(anyhow!("--subnet {subnet}: there is one of that kind already"))
                .hint("one of IPv4 and one of IPv6");
        }
    }
    let free = match v4 {
        Some(subnet) => subnet,
        None => free_subnet(&taken)?,
    };
    if v6.is_none() && args.ipv6 {
        let mut seed = [0; 7];
        seed.copy_from_slice(&random[32..]);
        v6 = Some(own_subnet(seed));
    }
    let subnet = |net: Prefix| {
        let gateway = args.gateway.iter().find(|gateway| same(&net, **gateway));
        let range = args.ip_range.iter().find(|range| same(&net, range.first()));
        Subnet::new(net, gateway.copied(), range.copied())
            .hint("--subnet 10.90.0.0/24 --gateway 10.90.0.1 --ip-range 10.90.0.128/25")
    };
    Ok((subnet(free)?, v6.map(subnet).transpose()?))
}

fn mtu(options: &[String]) -> Result<u16> {
    let mut mtu = private::MTU;
    for option in options {
        let value = option.strip_prefix("mtu=").and_then(|value| value.parse().ok());
        let value = value.filter(|mtu| (1280..=private::MTU).contains(mtu));
        mtu = value
            .ok_or_else(|| anyhow!("--opt {option}: not mtu=BYTES, from 1280 to {}", private::MTU))
            .hint("--opt mtu=1500")?;
    }
    Ok(mtu)
}

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct LsArgs {
    /// Only those with KEY=VALUE: name, id, label, driver
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    #[command(flatten)]
    list: ListArgs,
}

/// Print the list.
pub fn ls(args: &LsArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let mut shown = networks::list(&store)?;
    for filter in &args.filter {
        let hint = "--filter name=web, id=2f25, label=team or driver=bridge";
        let (key, value) =
            filter.split_once('=').ok_or_else(|| anyhow!("--filter {filter}: not KEY=VALUE")).hint(hint)?;
        match key {
            "name" => shown.retain(|network| network.name.contains(value)),
            "id" => shown.retain(|network| network.id.starts_with(value)),
            "driver" => shown.retain(|_| value == "bridge"),
            "label" => {
                let (key, wanted) =
                    value.split_once('=').map_or((value, None), |(key, value)| (key, Some(value)));
                shown.retain(|network| {
                    network.labels.get(key).is_some_and(|have| wanted.is_none_or(|wanted| wanted == have))
                });
            }
            _ => return Err(anyhow!("--filter {filter}: there is no such filter")).hint(hint),
        }
    }
    if args.list.quiet && args.list.format.is_none() {
        output::print(&shown.iter().map(|network| format!("{}\n", network.name)).collect::<String>())?;
        return Ok(0);
    }
    let members = networks::members(&store)?;
    let rows: Vec<Value> = shown
        .iter()
        .map(|network| {
            let mut row = about(network, members.get(&network.name).map_or(&[], Vec::as_slice));
            row["ID"] =
                if args.list.no_trunc { network.id.clone() } else { network.id[..12].to_owned() }.into();
            row["Name"] = network.name.clone().into();
            row["Driver"] = "bridge".into();
            row
        })
        .collect();
    let columns = Columns {
        row: r"{{.ID}}\t{{.Name}}\t{{.Driver}}",
        headings: &[("ID", "NETWORK ID")],
        noheading: args.list.noheading,
    };
    args.list.format.clone().unwrap_or_default().print(&rows, &columns)?;
    Ok(0)
}

/// podman-network-inspect(1).
fn about(network: &Network, members: &[(String, Attachment)]) -> Value {
    let subnet = |subnet: &Subnet| {
        let mut entry = json!({"subnet": subnet.net, "gateway": subnet.gateway});
        if let Some(range) = subnet.range {
            entry["lease_range"] = json!(range);
        }
        entry
    };
    let subnets: Vec<Value> =
        [Some(&network.v4), network.v6.as_ref()].into_iter().flatten().map(subnet).collect();
    let container = |(id, place): &(String, Attachment)| {
        let addresses = [Some(place.v4.to_string()), place.v6.map(|v6| v6.to_string())];
        let mac = place.mac.map(|byte| format!("{byte:02x}")).join(":");
        let interface = json!({place.interface.clone(): {"addresses": addresses.into_iter().flatten().collect::<Vec<_>>(), "mac_address": mac}});
        (id.clone(), json!({"interfaces": interface}))
    };
    let mut about = json!({
        "name": network.name,
        "id": network.id,
        "driver": "bridge",
        "created": network.created,
        "subnets": subnets,
        "ipv6_enabled": network.v6.is_some(),
        "internal": network.internal,
        "dns_enabled": network.dns,
        "labels": network.labels,
        "options": {"mtu": network.mtu.to_string()},
        "ipam_options": {"driver": "host-local"},
        "containers": members.iter().map(container).collect::<Map<String, Value>>(),
    });
    if !network.nameservers.is_empty() {
        about["network_dns_servers"] = json!(network.nameservers);
    }
    about
}

#[derive(clap::Args, Debug)]
pub struct InspectArgs {
    /// `json` or a Go template
    #[arg(short, long, default_value = "json")]
    format: Format,
    /// Name, or the beginning of an id
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

/// Print an array of what there is.
pub fn inspect(args: &InspectArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let members = networks::members(&store)?;
    let mut found = Vec::new();
    let status = each(&args.networks, |name| {
        let network = networks::find(&store, name).status(125)?;
        found.push(about(&network, members.get(&network.name).map_or(&[], Vec::as_slice)));
        Ok(())
    });
    let format = if matches!(args.format, Format::Default) { &Format::Json } else { &args.format };
    format.print(&found, &Columns { row: "", headings: &[], noheading: false })?;
    Ok(status)
}

#[derive(clap::Args, Debug)]
pub struct OneArgs {
    /// Name, or the beginning of an id
    #[arg(value_name = "NETWORK")]
    network: String,
}

/// Status 0 or 1.
pub fn exists(args: &OneArgs, globals: &Globals) -> Result<u8> {
    Ok(u8::from(networks::find(&globals.store()?, &args.network).is_err()))
}

#[derive(clap::Args, Debug)]
pub struct RmArgs {
    /// Remove the containers that are in it, too; one that does not exist is no error
    #[arg(short, long)]
    force: bool,
    /// Seconds that those containers have to end
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true, requires = "force")]
    time: Option<i64>,
    /// Name, or the beginning of an id
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

/// Remove them and print what each was called by.
pub fn remove(args: &RmArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    Ok(each(&args.networks, |given| {
        let network = match networks::find(&store, given) {
            Err(_) if args.force => return Ok(()),
            found => found?,
        };
        if network.name == DEFAULT {
            return Err(anyhow!("default network {DEFAULT} cannot be removed"))
                .hint("it takes no space and no process");
        }
        let members = if args.force { networks::members(&store)?.remove(&network.name) } else { None };
        for (id, _) in members.unwrap_or_default() {
            let dir = store.container(&id.parse::<ContainerId>().context("a container's id")?);
            monitor::stop(&dir, None, grace(args.time))?;
            rm::remove(&store, &dir, true, true)?;
        }
        forget(&store, &network)?;
        output::line(given)
    }))
}

/// Remove it unless somebody is in it; nobody comes in meanwhile.
fn forget(store: &Store, network: &Network) -> Result<()> {
    let name: Name = network.name.parse().context("the network's name")?;
    let lock = store.lock_networks()?;
    if networks::members(store)?.contains_key(&network.name) {
        return Err(anyhow!("network {name} has associated containers with it: network is being used"))
            .hint(format!("`ctr network rm -f {name}` removes them, too"))
            .status(2);
    }
    store.remove_network(&name, &lock).map(drop)
}

#[derive(clap::Args, Debug)]
pub struct PruneArgs {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
}

/// Remove all that no container is in.
pub fn prune(args: &PruneArgs, globals: &Globals) -> Result<u8> {
    if !args.force && !output::confirm("This removes all networks that no container is in. Go on? [y/N] ")? {
        return Ok(0);
    }
    let store = globals.store()?;
    Ok(each(unused(&store)?, |network| {
        forget(&store, &network)?;
        output::line(&network.name)
    }))
}

fn unused(store: &Store) -> Result<Vec<Network>> {
    let members = networks::members(store)?;
    let mut networks = networks::list(store)?;
    networks.retain(|network| network.name != DEFAULT && !members.contains_key(&network.name));
    Ok(networks)
}

/// Remove all that no container is in; their names.
pub fn remove_unused(store: &Store, failures: &mut rmi::Status) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    for network in unused(store)? {
        let forgotten = forget(store, &network);
        gone.extend(forgotten.is_ok().then_some(network.name));
        failures.note(forgotten);
    }
    Ok(gone)
}
