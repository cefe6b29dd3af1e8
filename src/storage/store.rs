//! The store's directories, and the hold that keeps garbage collection away while somebody works in them.

use super::{Dirs, disk::ByErrno, skeleton};
use crate::error::{Explain, causes};
use anyhow::{Context, Result};
use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, fsync, open},
    io::Errno,
    rand::{GetRandomFlags, getrandom},
};
use std::{
    fs,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

/// The store of one user.
#[derive(Clone, Debug)]
pub struct Store {
    dirs: Dirs,
}

/// While one of these lives nothing that was seen in the store is collected. The kernel lets go of it when its process
/// dies.
#[derive(Debug)]
pub struct Hold {
    _lock: OwnedFd,
}

/// While it lives nobody else chooses ids.
#[derive(Debug)]
pub struct IdsLock(#[expect(dead_code, reason = "held, never read")] Hold);

impl Store {
    /// Open the store, making what of it doesn't exist yet: 0700 under any umask.
    pub fn open(dirs: Dirs) -> Result<Store> {
        dirs.create()?;
        let store = Store { dirs };
        // The last one that is made stands for all of them.
        if !store.directory(LAST).is_dir() {
            match store.make_whole() {
                // What is there can still be looked at.
                Err(e) if is_read_only(&e) => {}
                made => made?,
            }
        }
        Ok(store)
    }

    fn make_whole(&self) -> Result<()> {
        for name in DIRECTORIES {
            make_directory(&self.directory(name))?;
        }
        skeleton::make(&self.skeleton())?;
        make_directory(&self.directory(LAST))
    }

    /// Where the store lies.
    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// The lowest layer of every container.
    pub fn skeleton(&self) -> PathBuf {
        self.dirs.data.join("skeleton/fs")
    }

    /// Where root file systems are mounted: one place for all, since each start has a mount namespace of its own.
    pub fn mount_point(&self) -> PathBuf {
        self.dirs.data.join(MOUNT)
    }

    /// A directory that nobody looks into from inside a container that is being made: it can mount there what it shows in
    /// other places.
    pub fn stage(&self) -> PathBuf {
        self.dirs.data.join("tmp")
    }

    /// What happened, one line each.
    pub fn events_file(&self) -> PathBuf {
        self.dirs.data.join("events")
    }

    /// Keep everything in the store until the hold is dropped. Waits for a collection that is under way, which is short.
    pub fn hold(&self) -> Result<Hold> {
        match lock(&self.dirs.data, FlockOperation::LockShared)? {
            Some(hold) => Ok(hold),
            None => unreachable!("flock(2) without LOCK_NB waits"),
        }
    }

    /// Let nobody else change the names of images until the lock is dropped. Who holds the store keeps the collector away,
    /// who may take a record for garbage in between.
    pub(super) fn lock_images(&self, _: &Hold) -> Result<Hold> {
        match lock(&self.directory("images"), FlockOperation::LockExclusive)? {
            Some(hold) => Ok(hold),
            None => unreachable!("flock(2) without LOCK_NB waits"),
        }
    }

    /// Let nobody else choose ids of the host for a container until the lock is dropped.
    pub fn lock_ids(&self) -> Result<IdsLock> {
        match lock(&self.directory("containers"), FlockOperation::LockExclusive)? {
            Some(hold) => Ok(IdsLock(hold)),
            None => unreachable!("flock(2) without LOCK_NB waits"),
        }
    }

    /// Have the store alone, or `None` while somebody holds it.
    pub(super) fn try_hold_alone(&self) -> Result<Option<Hold>> {
        lock(&self.dirs.data, FlockOperation::NonBlockingLockExclusive)
    }

    pub(super) fn blob_path(&self, hex: &str) -> PathBuf {
        self.dirs.data.join("blobs/sha256").join(hex)
    }

    pub(super) fn layer_dir(&self, hex: &str) -> PathBuf {
        self.dirs.data.join("layers").join(hex)
    }

    /// What the store consists of.
    pub(super) fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let made_when_needed = ["lists", "views", "volumes", "secrets", "networks"];
        let all = DIRECTORIES.into_iter().chain(made_when_needed);
        all.filter(|name| !name.contains('/')).map(|name| self.directory(name))
    }

    pub(super) fn directory(&self, name: &str) -> PathBuf {
        self.dirs.data.join(name)
    }

    /// A name in tmp/ that nobody else has. What is there is garbage once nobody holds the store.
    pub(super) fn draft_path(&self) -> Result<PathBuf> {
        Ok(self.directory("tmp").join(random_name()?))
    }
}

// The lock is on the directory itself: it needs no file, so that it works on a read-only store too.
fn lock(path: &Path, operation: FlockOperation) -> Result<Option<Hold>> {
    let dir = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("open {}", path.display()))?;
    loop {
        match flock(&dir, operation) {
            Ok(()) => return Ok(Some(Hold { _lock: dir })),
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("lock {}", path.display())),
        }
    }
}

const DIRECTORIES: [&str; 10] =
    ["blobs", "blobs/sha256", "layers", "images", "containers", "names", "tmp", "trash", "skeleton", MOUNT];
const MOUNT: &str = "skeleton/mount";
/// The one that earlier builds did not make, so that theirs gets it too; a store without it is not whole.
pub(super) const LAST: &str = "blobs/partial";

fn is_read_only(error: &anyhow::Error) -> bool {
    causes(error).any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
            || cause.downcast_ref::<Errno>() == Some(&Errno::ROFS)
    })
}

pub(super) fn random_name() -> Result<String> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty()).context("get 8 random bytes")?;
    Ok(super::digest::hex(&bytes))
}

/// Make the renames and new names of directory `path` survive a power loss.
pub(super) fn sync_directory(path: &Path) -> Result<()> {
    let sync = || fsync(open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
    sync().with_context(|| format!("fsync {}", path.display()))
}

fn make_directory(path: &Path) -> Result<()> {
    // Closed from its first moment: nobody may be left to close it. Our umask takes nothing from the owner (main.rs).
    let made = match fs::DirBuilder::new().mode(0o700).create(path) {
        // Another process opens the same new store.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    };
    made.with_context(|| format!("make directory {}", path.display()))
        .hint_by_errno()
        .hint("name another place with --root")
}

#[cfg(test)]
pub(super) fn test_store() -> (tempfile::TempDir, Store) {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let dirs = Dirs { data: at("data"), runtime: at("run"), config: at("config"), cache: at("cache") };
    let store = Store::open(dirs).unwrap();
    (temp, store)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_hold_keeps_the_collector_out() {
        let (_temp, store) = test_store();
        let (first, second) = (store.hold().unwrap(), store.hold().unwrap());
        drop(first);
        assert!(store.try_hold_alone().unwrap().is_none());
        drop(second);
        assert!(store.try_hold_alone().unwrap().is_some());
    }

    #[test]
    fn a_store_of_an_earlier_build_gets_what_it_lacks() {
        let (_temp, store) = test_store();
        fs::remove_dir(store.directory(LAST)).unwrap();
        Store::open(store.dirs().clone()).unwrap();
        assert!(store.directory(LAST).is_dir());
    }

    #[test]
    fn nobody_else_may_enter() {
        let (_temp, store) = test_store();
        for name in DIRECTORIES {
            let mode = fs::metadata(store.directory(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700, "{name}");
        }
    }
}
