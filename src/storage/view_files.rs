//! The files of a view, made from those that the layers show together: owners of the container, contents by pointer or copied.

use super::{
    merged::{Merged, Shown},
    ownership,
};
use crate::namespaces::{IdMaps, idmap};
use anyhow::{Context, Result, bail};
use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
        fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, ftruncate, futimens, ioctl_ficlone, linkat,
        mkdirat, mknodat, openat, readlinkat, symlinkat, utimensat,
    },
    io::Errno,
};
use std::{
    collections::HashMap,
    ffi::CStr,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

/// A smaller file is copied: the attributes that point elsewhere take as much room as its contents.
const BLOCK: u64 = 4096;
const DEEPEST: usize = 2000;

pub struct Filler<'a> {
    /// How the layers were stored.
    pub stored: &'a IdMaps,
    /// How the container maps.
    pub maps: &'a IdMaps,
    /// Large files point into their layer.
    pub points: bool,
    /// Files of several names, by inode: where the first one is.
    pub links: HashMap<u64, String>,
    /// The view.
    pub top: OwnedFd,
    /// A path that points.
    pub pointer: Option<String>,
}

impl Filler<'_> {
    /// `reachable`: the container's root may walk to what is in the directory `path` of a layer.
    pub fn directory(&mut self, from: &Merged, to: &OwnedFd, path: &str, reachable: bool) -> Result<()> {
        if path.len() > DEEPEST {
            bail!("{path:?} is too deep");
        }
        let top = from.top().context("no layer has it")?;
        let stat = fstat(top)?;
        let reachable = reachable && self.lets_in(&stat, 0o001);
        for (name, shown) in &from.entries()? {
            let below = match path {
                "" => name.to_string_lossy().into_owned(),
                path => format!("{path}/{}", name.to_string_lossy()),
            };
            self.entry(from, to, (name, shown), &below, reachable).with_context(|| format!("{below:?}"))?;
        }
        self.dress(top, to, &stat)
    }

    fn entry(
        &mut self,
        from: &Merged,
        to: &OwnedFd,
        (name, shown): (&CStr, &Shown),
        path: &str,
        reachable: bool,
    ) -> Result<()> {
        let stat = shown.stat;
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::Directory => {
                mkdirat(to, name, Mode::RWXU)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(to, name, flags, Mode::empty())?;
                return self.directory(&from.descend(name, shown)?, &made, path, reachable);
            }
            FileType::RegularFile => {
                if stat.st_nlink > 1 {
                    if let Some(first) = self.links.get(&stat.st_ino) {
                        return Ok(linkat(&self.top, first.as_str(), to, name, AtFlags::empty())?);
                    }
                    self.links.insert(stat.st_ino, path.to_owned());
                }
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let copy = openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
                let source = from.open(name, shown, OFlags::RDONLY | OFlags::NONBLOCK)?;
                let lossless = name.to_str().is_ok() && !path.contains(char::REPLACEMENT_CHARACTER);
                let points = self.points && lossless && reachable && self.lets_in(&stat, 0o004);
                match points && stat.st_size as u64 > BLOCK {
                    true => {
                        point(&copy, path, stat.st_size as u64)?;
                        self.pointer.get_or_insert_with(|| path.to_owned());
                    }
                    false => contents(source.try_clone()?, copy.try_clone()?)?,
                }
                return self.dress(&source, &copy, &stat);
            }
            FileType::Symlink => symlinkat(readlinkat(from.holder(shown), name, Vec::new())?, to, name)?,
            FileType::Fifo | FileType::Socket => mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, 0)?,
            // Root's layers alone have any, and no container can open them.
            _ => match mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev) {
                Err(Errno::PERM) => return Ok(()),
                made => made?,
            },
        }
        let (uid, gid) = self.owner(stat.st_uid, stat.st_gid).unwrap_or_else(|| self.root());
        chownat(to, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)?;
        if kind != FileType::Symlink {
            chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
        }
        Ok(utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Owner, extended attributes, mode and times.
    fn dress(&self, from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> Result<()> {
        let recorded = attribute(from, OVERRIDE.as_bytes())?;
        // What the default mapping lacks may exist here.
        let meant =
            recorded.as_deref().and_then(ownership::recorded_owner).unwrap_or((stat.st_uid, stat.st_gid));
        let owner = self.owner(meant.0, meant.1);
        let (uid, gid) = owner.unwrap_or_else(|| self.root());
        fchown(to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        let mode = stat.st_mode & 0o7777;
        for name in attributes(from)? {
            let name = name.as_slice();
            let Some(value) = attribute(from, name)? else { continue };
            match name {
                b"security.capability" => set(to, name, &self.capability(&value))?,
                name if name == OVERRIDE.as_bytes() && owner.is_some() => {}
                name if name.starts_with(b"user.overlay.") => {}
                name if name.starts_with(b"user.") => set(to, name, &value)?,
                _ => {}
            }
        }
        if owner.is_none() && recorded.is_none() {
            let kind =
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory { "dir" } else { "file" };
            let record = ownership::override_stat(meant.0.into(), meant.1.into(), mode, kind);
            set(to, OVERRIDE.as_bytes(), record.as_bytes())?;
        }
        // Never set-id for another than it was meant for.
        let mode = if owner.is_some() { mode } else { mode & 0o1777 };
        fchmod(to, Mode::from_raw_mode(mode))?;
        Ok(futimens(to, &times(stat))?)
    }

    /// The owner here of what is to be `uid` and `gid` in the container.
    fn owner(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let translate = |maps: &[_], stored: &[_], id| idmap::to_inside(stored, idmap::to_host(maps, id)?);
        Some((
            translate(&self.maps.uids, &self.stored.uids, uid)?,
            translate(&self.maps.gids, &self.stored.gids, gid)?,
        ))
    }

    /// The container's root.
    fn root(&self) -> (u32, u32) {
        self.owner(0, 0).unwrap_or((0, 0))
    }

    /// Whether the container's root, with its capabilities over the ids that it maps, may do `permission` (a bit for others)
    /// to a file of a layer.
    fn lets_in(&self, stat: &Stat, permission: u32) -> bool {
        let known = |stored: &[_], maps: &[_], id| {
            idmap::to_host(stored, id).is_some_and(|host| idmap::to_inside(maps, host).is_some())
        };
        stat.st_mode & permission != 0
            || known(&self.stored.uids, &self.maps.uids, stat.st_uid)
                && known(&self.stored.gids, &self.maps.gids, stat.st_gid)
    }

    /// A file capability counts in the namespace of which it names the root (capabilities(7), "Namespaced file capabilities").
    fn capability(&self, value: &[u8]) -> Vec<u8> {
        const REVISION_3: u8 = 3;
        let mut value = value.to_vec();
        // Without the root that it names now.
        value.resize(20, 0);
        value.extend(self.root().0.to_le_bytes());
        value[3] = REVISION_3;
        value
    }
}

const OVERRIDE: &str = ownership::OVERRIDE_STAT;

/// Empty, of that size, with its contents at `path` of a layer.
pub fn point(file: &OwnedFd, path: &str, size: u64) -> Result<()> {
    ftruncate(file, size)?;
    fsetxattr(file, "user.overlay.metacopy", &[], XattrFlags::empty())?;
    Ok(fsetxattr(file, "user.overlay.redirect", format!("/{path}").as_bytes(), XattrFlags::empty())?)
}

fn contents(from: OwnedFd, to: OwnedFd) -> Result<()> {
    if ioctl_ficlone(&to, &from).is_err() {
        io::copy(&mut File::from(from), &mut File::from(to))?;
    }
    Ok(())
}

fn attributes(file: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let mut names = vec![0; 64 << 10];
    let length = match flistxattr(file, &mut names) {
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };
    Ok(names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

fn attribute(file: &OwnedFd, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; 64 << 10];
    match fgetxattr(file, name, &mut value) {
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        length => {
            value.truncate(length?);
            Ok(Some(value))
        }
    }
}

fn set(file: &OwnedFd, name: &[u8], value: &[u8]) -> Result<()> {
    Ok(super::xattr::set(file.as_fd(), name, value)?)
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: time, last_modification: time }
}
