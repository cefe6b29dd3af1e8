//! Registries: names of images, where they are fetched from, and the pull itself. The only room with a tokio; it runs in a
//! process that does nothing else.

mod auth;
mod auth_file;
mod client;
mod connector;
mod convert;
mod credential_helper;
pub mod credentials;
mod failure;
mod fetch;
mod hop;
mod layer;
mod list_index;
mod local;
mod login;
pub mod manifest;
mod manifest_list;
mod parcel;
mod platform;
mod publish;
mod pull;
mod push;
pub mod reference;
pub mod registries;
pub mod registries_conf;
mod registries_files;
mod search;
mod short_names;
mod tls;
mod upload;
mod worker;

pub use client::Retry;
pub use convert::Format;
pub use credentials::Credentials;
pub use list_index::Marks;
pub use local::{Fetch, ensure, find, reference_to_give};
pub use login::{Login, forget_all};
pub use parcel::{Packing, Parcel};
pub use platform::Platform;
pub use pull::{Interrupted, Puller};
pub use push::{PushOptions, push};
pub use reference::{Reference, Target};
pub use search::{Found, search, tags};

use crate::{error::Explain, storage::Digest};
use anyhow::anyhow;
use std::{path::PathBuf, str::FromStr};

/// Manifest lists of our own.
pub mod lists {
    pub use super::{
        manifest::MANIFEST_LIMIT as INDEX_LIMIT,
        manifest_list::{
            Addition, Choice, add, additions, annotate, find_list, list_reference, parcel, remote_manifest,
            remove,
        },
    };
}

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
    /// What to do about failures that may pass.
    pub retry: Retry,
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

/// Hears of a pull or push as it goes; all calls come from one thread.
pub trait Progress {
    /// It turns to this place.
    fn trying(&self, reference: &str);
    /// A blob is where it is to go already.
    fn present(&self, blob: &Digest);
    /// A blob of `size` bytes sets out.
    fn begin(&self, blob: &Digest, size: u64);
    /// So many of its bytes are over.
    fn advance(&self, blob: &Digest, received: u64);
    /// It has arrived whole.
    fn done(&self, blob: &Digest);
    /// Something the user should know.
    fn note(&self, text: &str);
}
