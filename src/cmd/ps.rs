//! `ctr ps`: which containers there are, as a table, ids, JSON or through a template.

use super::{
    Globals,
    container_filter::{self, Filter},
    measure::{self, Size},
    output,
    run_args::takes_a_truth_value,
    template::{Columns, Format},
    warn,
};
use crate::{
    container::{
        health::Health,
        remove,
        state::{self, Container, Record, Status},
    },
    network::ports,
    storage::{ContainerId, Store},
};
use anyhow::Result;
use clap::ValueEnum;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// Those that don't run, too
    #[arg(short, long)]
    all: bool,
    /// Nothing but ids
    #[arg(short, long, conflicts_with = "size")]
    quiet: bool,
    /// The N newest, whatever they do
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    last: Option<i64>,
    /// The newest, whatever it does
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,
    /// How much each one takes, too
    #[arg(short, long)]
    size: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// The pods that they belong to, too
    #[arg(short, long)]
    pod: bool,
    /// No line of headings
    #[arg(long)]
    noheading: bool,
    /// Only those with KEY=VALUE: name, id, status, health, exited, ancestor, label, label!, network, command, restart-policy, volume, before, since, until
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// Order: command, created, id, image, names, runningfor, size or status
    #[arg(long, value_name = "KEY", hide_possible_values = true)]
    sort: Option<Sort>,
    /// `json`, a Go template, or `table` and a template
    #[arg(long)]
    format: Option<Format>,
}

/// `--sort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Command,
    Created,
    Id,
    Image,
    Names,
    #[value(name = "runningfor")]
    RunningFor,
    Size,
    Status,
}

const ROW: &str =
    r"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.CreatedHuman}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const ROW_AND_SIZE: &str =
    r"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.CreatedHuman}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

const HEADINGS: &[(&str, &str)] =
    &[("ID", "CONTAINER ID"), ("CreatedHuman", "CREATED"), ("Pod", "POD ID"), ("PodName", "PODNAME")];

