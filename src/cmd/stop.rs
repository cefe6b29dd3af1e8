//! `ctr stop` and `ctr restart`.

use super::{
    Globals, start,
    targets::{self, Selection},
};
use crate::{
    container::{
        events,
        state::{Container, Status},
    },
    monitor::{self, Stopping},
    storage::{ContainerDir, Store},
};
use anyhow::Result;
use std::time::Duration;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Don't complain about containers that don't exist
    #[arg(short, long)]
    ignore: bool,
    /// Seconds between the stop signal and SIGKILL [default: the container's]
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
}

#[derive(clap::Args, Debug)]
pub struct RestartArgs {
    #[command(flatten)]
    selection: Selection,
    /// Seconds between the stop signal and SIGKILL [default: the container's]
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    /// All containers that run
    #[arg(long, group = targets::WITHOUT_NAMES)]
    running: bool,
}

/// Stop them; those that don't run stay as they are.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let runs = |status: &Status| status.process().is_some() || matches!(status, Status::Restarting(_));
    targets::for_each_at_once(
        &store,
        &args.selection,
        args.ignore,
        &runs,
        &mut |dir| Ending::begin(&store, &dir, grace(args.time)),
        &mut |ending| ending.finish(),
    )
}

/// Negative: without limit, as with Podman.
pub fn grace(seconds: Option<i64>) -> Option<Duration> {
    seconds.map(|seconds| Duration::from_secs(seconds.try_into().unwrap_or(u64::from(u32::MAX))))
}

struct Ending<'a> {
    store: &'a Store,
    /// As it was: one with --rm is gone afterwards.
    before: Option<Container>,
    stopping: Stopping,
}

impl Ending<'_> {
    fn begin<'a>(store: &'a Store, dir: &ContainerDir, time: Option<Duration>) -> Result<Ending<'a>> {
        let before = Container::read(dir.clone()).ok().flatten();
        Ok(Ending { store, before, stopping: monitor::begin_stop(dir, None, time)? })
    }

    fn finish(self) -> Result<()> {
        self.stopping.finish()?;
        if let Some(container) = self.before.filter(|container| container.status.process().is_some()) {
            events::record(self.store, "stop", &container.record);
        }
        Ok(())
    }
}

/// Stop and start them.
pub fn restart(mut args: RestartArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    args.selection.choice.all |= args.running;
    let fits = |status: &Status| !args.running || status.process().is_some();
    targets::for_each(&store, &args.selection, false, &fits, &mut |dir| {
        Ending::begin(&store, dir, grace(args.time))?.finish()?;
        start::in_background(&store, dir)?;
        events::of(&store, "restart", dir);
        Ok(())
    })
}
