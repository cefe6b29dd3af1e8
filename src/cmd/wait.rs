//! `ctr wait`: until containers end, or come to be what is asked for.

use super::{Globals, each, output, targets};
use crate::{
    container::{find, state::Status},
    monitor,
};
use anyhow::Result;
use clap::ValueEnum;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to wait for [default: stopped]
    #[arg(long, value_name = "CONDITION", value_enum)]
    condition: Vec<Condition>,
    /// Taken for Podman's sake: nothing is asked at intervals
    #[arg(short, long, value_name = "DURATION", hide = true)]
    interval: Option<String>,
    /// Don't complain about containers that don't exist
    #[arg(long)]
    ignore: bool,
    /// The newest container
    #[arg(short, long)]
    latest: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER", required_unless_present = "latest", conflicts_with = "latest")]
    containers: Vec<String>,
}

/// `--condition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Condition {
    Created,
    Exited,
    Initialized,
    Paused,
    Running,
    Stopped,
}

impl Condition {
    fn holds(self, status: &Status) -> bool {
        match self {
            Condition::Created => matches!(status, Status::Created),
            Condition::Exited | Condition::Stopped => {
                matches!(status, Status::Exited(_) | Status::Restarting(_))
            }
            Condition::Initialized => matches!(status, Status::Initialized(_)),
            Condition::Paused => matches!(status, Status::Paused(_)),
            Condition::Running => matches!(status, Status::Running(_)),
        }
    }
}

/// Wait and print the exit statuses, in order; -1 for one that didn't end.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let names = match args.latest {
        true => vec![targets::one(&store, None, true)?.record.id.to_string()],
        false => args.containers.clone(),
    };
    let for_the_end = args.condition.iter().all(|c| matches!(c, Condition::Exited | Condition::Stopped));
    Ok(each(&names, |name| {
        let dir = match find::lookup(&store, name)? {
            None if args.ignore => return output::line("-1"),
            Some(dir) => dir,
            None => find::find(&store, name)?,
        };
        if for_the_end {
            return match monitor::wait(&dir)? {
                Some(code) => output::line(code),
                None if args.ignore => output::line("-1"),
                None => find::find(&store, name).map(drop),
            };
        }
        let status = monitor::wait_until(&dir, |status| args.condition.iter().any(|c| c.holds(status)))?;
        output::line(status.exit().map_or(-1, |exit| i32::from(exit.code)))
    }))
}
