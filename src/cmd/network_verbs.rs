//! The verbs of `ctr network`.

use super::{Globals, network, network_members};
use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
#[command(defer = true)]
pub enum NetworkVerb {
    /// Connect a container to a network
    Connect(network_members::ConnectArgs),
    /// Make a network
    Create(network::CreateArgs),
    /// Take a container out of a network
    Disconnect(network_members::DisconnectArgs),
    /// Whether there is such a network: status 0 or 1
    Exists(network::OneArgs),
    /// Show all about them as JSON
    Inspect(network::InspectArgs),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(network::LsArgs),
    /// Remove all that no container is in
    Prune(network::PruneArgs),
    /// Bring networks back whose processes were killed
    Reload(network_members::ReloadArgs),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(network::RmArgs),
}

impl NetworkVerb {
    /// Do it; the exit status.
    pub fn run(self, globals: &Globals) -> Result<u8> {
        match self {
            NetworkVerb::Connect(args) => network_members::connect(&args, globals),
            NetworkVerb::Create(args) => network::create(&args, globals),
            NetworkVerb::Disconnect(args) => network_members::disconnect(&args, globals),
            NetworkVerb::Exists(args) => network::exists(&args, globals),
            NetworkVerb::Inspect(args) => network::inspect(&args, globals),
            NetworkVerb::Ls(args) => network::ls(&args, globals),
            NetworkVerb::Prune(args) => network::prune(&args, globals),
            NetworkVerb::Reload(args) => network_members::reload(&args, globals),
            NetworkVerb::Rm(args) => network::remove(&args, globals),
        }
    }
}
