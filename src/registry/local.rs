//! Images that are in the store already: found by the name or the id that a user types; and the rule when to pull.

use super::{
    PullPolicy,
    platform::Platform,
    reference::{self, Named, Reference, Target},
    registries_files, short_names,
};
use crate::{
    error::{Explain, already_reported},
    storage::{Dirs, Image, Store},
};
use anyhow::{Context, Result, anyhow, bail};
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// The image of the store that `name` means: a reference by the short-name rules of containers-registries.conf(5), else
/// an image id or the unambiguous beginning of one.
///
/// # Errors
/// The name is malformed, or the beginning of several ids; registries.conf has a mistake.
pub fn find(store: &Store, config_dirs: &Dirs, name: &str) -> Result<Option<Image>> {
    // A canonical name needs no settings; it is what scripts use.
    let malformed = match reference::parse(name) {
        Ok(Named::Full(reference)) => return by_reference(store, &reference),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    if malformed.is_none() {
        for reference in short_names::to_find(name, &registries_files::load(config_dirs)?)? {
            if let Some(image) = by_reference(store, &reference)? {
                return Ok(Some(image));
            }
        }
    }
    let id = name.strip_prefix("sha256:").unwrap_or(name);
    let is_id = (1..=64).contains(&id.len()) && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match malformed {
        _ if is_id => by_id(store, id),
        Some(error) => Err(error),
        None => Ok(None),
    }
}

/// The reference that `name` gives to an image made here: under `localhost/` when it names no registry, as in Podman.
///
/// # Errors
/// The name is malformed, or a digest, which can't be given.
pub fn reference_to_give(name: &str) -> Result<String> {
    let reference = match reference::parse(name)? {
        Named::Full(reference) => reference,
        Named::Short { path, target } => Reference::at("localhost", &path, target),
    };
    match reference.target {
        Target::Tag(_) => Ok(reference.to_string()),
        Target::Digest(_) => {
            Err(anyhow!("{name:?} is a digest, not a name to give")).hint("names look like NAME:TAG")
        }
    }
}

/// What `ctr run` hands on to a pull of its own.
#[derive(Clone, Copy, Debug)]
pub struct Fetch<'a> {
    /// `os/architecture[/variant]`.
    pub platform: Option<&'a str>,
    /// Silent.
    pub quiet: bool,
    /// Whether certificates are checked; what registries.conf says when it isn't given.
    pub tls_verify: Option<bool>,
    /// In place of all other files with credentials.
    pub authfile: Option<&'a Path>,
}

/// The image that `name` means, pulled when `policy` asks for it: by `ctr pull` in a process of its own, so that this one
/// never has a thread.
///
/// # Errors
/// Neither in the store nor to be had. What the pull reported itself is not told again.
pub fn ensure(store: &Store, name: &str, policy: PullPolicy, fetch: &Fetch<'_>) -> Result<Image> {
    let wanted = fetch.platform.map(str::parse::<Platform>).transpose()?;
    let found = || -> Result<Option<Image>> {
        Ok(find(store, store.dirs(), name)?.filter(|image| fits(image, wanted.as_ref())))
    };
    let here = found()?;
    match (policy, here) {
        (PullPolicy::Missing | PullPolicy::Never, Some(image)) => return Ok(image),
        (PullPolicy::Never, None) => {
            let cause = anyhow!("image {name:?} is not in the store, and --pull=never forbids to fetch it");
            return Err(cause).hint(format!("ctr pull {name}"));
        }
        // What was asked for by its id is here, and no registry knows it.
        (_, Some(image)) if is_id_of(&image, name) => return Ok(image),
        (PullPolicy::Missing, None) | (PullPolicy::Always | PullPolicy::Newer, _) => {}
    }
    pull_in_child(store, name, policy, fetch)?;
    found()?.ok_or_else(|| anyhow!("image {name:?} vanished after it was pulled"))
}

/// Whether an image may stand for the platform asked for; without one, any may.
pub(super) fn fits(image: &Image, wanted: Option<&Platform>) -> bool {
    let Some(wanted) = wanted else { return true };
    image.platform.parse::<Platform>().is_ok_and(|found| wanted.distance(&found).is_some())
}

fn is_id_of(image: &Image, name: &str) -> bool {
    let id = name.strip_prefix("sha256:").unwrap_or(name);
    image.config.hex().starts_with(id)
}

/// A digest finds the image of another name in the same repository, too.
fn by_reference(store: &Store, reference: &Reference) -> Result<Option<Image>> {
    let found = store.image(&reference.to_string())?;
    let Target::Digest(digest) = reference.target else { return Ok(found) };
    if found.is_some() {
        return Ok(found);
    }
    let repository = reference.name();
    let is = |image: &Image| {
        (image.manifest == digest || image.index == Some(digest))
            && image.reference.strip_prefix(&repository).is_some_and(|rest| rest.starts_with([':', '@']))
    };
    Ok(store.images()?.into_iter().find(is))
}

fn by_id(store: &Store, id: &str) -> Result<Option<Image>> {
    let mut matching = store.images()?;
    matching.retain(|image| image.config.hex().starts_with(id));
    let Some(first) = matching.pop() else { return Ok(None) };
    if matching.iter().any(|other| other.config != first.config) {
        return Err(anyhow!("{id:?} is the beginning of several image ids")).hint("ctr images --no-trunc");
    }
    Ok(Some(first))
}

/// `ctr pull`: its messages are ours, its output is nobody's.
fn pull_in_child(store: &Store, name: &str, policy: PullPolicy, fetch: &Fetch<'_>) -> Result<()> {
    let dirs = store.dirs();
    let mut command = Command::new("/proc/self/exe");
    command.arg("--root").arg(&dirs.data).arg("--runroot").arg(&dirs.runtime).arg("pull");
    if fetch.quiet {
        command.arg("--quiet");
    }
    if policy == PullPolicy::Newer {
        command.args(["--policy", "newer"]);
    }
    if let Some(platform) = fetch.platform {
        command.args(["--platform", platform]);
    }
    if let Some(verify) = fetch.tls_verify {
        command.arg(format!("--tls-verify={verify}"));
    }
    if let Some(file) = fetch.authfile {
        command.arg("--authfile").arg(file);
    }
    command.arg("--").arg(name).stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().context("start /proc/self/exe pull")?;
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        bail!("the pull of {name:?} was ended by signal {signal}");
    }
    if status.success() { Ok(()) } else { Err(already_reported()) }
}
