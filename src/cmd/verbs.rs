//! The tree of verbs, and which function each one is.

use super::*;
use crate::sys;
use clap::Subcommand;

// `defer`: only the verb that is asked for builds its options; the lines here are what `ctr --help` shows of the others.
#[derive(Subcommand)]
#[command(defer = true)]
pub enum Verb {
    /// Run a command in a new container
    Run(Box<run::Args>),
    /// Make a container without starting it
    Create(Box<run::Args>),
    /// Start containers
    Start(start::Args),
    /// Stop containers: their stop signal, then SIGKILL
    Stop(stop::Args),
    /// Stop and start containers
    Restart(stop::RestartArgs),
    /// Run a command in a running container
    Exec(exec::Args),
    /// Stop all processes of containers
    Pause(pause::Args),
    /// Let paused containers go on
    Unpause(pause::Args),
    /// List the processes of a container
    Top(top::Args),
    /// Send containers a signal
    Kill(kill::Args),
    /// Wait until containers end
    Wait(wait::Args),
    /// Attach to a running container
    Attach(attach::Args),
    /// Show what containers have printed
    Logs(logs::Args),
    /// Set containers up so that `start` only lets them go
    Init(start::InitArgs),
    /// Give a container another name
    Rename(rename::Args),
    /// Change a container's restart policy
    Update(rename::UpdateArgs),
    /// List a container's published ports
    Port(port::Args),
    /// Show what containers use
    Stats(stats::Args),
    /// Fetch images from a registry
    Pull(pull::Args),
    /// List images
    Images(images::Args),
    /// List containers
    Ps(ps::Args),
    /// Remove containers
    Rm(rm::Args),
    /// Remove images
    Rmi(rmi::Args),
    /// Copy files between a container and the host
    Cp(cp::Args),
    /// Show what a container has changed in its files
    Diff(diff::Args),
    /// Write a container's files as a tar archive
    Export(export::Args),
    /// Mount a container's files, as root
    Mount(mount::MountArgs),
    /// Unmount them
    #[command(visible_alias = "umount")]
    Unmount(mount::UnmountArgs),
    /// Show all about containers and images as JSON
    Inspect(inspect::Args),
    /// Show what happens to containers and images
    Events(events::Args),
    /// Show how this host runs containers
    Info(info::Args),
    /// Show the version
    Version(version::Args),
    /// Check the health of containers
    Healthcheck(Group<HealthcheckVerb>),
    /// Manage images
    Image(Group<ImageVerb>),
    /// Manage containers
    Container(Group<ContainerVerb>),
}

#[derive(Subcommand)]
#[command(defer = true)]
pub enum ImageVerb {
    /// List images
    #[command(visible_alias = "list")]
    Ls(images::Args),
    /// Fetch images from a registry
    Pull(pull::Args),
    /// Remove images
    Rm(rmi::Args),
    /// Show all about them as JSON
    Inspect(inspect::Args),
}

#[derive(Subcommand)]
#[command(defer = true)]
pub enum HealthcheckVerb {
    /// Run a container's health check now
    Run(healthcheck::Args),
}

#[derive(Subcommand)]
#[command(defer = true)]
pub enum ContainerVerb {
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Args),
    /// Remove containers
    Rm(rm::Args),
    /// Remove all containers that don't run
    Prune(rm::PruneArgs),
    /// Copy files between a container and the host
    Cp(cp::Args),
    /// Show what a container has changed in its files
    Diff(diff::Args),
    /// Write a container's files as a tar archive
    Export(export::Args),
    /// Mount a container's files, as root
    Mount(mount::MountArgs),
    /// Unmount them
    #[command(visible_alias = "umount")]
    Unmount(mount::UnmountArgs),
    /// Show all about them as JSON
    Inspect(inspect::Args),
    /// Whether there is such a container: status 0 or 1
    Exists(port::ExistsArgs),
    /// Run a command in a new container
    Run(Box<run::Args>),
    /// Make a container without starting it
    Create(Box<run::Args>),
    /// Start containers
    Start(start::Args),
    /// Stop containers
    Stop(stop::Args),
    /// Stop and start containers
    Restart(stop::RestartArgs),
    /// Run a command in a running container
    Exec(exec::Args),
    /// Stop all processes of containers
    Pause(pause::Args),
    /// Let paused containers go on
    Unpause(pause::Args),
    /// List the processes of a container
    Top(top::Args),
    /// Send containers a signal
    Kill(kill::Args),
    /// Wait until containers end
    Wait(wait::Args),
    /// Attach to a running container
    Attach(attach::Args),
    /// Show what containers have printed
    Logs(logs::Args),
    /// Set containers up so that `start` only lets them go
    Init(start::InitArgs),
    /// Give a container another name
    Rename(rename::Args),
    /// Change a container's restart policy
    Update(rename::UpdateArgs),
    /// List a container's published ports
    Port(port::Args),
    /// Show what containers use
    Stats(stats::Args),
}

#[derive(clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Group<V: Subcommand> {
    #[command(subcommand)]
    verb: V,
}

