//! How two trees of files differ: names, kinds, modes, owners, times, extended attributes, links and contents. By descriptor,
//! through no link.

use super::archive::lossy;
use anyhow::{Context, Result};
use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, lgetxattr, llistxattr, openat2, readlinkat,
        statat,
    },
    io::Errno,
};
use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::Read,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

/// So many are told.
const LIMIT: usize = 10;
const BUFFER: usize = 256 << 10;
/// limits.h, XATTR_SIZE_MAX and XATTR_LIST_MAX.
const XATTR: usize = 64 << 10;

/// How `found` differs from `expected`; the first few. `since`: directories of `expected` that have changed after it (seconds
/// since 1970) were not in its archive, so their times say nothing.
pub fn differences(expected: BorrowedFd<'_>, found: BorrowedFd<'_>, since: i64) -> Result<Vec<String>> {
    let mut comparison = Comparison { expected, found, since, linked: HashMap::new(), told: Vec::new() };
    comparison.node(b"")?;
    let mut ahead = vec![Vec::new()];
    while let Some(path) = ahead.pop()
        && comparison.told.len() < LIMIT
    {
        comparison.directory(&path, &mut ahead).with_context(|| format!("compare {:?}", lossy(&path)))?;
    }
    Ok(comparison.told)
}

struct Comparison<'fd> {
    expected: BorrowedFd<'fd>,
    found: BorrowedFd<'fd>,
    since: i64,
    /// Files of several names: which one of `found` stands for one of `expected`.
    linked: HashMap<u64, u64>,
    told: Vec<String>,
}

impl Comparison<'_> {
    fn directory(&mut self, path: &[u8], ahead: &mut Vec<Vec<u8>>) -> Result<()> {
        let [expected, found] = [self.expected, self.found].map(|root| names(root, path));
        let (expected, found) = (expected?, found?);
        for name in expected.union(&found) {
            let path = if path.is_empty() { name.clone() } else { [path, b"/", name].concat() };
            match (expected.contains(name), found.contains(name)) {
                (true, false) => self.tell(&path, "is missing"),
                (false, true) => self.tell(&path, "does not belong there"),
                _ => {
                    if self.node(&path)? {
                        ahead.push(path);
                    }
                }
            }
        }
        Ok(())
    }

    /// Compare what is at `path`; whether both are directories.
    fn node(&mut self, path: &[u8]) -> Result<bool> {
        let ([a_dir, b_dir], name) = self.parents(path)?;
        let stat = |dir: &OwnedFd| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        let (a, b) = (stat(&a_dir)?, stat(&b_dir)?);
        let kind = FileType::from_raw_mode(a.st_mode);
        if kind != FileType::from_raw_mode(b.st_mode) {
            self.tell(path, "is of another kind");
            return Ok(false);
        }
        if a.st_mode != b.st_mode {
            self.tell(path, &format!("has mode {:o}, not {:o}", b.st_mode & 0o7777, a.st_mode & 0o7777));
        }
        if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid) {
            self.tell(path, &format!("belongs to {}:{}, not {}:{}", b.st_uid, b.st_gid, a.st_uid, a.st_gid));
        }
        // A whiteout, which is a character device here, has no time of the archive's either.
        let implied =
            matches!(kind, FileType::Directory | FileType::CharacterDevice) && a.st_mtime >= self.since;
        if (a.st_mtime, a.st_mtime_nsec) != (b.st_mtime, b.st_mtime_nsec) && !implied {
            self.tell(path, "has another time");
        }
        if kind != FileType::Directory && a.st_rdev != b.st_rdev {
            self.tell(path, "is another device");
        }
        if attributes(&a_dir, name)? != attributes(&b_dir, name)? {
            self.tell(path, "has other extended attributes");
        }
        match kind {
            FileType::Directory => return Ok(true),
            FileType::Symlink => {
                let target = |dir: &OwnedFd| readlinkat(dir, name, Vec::new());
                if target(&a_dir)? != target(&b_dir)? {
                    self.tell(path, "leads elsewhere");
                }
            }
            _ if !self.same_links(&a, &b) => self.tell(path, "has other hard links"),
            FileType::RegularFile if a.st_size != b.st_size => {
                self.tell(path, &format!("has {} bytes, not {}", b.st_size, a.st_size));
            }
            FileType::RegularFile if !same_contents(&a_dir, &b_dir, name)? => {
                self.tell(path, "has other contents");
            }
            _ => {}
        }
        Ok(false)
    }

    fn same_links(&mut self, a: &Stat, b: &Stat) -> bool {
        a.st_nlink == b.st_nlink
            && (a.st_nlink == 1 || *self.linked.entry(a.st_ino).or_insert(b.st_ino) == b.st_ino)
    }

    fn parents<'p>(&self, path: &'p [u8]) -> Result<([OwnedFd; 2], &'p [u8])> {
        let (parent, name) = super::tree::split(path);
        Ok(([open_directory(self.expected, parent)?, open_directory(self.found, parent)?], name))
    }

    fn tell(&mut self, path: &[u8], what: &str) {
        if self.told.len() < LIMIT {
            self.told.push(format!("/{} {what}", lossy(path)));
        }
    }
}

