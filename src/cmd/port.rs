//! `ctr port` and `ctr container exists`: questions with short answers.

use super::{Globals, targets};
use crate::container::find;
use crate::error::Explain;
use anyhow::{Result, anyhow};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The newest container
    #[arg(short, long)]
    latest: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    container: Option<String>,
    /// Only this port of the container
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

#[derive(clap::Args, Debug)]
pub struct ExistsArgs {
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Print what is published: nothing yet.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let container = targets::one(&globals.store()?, args.container.as_ref(), args.latest)?;
    match &args.port {
        None => Ok(0),
        Some(port) => Err(anyhow!("port {port} of container {} is not published", container.record.name))
            .hint("publishing ports is not built yet; --network=host shares the host's"),
    }
}

/// Status 0 or 1.
pub fn exists(args: &ExistsArgs, globals: &Globals) -> Result<u8> {
    Ok(u8::from(find::lookup(&globals.store()?, &args.container)?.is_none()))
}
