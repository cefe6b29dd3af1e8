//! The verbs of `ctr pod`.

use super::{Globals, pod, pod_create, pod_list, pod_watch};
use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
#[command(defer = true)]
pub enum PodVerb {
    /// Make a pod
    Create(Box<pod_create::Args>),
    /// Whether there is such a pod: status 0 or 1
    Exists(pod::OneArgs),
    /// Show all about them as JSON
    Inspect(pod_list::InspectArgs),
    /// Kill their processes
    Kill(pod::SomeArgs),
    /// List pods
    #[command(visible_aliases = ["list", "ps"])]
    Ls(pod_list::LsArgs),
    /// Show what their containers have printed
    Logs(pod_watch::LogsArgs),
    /// Stop all processes of their containers
    Pause(pod::SomeArgs),
    /// Remove all that don't run
    Prune(pod::PruneArgs),
    /// Stop and start them
    Restart(pod::SomeArgs),
    /// Remove them with their containers
    #[command(visible_alias = "remove")]
    Rm(pod::RmArgs),
    /// Start them with their containers
    Start(pod::SomeArgs),
    /// Show what their containers use
    Stats(pod_watch::StatsArgs),
    /// Stop them with their containers
    Stop(pod::StopArgs),
    /// Show the processes of their containers
    Top(pod_watch::TopArgs),
    /// Let paused ones go on
    Unpause(pod::SomeArgs),
}

impl PodVerb {
    /// Do it; the exit status.
    pub fn run(self, globals: &Globals) -> Result<u8> {
        match self {
            PodVerb::Create(args) => pod_create::run(*args, globals),
            PodVerb::Exists(args) => pod::exists(&args, globals),
            PodVerb::Inspect(args) => pod_list::inspect(&args, globals),
            PodVerb::Kill(args) => pod::kill(&args, globals),
            PodVerb::Ls(args) => pod_list::ls(&args, globals),
            PodVerb::Logs(args) => pod_watch::logs(&args, globals),
            PodVerb::Pause(args) => pod::pause(&args, globals),
            PodVerb::Prune(args) => pod::prune(&args, globals),
            PodVerb::Restart(args) => pod::restart(&args, globals),
            PodVerb::Rm(args) => pod::remove(&args, globals),
            PodVerb::Start(args) => pod::start(&args, globals),
            PodVerb::Stats(args) => pod_watch::stats(&args, globals),
            PodVerb::Stop(args) => pod::stop(&args, globals),
            PodVerb::Top(args) => pod_watch::top(&args, globals),
            PodVerb::Unpause(args) => pod::unpause(&args, globals),
        }
    }
}
