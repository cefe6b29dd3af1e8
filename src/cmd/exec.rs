//! `ctr exec`: one more process in a running container.

use super::{Globals, foreground, output, run_request, service_args, targets};
use crate::{
    container::{
        events,
        exec::Request,
        state::{Container, Status},
    },
    error::Explain,
    monitor::{self, Attendance, Manner, Outcome, Readiness},
    storage::ContainerId,
};
use anyhow::{Result, anyhow};
use std::path::PathBuf;

/// 128 + SIGKILL.
const KILLED: u8 = 137;

#[derive(clap::Args, Debug)]
#[command(override_usage = "ctr exec [OPTIONS] CONTAINER COMMAND [ARG]...")]
pub struct Args {
    /// Let it run in the background
    #[arg(short, long)]
    detach: bool,
    /// Keys that detach from its terminal [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Set a variable; without a value it is taken from here, PREFIX* takes all that start so
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Keep stdin open
    #[arg(short, long)]
    interactive: bool,
    /// In the newest container
    #[arg(short, long)]
    latest: bool,
    /// Hand it so many descriptors from 3 on
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u8,
    /// Give it all capabilities that this user's containers can have
    #[arg(long)]
    privileged: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// User and group to run as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The container, then the command and its arguments as they are
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = false,
        value_name = "CONTAINER COMMAND [ARG]..."
    )]
    container_and_command: Vec<String>,
}

/// Run it; its exit status.
pub fn run(args: Args, globals: &Globals) -> Result<u8> {
    let (name, command) = match args.container_and_command.split_first() {
        _ if args.latest => (None, &args.container_and_command[..]),
        Some((name, command)) => (Some(name), command),
        None => (None, &[][..]),
    };
    if command.first().is_none_or(String::is_empty) {
        return Err(anyhow!("must provide a non-empty command to start an exec session: invalid argument"))
            .hint("name it after the container: ctr exec CONTAINER COMMAND");
    }
    let store = globals.store()?;
    let container = targets::one(&store, name, args.latest)?;
    let request = Request {
        command: command.to_vec(),
        env: run_request::environment(&args.env, &args.env_file, Vec::new())?,
        user: args.user,
        workdir: args.workdir,
        tty: args.tty,
        interactive: args.interactive,
        privileged: args.privileged,
        detached: args.detach,
        preserve_fds: service_args::preserved(args.preserve_fds)?,
    };
    events::record(&store, "exec", &container.record);
    if args.detach {
        let background = Request { interactive: false, ..request };
        monitor::exec(&container, &background, Manner::BACKGROUND)?;
        // As Podman does; what it names is nowhere kept.
        return output::line(ContainerId::random()?).map(|()| 0);
    }
    attached(&container, &request, args.detach_keys.as_deref())
}

/// Run it and stay with it; its exit status.
pub fn attached(container: &Container, request: &Request, detach_keys: Option<&str>) -> Result<u8> {
    let keys = foreground::keys(detach_keys.or(container.record.detach_keys.as_deref()))?;
    let readiness = Readiness::new(request.tty && request.interactive)?;
    let begun = monitor::exec(container, request, Manner::foreground(request.interactive))?;
    let attendance = Attendance {
        line: begun.line,
        pidfd: Some(begun.pidfd),
        input: begun.input,
        tty: request.tty,
        stdin: request.interactive,
        sig_proxy: true,
        foreground: true,
        keys,
        monitor: Some(begun.monitor),
        service: false,
        manager: None,
    };
    match monitor::attend(attendance, &readiness)? {
        // It was in the container's control group, whose processes were all killed.
        Outcome::Untold if Status::of(&container.dir)?.process().is_none() => Ok(KILLED),
        Outcome::Untold => Err(anyhow!("the process that watched the command was killed")),
        told => foreground::status(told),
    }
}
