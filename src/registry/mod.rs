//! Registries: names of images, where they are fetched from, and the pull itself. The only room with a tokio; it runs in a
//! process that does nothing else.

mod auth;
mod client;
pub mod credentials;
mod failure;
mod hop;
mod layer;
mod local;
pub mod manifest;
mod platform;
mod pull;
pub mod reference;
pub mod registries;
pub mod registries_conf;
mod registries_files;
mod short_names;
mod tls;

pub use local::{Fetch, ensure, find, reference_to_give};
pub use platform::Platform;
pub use pull::pull;

use crate::{error::Explain, storage::Digest};
use anyhow::anyhow;
use std::{path::PathBuf, str::FromStr};

/// How to pull.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// `os/architecture[/variant]`; this machine's when none is given.
    pub platform: Option<String>,
    /// Whether certificates are checked; what registries.conf says when it isn't given.
    pub tls_verify: Option<bool>,
    /// In place of all `certs.d/HOST` directories.
    pub cert_dir: Option<PathBuf>,
    /// User and password, in place of those in files.
    pub credentials: Option<(String, String)>,
    /// In place of all other files with credentials.
    pub auth_file: Option<PathBuf>,
}

/// When to pull (podman-run(1), `--pull`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Even if the image is here.
    Always,
    /// If it isn't here.
    #[default]
    Missing,
    /// In no case.
    Never,
    /// If the registry has another one; what is here will do when it can't be reached.
    Newer,
}

impl FromStr for PullPolicy {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<PullPolicy> {
        match text {
            "always" | "true" => Ok(PullPolicy::Always),
            "missing" | "ifmissing" => Ok(PullPolicy::Missing),
            "never" | "false" => Ok(PullPolicy::Never),
            "newer" | "ifnewer" => Ok(PullPolicy::Newer),
            _ => Err(anyhow!("{text:?} is not a pull policy")).hint("always, missing, never or newer"),
        }
    }
}

/// Hears of a pull as it goes; all calls come from one thread.
pub trait Progress {
    /// The pull turns to this place.
    fn trying(&self, reference: &str);
    /// A layer is in the store already.
    fn present(&self, blob: &Digest);
    /// A layer of `size` bytes begins to come.
    fn begin(&self, blob: &Digest, size: u64);
    /// So many of its bytes are here.
    fn advance(&self, blob: &Digest, received: u64);
    /// It is unpacked, verified and published.
    fn done(&self, blob: &Digest);
    /// Something the user should know.
    fn note(&self, text: &str);
}
