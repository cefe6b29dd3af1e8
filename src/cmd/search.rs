//! `ctr search`: images that registries have, and the tags of one.

use super::{
    Globals,
    registry_args::TlsArgs,
    run_args::takes_a_truth_value,
    template::{Columns, Format},
    warn,
};
use crate::{
    error::Explain,
    registry::{self, Found},
};
use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use std::str::FromStr;

/// Search registries for images
#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// At most so many of each registry
    #[arg(long, value_name = "COUNT", default_value_t = 25)]
    limit: usize,
    /// Only those with KEY=VALUE: stars, is-official, is-automated
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// `json`, a Go template, or `table` and a template
    #[arg(long)]
    format: Option<Format>,
    /// Whole descriptions
    #[arg(long)]
    no_trunc: bool,
    /// Stars and marks of Docker's index, too
    #[arg(long, conflicts_with_all = ["list_tags", "format"])]
    compatible: bool,
    /// The tags of the image that the term names
    #[arg(long, conflicts_with = "filter")]
    list_tags: bool,
    #[command(flatten)]
    tls: TlsArgs,
    /// What to search for; `REGISTRY/` in front searches there alone
    #[arg(value_name = "TERM")]
    term: String,
}

/// One condition (podman-search(1)).
#[derive(Clone, Debug)]
enum Filter {
    Stars(u64),
    Official(bool),
    Automated(bool),
}

impl FromStr for Filter {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Filter> {
        let (key, value) = text.split_once('=').unwrap_or((text, "true"));
        let truth = || value.parse().map_err(|_| anyhow!("{value:?} is neither true nor false"));
        match key {
            "stars" => {
                Ok(Filter::Stars(value.parse().map_err(|_| anyhow!("{value:?} is no number of stars"))?))
            }
            "is-official" => Ok(Filter::Official(truth()?)),
            "is-automated" => Ok(Filter::Automated(truth()?)),
            _ => Err(anyhow!("there is no filter {key:?}")).hint("stars, is-official or is-automated"),
        }
    }
}

impl Filter {
    fn passes(&self, found: &Found) -> bool {
        match *self {
            Filter::Stars(least) => found.stars >= least,
            Filter::Official(official) => found.official == official,
            Filter::Automated(automated) => found.automated == automated,
        }
    }
}

/// Characters of a description that a table shows.
const SHOWN: usize = 44;

/// Print what is found.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let (dirs, options) = (globals.dirs()?, args.tls.options());
    let format = args.format.clone().unwrap_or_default();
    let print = |rows: &[Value], row: &str| {
        format.print(rows, &Columns { row, headings: &[], noheading: false }).map(|()| 0)
    };
    if args.limit == 0 || args.limit > 100_000 {
        return Err(anyhow!("--limit {} is out of range", args.limit)).hint("--limit 25");
    }
    if args.list_tags {
        let (name, tags) = registry::tags(&dirs, &options, &args.term, args.limit)?;
        let rows: Vec<Value> = match format {
            Format::Json => vec![json!({ "Name": name, "Tags": tags })],
            _ => tags.iter().map(|tag| json!({ "Name": name, "Tag": tag })).collect(),
        };
        return print(&rows, r"{{.Name}}\t{{.Tag}}");
    }
    let keep = |found: &Found| args.filter.iter().all(|filter| filter.passes(found));
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for outcome in registry::search(&dirs, &options, &args.term, args.limit, &keep)? {
        match outcome {
            Ok(found) => rows.extend(found.iter().map(|found| row(found, args.no_trunc))),
            Err(failure) => failures.push(failure),
        }
    }
    if rows.is_empty()
        && let Some(failure) = failures.pop()
    {
        failures.iter().for_each(warn);
        return Err(failure);
    }
    failures.iter().for_each(warn);
    match args.compatible {
        true => print(&rows, r"{{.Name}}\t{{.Description}}\t{{.Stars}}\t{{.Official}}\t{{.Automated}}"),
        false => print(&rows, r"{{.Name}}\t{{.Description}}"),
    }
}

fn row(found: &Found, whole: bool) -> Value {
    let mark = |is: bool| if is { "[OK]" } else { "" };
    json!({
        "Index": found.index,
        "Name": found.name,
        "Description": if whole { found.description.clone() } else { super::output::clip(&found.description, SHOWN) },
        "Stars": found.stars,
        "Official": mark(found.official),
        "Automated": mark(found.automated),
        "Tag": "",
    })
}
