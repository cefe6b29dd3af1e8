//! What stands for the overlays that a user mounts (`:O`, images) where the kernel makes none in the store: copies. Of what is
//! written and thrown away each start has one of its own; what is only read is copied once for each image, as a view is.

use super::{
    record::Record,
    user_mount::{Source, UserMount},
    volumes::{OVERLAYS, keep_view},
};
use crate::{
    error::Explain,
    namespaces::{Mapping, run_inside},
    storage::{ContainerDir, Store, copy_layers},
};
use anyhow::{Context, Result, anyhow};
use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// In the directory of one such mount: the copy, or a link to it.
pub const COPY: &str = "copy";

/// Make them for the container in `dir`, where they are needed. Must be called before any thread exists.
///
/// # Errors
/// The disk is full; something may not be read.
pub fn make(store: &Store, dir: &ContainerDir, record: &Record, own: &Mapping) -> Result<()> {
    let wanted = |mount: &UserMount| {
        matches!(mount.source, Source::Image { .. } | Source::Overlay { upper: None, .. })
            && !mount.is_mapped()
    };
    if !record.mounts.iter().any(wanted) || store.probe_overlay(own).is_ok() {
        return Ok(());
    }
    for (number, mount) in record.mounts.iter().enumerate().filter(|(_, mount)| wanted(mount)) {
        let place = dir.path().join(OVERLAYS).join(number.to_string()).join(COPY);
        let doing = || format!("copy what is to be mounted on {}", mount.target.display());
        one(store, dir, mount, own, &place).with_context(doing).hint(
            "`ctr doctor` says what overlay lacks here; without O, and of a volume, nothing has to be copied",
        )?;
    }
    Ok(())
}

fn one(store: &Store, dir: &ContainerDir, mount: &UserMount, own: &Mapping, place: &Path) -> Result<()> {
    let lower = match &mount.source {
        Source::Overlay { path, .. } => {
            let whole = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            if whole(&store.dirs().data).starts_with(whole(path)) {
                return Err(anyhow!("the store of ctr lies in {}", path.display()));
            }
            path.clone()
        }
        Source::Image { layers, view, .. } => {
            let key = match view {
                Some(key) => key.clone(),
                None => store.make_view(layers, own, &own.maps(), true)?,
            };
            keep_view(dir, &key)?;
            let view = store.view(&key, layers);
            // One that points into layers is for the kernel's overlay alone, which will say why.
            if !view.data.is_empty() {
                return Ok(());
            }
            view.lower
        }
        _ => return Ok(()),
    };
    let parent: PathBuf = place.parent().context("a place without a directory")?.to_owned();
    fs::create_dir_all(&parent).with_context(|| format!("make directory {}", parent.display()))?;
    if matches!(mount.source, Source::Image { .. }) && !mount.has("rw") {
        return match symlink(&lower, place) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => Ok(made?),
        };
    }
    run_inside(own, || copy_layers(own, std::slice::from_ref(&lower), place))
}
