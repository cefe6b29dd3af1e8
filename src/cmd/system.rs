//! `ctr system`: the store as a whole (podman-system(1)).

use super::{Globals, events, info, system_check, system_df, system_prune, system_reset};
use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
#[command(defer = true)]
pub enum SystemVerb {
    /// Look for damage in the store, and mend it
    Check(system_check::Args),
    /// Show what images, containers and volumes take on the disk
    Df(system_df::Args),
    /// Show what happens to containers and images
    Events(events::Args),
    /// Show how this host runs containers
    Info(info::Args),
    /// Remove what nobody uses
    Prune(system_prune::Args),
    /// Remove everything
    Reset(system_reset::Args),
}

impl SystemVerb {
    /// Do it; the exit status.
    pub fn run(self, globals: &Globals) -> Result<u8> {
        match self {
            SystemVerb::Check(args) => system_check::run(&args, globals),
            SystemVerb::Df(args) => system_df::run(&args, globals),
            SystemVerb::Events(args) => events::run(&args, globals),
            SystemVerb::Info(args) => info::run(&args, globals),
            SystemVerb::Prune(args) => system_prune::run(&args, globals),
            SystemVerb::Reset(args) => system_reset::run(&args, globals),
        }
    }
}
