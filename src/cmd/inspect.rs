//! `ctr inspect`: everything about containers and images, in the field names of Podman and Docker.

use super::{
    Globals, each, inspect_container, inspect_image, measure,
    run_args::takes_a_truth_value,
    template::{Columns, Format},
};
use crate::{
    container::{
        find,
        state::{self, Container},
    },
    error::Explain,
    registry,
    storage::Store,
};
use anyhow::{Result, anyhow};
use clap::ValueEnum;
use serde_json::Value;

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// What to look for
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "all")]
    kind: Kind,
    /// `json` or a Go template
    #[arg(short, long, default_value = "json")]
    format: Format,
    /// How much a container takes, too
    #[arg(short, long)]
    size: bool,
    /// The newest container
    #[arg(short, long, conflicts_with = "names")]
    latest: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "NAME", required_unless_present = "latest")]
    names: Vec<String>,
}

impl Args {
    /// The same, of one kind: `ctr image inspect`.
    pub fn only(self, kind: Kind) -> Args {
        Args { kind, ..self }
    }
}

/// `--type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A container, else an image.
    All,
    /// A container.
    Container,
    /// An image.
    Image,
}

/// Print an array of what there is; an error for each name that nothing has.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    if args.kind == Kind::Image && (args.latest || args.size) {
        let option = if args.latest { "--latest" } else { "--size" };
        return Err(anyhow!("{option} is of containers, not of images")).hint("leave it away");
    }
    let store = globals.store()?;
    let mut found = Vec::new();
    let status = if args.latest {
        let (containers, _) = state::list(&store)?;
        let newest = containers.first();
        let newest = newest.ok_or_else(|| anyhow!("there is no container")).hint("`ctr run` makes one")?;
        found.push(of_container(&store, newest, args.size)?);
        0
    } else {
        each(&args.names, |name| {
            found.push(one(&store, name, args)?);
            Ok(())
        })
    };
    let format = if matches!(args.format, Format::Default) { &Format::Json } else { &args.format };
    format.print(&found, &Columns { row: "", headings: &[], noheading: false })?;
    Ok(status)
}

fn one(store: &Store, name: &str, args: &Args) -> Result<Value> {
    if args.kind != Kind::Image
        && let Some(dir) = find::lookup(store, name)?
        && let Some(container) = Container::read(dir)?
    {
        return of_container(store, &container, args.size);
    }
    if args.kind != Kind::Container
        && let Some(image) = registry::find(store, store.dirs(), name)?
    {
        return inspect_image::value(store, &image);
    }
    let (what, list) = match args.kind {
        Kind::All => ("container or image", "`ctr ps -a` and `ctr images` list"),
        Kind::Container => ("container", "`ctr ps -a` lists"),
        Kind::Image => ("image", "`ctr images` lists"),
    };
    let shown: String = name.chars().take(80).collect();
    let other = match args.kind {
        Kind::Image if find::lookup(store, name)?.is_some() => Some(("a container", "ctr container inspect")),
        Kind::Container if registry::find(store, store.dirs(), name)?.is_some() => {
            Some(("an image", "ctr image inspect"))
        }
        _ => None,
    };
    Err(anyhow!("no {what} has the name or id {shown:?}")).hint(match other {
        Some((kind, command)) => format!("{shown:?} is {kind}: `{command}` shows it"),
        None => format!("{list} what there is"),
    })
}

fn of_container(store: &Store, container: &Container, size: bool) -> Result<Value> {
    let mut value = inspect_container::value(container);
    if size {
        for size in measure::measure(store, [container].into_iter())? {
            value["SizeRw"] = size.writable.into();
            value["SizeRootFs"] = size.root.into();
        }
    }
    Ok(value)
}
