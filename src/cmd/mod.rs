//! The verbs: one file each, its arguments and its `run`. Options are spelled as Podman's; one that is not built is refused
//! by name.

mod container_filter;
mod exec;
mod attach;
mod container_filter;
mod foreground;
mod image_filter;
mod images;
mod info;
mod inspect;
mod inspect_container;
mod kill;
mod log_options;
mod logs;
mod measure;
mod output;
mod pause;
mod port;
mod progress;
mod ps;
mod pull;
mod rename;
mod rm;
mod rmi;
mod run;
mod run_args;
mod run_request;
mod start;
mod stop;
mod targets;
pub mod template;
mod top;
mod usage;
mod version;
mod wait;

use crate::{
    error,
    storage::{Dirs, Store},
    sys,
};
use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use std::{io::Write, path::PathBuf, process::ExitCode};

/// Parse the command line, run the verb, print its failure.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse();
    let outcome = cli.map_or_else(|complaint| usage::answer(&complaint), |cli| cli.verb.run(&cli.globals));
    match outcome {
        Ok(status) => status.into(),
        Err(failure) => {
            report(&failure);
            error::status(&failure).into()
        }
    }
}

/// Containers without a daemon: pull images and run them, as any user
#[derive(Parser)]
#[command(
    name = "ctr",
    bin_name = "ctr",
    version = concat!("version ", env!("CARGO_PKG_VERSION")),
    disable_version_flag = true,
    arg_required_else_help = true,
    args_override_self = true
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    /// Print the version
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: (),
    #[command(subcommand)]
    verb: Verb,
}

const GLOBAL: &str = "Global options";

/// What every verb knows.
#[derive(clap::Args, Clone, Debug)]
pub struct Globals {
    /// Directory of images and containers
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    root: Option<PathBuf>,
    /// Directory of what does not outlive a reboot
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    runroot: Option<PathBuf>,
    /// How layers become a root file system, in place of trying: overlay or fuse-overlayfs
    #[arg(long, global = true, value_name = "DRIVER", hide_possible_values = true, help_heading = GLOBAL)]
    pub storage_driver: Option<StorageDriver>,
}

/// `--storage-driver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StorageDriver {
    /// The kernel's overlay.
    Overlay,
    /// fuse-overlayfs(1).
    FuseOverlayfs,
}

impl StorageDriver {
    /// As `info` and records spell it.
    pub fn word(self) -> &'static str {
        match self {
            StorageDriver::Overlay => "overlay",
            StorageDriver::FuseOverlayfs => "fuse-overlayfs",
        }
    }
}

impl Globals {
    /// Where things lie.
    pub fn dirs(&self) -> Result<Dirs> {
        let absolute = |dir: &Option<PathBuf>| dir.as_deref().map(std::path::absolute).transpose();
        Dirs::resolve(absolute(&self.root)?, absolute(&self.runroot)?)
    }

    /// The store that lies there.
    pub fn store(&self) -> Result<Store> {
        Store::open(self.dirs()?)
    }
}

// `defer`: only the verb that is asked for builds its options; the lines here are what `ctr --help` shows of the others.
#[derive(Subcommand)]
#[command(defer = true)]
enum Verb {
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
    /// Show all about containers and images as JSON
    Inspect(inspect::Args),
    /// Show how this host runs containers
    Info(info::Args),
    /// Show the version
    Version(version::Args),
    /// Manage images
    Image(Group<ImageVerb>),
    /// Manage containers
    Container(Group<ContainerVerb>),
}

#[derive(Subcommand)]
#[command(defer = true)]
enum ImageVerb {
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
enum ContainerVerb {
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Args),
    /// Remove containers
    Rm(rm::Args),
    /// Remove all containers that don't run
    Prune(rm::PruneArgs),
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
}

#[derive(clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Group<V: Subcommand> {
    #[command(subcommand)]
    verb: V,
}

impl Verb {
    fn run(self, globals: &Globals) -> Result<u8> {
        use {ContainerVerb as C, ImageVerb as I, inspect::Kind};
        // All but `run` end like any program when nobody reads what they print; `run` passes SIGPIPE on to its container.
        if !matches!(
            self,
            Verb::Run(_)
                | Verb::Start(_)
                | Verb::Exec(_)
                | Verb::Container(Group { verb: C::Run(_) | C::Start(_) | C::Exec(_) })
                | Verb::Attach(_)
                | Verb::Container(Group { verb: C::Run(_) | C::Start(_) | C::Attach(_) })
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
            Verb::Container(Group { verb: C::Exists(args) }) => port::exists(&args, globals),
            Verb::Container(Group { verb: C::Prune(args) }) => rm::prune(&args, globals),
            Verb::Pull(args) | Verb::Image(Group { verb: I::Pull(args) }) => pull::run(&args, globals),
            Verb::Images(args) | Verb::Image(Group { verb: I::Ls(args) }) => images::run(&args, globals),
            Verb::Ps(args) | Verb::Container(Group { verb: C::Ls(args) }) => ps::run(&args, globals),
            Verb::Rm(args) | Verb::Container(Group { verb: C::Rm(args) }) => rm::run(&args, globals),
            Verb::Rmi(args) | Verb::Image(Group { verb: I::Rm(args) }) => rmi::run(&args, globals),
            Verb::Inspect(args) => inspect::run(&args, globals),
            Verb::Image(Group { verb: I::Inspect(args) }) => inspect::run(&args.only(Kind::Image), globals),
            Verb::Container(Group { verb: C::Inspect(args) }) => {
                inspect::run(&args.only(Kind::Container), globals)
            }
            Verb::Info(args) => info::run(&args, globals),
            Verb::Version(args) => version::run(&args),
        }
    }
}

/// Do `work` with each of `items`, report what fails and go on. The status is that of the last failure.
fn each<T>(items: impl IntoIterator<Item = T>, mut work: impl FnMut(T) -> Result<()>) -> u8 {
    items.into_iter().fold(0, |status, item| match work(item) {
        Ok(()) => status,
        Err(failure) => {
            report(&failure);
            error::status(&failure)
        }
    })
}

fn report(failure: &anyhow::Error) {
    if !error::is_reported(failure) {
        say("error", &format!("{failure:#}"));
        error::hint(failure).into_iter().for_each(hint);
    }
}

/// A problem that stops nothing.
fn warn(problem: &anyhow::Error) {
    say("warning", &format!("{problem:#}"));
    error::hint(problem).into_iter().for_each(hint);
}

/// What the user may want to know or do.
fn hint(text: &str) {
    say("hint", text);
}

fn say(kind: &str, text: &str) {
    // Where not even stderr takes it there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{kind}: {}", output::printable(text));
}
