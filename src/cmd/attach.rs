//! `ctr attach`: to a container that runs.

use super::{Globals, foreground, targets};
use crate::{
    container::{events, state::Status},
    error::Explain,
    monitor::{self, Attendance, Channel, Readiness},
};
use anyhow::{Result, anyhow};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Keys that detach from the container's terminal [default: the container's]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// The newest container
    #[arg(short, long, conflicts_with = "container")]
    latest: bool,
    /// Keep stdin here
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the container when it has no terminal [default: true]
    #[arg(long, default_value = "true", hide_default_value = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL", hide_possible_values = true)]
    sig_proxy: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    container: Option<String>,
}

/// Stay with it; its exit status.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let container = targets::one(&store, args.container.as_ref(), args.latest)?;
    let (dir, record) = (&container.dir, &container.record);
    let keys = foreground::keys(args.detach_keys.as_deref().or(record.detach_keys.as_deref()))?;
    let Status::Running(process) = &container.status else {
        return Err(anyhow!(
            "you can only attach to running containers: {} is {}",
            record.name,
            container.status.word()
        ))
        .hint(format!("`ctr start --attach {}` starts it", record.name));
    };
    let stdin = record.interactive && !args.no_stdin;
    let line = Channel::to(dir)?;
    let (Some(line), Some(pidfd)) = (line, process.open()?) else {
        return Err(anyhow!("nobody watches container {}: its monitor was killed", record.name))
            .hint(format!("`ctr restart {}`", record.name));
    };
    let readiness = Readiness::new(record.tty && stdin)?;
    // With a terminal even who types nothing decides about its size.
    let (tty, input) = monitor::ask_to_attach(&line, stdin || record.tty)?;
    events::record(&store, "attach", record);
    let attendance = Attendance {
        line,
        pidfd,
        input,
        tty,
        stdin,
        sig_proxy: args.sig_proxy,
        foreground: false,
        keys,
        monitor: None,
    };
    foreground::status(monitor::attend(attendance, &readiness)?)
}
