//! The root file system as a plain directory, where no overlay works: a copy of what the layers show, of the container's own.
//! Contents are clones where the file system can (FICLONE), else copies; never hard links, as a payload that writes through one
//! would change the image, and nothing tells us before it does.

use super::rootfs::Layers;
use crate::{
    error::Explain,
    namespaces::{Mapping, run_inside},
    storage::{ContainerDir, copy_layers, delete_tree},
};
use anyhow::{Context, Result};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Whether container `dir` has its copy.
pub fn is_made(dir: &ContainerDir) -> bool {
    mark(dir).exists() && !draft(dir).join(TREE).exists()
}

/// Copy `layers` for container `dir`, whose lock the caller holds, unless that has been done. Must be called before any thread
/// exists.
///
/// # Errors
/// The disk is full; it has changed something with another driver.
pub fn make(dir: &ContainerDir, layers: &Layers, own: &Mapping) -> Result<()> {
    if is_made(dir) {
        return Ok(());
    }
    let (draft, upper) = (draft(dir), dir.upper());
    run_inside(own, || {
        // What somebody left who was killed.
        delete_tree(&draft)?;
        fs::create_dir(&draft)?;
        let tree = draft.join(TREE);
        copy_layers(own, &layers.lower, &tree)?;
        // Whatever changes from here on has a later time.
        fs::write(mark(dir), "")?;
        fs::rename(&tree, &upper).context("another driver has been used for it")?;
        Ok(fs::remove_dir(&draft)?)
    })
    .with_context(|| format!("copy the image to {}", upper.display()))
    .hint("`df -h` shows whether there is room; --storage-driver names another way")
}

/// When the copy was finished: what has changed since then is the container's.
pub fn made_at(dir: &Path) -> Option<(i64, i64)> {
    fs::metadata(dir.join(MARK)).ok().map(|meta| (meta.ctime(), meta.ctime_nsec()))
}

fn mark(dir: &ContainerDir) -> PathBuf {
    dir.path().join(MARK)
}

fn draft(dir: &ContainerDir) -> PathBuf {
    dir.path().join("copy")
}

const MARK: &str = "copied";
const TREE: &str = "fs";