/// Print the list.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let filters = container_filter::resolve(&args.filter, &store)?;
    // What was killed with its `--rm` is not shown; where it can't be removed (a read-only store), the list still is.
    let _ = remove::sweep(&store);
    let (containers, damaged) = state::list(&store)?;
    for problem in damaged {
        warn(&problem);
    }
    let shown = select(args, &filters, containers);
    let sizes = if args.size { measure::measure(&store, shown.iter())? } else { Vec::new() };
    let mut shown: Vec<(Container, Option<Size>)> =
        shown.into_iter().enumerate().map(|(at, container)| (container, sizes.get(at).copied())).collect();
    if let Some(key) = args.sort {
        sort(&mut shown, key);
    }
    let whole = args.no_trunc;
    if args.quiet && args.format.is_none() {
        let id = |c: &Container| if whole { c.record.id.as_str() } else { c.record.id.short() }.to_owned();
        output::print(&shown.iter().map(|(container, _)| id(container) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let format = args.format.clone().unwrap_or_default();
    let names = PodNames::of(&store, &shown);
    let rows: Vec<Value> = match format {
        Format::Json => shown
            .iter()
            .map(|(container, size)| entry(container, *size, names.of_container(container)))
            .collect(),
        _ => shown
            .iter()
            .map(|(container, size)| row(container, *size, whole, names.of_container(container)))
            .collect(),
    };
    let mut row = if args.size { ROW_AND_SIZE } else { ROW }.to_owned();
    if args.pod {
        row.push_str(r"\t{{.Pod}}\t{{.PodName}}");
    }
    format.print(&rows, &Columns { row: &row, headings: HEADINGS, noheading: args.noheading })?;
    Ok(0)
}

fn select(args: &Args, filters: &[Filter], mut containers: Vec<Container>) -> Vec<Container> {
    let last = args.last.and_then(|n| usize::try_from(n).ok());
    let newest = if args.latest { Some(1) } else { last };
    if !(args.all || newest.is_some() || filters.iter().any(Filter::is_of_status)) {
        containers.retain(|c| is_up(&c.status));
    }
    containers.retain(|c| container_filter::passes(filters, c));
    containers.truncate(newest.unwrap_or(usize::MAX));
    containers
}

fn is_up(status: &Status) -> bool {
    matches!(status.word(), "running" | "paused" | "stopping" | "restarting")
}

fn sort(containers: &mut [(Container, Option<Size>)], key: Sort) {
    match key {
        Sort::Command => containers.sort_by_cached_key(|(c, _)| c.record.args.join(" ")),
        Sort::Created => containers.sort_by_key(|(c, _)| c.record.created),
        Sort::Id => containers.sort_by_cached_key(|(c, _)| c.record.id.to_string()),
        Sort::Image => containers.sort_by_cached_key(|(c, _)| c.record.image.clone()),
        Sort::Names => containers.sort_by_cached_key(|(c, _)| c.record.name.to_string()),
        Sort::RunningFor => containers.sort_by_key(|(c, _)| Life::of(&c.status).started),
        Sort::Size => containers.sort_by_key(|(_, size)| size.map(|size| size.root)),
        Sort::Status => containers.sort_by_key(|(c, _)| c.status.word()),
    }
}

/// What is known of a container's process.
#[derive(Default)]
pub struct Life {
    /// As the host sees it; 0 when there is none.
    pub pid: i32,
    /// 0 before it has ended.
    pub code: u8,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

impl Life {
    /// Read it off `status`.
    pub fn of(status: &Status) -> Life {
        let (process, exit) = (status.process(), status.exit());
        Life {
            pid: process.map_or(0, |process| process.pid),
            code: exit.map_or(0, |exit| exit.code),
            started: process.map(|process| process.since).or(exit.and_then(|exit| exit.started)),
            finished: exit.and_then(|exit| exit.finished),
        }
    }
}

/// The column STATUS; `health` is that of its health check, if it has one.
pub fn status(status: &Status, health: Option<&str>) -> String {
    let life = Life::of(status);
    // Beside Podman's words, which don't tell.
    let why = if status.exit().is_some_and(|exit| exit.oom) { " (out of memory)" } else { "" };
    let text = match (status.word(), life.started, life.finished) {
        ("running", Some(started), _) => format!("Up {}", output::since(started)),
        ("exited", _, Some(finished)) => {
            format!("Exited ({}) {} ago{why}", life.code, output::since(finished))
        }
        ("exited", ..) => format!("Exited ({}){why}", life.code),
        ("restarting", ..) => format!("Restarting ({})", life.code),
        (word, ..) => word[..1].to_uppercase() + &word[1..],
    };
    health.map_or_else(|| text.clone(), |health| format!("{text} ({health})"))
}

/// What its health check says while it runs.
pub fn health(container: &Container) -> Option<String> {
    container.record.health.as_ref().filter(|_| container.status.process().is_some())?;
    Some(Health::read(&container.dir).ok()??.status.to_string())
}

/// Names of pods by their ids.
struct PodNames(BTreeMap<ContainerId, String>);

impl PodNames {
    fn of(store: &Store, shown: &[(Container, Option<Size>)]) -> PodNames {
        let mut names = BTreeMap::new();
        for id in shown.iter().filter_map(|(container, _)| container.record.member_of.as_ref()) {
            if !names.contains_key(id)
                && let Ok(Some(pod)) = Record::read(&store.container(id))
            {
                names.insert(id.clone(), pod.name.to_string());
            }
        }
        PodNames(names)
    }

    fn of_container(&self, container: &Container) -> &str {
        container.record.member_of.as_ref().and_then(|id| self.0.get(id)).map_or("", String::as_str)
    }
}

/// What a template sees: the placeholders of podman-ps(1), worded for people.
fn row(container: &Container, size: Option<Size>, whole: bool, pod: &str) -> Value {
    let record = &container.record;
    let life = Life::of(&container.status);
    let command = record.args.join(" ");
    let image_id = record.image_id.map(|id| if whole { id.hex() } else { id.short() });
    let ago = format!("{} ago", output::since(record.created));
    let labels: Vec<_> = record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let created = record.created.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string();
    json!({
        "AutoRemove": record.auto_remove,
        "CIDFile": "",
        "Command": if whole { command } else { output::clip(&command, 17) },
        "Created": created,
        "CreatedAt": created,
        "CreatedHuman": ago,
        "ExitCode": life.code,
        "Exited": container.status.word() == "exited",
        "ExitedAt": seconds(life.finished),
        "ExposedPorts": {},
        "ID": if whole { record.id.as_str() } else { record.id.short() },
        "Image": record.image,
        "ImageID": image_id.unwrap_or_default(),
        "IsInfra": record.pod.is_some(),
        // `.Label "key"`.
        "Label": record.labels,
        "Labels": labels.join(","),
        "Mounts": mounts(record).join(","),
        "Names": record.name,
        "Networks": "",
        "Pid": life.pid,
        "Pod": record.member_of.as_ref().map(|id| id.short()).unwrap_or_default(),
        "PodName": pod,
        "Ports": ports::shown(&record.ports),
        "Restarts": container.status.restart_count(),
        "RunningFor": ago,
        "Size": size.map(sizes).unwrap_or_default(),
        "StartedAt": seconds(life.started),
        "State": container.status.word(),
        "Status": status(&container.status, health(container).as_deref()),
    })
}

/// The places of what the user mounts.
fn mounts(record: &Record) -> Vec<String> {
    record.mounts.iter().map(|mount| mount.target.display().to_string()).collect()
}

fn sizes(size: Size) -> String {
    format!("{} (virtual {})", output::size(size.writable), output::size(size.root))
}

/// Podman's zero: the first second of year 1.
fn seconds(time: Option<Timestamp>) -> i64 {
    time.map_or(-62_135_596_800, Timestamp::as_second)
}

/// `--format json`.
fn entry(container: &Container, size: Option<Size>, pod: &str) -> Value {
    let record = &container.record;
    let life = Life::of(&container.status);
    json!({
        "AutoRemove": record.auto_remove,
        "CIDFile": "",
        "Command": record.args,
        "Created": record.created.as_second(),
        "CreatedAt": format!("{} ago", output::since(record.created)),
        "Exited": container.status.word() == "exited",
        "ExitedAt": seconds(life.finished),
        "ExitCode": life.code,
        "ExposedPorts": null,
        "Id": record.id,
        "Image": record.image,
        "ImageID": record.image_id.map(|id| id.hex()).unwrap_or_default(),
        "IsInfra": record.pod.is_some(),
        "Labels": record.labels,
        "Mounts": mounts(record),
        "Names": [record.name],
        "Networks": [],
        "Pid": life.pid,
        "Pod": record.member_of.as_ref().map(|id| id.as_str()).unwrap_or_default(),
        "PodName": pod,
        "Ports": record.ports.iter().map(|port| json!({
            "host_ip": port.host.map(|host| host.to_string()).unwrap_or_default(),
            "container_port": port.port,
            "host_port": port.host_port,
            "range": 1,
            "protocol": port.protocol,
        })).collect::<Vec<_>>(),
        "Restarts": container.status.restart_count(),
        "Size": size.map(|size| json!({"rwSize": size.writable, "rootFsSize": size.root})),
        "StartedAt": seconds(life.started),
        "State": container.status.word(),
        "Status": status(&container.status, health(container).as_deref()),
    })
}