fn open_directory(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    openat2(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), BENEATH)
}

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

fn names(root: BorrowedFd<'_>, path: &[u8]) -> Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(&open_directory(root, path)?)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.insert(name);
        }
    }
    Ok(names)
}

/// By the path of /proc that stands for the directory: there is no other way to those of a link or a device.
fn attributes(dir: &OwnedFd, name: &[u8]) -> Result<HashMap<Vec<u8>, Vec<u8>>> {
    let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
    let mut list = vec![0; XATTR];
    let length = match llistxattr(path.as_slice(), &mut list[..]) {
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };
    let mut found = HashMap::new();
    for key in list[..length].split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
        let mut value = vec![0; XATTR];
        match lgetxattr(path.as_slice(), key, &mut value[..]) {
            // Listed to everyone, shown to some (security.*).
            Err(Errno::NODATA | Errno::PERM | Errno::NOTSUP) => {}
            length => {
                value.truncate(length?);
                found.insert(key.to_vec(), value);
            }
        }
    }
    Ok(found)
}

fn same_contents(a: &OwnedFd, b: &OwnedFd, name: &[u8]) -> Result<bool> {
    let open = |dir: &OwnedFd| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat2(dir.as_fd(), name, flags, Mode::empty(), BENEATH).map(File::from)
    };
    let (mut a, mut b) = (open(a)?, open(b)?);
    let (mut left, mut right) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let (n, m) = (fill(&mut a, &mut left)?, fill(&mut b, &mut right)?);
        if left[..n] != right[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Timespec, Timestamps, setxattr, utimensat};
    use std::{fs, path::Path};

    fn make(at: &Path) {
        fs::create_dir_all(at.join("dir/sub")).unwrap();
        fs::write(at.join("dir/file"), "contents").unwrap();
        fs::hard_link(at.join("dir/file"), at.join("again")).unwrap();
        fs::write(at.join("alone"), "contents").unwrap();
        std::os::unix::fs::symlink("/dir", at.join("link")).unwrap();
        for path in ["dir/file", "alone", "link", "dir/sub", "dir", ""] {
            old(&at.join(path));
        }
    }

    fn old(path: &Path) {
        let time = Timespec { tv_sec: 1_000_000, tv_nsec: 7 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    fn told(change: impl Fn(&Path)) -> Vec<String> {
        let temp = tempfile::tempdir().unwrap();
        let (a, b) = (temp.path().join("a"), temp.path().join("b"));
        make(&a);
        make(&b);
        change(&b);
        old(&b);
        let open = |path: &Path| File::open(path).unwrap();
        differences(open(&a).as_fd(), open(&b).as_fd(), 2_000_000).unwrap()
    }

    #[test]
    fn each_kind_of_damage() {
        assert_eq!(told(|_| {}), Vec::<String>::new());
        type Damage<'a> = &'a dyn Fn(&Path);
        let cases: [(Damage, &str); 8] = [
            (&|at| fs::remove_file(at.join("alone")).unwrap(), "/alone is missing"),
            (&|at| fs::write(at.join("new"), "").unwrap(), "/new does not belong there"),
            (
                &|at| {
                    fs::write(at.join("alone"), "c0ntents").unwrap();
                    old(&at.join("alone"));
                },
                "/alone has other contents",
            ),
            (&|at| fs::write(at.join("alone"), "x").unwrap(), "/alone has another time"),
            (
                &|at| setxattr(at.join("alone"), "user.x", b"1", rustix::fs::XattrFlags::empty()).unwrap(),
                "/alone has other extended attributes",
            ),
            (
                &|at| {
                    fs::remove_file(at.join("again")).unwrap();
                    fs::write(at.join("again"), "contents").unwrap();
                    old(&at.join("again"));
                },
                "/again has other hard links",
            ),
            (
                &|at| {
                    fs::remove_file(at.join("link")).unwrap();
                    std::os::unix::fs::symlink("/else", at.join("link")).unwrap();
                    old(&at.join("link"));
                },
                "/link leads elsewhere",
            ),
            (
                &|at| {
                    use std::os::unix::fs::PermissionsExt;
                    fs::set_permissions(at.join("dir/sub"), fs::Permissions::from_mode(0o700)).unwrap();
                },
                "/dir/sub has mode 700, not 755",
            ),
        ];
        for (change, expected) in cases {
            let told = told(change);
            assert!(told.iter().any(|line| line == expected), "{expected}: {told:?}");
        }
    }
}
