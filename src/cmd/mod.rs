//! The verbs: one file each, its arguments and its `run`. Options are spelled as Podman's; one that is not built is refused
//! by name.

mod answer;
mod attach;
mod commit;
mod container_filter;
mod cp;
mod diff;
mod doctor;
mod events;
mod exec;
mod export;
mod foreground;
mod health_args;
mod healthcheck;
mod history;
mod image_diff;
mod image_entry;
mod image_filter;
mod image_mount;
mod image_prune;
mod images;
mod import;
mod info;
mod inspect;
mod inspect_container;
mod inspect_image;
mod inspect_network;
mod interrupt;
mod kill;
mod limit_args;
mod list_args;
mod load;
mod log_options;
mod login;
mod logs;
mod manifest;
mod measure;
mod mount;
mod network;
mod network_members;
mod network_verbs;
mod option_value;
mod output;
mod pause;
mod pod;
mod pod_create;
mod pod_list;
mod pod_verbs;
mod pod_watch;
mod port;
mod progress;
mod ps;
mod pull;
mod push;
mod quadlet;
mod quadlet_install;
mod quadlet_status;
mod registry_args;
mod rename;
mod rm;
mod rmi;
mod run;
mod run_args;
mod run_mounts;
mod run_request;
mod run_security;
mod run_source;
mod run_users;
mod save;
mod search;
mod secret;
mod service_args;
mod start;
mod stats;
mod stop;
mod system;
mod system_check;
mod system_df;
mod system_prune;
mod system_reset;
mod tag;
mod targets;
pub mod template;
mod top;
mod tree;
mod update;
mod usage;
mod verbs;
mod version;
mod volume;
mod volume_filter;
mod wait;

use crate::{
    container::rootfs::{FUSE, OVERLAY, PLAIN},
    error::{self, Explain},
    storage::{Dirs, Store},
};
use anyhow::{Result, anyhow};
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use std::{ffi::OsString, io::Write, path::PathBuf, process::ExitCode};
use verbs::Verb;

/// Parse the command line, run the verb, print its failure.
pub fn main() -> ExitCode {
    let line = quadlet::command_line();
    let early = run::Early::of(&line);
    let outcome = match parse(line) {
        Ok(cli) => cli.verb.run(&cli.globals, early),
        Err(complaint) => usage::answer(&complaint),
    };
    match outcome {
        Ok(status) => status.into(),
        Err(failure) => {
            report(&failure);
            error::status(&failure).into()
        }
    }
}

fn parse(line: Vec<OsString>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let cli = command
        .try_get_matches_from_mut(line)
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    let cli = cli.map_err(|complaint| complaint.format(&mut command));
    // To take its thousands of pieces apart costs a seventh of what a start computes.
    std::mem::forget(command);
    cli
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
    /// How layers become a root file system, in place of trying: overlay, fuse-overlayfs or plain, which copies them [env: CTR_STORAGE_DRIVER, STORAGE_DRIVER]
    #[arg(long, global = true, value_name = "DRIVER", hide_possible_values = true, help_heading = GLOBAL)]
    storage_driver: Option<StorageDriver>,
}

/// `--storage-driver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StorageDriver {
    /// The kernel's overlay.
    Overlay,
    /// fuse-overlayfs(1).
    FuseOverlayfs,
    /// A copy.
    #[value(alias = "vfs")]
    Plain,
}

impl StorageDriver {
    /// As `info` and records spell it.
    pub fn word(self) -> &'static str {
        match self {
            StorageDriver::Overlay => OVERLAY,
            StorageDriver::FuseOverlayfs => FUSE,
            StorageDriver::Plain => PLAIN,
        }
    }
}

impl Globals {
    /// Where things lie.
    pub fn dirs(&self) -> Result<Dirs> {
        let absolute = |dir: &Option<PathBuf>| dir.as_deref().map(std::path::absolute).transpose();
        Dirs::resolve(absolute(&self.root)?, absolute(&self.runroot)?)
    }

    /// How layers become a root file system, if somebody said so.
    ///
    /// # Errors
    /// A variable names what there is not.
    pub fn storage_driver(&self) -> Result<Option<StorageDriver>> {
        let named = ["CTR_STORAGE_DRIVER", "STORAGE_DRIVER"].into_iter().find_map(|variable| {
            std::env::var(variable).ok().filter(|word| !word.is_empty()).map(|word| (variable, word))
        });
        match (self.storage_driver, named) {
            (None, Some((variable, word))) => StorageDriver::from_str(&word, true)
                .map(Some)
                .map_err(|_| anyhow!("{variable}: there is no storage driver {word:?}"))
                .hint("unset it, or name overlay, fuse-overlayfs or plain"),
            (said, _) => Ok(said),
        }
    }

    /// The store that lies there.
    pub fn store(&self) -> Result<Store> {
        Store::open(self.dirs()?)
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
