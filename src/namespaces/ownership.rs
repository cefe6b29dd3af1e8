//! Giving a tree of files to one user. Containers may have shaped it and may be changing it: by descriptor, through no link.

use rustix::{
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, openat, statat},
    io::{Errno, Result},
};
use std::{
    ffi::CStr,
    os::fd::{AsFd, OwnedFd},
};

/// Directories that are open at a time; deeper trees are refused.
const DEPTH: usize = 256;

/// Give `top` to user `uid` and group `gid`, and with `all` what is below it.
pub fn give(top: &OwnedFd, uid: u32, gid: u32, all: bool) -> Result<()> {
    let owner = (Uid::from_raw(uid), Gid::from_raw(gid));
    let is_directory = change(top, c"", owner)?;
    let mut open = Vec::new();
    if all && is_directory {
        open.push(Dir::new(openat(top, c".", DIRECTORY, Mode::empty())?)?);
    }
    while let Some(directory) = open.last_mut() {
        let Some(entry) = directory.read() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let at = directory.fd()?;
        match change(at, name, owner) {
            // It vanished meanwhile, or is no directory any more.
            Err(Errno::NOENT) => {}
            Ok(false) => {}
            Ok(true) => match openat(at, name, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                opened if open.len() < DEPTH => open.push(Dir::new(opened?)?),
                _ => return Err(Errno::LOOP),
            },
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Change one owner if it is another; whether it is a directory.
fn change(at: impl AsFd, name: &CStr, (uid, gid): (Uid, Gid)) -> Result<bool> {
    let empty = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
    let flags = match crate::weakened::is("chown-links") {
        true => empty,
        false => empty | AtFlags::SYMLINK_NOFOLLOW,
    };
    let stat = statat(&at, name, flags)?;
    if (stat.st_uid, stat.st_gid) != (uid.as_raw(), gid.as_raw()) {
        chownat(&at, name, Some(uid), Some(gid), flags)?;
    }
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
