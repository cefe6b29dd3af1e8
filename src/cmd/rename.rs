//! `ctr rename` and `ctr update`: what may change after a container was made.

use super::{Globals, output};
use crate::{
    container::{
        events, find, grammar,
        record::{Record, Restart},
    },
    error::Explain,
    monitor,
    storage::Name,
};
use anyhow::{Context, Result};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Its new name
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(clap::Args, Debug)]
pub struct UpdateArgs {
    /// When to start it again: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY", required = true)]
    restart: String,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Give it the name; the old one is free.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let dir = find::find(&store, &args.container)?;
    let name: Name = args
        .name
        .parse()
        .with_context(|| format!("rename to {:?}", args.name))
        .hint("names are letters, digits, `_`, `.` and `-`")?;
    Record::rename(&store, &dir, &name)?;
    events::of(&store, "rename", &dir);
    monitor::reload(&dir)?;
    Ok(0)
}

/// Change its restart policy.
pub fn update(args: &UpdateArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let dir = find::find(&store, &args.container)?;
    let restart: Restart = grammar::parse_restart(&args.restart)
        .with_context(|| format!("--restart {}", args.restart))
        .hint("write it as --restart on-failure:3, always, unless-stopped or no")?;
    Record::change(&dir, |record| Record { restart, ..record })?;
    events::of(&store, "update", &dir);
    monitor::reload(&dir)?;
    output::line(&args.container)?;
    Ok(0)
}
