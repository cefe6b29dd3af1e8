//! `ctr attach`: to a container that runs.

use super::{Globals, foreground, targets};
use crate::{
    container::{
        events,
        state::{Container, Status},
    },
    error::Explain,
    monitor::{self, Ask, Attendance, Keys, Outcome, Readiness, reach},
    storage::Store,
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
    let keys = foreground::keys(args.detach_keys.as_deref().or(container.record.detach_keys.as_deref()))?;
    let stdin = container.record.interactive && !args.no_stdin;
    to(&store, &container, Manner { stdin, sig_proxy: args.sig_proxy, start: false }, keys)
}

/// How to stay.
pub struct Manner {
    /// What we read goes to it.
    pub stdin: bool,
    /// Signals are passed on.
    pub sig_proxy: bool,
    /// What `init` set up is let go, and ends with us.
    pub start: bool,
}

/// Stay with `container`, which runs or is about to; its exit status.
pub fn to(store: &Store, container: &Container, manner: Manner, keys: Keys) -> Result<u8> {
    let Container { dir, record, status } = container;
    let (Status::Running(process) | Status::Initialized(process)) = status else {
        return Err(anyhow!(
            "you can only attach to created or running containers: {} is {}",
            record.name,
            status.word()
        ))
        .hint(status.hint(record.name.as_str()));
    };
    let Manner { stdin, sig_proxy, start } = manner;
    let (Some(line), Some(pidfd)) = (reach(dir)?, process.open()?) else { return ended(container) };
    let readiness = Readiness::new(record.tty && stdin)?;
    // With a terminal even who types nothing decides about its size.
    let Some(input) = monitor::ask_to_attach(&line, stdin || record.tty)? else { return ended(container) };
    events::record(store, "attach", record);
    if start {
        line.say(&Ask::Go { foreground: true }, &[])?;
    }
    let attendance = Attendance {
        line,
        pidfd: Some(pidfd),
        input,
        tty: record.tty,
        stdin,
        sig_proxy,
        foreground: start,
        keys,
        monitor: None,
        service: false,
        manager: None,
    };
    match monitor::attend(attendance, &readiness)? {
        Outcome::Untold => ended(container),
        told => foreground::status(told),
    }
}

/// Nobody was there to tell us: the container's files do.
fn ended(container: &Container) -> Result<u8> {
    let Container { dir, record, .. } = container;
    match Status::of(dir)? {
        Status::Exited(exit) if exit.finished.is_some() => Ok(exit.code),
        _ if !dir.path().exists() => Err(anyhow!("container {} has ended and was removed", record.name))
            .hint("`ctr events --filter event=died --stream=false` says how it ended"),
        _ => Err(anyhow!("nobody watches container {}: its monitor was killed", record.name))
            .hint(format!("`ctr restart {}`", record.name)),
    }
}
