//! The verbs: one file each, its arguments and its `run`. Options are spelled as Podman's; one that is not built is refused
//! by name.

mod container_filter;
mod foreground;
mod image_filter;
mod images;
mod info;
mod inspect;
mod inspect_container;
mod measure;
mod output;
mod progress;
mod ps;
mod pull;
mod rm;
mod rmi;
mod run;
mod run_args;
mod run_request;
pub mod template;
mod usage;
mod version;

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
    /// Show all about them as JSON
    Inspect(inspect::Args),
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
        if !matches!(self, Verb::Run(_)) {
            sys::signal::die_on_broken_pipe();
        }
        match self {
            Verb::Run(args) => run::run(*args, globals),
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
