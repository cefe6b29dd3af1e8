//! Containers as directories. `containers/<id>/` appears whole by one rename with its lock already held; a container lives
//! as long as somebody holds that lock. Names are symbolic links `names/<name>` -> id.
//!
//! Nothing here is fsynced: a container is atomic, not durable. What a crash of the machine takes away is a container
//! that was running in it; images are what must survive.

use super::{ContainerId, Digest, Name, Store, delete_tree};
use crate::error::Explain;
use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{FcntlArg, fcntl};
use rustix::{
    fs::{CWD, FlockOperation, Mode, OFlags, flock, open},
    io::Errno,
};
use std::{
    fmt::Write as _,
    fs,
    io::{ErrorKind, Read, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

impl Store {
    /// Make the container `id` over `layers` (diff ids, base first), alive from its first moment: whoever holds the lock,
    /// or a descriptor inherited from it, keeps the container alive. The caller holds the store ([`Store::hold`]) until
    /// this returns; from then on the container's list keeps the layers.
    pub fn create_container(&self, id: &ContainerId, layers: &[Digest]) -> Result<(ContainerDir, Lock)> {
        let draft = self.dirs().data.join("tmp").join(id.as_str());
        let dir = self.container(id);
        let made = self.draft_container(&draft, layers).and_then(|lock| {
            fs::rename(&draft, &dir.path)
                .with_context(|| format!("publish container {}", dir.path.display()))?;
            Ok(lock)
        });
        match made {
            Ok(lock) => Ok((dir, lock)),
            Err(failure) => {
                let _ = delete_tree(&draft);
                Err(failure).hint("free space or inodes on the file system of `ctr info`'s data directory")
            }
        }
    }

    fn draft_container(&self, draft: &Path, layers: &[Digest]) -> Result<Lock> {
        make_dir(draft)?;
        make_dir(&draft.join("work"))?;
        let upper = draft.join("upper");
        make_dir(&upper)?;
        // It becomes the container's `/`, which everyone inside may enter.
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("chmod {}", upper.display()))?;
        let mut list = String::with_capacity(layers.len() * 72);
        for layer in layers {
            let _ = writeln!(list, "{layer}");
        }
        let path = draft.join("layers");
        fs::write(&path, list).with_context(|| format!("write {}", path.display()))?;
        let path = draft.join("lock");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let file = open(&path, flags, Mode::RUSR | Mode::WUSR)
            .with_context(|| format!("make {}", path.display()))?;
        Lock::take(file)
            .with_context(|| format!("lock {}", path.display()))?
            .context("a new lock is held already")
    }

    /// Where container `id` lies, whether it exists or not.
    pub fn container(&self, id: &ContainerId) -> ContainerDir {
        ContainerDir {
            id: id.clone(),
            path: self.dirs().data.join("containers").join(id.as_str()),
            runtime: self.dirs().runtime.clone(),
        }
    }

    /// The ids of all containers, in no order.
    pub fn containers(&self) -> Result<Vec<ContainerId>> {
        let path = self.dirs().data.join("containers");
        let entries = fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// Give `name` to container `id`, which exists. Of two that want one name at the same time one gets it. A claim whose
    /// container is gone is taken over.
    ///
    /// # Errors
    /// The name belongs to another container.
    pub fn claim_name(&self, name: &Name, id: &ContainerId) -> Result<()> {
        let claim = self.claim(name);
        let taken = || symlink(id.as_str(), &claim).map_err(|e| (e.kind() == ErrorKind::AlreadyExists, e));
        let mut outcome = taken();
        if let Err((true, _)) = outcome {
            let _lock = self.lock_names()?;
            match self.named(name)? {
                Some(owner) if owner == *id => return Ok(()),
                Some(owner) => {
                    return Err(anyhow!("the name {name} belongs to container {}", owner.short()))
                        .hint(format!("remove that one (`ctr rm {name}`) or choose another name"));
                }
                None => {
                    let _ = fs::remove_file(&claim);
                    outcome = taken();
                }
            }
        }
        outcome
            .map_err(|(_, e)| e)
            .with_context(|| format!("give the name {name} to container {}", id.short()))
    }

    /// The container called `name`, if it exists.
    pub fn named(&self, name: &Name) -> Result<Option<ContainerId>> {
        match fs::read_link(self.claim(name)) {
            Ok(target) => {
                let id = target.to_str().and_then(|id| id.parse().ok());
                Ok(id.filter(|id| self.container(id).path.exists()))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("look up the name {name}")),
        }
    }

    /// Take away what is left of containers that are gone, names and files of the runtime directory: whoever removed them
    /// was killed on the way.
    pub fn forget_the_gone(&self) -> Result<()> {
        let runtime = fs::read_dir(&self.dirs().runtime).into_iter().flatten().flatten();
        for file in runtime {
            let id = file.path().file_stem().and_then(|stem| stem.to_str()?.parse::<ContainerId>().ok());
            if id.is_some_and(|id| !self.container(&id).path.exists()) {
                let _ = fs::remove_file(file.path());
            }
        }
        let path = self.dirs().data.join("names");
        let entries = fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?.flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<Name>().ok());
        for name in names.filter(|name| matches!(self.named(name), Ok(None))) {
            let _lock = self.lock_names()?;
            if self.named(&name)?.is_none() {
                let _ = fs::remove_file(self.claim(&name));
            }
        }
        Ok(())
    }

    /// Take `dir` out of the listing and free its name: from here on the container does not exist. The caller holds its
    /// lock. Returns what is left to delete, in `trash/`; `None` when somebody else was faster.
    pub fn retire_container(&self, dir: &ContainerDir, name: Option<&Name>) -> Result<Option<PathBuf>> {
        let trash = self.dirs().data.join("trash").join(dir.id.as_str());
        match fs::rename(&dir.path, &trash) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            moved => moved.with_context(|| format!("move {} to the trash", dir.path.display()))?,
        }
        dir.remove_pid_file();
        dir.remove_socket_file();
        match name {
            Some(name) => self.release_name(name, &dir.id)?,
            None => self.names_of(&dir.id)?.iter().try_for_each(|name| self.release_name(name, &dir.id))?,
        }
        Ok(Some(trash))
    }

    fn names_of(&self, id: &ContainerId) -> Result<Vec<Name>> {
        let path = self.dirs().data.join("names");
        let entries = fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?.flatten();
        let ours =
            entries.filter(|e| fs::read_link(e.path()).is_ok_and(|target| target == Path::new(id.as_str())));
        Ok(ours.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect())
    }

    /// Free `name` if it is container `id` that has it.
    pub fn release_name(&self, name: &Name, id: &ContainerId) -> Result<()> {
        let claim = self.claim(name);
        let _lock = self.lock_names()?;
        if fs::read_link(&claim).is_ok_and(|target| target == Path::new(id.as_str())) {
            fs::remove_file(&claim).with_context(|| format!("release the name {name}"))?;
        }
        Ok(())
    }

    /// Whoever takes a claim away holds this, so that "look, then remove" can't hit somebody's new claim. Making a claim
    /// needs no lock: only one symlink(2) of a name succeeds.
    fn lock_names(&self) -> Result<OwnedFd> {
        let path = self.dirs().data.join("names");
        let dir = open(&path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let dir = dir.with_context(|| format!("open {}", path.display()))?;
        flock(&dir, FlockOperation::LockExclusive).with_context(|| format!("lock {}", path.display()))?;
        Ok(dir)
    }

    fn claim(&self, name: &Name) -> PathBuf {
        self.dirs().data.join("names").join(name.as_str())
    }
}

/// The directory of one container.
#[derive(Clone, Debug)]
pub struct ContainerDir {
    id: ContainerId,
    path: PathBuf,
    runtime: PathBuf,
}

impl ContainerDir {
    /// Whose directory this is.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// The directory itself, 0700.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// overlay's upper directory: what the container changed.
    pub fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }

    /// overlay's work directory.
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// Where the monitor says which process is the container's first. Dies with the boot.
    pub fn pid_file(&self) -> PathBuf {
        self.runtime.join(format!("{}.pid", self.id))
    }

    /// Where its monitor listens. Dies with the boot.
    pub fn socket_file(&self) -> PathBuf {
        self.runtime.join(format!("{}.sock", self.id))
    }

    /// The layers below the upper directory, base first.
    pub fn layers(&self) -> Result<Vec<Digest>> {
        let list = self.read("layers")?.unwrap_or_default();
        let lines =
            std::str::from_utf8(&list).with_context(|| format!("read the layers of {}", self.id.short()))?;
        lines.lines().map(str::parse).collect()
    }

    /// The contents of file `name`, or `None` without one.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        read_bounded(&self.path.join(name))
    }

    /// The contents of the pid file, or `None` without one.
    pub fn read_pid_file(&self) -> Result<Option<Vec<u8>>> {
        read_bounded(&self.pid_file())
    }

    /// Replace file `name` as a whole: readers see the old or the new contents.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<()> {
        replace(&self.path.join(name), contents)
    }

    /// Replace the pid file as a whole.
    pub fn write_pid_file(&self, contents: &[u8]) -> Result<()> {
        replace(&self.pid_file(), contents)
    }

    /// Remove the socket of a monitor that ends. One that stays is a dead end, which clients find out.
    pub fn remove_socket_file(&self) {
        let _ = fs::remove_file(self.socket_file());
    }

    /// Remove the pid file. One that stays names a process that is no more, which readers find out.
    pub fn remove_pid_file(&self) {
        let _ = fs::remove_file(self.pid_file());
    }

    /// Whether somebody holds the lock. Only asks: nobody is kept from taking it.
    pub fn is_alive(&self) -> Result<bool> {
        let Some(file) = self.open_lock(OFlags::RDONLY)? else { return Ok(false) };
        let mut lock = whole_file();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))
            .with_context(|| format!("probe the lock of {}", self.id.short()))?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }

    /// Take the lock of a dead container; `None` while it lives or when it is gone.
    pub fn try_lock(&self) -> Result<Option<Lock>> {
        let Some(file) = self.open_lock(OFlags::RDWR)? else { return Ok(None) };
        Lock::take(file).with_context(|| format!("lock container {}", self.id.short()))
    }

    /// Wait until the container is dead and take its lock; `None` when it is gone.
    pub fn lock(&self) -> Result<Option<Lock>> {
        let Some(file) = self.open_lock(OFlags::RDWR)? else { return Ok(None) };
        let all = whole_file();
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLKW(&all)) {
                Ok(_) => return Ok(Some(Lock(file))),
                Err(nix::errno::Errno::EINTR) => continue,
                Err(e) => {
                    return Err(e).with_context(|| format!("wait for container {} to end", self.id.short()));
                }
            }
        }
    }

    fn open_lock(&self, access: OFlags) -> Result<Option<OwnedFd>> {
        match open(self.path.join("lock"), access | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("open the lock of container {}", self.id.short())),
        }
    }
}

