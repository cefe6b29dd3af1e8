//! How many bytes a tree holds that a container has shaped, of data or on the disk: by descriptor, and no link is followed.

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat},
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
    let data = |stat: &Stat| if is_directory(stat) { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) };
    count(open_directory(CWD, path)?, DEPTH, &mut Count { of: &data, seen: HashSet::new() })
}

/// Bytes that `path` and what is below it take on the disk, as du(1) counts them: blocks, those of directories, too, and a
/// file of several names once.
///
/// # Errors
/// As of [`usage`].
pub fn disk_usage(path: &Path) -> rustix::io::Result<u64> {
    let blocks = |stat: &Stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    if !is_directory(&stat) {
        return Ok(blocks(&stat));
    }
    let below = count(open_directory(CWD, path)?, DEPTH, &mut Count { of: &blocks, seen: HashSet::new() })?;
    Ok(blocks(&stat) + below)
}

struct Count<'c> {
    of: &'c dyn Fn(&Stat) -> u64,
    /// Files of several names.
    seen: HashSet<(u64, u64)>,
}

fn count(dir: OwnedFd, depth: usize, what: &mut Count) -> rustix::io::Result<u64> {
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
        if is_directory(&stat) {
            bytes += (what.of)(&stat);
            if depth > 0 {
                bytes += match open_directory(dir.as_fd(), name) {
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => 0,
                    opened => count(opened?, depth - 1, what)?,
                };
            }
        } else if stat.st_nlink == 1 || what.seen.insert((stat.st_dev, stat.st_ino)) {
            bytes += (what.of)(&stat);
        }
    }
    Ok(bytes)
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
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
        fs::write(at("large"), vec![1; 100_000]).unwrap();
        let du = std::process::Command::new("du").args(["-s", "-B1"]).arg(temp.path()).output().unwrap();
        let du = String::from_utf8(du.stdout).unwrap();
        assert_eq!(du.split_whitespace().next().unwrap().parse::<u64>().ok(), disk_usage(temp.path()).ok());
    }
}
