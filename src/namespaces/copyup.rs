//! Filling a new tmpfs or volume with what the image has at its place (`tmpcopyup` and `copy` of podman-run(1)).

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fchmod, fchown, fstat, mkdirat,
        openat, readlinkat, statat, symlinkat, unlinkat,
    },
    io::{Errno, Result, read, write},
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the options of the new file system say, so that it isn't taken from the image's.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// `mode=`
    pub mode: bool,
    /// `uid=` or `gid=`
    pub owner: bool,
    /// `nocopy`: the directory alone, without what is in it.
    pub content: bool,
}

/// Copy directories, files and links, with owners and modes, from the directory `from` to the empty directory `to`. What
/// doesn't fit in the tmpfs is ENOSPC; device nodes, sockets and FIFOs are left out.
pub fn fill(from: BorrowedFd<'_>, to: BorrowedFd<'_>, kept: Kept) -> Result<()> {
    let from = open(from, c".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let to = open(to, c".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    if !kept.content {
        copy_directory(&from, &to, 0)?;
    }
    let stat = fstat(&from)?;
    if !kept.owner {
        match fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid))) {
            // An owner who has no id here, not even as nobody.
            Err(Errno::INVAL) => {}
            given => given?,
        }
    }
    match kept.mode {
        true => Ok(()),
        false => fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777)),
    }
}

/// Whether there is nothing in `directory`.
pub fn is_empty(directory: &OwnedFd) -> Result<bool> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Remove what [`fill`] has made.
pub fn clear(directory: &OwnedFd) -> Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        match unlinkat(directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) if !matches!(name.to_bytes(), b"." | b"..") => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                clear(&open(directory, name, flags)?)?;
                unlinkat(directory, name, AtFlags::REMOVEDIR)?;
            }
            Err(Errno::ISDIR) => {}
            removed => removed?,
        }
    }
    Ok(())
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd, depth: u32) -> Result<()> {
    if depth > 64 {
        return Err(Errno::LOOP);
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                copy_directory(&open(from, name, flags)?, &open(to, name, flags)?, depth + 1)?;
                chownat(to, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
                chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
            }
            FileType::Symlink => {
                symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
                chownat(to, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            FileType::RegularFile => {
                let source = open(from, name, OFlags::RDONLY | OFlags::NOFOLLOW)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let copy = openat(to, name, flags, Mode::from_raw_mode(0o600))?;
                copy_contents(&source, &copy)?;
                fchown(&copy, Some(owner), Some(group))?;
                fchmod(&copy, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn copy_contents(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = read(from, &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            rest = &rest[write(to, rest)?..];
        }
    }
}

fn open(at: impl AsFd, name: &std::ffi::CStr, flags: OFlags) -> Result<OwnedFd> {
    openat(at, name, flags | OFlags::CLOEXEC, Mode::empty())
}
