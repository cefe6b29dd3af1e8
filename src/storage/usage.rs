//! How many bytes of data a tree holds that a container has shaped: by descriptor, and no link is followed.

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat},
    io::Errno,
};
use std::{
    collections::HashSet,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

/// Levels that are open at a time; what lies deeper is not counted, so that no container can use up our descriptors.
const DEPTH: usize = 128;

/// Bytes of data in the files below `path`, a file of several names once. What vanishes meanwhile is not counted.
///
/// # Errors
/// EACCES where a directory belongs to a subordinate id: only inside the user namespace all can be seen.
pub fn usage(path: &Path) -> rustix::io::Result<u64> {
    let mut seen = HashSet::new();
    count(open_directory(CWD, path)?, DEPTH, &mut seen)
}

fn count(dir: OwnedFd, depth: usize, seen: &mut HashSet<(u64, u64)>) -> rustix::io::Result<u64> {
    let mut bytes = 0;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let new = stat.st_nlink == 1 || seen.insert((stat.st_dev, stat.st_ino));
            bytes += if new { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        } else if depth > 0 {
            bytes += match open_directory(dir.as_fd(), name) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => 0,
                opened => count(opened?, depth - 1, seen)?,
            };
        }
    }
    Ok(bytes)
}

fn open_directory(at: impl AsFd, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(at, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn counted_once_and_not_through_links() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("a"), "12345").unwrap();
        fs::write(at("sub/b"), "123").unwrap();
        fs::hard_link(at("a"), at("sub/again")).unwrap();
        std::os::unix::fs::symlink("/usr", at("sub/usr")).unwrap();
        assert_eq!(usage(temp.path()), Ok(5 + 3 + 4));
        assert_eq!(usage(&at("none")), Err(Errno::NOENT));
    }
}
