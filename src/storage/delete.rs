//! Deleting a tree that a container or an image has shaped: by descriptor, no link is followed, and neither its depth nor
//! directories without permissions stop it.

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, chmod, fchmod, openat, renameat_with,
        unlinkat,
    },
    io::Errno,
};
use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// Delete `path` and all below it; fine when it doesn't exist. What can be deleted is deleted even where something can't.
///
/// # Errors
/// The first thing that could not be deleted: EACCES or EPERM where it belongs to a subordinate id, so that only a
/// process inside the user namespace can.
pub fn delete_tree(path: &Path) -> io::Result<()> {
    delete_tree_at(CWD, path)
}

/// The same for `path` below the directory `at`.
pub(crate) fn delete_tree_at(at: BorrowedFd<'_>, path: impl rustix::path::Arg + Copy) -> io::Result<()> {
    match unlinkat(at, path, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR) => return Ok(unlinkat(at, path, AtFlags::empty())?),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        done => return Ok(done?),
    }
    let top = open_directory(at, path)?;
    let mut deletion = Deletion { top: top.as_fd(), parked: 0, progress: false, failure: None };
    loop {
        deletion.progress = false;
        deletion.failure = None;
        deletion.empty(top.try_clone()?, 0);
        match unlinkat(at, path, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) if deletion.progress => {}
            Err(e) => return Err(deletion.failure.unwrap_or(e).into()),
            Ok(()) => return Ok(()),
        }
    }
}

/// Levels that are open at a time. What lies deeper is moved up below the top first: a container can nest directories
/// deeper than there are descriptors or stack.
const DEPTH: usize = 32;

struct Deletion<'a> {
    top: BorrowedFd<'a>,
    parked: u64,
    progress: bool,
    failure: Option<Errno>,
}

impl Deletion<'_> {
    fn empty(&mut self, dir: OwnedFd, depth: usize) {
        let mut entries = match Dir::read_from(&dir) {
            Ok(entries) => entries,
            Err(e) => return self.failed(e),
        };
        let mut opened_up = false;
        while let Some(Ok(entry)) = entries.read() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let mut outcome = self.delete(dir.as_fd(), name, entry.file_type(), depth);
            if outcome == Err(Errno::ACCESS) && !opened_up {
                opened_up = true;
                if fchmod(&dir, Mode::RWXU).is_ok() {
                    outcome = self.delete(dir.as_fd(), name, entry.file_type(), depth);
                }
            }
            match outcome {
                Ok(gone) => self.progress |= gone,
                Err(e) => self.failed(e),
            }
        }
    }

    /// Whether `name` is gone from `dir`; where it isn't, what stayed below it has been noted.
    fn delete(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        depth: usize,
    ) -> Result<bool, Errno> {
        if kind != FileType::Directory {
            match unlinkat(dir, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => {}
                done => return done.map(|()| true),
            }
        }
        match unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            done => return done.map(|()| true),
        }
        if depth == DEPTH {
            return self.park(dir, name).map(|()| true);
        }
        self.empty(open_directory(dir, name)?, depth + 1);
        match unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// Move `name` right below the top, for the next round.
    fn park(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        let mut opened_up = false;
        loop {
            self.parked += 1;
            let place = format!("deep-{}", self.parked);
            match renameat_with(dir, name, self.top, place, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                // A directory without write permission can't get another `..`.
                Err(Errno::ACCESS) if !opened_up => {
                    opened_up = true;
                    open_up(dir, name)?;
                }
                done => return done,
            }
        }
    }

    fn failed(&mut self, errno: Errno) {
        self.failure.get_or_insert(errno);
    }
}

fn open_directory(dir: impl AsFd, name: impl rustix::path::Arg + Copy) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    match openat(&dir, name, flags, Mode::empty()) {
        // overlay's work/work has mode 0.
        Err(Errno::ACCESS) => {
            open_up(&dir, name)?;
            openat(&dir, name, flags, Mode::empty())
        }
        opened => opened,
    }
}

/// chmod without following a link: fchmodat(2) can't, and fchmodat2(2) came with Linux 6.6.
fn open_up(dir: impl AsFd, name: impl rustix::path::Arg) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let this = openat(dir, name, flags, Mode::empty())?;
    chmod(format!("/proc/self/fd/{}", this.as_raw_fd()), Mode::RWXU)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    #[test]
    fn follows_no_link() {
        let temp = tempfile::tempdir().unwrap();
        let canary = temp.path().join("canary");
        fs::create_dir(&canary).unwrap();
        fs::write(canary.join("file"), "x").unwrap();
        let tree = temp.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        symlink(&canary, tree.join("a/link")).unwrap();
        symlink(&canary, temp.path().join("top")).unwrap();
        delete_tree(&tree).unwrap();
        delete_tree(&temp.path().join("top")).unwrap();
        delete_tree(&tree).unwrap();
        assert!(!tree.exists() && canary.join("file").exists());
    }

    #[test]
    fn directories_without_permissions() {
        let temp = tempfile::tempdir().unwrap();
        let tree = temp.path().join("tree");
        fs::create_dir_all(tree.join("work/work/x")).unwrap();
        fs::create_dir_all(tree.join("read-only/x/y")).unwrap();
        fs::write(tree.join("read-only/file"), "x").unwrap();
        for (name, mode) in [("work/work", 0), ("read-only/x", 0o555), ("read-only", 0o555), ("", 0o500)] {
            fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        delete_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    /// As root only: then one thread can be somebody else.
    #[test]
    fn what_belongs_to_others_stays_and_is_told() {
        use rustix::{process, thread};
        if !process::getuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let tree = temp.path().join("tree");
        fs::create_dir_all(tree.join("ours/theirs/file")).unwrap();
        fs::write(tree.join("ours/file"), "x").unwrap();
        fs::set_permissions(tree.join("ours/theirs"), fs::Permissions::from_mode(0o700)).unwrap();
        for path in [temp.path(), &tree, &tree.join("ours")] {
            std::os::unix::fs::chown(path, Some(65534), None).unwrap();
        }
        let nobody = process::Uid::from_raw(65534);
        let outcome = std::thread::scope(|scope| {
            let delete = scope.spawn(|| {
                thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
                delete_tree(&tree)
            });
            delete.join().unwrap()
        });
        // EACCES or, of the chmod that was tried, EPERM.
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(tree.join("ours/theirs/file").exists() && !tree.join("ours/file").exists());
    }

    #[test]
    fn a_tree_deeper_than_descriptors_or_a_path() {
        let temp = tempfile::tempdir().unwrap();
        let tree = temp.path().join("tree");
        fs::create_dir_all(tree.join("deep-1")).unwrap();
        let mut at = open_directory(CWD, &tree).unwrap();
        for _ in 0..2500 {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            mkdirat(&at, "sibling", Mode::RWXU).unwrap();
            at = open_directory(&at, "d").unwrap();
        }
        delete_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
