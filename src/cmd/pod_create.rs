//! `ctr pod create` (podman-pod-create(1)), and `ctr run --pod`.

use super::{
    Globals, output, pod,
    run::make,
    run_args::{self, takes_a_truth_value},
};
use crate::{
    container::{
        pod::{self as pods, Kind, Part, Pod},
        request::{Request, Source},
    },
    error::{Explain, OURS},
    namespaces::Mapping,
    security::CapSet,
    storage::Store,
};
use anyhow::{Context, Result};
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// Map a host name to an address in /etc/hosts
    #[arg(long, value_name = "NAME[;NAME]:IP|host-gateway")]
    add_host: Vec<String>,
    /// Name servers
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    dns: Vec<String>,
    /// Set an option of /etc/resolv.conf in place of the host's
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Search these domains in place of the host's; `.` for none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// What becomes of it when its last member ends: continue or stop
    #[arg(long, value_name = "POLICY", default_value = "continue", value_parser = ["continue", "stop"], hide_possible_values = true)]
    exit_policy: String,
    /// Map group ids, as `ctr run` does
    #[arg(long, value_name = "CONTAINER:FROM:AMOUNT", conflicts_with = "userns")]
    gidmap: Vec<String>,
    /// Host name [default: the pod's name]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Write the process id of the pod's monitor to a file
    #[arg(long, value_name = "FILE")]
    infra_conmon_pidfile: Option<PathBuf>,
    /// Its address in its network
    #[arg(long, value_name = "IP")]
    ip: Option<Ipv4Addr>,
    /// The same of IPv6
    #[arg(long, value_name = "IP")]
    ip6: Option<Ipv6Addr>,
    /// Attach a label to the pod
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// The Ethernet address in its network
    #[arg(long, value_name = "MAC")]
    mac_address: Option<String>,
    /// Its name
    #[arg(short, long = "name", value_name = "NAME", conflicts_with = "given")]
    named: Option<String>,
    /// The network, as `ctr run` has it
    #[arg(long, value_name = "MODE")]
    network: Vec<String>,
    /// A name that other containers of its networks find it by
    #[arg(long, value_name = "NAME")]
    network_alias: Vec<String>,
    /// Leave /etc/hosts as it is
    #[arg(long)]
    no_hosts: bool,
    /// Write the pod's id to a new file
    #[arg(long, value_name = "FILE")]
    pod_id_file: Option<PathBuf>,
    /// Offer a port of the pod at one of the host
    #[arg(short, long, value_name = "[[IP:][HOST]:]PORT[/PROTOCOL]")]
    publish: Vec<String>,
    /// Remove a pod or container of that name first
    #[arg(long)]
    replace: bool,
    /// What its members have in common: ipc, net, pid, uts, none; + adds to the default
    #[arg(long, value_name = "KIND", default_value = "ipc,net,uts")]
    share: String,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// Set a kernel parameter of the pod's namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// Map user ids, as `ctr run` does
    #[arg(long, value_name = "CONTAINER:FROM:AMOUNT", conflicts_with = "userns")]
    uidmap: Vec<String>,
    /// User namespace, as `ctr run` has it
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Its name
    #[arg(value_name = "NAME")]
    given: Option<String>,
}

/// Make one and print its id.
pub fn run(args: Args, globals: &Globals) -> Result<u8> {
    let share = pods::parse_share(&args.share).with_context(|| format!("--share {}", args.share));
    let share = share.hint("--share ipc,net,uts,pid or --share +pid")?;
    let replace = args.replace;
    let name = args.given.or(args.named);
    let options = run_args::Args {
        add_host: args.add_host,
        cidfile: args.pod_id_file,
        conmon_pidfile: args.infra_conmon_pidfile,
        dns: args.dns,
        dns_option: args.dns_option,
        dns_search: args.dns_search,
        ip: args.ip,
        ip6: args.ip6,
        mac_address: args.mac_address,
        network_alias: args.network_alias,
        no_hosts: args.no_hosts,
        gidmap: args.gidmap,
        hostname: args.hostname.or_else(|| name.clone()).filter(|_| share.contains(&Kind::Uts)),
        label: args.label,
        name,
        network: args.network,
        publish: args.publish,
        shm_size: args.shm_size,
        sysctl: args.sysctl,
        uidmap: args.uidmap,
        userns: args.userns,
        ..run_args::Args::of_nothing()?
    };
    let (store, mut request) = (globals.store()?, options.into_request()?);
    if let (true, Some(name)) = (replace, &request.name)
        && let Some(id) = store.named(name)?
    {
        pod::remove_one(&store, &store.container(&id), true)?;
    }
    request.part = Some(Part::Itself(Pod { share, ends_with_members: args.exit_policy == "stop" }));
    request.source = Source::Nothing;
    // Its only process is ours, and waits; a path is not searched for.
    request.command = vec!["/ctr-pod".to_owned()];
    (request.capabilities, request.no_new_privileges) = (CapSet::EMPTY, true);
    let made = make(&store, globals, &mut request, &Mapping::detect())?;
    output::line(made.dir.id())?;
    Ok(0)
}

/// Let a container of `request` belong to the pod that it names, which runs from now on if the container is about to.
pub fn enter(store: &Store, request: &mut Request) -> Result<()> {
    let Some(Part::Asked { pod: name, chosen }) = &request.part else { return Ok(()) };
    let pod = pods::find(store, name).status(OURS)?;
    let chosen = chosen.clone();
    pods::join(&mut request.sharing, &pod, |kind| chosen.contains(&kind));
    request.part = Some(Part::Member(pod.record.id.clone()));
    Ok(())
}
