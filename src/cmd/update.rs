//! `ctr update`: what may change after a container was made (podman-update(1)).

use super::{
    Globals, health_args::HealthArgs, limit_args::LimitArgs, option_value::one, output,
    run_args::takes_a_truth_value, targets,
};
use crate::{
    cgroups::Limits,
    container::{cage, events, grammar, record::Record, state::Status},
    error::Explain,
    monitor,
    storage::ContainerDir,
};
use anyhow::{Result, anyhow};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    #[command(flatten)]
    health: HealthArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// When to start it again: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// The newest container
    #[arg(short, long, conflicts_with = "container")]
    latest: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    container: Option<String>,
}

/// Change it. Its monitor, if it lives, hears of it; print its id.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let dir = targets::one(&store, args.container.as_ref(), args.latest)?.dir;
    let example = "--restart on-failure:3, always, unless-stopped or no";
    let restart = one("--restart", &args.restart, example, grammar::parse_restart)?;
    let health = args.health.options()?;
    let limits = args.limits.limits()?;
    if limits != Limits::default() {
        limit(&dir, &limits)?;
    }
    Record::change(&dir, |record| {
        let health = health.change(record.health.clone())?;
        let limits = limits.over(record.limits);
        Ok(Record { restart: restart.unwrap_or(record.restart), health, limits, ..record })
    })?;
    events::of(&store, "update", &dir);
    monitor::reload(&dir)?;
    output::line(dir.id())?;
    Ok(0)
}

/// The kernel first: what it refuses is not recorded.
fn limit(dir: &ContainerDir, limits: &Limits) -> Result<()> {
    let status = Status::of(dir)?;
    match status.process().map(|process| process.cgroup.as_deref()) {
        Some(Some(path)) => cage::change(path, limits),
        Some(None) => Err(anyhow!("container {} runs without a control group", dir.id().short()))
            .hint("`ctr info` shows what this host has"),
        None => Ok(()),
    }
}
