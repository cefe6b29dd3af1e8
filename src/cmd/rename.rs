//! `ctr rename`.

use super::Globals;
use crate::{
    container::{events, find, rename},
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

/// Give it the name; the old one is free.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let dir = find::find(&store, &args.container)?;
    let name: Name = args
        .name
        .parse()
        .with_context(|| format!("rename to {:?}", args.name))
        .hint("names are letters, digits, `_`, `.` and `-`")?;
    rename::rename(&store, &dir, &name)?;
    events::of(&store, "rename", &dir);
    monitor::reload(&dir)?;
    // It is called so by now; a network whose process is gone hears of it when that is back.
    let _ = monitor::follow_networks(&dir);
    Ok(0)
}
