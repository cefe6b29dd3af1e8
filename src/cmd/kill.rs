//! `ctr kill`.

use super::{
    Globals,
    targets::{self, Selection},
};
use crate::{
    container::{
        events,
        signal::Signal,
        state::{Process, Status},
    },
    error::Explain,
    monitor,
};
use anyhow::{Context, Result};

#[derive(clap::Args, Debug)]
#[command(mut_arg("filter", |filter| filter.short(None)))]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
    /// The signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
}

/// Send them the signal.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let signal: Signal = args
        .signal
        .parse()
        .with_context(|| format!("--signal {}", args.signal))
        .hint("write it as --signal TERM or --signal 15")?;
    let runs = |status: &Status| status.process().is_some();
    targets::for_each(&store, &args.selection, false, &runs, &mut |dir| {
        let process = Process::read(dir)?;
        monitor::signal(dir, signal.number())?;
        events::of(&store, "kill", dir);
        // Nothing survives it: whoever comes next finds it dead.
        if signal == Signal::KILL
            && let Some(process) = process
        {
            monitor::wait_for_the_end_of(&process)?;
        }
        Ok(())
    })
}
