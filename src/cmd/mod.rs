//! The verbs: one file each, its arguments and its `run`.
#![expect(clippy::print_stderr, reason = "stand-in")]

pub mod progress;
pub mod pull;

use crate::{error, storage::Dirs};
use clap::Parser;
use std::{path::PathBuf, process::ExitCode};

/// Stand-in.
#[derive(clap::Args)]
pub struct Globals {
    #[arg(long)]
    root: Option<PathBuf>,
    #[arg(long)]
    runroot: Option<PathBuf>,
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Pull(pull::Args),
}

impl Globals {
    /// Stand-in.
    pub fn dirs(&self) -> anyhow::Result<Dirs> {
        Dirs::resolve(self.root.clone(), self.runroot.clone())
    }
}

/// Parse the command line, run the verb, print its failure.
pub fn main() -> ExitCode {
    let Cli { globals, verb: Verb::Pull(args) } = Cli::parse();
    match pull::run(args, &globals) {
        Ok(status) => status.into(),
        Err(failure) => {
            if !error::is_reported(&failure) {
                eprintln!("error: {failure:#}");
                if let Some(hint) = error::hint(&failure) {
                    eprintln!("hint: {hint}");
                }
            }
            error::status(&failure).into()
        }
    }
}