impl Verb {
    /// Do it; the exit status.
    pub fn run(self, globals: &Globals) -> Result<u8> {
        use {ContainerVerb as C, ImageVerb as I, inspect::Kind};
        // All but these end like any program when nobody reads what they print: `run` and `start` pass SIGPIPE on to their
        // container, `cp` hears from the other end of its pipe why that is gone.
        if !matches!(
            self,
            Verb::Run(_)
                | Verb::Start(_)
                | Verb::Exec(_)
                | Verb::Cp(_)
                | Verb::Attach(_)
                | Verb::Container(Group {
                    verb: C::Run(_) | C::Start(_) | C::Exec(_) | C::Cp(_) | C::Attach(_)
                })
        ) {
            sys::signal::die_on_broken_pipe();
        }
        match self {
            Verb::Run(args) | Verb::Container(Group { verb: C::Run(args) }) => run::run(*args, globals),
            Verb::Create(args) | Verb::Container(Group { verb: C::Create(args) }) => {
                run::create(*args, globals)
            }
            Verb::Start(args) | Verb::Container(Group { verb: C::Start(args) }) => start::run(&args, globals),
            Verb::Stop(args) | Verb::Container(Group { verb: C::Stop(args) }) => stop::run(&args, globals),
            Verb::Restart(args) | Verb::Container(Group { verb: C::Restart(args) }) => {
                stop::restart(&args, globals)
            }
            Verb::Exec(args) | Verb::Container(Group { verb: C::Exec(args) }) => exec::run(args, globals),
            Verb::Pause(args) | Verb::Container(Group { verb: C::Pause(args) }) => {
                pause::pause(&args, globals)
            }
            Verb::Unpause(args) | Verb::Container(Group { verb: C::Unpause(args) }) => {
                pause::unpause(&args, globals)
            }
            Verb::Top(args) | Verb::Container(Group { verb: C::Top(args) }) => top::run(&args, globals),
            Verb::Kill(args) | Verb::Container(Group { verb: C::Kill(args) }) => kill::run(&args, globals),
            Verb::Wait(args) | Verb::Container(Group { verb: C::Wait(args) }) => wait::run(&args, globals),
            Verb::Attach(args) | Verb::Container(Group { verb: C::Attach(args) }) => {
                attach::run(&args, globals)
            }
            Verb::Logs(args) | Verb::Container(Group { verb: C::Logs(args) }) => logs::run(&args, globals),
            Verb::Init(args) | Verb::Container(Group { verb: C::Init(args) }) => start::init(&args, globals),
            Verb::Rename(args) | Verb::Container(Group { verb: C::Rename(args) }) => {
                rename::run(&args, globals)
            }
            Verb::Update(args) | Verb::Container(Group { verb: C::Update(args) }) => {
                rename::update(&args, globals)
            }
            Verb::Port(args) | Verb::Container(Group { verb: C::Port(args) }) => port::run(&args, globals),
            Verb::Stats(args) | Verb::Container(Group { verb: C::Stats(args) }) => stats::run(&args, globals),
            Verb::Container(Group { verb: C::Exists(args) }) => port::exists(&args, globals),
            Verb::Container(Group { verb: C::Prune(args) }) => rm::prune(&args, globals),
            Verb::Pull(args) | Verb::Image(Group { verb: I::Pull(args) }) => pull::run(&args, globals),
            Verb::Images(args) | Verb::Image(Group { verb: I::Ls(args) }) => images::run(&args, globals),
            Verb::Ps(args) | Verb::Container(Group { verb: C::Ls(args) }) => ps::run(&args, globals),
            Verb::Rm(args) | Verb::Container(Group { verb: C::Rm(args) }) => rm::run(&args, globals),
            Verb::Rmi(args) | Verb::Image(Group { verb: I::Rm(args) }) => rmi::run(&args, globals),
            Verb::Cp(args) | Verb::Container(Group { verb: C::Cp(args) }) => cp::run(&args, globals),
            Verb::Diff(args) | Verb::Container(Group { verb: C::Diff(args) }) => diff::run(&args, globals),
            Verb::Export(args) | Verb::Container(Group { verb: C::Export(args) }) => {
                export::run(&args, globals)
            }
            Verb::Mount(args) | Verb::Container(Group { verb: C::Mount(args) }) => {
                mount::mount(&args, globals)
            }
            Verb::Unmount(args) | Verb::Container(Group { verb: C::Unmount(args) }) => {
                mount::unmount(&args, globals)
            }
            Verb::Inspect(args) => inspect::run(&args, globals),
            Verb::Image(Group { verb: I::Inspect(args) }) => inspect::run(&args.only(Kind::Image), globals),
            Verb::Container(Group { verb: C::Inspect(args) }) => {
                inspect::run(&args.only(Kind::Container), globals)
            }
            Verb::Events(args) => events::run(&args, globals),
            Verb::Healthcheck(Group { verb: HealthcheckVerb::Run(args) }) => healthcheck::run(&args, globals),
            Verb::Info(args) => info::run(&args, globals),
            Verb::Version(args) => version::run(&args),
        }
    }
}
