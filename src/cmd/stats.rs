//! `ctr stats`: what containers use, once or as a table that goes on (podman-stats(1)).

use super::{
    Globals, output, targets,
    template::{Columns, Format},
};
use crate::{
    cgroups::Group,
    container::{
        find,
        state::{self, Container},
        usage::{self, Usage},
    },
    storage::Store,
};
use anyhow::Result;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, io::IsTerminal, time::Duration};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// All containers, not only those that run
    #[arg(short, long)]
    all: bool,
    /// The newest container
    #[arg(short, long)]
    latest: bool,
    /// `json`, a table or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Seconds between two tables
    #[arg(short, long, value_name = "SECONDS", default_value_t = 5)]
    interval: u64,
    /// Don't clear the terminal between two tables
    #[arg(long)]
    no_reset: bool,
    /// Once
    #[arg(long)]
    no_stream: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Name, id or the beginning of an id; none: those that run
    #[arg(value_name = "CONTAINER", conflicts_with_all = ["all", "latest"])]
    containers: Vec<String>,
}

impl Args {
    /// Those of `ctr pod stats`.
    pub fn of_pods(format: Option<Format>, no_reset: bool, no_stream: bool) -> Args {
        Args {
            all: false,
            latest: false,
            format,
            interval: 5,
            no_reset,
            no_stream,
            no_trunc: false,
            containers: Vec::new(),
        }
    }
}

const COLUMNS: Columns<'static> = Columns {
    row: "{{.ID}}\\t{{.Name}}\\t{{.CPUPerc}}\\t{{.MemUsage}}\\t{{.MemPerc}}\\t{{.NetIO}}\\t{{.BlockIO}}\\t{{.PIDS}}\\t{{.CPUTime}}\\t{{.AVGCPU}}",
    headings: &[
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET IO"),
        ("BlockIO", "BLOCK IO"),
        ("CPUTime", "CPU TIME"),
        ("AVGCPU", "AVG CPU %"),
    ],
    noheading: false,
};

/// Print it, again and again unless told otherwise.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    print(args, &COLUMNS, || Ok(choose(args, &store)?.into_iter().map(|one| (one, None)).collect()))
}

/// The containers that `chosen` names, each with the pod that it is of where that is shown.
pub fn print(
    args: &Args,
    columns: &Columns<'_>,
    chosen: impl Fn() -> Result<Vec<(Container, Option<String>)>>,
) -> Result<u8> {
    let format = args.format.clone().unwrap_or_default();
    let mut before = BTreeMap::new();
    loop {
        let mut now = BTreeMap::new();
        let mut rows = Vec::new();
        for (container, pod) in chosen()? {
            let first = container.status.process().and_then(|process| process.child().ok().flatten());
            let usage = match first {
                Some(first) => {
                    let usage = usage::of(&first)?;
                    let group = container.status.process().and_then(|process| process.cgroup.as_deref());
                    group.map_or(usage, |path| usage.with(&Group::at(path)))
                }
                None if args.all => Usage::default(),
                None => continue,
            };
            let mut row = row(&container, &usage, before.get(&container.record.id), args.no_trunc);
            if let Some(pod) = pod {
                (row["Pod"], row["CID"]) = (pod.into(), row["ID"].clone());
            }
            rows.push(row);
            now.insert(container.record.id.clone(), usage);
        }
        if !(args.no_stream || args.no_reset || before.is_empty()) && std::io::stdout().is_terminal() {
            output::print("\x1b[H\x1b[J")?;
        }
        format.print(&rows, columns)?;
        if args.no_stream {
            return Ok(0);
        }
        before = now;
        std::thread::sleep(Duration::from_secs(args.interval.max(1)));
    }
}

fn choose(args: &Args, store: &Store) -> Result<Vec<Container>> {
    if args.latest {
        return Ok(vec![targets::one(store, None, true)?]);
    }
    if args.containers.is_empty() {
        return Ok(state::list(store)?.0);
    }
    let named = args.containers.iter().map(|name| Container::read(find::find(store, name)?));
    Ok(named.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The share of a processor is that since the last table; in the first one, since the start.
fn row(container: &Container, usage: &Usage, before: Option<&Usage>, whole: bool) -> Value {
    let share = |cpu: Duration, time: Duration| 100.0 * cpu.as_secs_f64() / time.as_secs_f64().max(0.001);
    let average = share(usage.cpu, usage.elapsed);
    let recent = before.map_or(average, |before| {
        share(usage.cpu.saturating_sub(before.cpu), usage.elapsed.saturating_sub(before.elapsed))
    });
    let limit = usage.memory_limit.unwrap_or(u64::MAX).min(memory_of_host());
    let percent = |value: f64| format!("{value:.2}%");
    let pair = |a: u64, b: u64| format!("{} / {}", output::size(a), output::size(b));
    let id = &container.record.id;
    json!({
        "ID": if whole { id.as_str() } else { id.short() },
        "ContainerID": id,
        "Container": id.short(),
        "Name": container.record.name,
        "CPUPerc": percent(recent),
        "AVGCPU": percent(average),
        "CPUTime": format!("{:.3}s", usage.cpu.as_secs_f64()),
        "CPUNano": u64::try_from(usage.cpu.as_nanos()).unwrap_or(u64::MAX),
        "MemUsage": pair(usage.memory, limit),
        "MemUsageBytes": pair_of_bytes(usage.memory, limit),
        "MemPerc": percent(100.0 * usage.memory as f64 / limit.max(1) as f64),
        "MemLimit": limit,
        "NetIO": pair(usage.received, usage.sent),
        "NetInput": usage.received,
        "NetOutput": usage.sent,
        "BlockIO": pair(usage.read, usage.written),
        "BlockInput": usage.read,
        "BlockOutput": usage.written,
        "PIDS": usage.processes,
        "PIDs": usage.processes,
    })
}

fn pair_of_bytes(a: u64, b: u64) -> String {
    const MIB: f64 = (1 << 20) as f64;
    format!("{:.2}MiB / {:.2}MiB", a as f64 / MIB, b as f64 / MIB)
}

fn memory_of_host() -> u64 {
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = table.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = total.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) << 10
}
