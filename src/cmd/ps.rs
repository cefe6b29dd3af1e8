//! `ctr ps`: which containers there are, as a table, ids or JSON.

use super::{Format, Globals, output, warn};
use crate::container::{
    remove,
    state::{self, Container, Status},
};
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::str::FromStr;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Those that don't run, too
    #[arg(short, long)]
    all: bool,
    /// Nothing but ids
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// The N newest, whatever they do
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// The newest, whatever it does
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// No line of headings
    #[arg(long)]
    noheading: bool,
    /// Only those with name=, id=, status=, ancestor= or label=
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// `json`
    #[arg(long)]
    format: Option<Format>,
}

/// Print the list.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    // What was killed with its `--rm` is not shown; where it can't be removed (a read-only store), the list still is.
    let _ = remove::sweep(&store);
    let (containers, damaged) = state::list(&store)?;
    for problem in damaged {
        warn(&problem);
    }
    let shown: Vec<Container> = select(args, containers);
    output::print(&if args.quiet {
        let id =
            |c: &Container| if args.no_trunc { c.record.id.as_str() } else { c.record.id.short() }.to_owned();
        shown.iter().map(|container| id(container) + "\n").collect()
    } else if args.format == Some(Format::Json) {
        output::json(&shown.iter().map(entry).collect())
    } else {
        let headings = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
        let rows: Vec<_> = shown.iter().map(|c| row(c, args.no_trunc)).collect();
        output::table(if args.noheading { &[] } else { &headings }, &rows)
    })?;
    Ok(0)
}

fn select(args: &Args, mut containers: Vec<Container>) -> Vec<Container> {
    let by_status = args.filter.iter().any(|f| matches!(f, Filter::Status(_)));
    let newest = if args.latest { Some(1) } else { args.last };
    if !(args.all || by_status || newest.is_some()) {
        containers.retain(|c| matches!(c.status, Status::Running(_) | Status::Paused(_)));
    }
    containers.retain(|c| passes(&args.filter, c));
    containers.truncate(newest.unwrap_or(usize::MAX));
    containers
}

/// podman-ps(1), `--filter`: of one key any value will do (of labels all), of several keys all must.
fn passes(filters: &[Filter], container: &Container) -> bool {
    filters.iter().all(|filter| {
        let same_key =
            filters.iter().filter(|f| std::mem::discriminant(*f) == std::mem::discriminant(filter));
        match filter {
            Filter::Label(..) => filter.matches(container),
            _ => same_key.into_iter().any(|f| f.matches(container)),
        }
    })
}

#[derive(Clone, Debug, PartialEq)]
enum Filter {
    Name(String),
    Id(String),
    Status(&'static str),
    Ancestor(String),
    Label(String, Option<String>),
}

impl Filter {
    fn matches(&self, container: &Container) -> bool {
        let record = &container.record;
        match self {
            Filter::Name(part) => record.name.as_str().contains(part),
            Filter::Id(start) => record.id.as_str().starts_with(start),
            Filter::Status(word) => container.status.word() == *word,
            Filter::Ancestor(image) => {
                let id = image.strip_prefix("sha256:").unwrap_or(image);
                let by_id = id.len() >= 4 && record.image_id.is_some_and(|d| d.hex().starts_with(id));
                by_id || super::images::is_called(&record.image, image)
            }
            Filter::Label(key, value) => {
                record.labels.get(key).is_some_and(|have| value.as_ref().is_none_or(|value| value == have))
            }
        }
    }
}

impl FromStr for Filter {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Filter> {
        let Some((key, value)) = text.split_once('=') else { bail!("a filter is written KEY=VALUE") };
        match key {
            "name" => Ok(Filter::Name(value.to_owned())),
            "id" => Ok(Filter::Id(value.to_owned())),
            "status" => match value {
                "created" => Ok(Filter::Status("created")),
                "running" => Ok(Filter::Status("running")),
                "exited" | "stopped" => Ok(Filter::Status("exited")),
                _ => bail!("no container has the status {value:?}: created, running and exited exist"),
            },
            "ancestor" => Ok(Filter::Ancestor(value.to_owned())),
            "label" => {
                let (key, value) =
                    value.split_once('=').map_or((value, None), |(k, v)| (k, Some(v.to_owned())));
                Ok(Filter::Label(key.to_owned(), value))
            }
            _ => bail!("the filter {key:?} is not built: name, id, status, ancestor and label are"),
        }
    }
}

fn row(container: &Container, whole: bool) -> Vec<String> {
    let record = &container.record;
    let command = record.args.join(" ");
    vec![
        if whole { record.id.to_string() } else { record.id.short().to_owned() },
        record.image.clone(),
        if whole { command } else { output::clip(&command, 17) },
        format!("{} ago", output::since(record.created)),
        status(&container.status),
        String::new(),
        record.name.to_string(),
    ]
}

fn status(status: &Status) -> String {
    match status {
        Status::Created => "Created".to_owned(),
        Status::Initialized(_) => "Initialized".to_owned(),
        Status::Running(process) => format!("Up {}", output::since(process.since)),
        Status::Paused(_) => "Paused".to_owned(),
        Status::Restarting(exit) => format!("Restarting ({})", exit.code),
        Status::Exited(exit) => match exit.finished {
            Some(finished) => format!("Exited ({}) {} ago", exit.code, output::since(finished)),
            None => format!("Exited ({})", exit.code),
        },
    }
}

fn entry(container: &Container) -> Value {
    // Podman's zero: the first second of year 1.
    const NEVER: i64 = -62_135_596_800;
    let record = &container.record;
    let (process, exit) = (container.status.process(), container.status.exit());
    let (pid, code) = (process.map_or(0, |p| p.pid), exit.map_or(0, |e| e.code));
    let started = process.map(|p| p.since).or(exit.and_then(|e| e.started));
    let exited = exit.and_then(|e| e.finished);
    json!({
        "AutoRemove": record.auto_remove,
        "Command": record.args,
        "Created": record.created.as_second(),
        "CreatedAt": format!("{} ago", output::since(record.created)),
        "Exited": matches!(container.status, Status::Exited(_)),
        "ExitedAt": exited.map_or(NEVER, |t| t.as_second()),
        "ExitCode": code,
        "Id": record.id,
        "Image": record.image,
        "ImageID": record.image_id.map(|id| id.hex()).unwrap_or_default(),
        "Labels": record.labels,
        "Mounts": [],
        "Names": [record.name],
        "Networks": [],
        "Pid": pid,
        "Ports": null,
        "StartedAt": started.map_or(NEVER, |t| t.as_second()),
        "State": container.status.word(),
        "Status": status(&container.status),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let label = |k: &str, v: Option<&str>| Filter::Label(k.to_owned(), v.map(str::to_owned));
        for (text, filter) in [
            ("name=web", Some(Filter::Name("web".to_owned()))),
            ("status=stopped", Some(Filter::Status("exited"))),
            ("label=a", Some(label("a", None))),
            ("label=a=b=c", Some(label("a", Some("b=c")))),
            ("ancestor=x=y", Some(Filter::Ancestor("x=y".to_owned()))),
            ("status=paused", None),
            ("pod=x", None),
            ("name", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), filter, "{text:?}");
        }
    }
}
