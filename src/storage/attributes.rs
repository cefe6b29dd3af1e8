//! Owner, set-id bits, xattrs and times of what a layer unpacks to: as the image says where this process can, recorded where
//! it can't.

use super::{
    archive::{Entry, Kind},
    ownership::{Ids, OVERRIDE_STAT, override_stat},
    tree::Place,
    whiteout, xattr,
};
use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, chmodat, chownat, fchmod, fchown, utimensat,
};
use std::{fs, os::fd::BorrowedFd};

/// What this process can do for an image's files.
#[derive(Clone, Debug)]
pub struct Policy {
    uids: Ids,
    gids: Ids,
    /// Root of the initial user namespace: devices can be made, and overlay reads trusted xattrs.
    privileged: bool,
}

impl Policy {
    /// Read the id maps of the own user namespace.
    pub fn of_process() -> Result<Policy> {
        let read = |path| fs::read_to_string(path).with_context(|| format!("read {path}"));
        Policy::from_maps(&read("/proc/self/uid_map")?, &read("/proc/self/gid_map")?)
    }

    /// From the contents of /proc/PID/uid_map and gid_map (user_namespaces(7)).
    pub fn from_maps(uid_map: &str, gid_map: &str) -> Result<Policy> {
        let (uids, gids) = (Ids::parse(uid_map)?, Ids::parse(gid_map)?);
        let privileged = uids.is_everyone() && rustix::process::geteuid().is_root();
        Ok(Policy { uids, gids, privileged })
    }

    /// Can device nodes be made?
    pub(super) fn makes_devices(&self) -> bool {
        self.privileged
    }

    /// The xattr that marks a directory opaque.
    pub(super) fn opaque(&self) -> &'static str {
        if self.privileged { whiteout::OPAQUE_TRUSTED } else { whiteout::OPAQUE_USER }
    }

    /// The id pair of the file, unless the user namespace lacks one of them: then root keeps the file.
    pub(super) fn owner(&self, entry: &Entry) -> Option<(u32, u32)> {
        let known = self.uids.contains(entry.uid) && self.gids.contains(entry.gid);
        known.then_some((entry.uid as u32, entry.gid as u32))
    }

    /// Is there more to a directory than its mode?
    pub(super) fn needs_dress(&self, entry: &Entry) -> bool {
        self.owner(entry) != Some((0, 0)) || !entry.xattrs.is_empty()
    }

    /// Owner, set-id bits and xattrs; chown(2) clears some of what follows it.
    pub(super) fn dress(&self, file: BorrowedFd<'_>, entry: &Entry, kind: &str) -> Result<()> {
        match self.owner(entry) {
            Some((0, 0)) => {}
            Some((uid, gid)) => fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?,
            None => self.record(file, entry, kind)?,
        }
        if entry.mode & 0o6000 != 0 && kind == "file" && self.owner(entry).is_some() {
            fchmod(file, Mode::from_raw_mode(entry.mode))?;
        }
        Ok(xattr::apply(file, &entry.xattrs)?)
    }

    /// The same for what can't be opened without a side effect.
    pub(super) fn dress_node(&self, entry: &Entry, place: &Place<'_>) -> Result<()> {
        if let Some((uid, gid)) = self.owner(entry).filter(|owner| *owner != (0, 0)) {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            chownat(&place.parent, place.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        // Never by the name of a link, which would be followed; the node itself has just been made.
        let has_mode = !matches!(entry.kind, Kind::Symlink { .. });
        if has_mode && entry.mode & 0o6000 != 0 && self.owner(entry).is_some() {
            chmodat(&place.parent, place.name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        }
        Ok(utimensat(&place.parent, place.name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Keep owner, mode and kind in an xattr.
    pub(super) fn record(&self, file: BorrowedFd<'_>, entry: &Entry, kind: &str) -> Result<()> {
        let stat = override_stat(entry.uid, entry.gid, entry.mode, kind);
        Ok(xattr::set(file, OVERRIDE_STAT.as_bytes(), stat.as_bytes())?)
    }
}

/// The mode it is made with. The set-id bits come after the owner, and never for a file that root keeps in the place
/// of its owner.
pub fn plain_mode(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode & 0o1777)
}

/// When it was modified; when it was read is not recorded.
pub fn times(entry: &Entry) -> Timestamps {
    let (seconds, nanoseconds) = entry.mtime;
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
