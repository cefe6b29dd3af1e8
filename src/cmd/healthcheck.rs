//! `ctr healthcheck`.

use super::{Globals, output, targets};
use crate::{container::health::Status, error::Explain, monitor};
use anyhow::{Result, anyhow};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Run its check now. Status 1, and its health on stdout, when it isn't healthy.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let container = targets::one(&globals.store()?, Some(&args.container), false)?;
    if container.record.health.is_none() {
        return Err(anyhow!("container {} has no defined healthcheck", container.record.id))
            .hint(format!("`ctr update --health-cmd COMMAND {}` gives it one", container.record.name));
    }
    let health = monitor::check_now(&container)?;
    if health.log.last().is_some_and(|outcome| outcome.exit_code == 0) {
        return Ok(0);
    }
    output::line(if health.status == Status::Starting { Status::Starting } else { Status::Unhealthy })?;
    Ok(1)
}
