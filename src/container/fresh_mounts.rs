//! What is renewed at each start of a container of what it mounts: file systems of volumes, directories of overlays; and
//! given to the container where it could not take it.

use super::{
    handover, mount_copies,
    record::Record,
    remove,
    user_mount::{Source, UserMount},
    volumes::{OVERLAYS, data},
};
use crate::{
    namespaces::Mapping,
    storage::{ContainerDir, FRESH, Store},
};
use anyhow::{Context, Result};
use std::{fs, os::unix::fs::DirBuilderExt, path::PathBuf};

/// What each start needs: volumes mounted, overlays empty, and both the container's where it could not take them. `own`: the
/// user's default mapping.
pub fn prepare(store: &Store, dir: &ContainerDir, record: &Record, own: &Mapping) -> Result<()> {
    let root = !record.mounts.is_empty() && rustix::process::geteuid().is_root();
    for mount in record.mounts.iter().filter(|_| root) {
        if let Source::Volume { name: Some(name), .. } = &mount.source {
            data(store, name)?;
        }
    }
    let mut theirs = renew_overlays(dir, record)?;
    mount_copies::make(store, dir, record, own)?;
    let mapping = record.mapping(own);
    if !handover::is_needed(&mapping) {
        return Ok(());
    }
    for mount in &record.mounts {
        let Source::Volume { name: Some(name), path, .. } = &mount.source else { continue };
        let directory = store.volume_dir(name);
        if *path == store.volume_data(name) && directory.join(FRESH).exists() {
            handover::fresh_volume(&directory)?;
            // One whose ids are mapped belongs to its root as it is.
            theirs.extend((!mount.is_mapped()).then(|| path.clone()));
        }
    }
    handover::to_root(own, &mapping, &theirs)
}

/// New directories for what is written to the overlays of the container in `dir`, in place of those of its last start; those that are
/// to be its root's.
fn renew_overlays(dir: &ContainerDir, record: &Record) -> Result<Vec<PathBuf>> {
    let top = dir.path().join(OVERLAYS);
    let thrown_away = |mount: &UserMount| match &mount.source {
        Source::Overlay { upper, .. } => upper.is_none(),
        Source::Image { .. } => mount.has("rw"),
        _ => false,
    };
    let numbers: Vec<(usize, bool)> = record
        .mounts
        .iter()
        .enumerate()
        .filter(|(_, mount)| thrown_away(mount))
        .map(|(number, mount)| (number, mount.is_mapped()))
        .collect();
    let mut made = Vec::new();
    if numbers.is_empty() {
        return Ok(made);
    }
    remove::delete(&top)?;
    for (number, is_mapped) in numbers {
        for name in ["upper", "work"] {
            let path = top.join(number.to_string()).join(name);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .with_context(|| format!("make directory {}", path.display()))?;
            made.extend((!is_mapped).then_some(path));
        }
    }
    Ok(made)
}