/// A held lock of a container. It belongs to the open file (fcntl_locking(2), "Open file description locks"): a forked
/// process that keeps the descriptor keeps the container alive, and the kernel lets go when the last one is closed.
#[derive(Debug)]
pub struct Lock(OwnedFd);

impl Lock {
    fn take(file: OwnedFd) -> Result<Option<Lock>> {
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => Ok(Some(Lock(file))),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn whole_file() -> libc::flock {
    libc::flock { l_type: libc::F_WRLCK as _, l_whence: libc::SEEK_SET as _, l_start: 0, l_len: 0, l_pid: 0 }
}

fn make_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make directory {}", path.display()))
}

fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    let draft = path.with_added_extension("new");
    let write = || -> std::io::Result<()> {
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(CWD, &draft, flags, Mode::RUSR | Mode::WUSR)?;
        fs::File::from(file).write_all(contents)?;
        fs::rename(&draft, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Our own small files; the limit keeps a damaged one from filling memory.
const LIMIT: u64 = 16 << 20;

fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(file) => fs::File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("open {}", path.display())),
    };
    let mut contents = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut contents).with_context(|| format!("read {}", path.display()))?;
    if contents.len() as u64 > LIMIT {
        bail!("{} is larger than {LIMIT} bytes", path.display());
    }
    Ok(Some(contents))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Dirs;

    fn store() -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let dirs = Dirs { data: at("data"), runtime: at("run"), config: at("config"), cache: at("cache") };
        let store = Store::open(dirs).unwrap();
        (temp, store)
    }

    #[test]
    fn alive_from_birth_until_the_last_descriptor_closes() {
        let (_temp, store) = store();
        let id = ContainerId::random().unwrap();
        let layers = [Digest::of(b"base"), Digest::of(b"top")];
        let (dir, lock) = store.create_container(&id, &layers).unwrap();
        assert_eq!(store.containers().unwrap(), std::slice::from_ref(&id));
        assert_eq!(dir.layers().unwrap(), layers);
        assert_eq!(fs::metadata(dir.upper()).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o7777, 0o700);
        let second = lock.0.try_clone().unwrap();
        drop(lock);
        assert!(dir.is_alive().unwrap() && dir.try_lock().unwrap().is_none());
        drop(second);
        assert!(!dir.is_alive().unwrap());
        let mine = dir.lock().unwrap().unwrap();
        assert!(dir.is_alive().unwrap());
        let trash = store.retire_container(&dir, None).unwrap().unwrap();
        assert!(store.retire_container(&dir, None).unwrap().is_none());
        drop(mine);
        assert!(store.containers().unwrap().is_empty() && trash.exists() && !dir.is_alive().unwrap());
    }

    #[test]
    fn a_name_has_one_owner() {
        let (_temp, store) = store();
        let [a, b] = [(); 2].map(|()| ContainerId::random().unwrap());
        let (first, _a) = store.create_container(&a, &[]).unwrap();
        let (second, _b) = store.create_container(&b, &[]).unwrap();
        let name: Name = "box".parse().unwrap();
        store.claim_name(&name, &a).unwrap();
        store.claim_name(&name, &a).unwrap();
        let refused = store.claim_name(&name, &b).unwrap_err();
        assert!(format!("{refused:#}").contains(a.short()));
        assert_eq!(store.named(&name).unwrap(), Some(a.clone()));
        // The owner vanishes without letting go: the claim heals.
        fs::remove_dir_all(first.path()).unwrap();
        assert_eq!(store.named(&name).unwrap(), None);
        store.claim_name(&name, &b).unwrap();
        assert_eq!(store.named(&name).unwrap(), Some(b));
        // Whoever has lost a name can't release it for its new owner.
        store.release_name(&name, &a).unwrap();
        assert!(store.named(&name).unwrap().is_some());
        store.retire_container(&second, Some(&name)).unwrap();
        assert!(fs::symlink_metadata(store.claim(&name)).is_err());
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let (_temp, store) = store();
        let (dir, _lock) = store.create_container(&ContainerId::random().unwrap(), &[]).unwrap();
        assert_eq!(dir.read("exit").unwrap(), None);
        dir.write("exit", b"a long text").unwrap();
        dir.write("exit", b"short").unwrap();
        assert_eq!(dir.read("exit").unwrap().unwrap(), b"short");
    }
}
