//! `ctr port` and `ctr container exists`: questions with short answers.

use super::{Globals, output, targets};
use crate::{
    container::{find, state},
    error::Explain,
    network::ports,
};
use anyhow::{Context, Result, anyhow};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// All containers that run
    #[arg(short, long, conflicts_with_all = ["latest", "container"])]
    all: bool,
    /// The newest container
    #[arg(short, long)]
    latest: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["latest", "all"])]
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

/// Print where the host offers the container's ports.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    if args.all {
        for container in state::list(&store)?.0 {
            for port in &container.record.ports {
                output::line(format!(
                    "{}\t{} -> {}",
                    container.record.id.short(),
                    port.inside(),
                    port.outside()
                ))?;
            }
        }
        return Ok(0);
    }
    // With --latest the first word is the port.
    let (name, port) = match (args.latest, &args.port) {
        (true, None) => (None, args.container.as_ref()),
        (_, port) => (args.container.as_ref(), port.as_ref()),
    };
    let record = targets::one(&store, name, args.latest)?.record;
    let Some(asked) = port else {
        for port in &record.ports {
            output::line(format!("{} -> {}", port.inside(), port.outside()))?;
        }
        return Ok(0);
    };
    let wanted = ports::parse_exposed(asked)
        .with_context(|| format!("port {asked}"))
        .hint("write it as 80 or 53/udp")?;
    let found: Vec<_> =
        record.ports.iter().filter(|port| wanted.contains(&(port.port, port.protocol))).collect();
    if found.is_empty() {
        return Err(anyhow!("port {asked} of container {} is not published", record.name))
            .hint("`ctr run -p HOST:CONTAINER` publishes one");
    }
    found.iter().try_for_each(|port| output::line(port.outside()))?;
    Ok(0)
}

/// Status 0 or 1.
pub fn exists(args: &ExistsArgs, globals: &Globals) -> Result<u8> {
    Ok(u8::from(find::lookup(&globals.store()?, &args.container)?.is_none()))
}
