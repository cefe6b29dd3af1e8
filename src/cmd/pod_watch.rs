//! `ctr pod top`, `logs` and `stats`: what `ctr` shows of containers, for those of pods.

use super::{
    Globals, logs, stats,
    template::{Columns, Format},
    top,
};
use crate::{
    container::{
        pod,
        state::{self, Container},
    },
    error::Explain,
    storage::Store,
};
use anyhow::{Result, anyhow};

#[derive(clap::Args, Debug)]
pub struct TopArgs {
    /// Of the newest pod
    #[arg(short, long)]
    latest: bool,
    /// The pod, then descriptors as in podman-top(1)
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = false,
        required_unless_present = "latest",
        value_name = "POD [DESCRIPTOR]..."
    )]
    arguments: Vec<String>,
}

/// The processes of all containers of one.
pub fn top(args: &TopArgs, globals: &Globals) -> Result<u8> {
    let (name, words) = top::name_and_words(&args.arguments, args.latest);
    let (pod, members) = one(&globals.store()?, name.map(String::as_str))?;
    if pod.status.process().is_none() {
        return Err(anyhow!(
            "pod {} is not running: pod top can only be used on running pods",
            pod.record.name
        ))
        .hint(format!("ctr pod start {}", pod.record.name));
    }
    top::of_all(&[&pod].into_iter().chain(&members).collect::<Vec<_>>(), words)
}

#[derive(clap::Args, Debug)]
pub struct LogsArgs {
    #[command(flatten)]
    options: logs::Options,
    /// Of this one of its containers alone
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<String>,
    /// Of the newest pod
    #[arg(short, long, conflicts_with = "pod")]
    latest: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "POD", required_unless_present = "latest")]
    pod: Option<String>,
}

/// What the containers of one have printed.
pub fn logs(args: &LogsArgs, globals: &Globals) -> Result<u8> {
    let (pod, mut members) = one(&globals.store()?, args.pod.as_deref())?;
    if let Some(name) = &args.container {
        members.retain(|one| {
            one.record.name.as_str() == name || one.record.id.as_str().starts_with(name.as_str())
        });
        if members.is_empty() {
            return Err(anyhow!("container {name} does not belong to pod {}", pod.record.name))
                .hint(format!("`ctr pod inspect {}` lists those that do", pod.record.name));
        }
    }
    // As they were made.
    members.reverse();
    logs::print(&args.options, &members)
}

#[derive(clap::Args, Debug)]
pub struct StatsArgs {
    /// All pods that run, which is what no name means, too
    #[arg(short, long)]
    all: bool,
    /// The newest pod
    #[arg(short, long, conflicts_with = "all")]
    latest: bool,
    /// `json`, a table or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Don't clear the terminal between two tables
    #[arg(long)]
    no_reset: bool,
    /// Once
    #[arg(long)]
    no_stream: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "POD", conflicts_with_all = ["all", "latest"])]
    pods: Vec<String>,
}

const COLUMNS: Columns<'static> = Columns {
    row: "{{.Pod}}\\t{{.CID}}\\t{{.Name}}\\t{{.CPUPerc}}\\t{{.MemUsage}}\\t{{.MemPerc}}\\t{{.NetIO}}\\t{{.BlockIO}}\\t{{.PIDS}}",
    headings: &[
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE/ LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET IO"),
        ("BlockIO", "BLOCK IO"),
    ],
    noheading: false,
};

/// What the containers of some use.
pub fn stats(args: &StatsArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let chosen = || {
        let pods = match (args.latest, &args.pods[..]) {
            (true, _) => vec![one(&store, None)?],
            (false, []) => pod::list(&store)?.0,
            (false, names) => names.iter().map(|name| one(&store, Some(name))).collect::<Result<_>>()?,
        };
        let of_pod = |(pod, members): pod::Together| {
            let id = pod.record.id.short().to_owned();
            std::iter::once(pod).chain(members).map(move |one| (one, Some(id.clone())))
        };
        Ok(pods.into_iter().flat_map(of_pod).collect())
    };
    let options = stats::Args::of_pods(args.format.clone(), args.no_reset, args.no_stream);
    stats::print(&options, &COLUMNS, chosen)
}

/// The pod called `name`, or the newest, with its members.
fn one(store: &Store, name: Option<&str>) -> Result<pod::Together> {
    let Some(name) = name else {
        let newest = state::list(store)?.0.into_iter().find(|one: &Container| one.record.pod.is_some());
        let pod = newest.ok_or_else(|| anyhow!("there is no pod")).hint("ctr pod create NAME")?;
        let members = pod::members(store, &pod.record.id)?;
        return Ok((pod, members));
    };
    let pod = pod::find(store, name).status(125)?;
    let members = pod::members(store, &pod.record.id)?;
    Ok((pod, members))
}
