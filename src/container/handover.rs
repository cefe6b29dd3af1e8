//! What belongs to the user who runs us and is to be the container's, where that user doesn't exist in the container
//! (`--userns=nomap`, `auto`): nobody inside could take it, so we give it beforehand.

use crate::{
    error::Explain,
    namespaces::{Mapping, idmap, ownership, run_inside, volume::Gift},
    storage::{ContainerDir, FRESH},
};
use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, open};
use std::{
    fs::{Permissions, set_permissions},
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

/// Whether anything has to be given so: `mapping` is that of a container.
pub fn is_needed(mapping: &Mapping) -> bool {
    mapping.is_rootless() && !mapping.has_caller()
}

/// Give `paths` to the root of a container with this mapping; `own` is the user's default one. Must be called before any
/// thread exists.
pub fn to_root(own: &Mapping, mapping: &Mapping, paths: &[PathBuf]) -> Result<()> {
    let Some((uid, gid)) = seen_from(own, mapping, mapping.builder()) else { return Ok(()) };
    if paths.is_empty() {
        return Ok(());
    }
    run_inside(own, || {
        paths.iter().try_for_each(|path| {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .with_context(|| format!("give {} to the container's root", path.display()))
        })
    })
}

/// The same with where changes of the container in `dir` go.
pub fn upper(own: &Mapping, mapping: &Mapping, dir: &ContainerDir) -> Result<()> {
    to_root(own, mapping, &[dir.upper(), dir.work()])
}

/// Let the container's root fill the volume in `directory`, which none has used: nobody else gets here, as what is around it
/// is for the user alone.
pub fn fresh_volume(directory: &Path) -> Result<()> {
    for (path, mode) in [(directory.to_owned(), 0o777), (directory.join(FRESH), 0o666)] {
        set_permissions(&path, Permissions::from_mode(mode))
            .with_context(|| format!("open {} to the container's root", path.display()))?;
    }
    Ok(())
}

/// Give `gifts` to user `uid` and group `gid` of the container. Must be called before any thread exists.
pub fn to_user(own: &Mapping, mapping: &Mapping, gifts: &[Gift], uid: u32, gid: u32) -> Result<()> {
    let Some((uid, gid)) = seen_from(own, mapping, (uid, gid)).filter(|_| !gifts.is_empty()) else {
        return Ok(());
    };
    run_inside(own, || {
        let root = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        gifts.iter().try_for_each(|gift| {
            let given = gift.open(root.as_fd()).and_then(|top| ownership::give(&top, uid, gid, true));
            given.with_context(|| gift.describe()).hint(
                "files of a user whom the container has no id for are not its to give away: leave U out, or change the owner by hand",
            )
        })
    })
}

/// What user and group of `mapping` are in `own`.
fn seen_from(own: &Mapping, mapping: &Mapping, (uid, gid): (u32, u32)) -> Option<(u32, u32)> {
    let (maps, own) = (mapping.maps(), own.maps());
    let through = |maps: &[_], own: &[_], id| idmap::to_inside(own, idmap::to_host(maps, id)?);
    through(&maps.uids, &own.uids, uid).zip(through(&maps.gids, &own.gids, gid))
}
