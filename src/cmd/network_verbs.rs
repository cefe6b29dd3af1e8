//! The verbs of `ctr network`.

use super::{Globals, network};
use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
#[command(defer = true)]
pub enum NetworkVerb {
    /// Make a network
    Create(network::CreateArgs),
    /// Whether there is such a network: status 0 or 1
    Exists(network::OneArgs),
    /// Show all about them as JSON
    Inspect(network::InspectArgs),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(network::LsArgs),
    /// Remove all that no container is in
    Prune(network::PruneArgs),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(network::RmArgs),
}

impl NetworkVerb {
    /// Do it; the exit status.
    pub fn run(self, globals: &Globals) -> Result<u8> {
        match self {
            NetworkVerb::Create(args) => network::create(&args, globals),
            NetworkVerb::Exists(args) => network::exists(&args, globals),
            NetworkVerb::Inspect(args) => network::inspect(&args, globals),
            NetworkVerb::Ls(args) => network::ls(&args, globals),
            NetworkVerb::Prune(args) => network::prune(&args, globals),
            NetworkVerb::Rm(args) => network::remove(&args, globals),
        }
    }
}
