//! Where a container that goes at its end mounts things, as its lowest layer is to have it.

use super::{
    create::Base,
    record::Record,
    rootfs::PLAIN,
    user_mount::{Source, UserMount},
    userns::Settled,
};
use crate::storage::{ContainerDir, FRESH, Store};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// The lowest layer of a container that goes at its end, with the places of what it mounts. Where it can't be made, as on a full
/// disk, its first process makes them as it does for others.
pub fn made(
    store: &Store,
    base: &Base,
    ids: &Settled,
    dir: &ContainerDir,
    record: &Record,
) -> Result<Option<String>> {
    let (Base::Image(image, ..), None, true) = (base, &ids.maps, record.auto_remove) else { return Ok(None) };
    // What lies in another mount is no place of the root.
    let mounts = record.mounts.iter().map(|mount| mount.target.as_path());
    let others = record.tmpfs.keys().chain(&record.volumes).map(Path::new);
    let tops: Vec<&Path> = mounts.chain(others).collect();
    let is_inner = |target: &Path| tops.iter().any(|top| target != *top && target.starts_with(top));
    let places: Vec<_> =
        record.mounts.iter().filter(|mount| !is_inner(&mount.target)).filter_map(place).collect();
    if places.is_empty() || record.storage_driver == PLAIN {
        return Ok(None);
    }
    let Ok(key) = store.make_places(&image.layers, &places) else { return Ok(None) };
    dir.write("view", key.as_bytes())?;
    Ok(Some(key))
}

/// The place of `mount` below the root, and whether it is one for a directory; None where a file system of the container's own
/// covers whatever is there.
fn place(mount: &UserMount) -> Option<(PathBuf, bool)> {
    let place = below_root(&mount.target)?;
    let is_directory = match &mount.source {
        // It may become a link.
        Source::Bind { .. } if mount.has("no-dereference") => return None,
        Source::Bind { path } => path.is_dir(),
        // What fills a new one, and a tmpfs, has to find nothing where the image has nothing.
        Source::Volume { path, .. } if path.parent().is_some_and(|volume| volume.join(FRESH).exists()) => {
            return None;
        }
        Source::Volume { subpath, path, .. } => match subpath {
            None => true,
            Some(subpath) => path.join(subpath).is_dir(),
        },
        Source::Overlay { .. } | Source::Image { .. } | Source::Ramfs | Source::Devpts => true,
    };
    Some((place, is_directory))
}

/// `target` without the leading slash, unless such a file system covers it.
fn below_root(target: &Path) -> Option<PathBuf> {
    let place = target.strip_prefix("/").ok()?;
    (!["proc", "sys", "dev"].iter().any(|top| place.starts_with(top))).then(|| place.to_owned())
}
