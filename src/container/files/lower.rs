//! What the read-only layers of an overlay show together, without mounting them.

use super::paths::{join, split};
use anyhow::{Result, ensure};
use rustix::{
    fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, fstat, open, openat2},
    io::Errno,
};
use std::{collections::BTreeMap, fs::File, io::Read, os::fd::OwnedFd, path::PathBuf};

/// The directories, topmost first.
pub struct Lower(pub Vec<OwnedFd>);

pub const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// How fuse-overlayfs marks what is gone where it can make no device.
pub const WHITEOUT: &[u8] = b".wh.";

impl Lower {
    /// What is at `path`, if anything.
    pub fn find(&self, path: &[u8]) -> Result<Option<Stat>> {
        for layer in &self.0 {
            match look(layer, path) {
                Ok(stat) => return Ok(Some(stat).filter(|stat| !is_whiteout(stat))),
                Err(errno) if missing(errno) => {}
                Err(errno) => return Err(errno.into()),
            }
            let (directory, name) = split(path);
            let marked = look(layer, &join(directory, &[WHITEOUT, name].concat())).is_ok();
            if marked || hides(layer, path)? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The names in directory `path`.
    pub fn names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut found = BTreeMap::new();
        for layer in &self.0 {
            if let Ok(directory) = open_directory(layer, path) {
                let (marks, here): (Vec<_>, Vec<_>) =
                    names(&directory)?.into_iter().partition(|name| name.starts_with(WHITEOUT));
                for name in here {
                    let gone = look(&directory, &name).is_ok_and(|stat| is_whiteout(&stat));
                    found.entry(name).or_insert(!gone);
                }
                for mark in marks {
                    found.entry(mark[WHITEOUT.len()..].to_vec()).or_insert(false);
                }
                if is_opaque(&directory) {
                    break;
                }
            }
            if hides(layer, path)? {
                break;
            }
        }
        Ok(found.into_iter().filter_map(|(name, there)| there.then_some(name)).collect())
    }
}

/// Whether `layer` keeps what is below it at `path` out of sight: by something on the way that is no directory, or opaque.
fn hides(layer: &OwnedFd, path: &[u8]) -> Result<bool> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in slashes {
        match open_directory(layer, &path[..end]) {
            Ok(directory) if is_opaque(&directory) => return Ok(true),
            Ok(_) => {}
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) if missing(errno) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

/// A device 0:0.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Whether `directory`, open for reading, shows nothing of those below it.
pub fn is_opaque(directory: &OwnedFd) -> bool {
    let marks = ["user.overlay.opaque", "trusted.overlay.opaque", "user.fuseoverlayfs.opaque"];
    marks.iter().any(|mark| {
        let mut value = [0; 1];
        matches!(fgetxattr(directory, *mark, &mut value[..]), Ok(1)) && value == *b"y"
    }) || look(directory, b".wh..wh..opq").is_ok()
}

/// Nothing is there, or no longer.
pub fn missing(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// The names in `directory`, in no order.
pub fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

fn look(layer: &OwnedFd, path: &[u8]) -> Result<Stat, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fstat(openat2(layer, path, flags, Mode::empty(), BENEATH)?)
}

fn open_directory(layer: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    openat2(layer, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), BENEATH)
}

/// The text of the file `path` in `layers`, topmost first; empty where there is none, or a link.
///
/// # Errors
/// It has more than `limit` bytes, or is not for us to read.
pub fn read_lower(layers: &[PathBuf], path: &[u8], limit: u64) -> Result<String> {
    let top = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |layer: &PathBuf| open(layer, top, Mode::empty());
    let lower = Lower(layers.iter().map(open).collect::<Result<_, Errno>>()?);
    let regular = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !lower.find(path)?.is_some_and(regular) {
        return Ok(String::new());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // The topmost that has it at all.
    let file = lower.0.iter().find_map(|layer| match openat2(layer, path, flags, Mode::empty(), BENEATH) {
        Err(errno) if missing(errno) => None,
        opened => Some(opened),
    });
    let Some(file) = file.transpose()? else { return Ok(String::new()) };
    let mut text = Vec::new();
    File::from(file).take(limit + 1).read_to_end(&mut text)?;
    ensure!(text.len() as u64 <= limit, "it is larger than {limit} bytes");
    Ok(String::from_utf8_lossy(&text).into_owned())
}
