//! Whiteouts: how a layer says that something below it is gone (OCI image-spec, layer.md, "Whiteouts"), and how overlay
//! wants to hear it (kernel Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").

use anyhow::{Result, bail};
use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, Stat, XattrFlags, fgetxattr, fsetxattr, mknodat, openat, statat,
        unlinkat,
    },
    io::Errno,
};
use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering},
};

/// The mark of an opaque directory in an overlay mounted with `userxattr`.
pub const OPAQUE_USER: &str = "user.overlay.opaque";
/// The same in an overlay of the real root.
pub const OPAQUE_TRUSTED: &str = "trusted.overlay.opaque";

/// What the last component of a path in a layer means.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// A file of this layer.
    Plain,
    /// `name`, beside this entry, is gone.
    Gone { name: &'a [u8] },
    /// Whatever lower layers have in this directory is gone.
    Opaque,
    /// aufs's own records, which say nothing about the image.
    Ignored,
}

/// What `path`, which is normalised, means.
///
/// # Errors
/// A whiteout that names no file.
pub fn meaning(path: &[u8]) -> Result<Meaning<'_>> {
    let mut components = path.rsplit(|byte| *byte == b'/');
    let name = components.next().unwrap_or_default();
    if components.any(|parent| parent.starts_with(AUFS)) {
        return Ok(Meaning::Ignored);
    }
    if name == OPAQUE {
        return Ok(Meaning::Opaque);
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::Plain),
        _ if name.starts_with(AUFS) => Ok(Meaning::Ignored),
        Some(b"" | b"." | b"..") => bail!("whiteout that names no file"),
        Some(name) => Ok(Meaning::Gone { name }),
    }
}

/// Say that `name` is gone: a device 0:0, which everyone may make since Linux 5.8. Where the store itself lies in an overlay, as in
/// another container, nobody may: there it is a file as in the layer, which fuse-overlayfs(1) and [`super::merged`] know.
pub fn make(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::PERM) => {
            if statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                return Err(Errno::EXIST);
            }
            FILES.store(true, Ordering::Relaxed);
            mark(parent, &[WHITEOUT, name].concat())
        }
        made => made,
    }
}

/// Is `name` a whiteout?
pub fn is_at(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is(&stat))
}

/// Directory `name` has just been made: whether it takes the place of a whiteout that was a file.
pub fn replaced(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    FILES.load(Ordering::Relaxed) && unlinkat(parent, [WHITEOUT, name].concat(), AtFlags::empty()).is_ok()
}

fn mark(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::RUSR | Mode::WUSR).map(drop)
}

/// This process had to make files.
static FILES: AtomicBool = AtomicBool::new(false);

/// Is this one?
pub fn is(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Does `directory`, open for reading, hide what lower layers have in it?
pub fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    [OPAQUE_USER, OPAQUE_TRUSTED].iter().any(|mark| {
        let mut value = [0; 1];
        matches!(fgetxattr(directory, *mark, &mut value[..]), Ok(1)) && value == *b"y"
    }) || statat(directory, OPAQUE, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Hide what lower layers have in `directory`, which may be a path descriptor.
pub fn make_opaque(directory: BorrowedFd<'_>, xattr: &str) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(directory, ".", flags, Mode::empty())?;
    match fsetxattr(&directory, xattr, b"y", XattrFlags::empty()) {
        Err(Errno::PERM | Errno::NOTSUP) => mark(directory.as_fd(), OPAQUE),
        set => set,
    }
}

/// How a layer names what is gone.
pub const WHITEOUT: &[u8] = b".wh.";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (path, expected) in [
            ("a/b", Some(Meaning::Plain)),
            ("a/b.wh.c", Some(Meaning::Plain)),
            ("a/.wh.b", Some(Meaning::Gone { name: b"b" })),
            (".wh.b", Some(Meaning::Gone { name: b"b" })),
            ("a/.wh....", Some(Meaning::Gone { name: b"..." })),
            ("a/.wh..wh..opq", Some(Meaning::Opaque)),
            (".wh..wh..opq", Some(Meaning::Opaque)),
            (".wh..wh.plnk/12.3", Some(Meaning::Ignored)),
            ("a/.wh..wh.orph", Some(Meaning::Ignored)),
            ("a/.wh.", None),
            ("a/.wh..", None),
            ("a/.wh...", None),
        ] {
            assert_eq!(meaning(path.as_bytes()).ok(), expected, "{path}");
        }
    }
}
