//! The directory of one container, and the lock in it that somebody holds as long as the container lives.

use super::{
    ContainerId, Digest,
    small_file::{read, replace},
};
use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, fcntl};
use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, fstat, open, stat},
    io::{Errno, retry_on_intr},
};
use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

/// The directory of one container.
#[derive(Clone, Debug)]
pub struct ContainerDir {
    pub(super) id: ContainerId,
    pub(super) path: PathBuf,
    pub(super) runtime: PathBuf,
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

    /// Where the monitor says which process is the container's first, and in which boot. Not in the runtime directory, which a
    /// session that ends takes along while containers go on.
    pub fn pid_file(&self) -> PathBuf {
        self.path.join("pid")
    }

    /// Where its monitor listens. Dies with the boot.
    pub fn socket_file(&self) -> PathBuf {
        self.runtime.join(format!("{}.sock", self.id))
    }

    /// Where its monitor listens once that place is gone: a session that ends takes its runtime directory along.
    pub fn second_socket_file(&self) -> PathBuf {
        self.path.join("sock")
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
        read(&self.path.join(name))
    }

    /// The contents of the pid file, or `None` without one.
    pub fn read_pid_file(&self) -> Result<Option<Vec<u8>>> {
        read(&self.pid_file())
    }

    /// Replace file `name` as a whole: readers see the old or the new contents.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<()> {
        replace(&self.path.join(name), contents)
    }

    /// Replace the pid file as a whole.
    pub fn write_pid_file(&self, contents: &[u8]) -> Result<()> {
        replace(&self.pid_file(), contents)
    }

    /// Remove the sockets of a monitor that ends. One that stays is a dead end, which clients find out.
    pub fn remove_socket_file(&self) {
        let _ = (fs::remove_file(self.socket_file()), fs::remove_file(self.second_socket_file()));
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
        let doing = || format!("lock container {}", self.id.short());
        while let Some(file) = self.open_lock(OFlags::RDWR)? {
            match Lock::take(file).with_context(doing)? {
                Some(lock) if !is_at(&self.path.join("lock"), &lock) => {}
                taken => return Ok(taken),
            }
        }
        Ok(None)
    }

    /// Wait until the container is dead and take its lock; `None` when it is gone.
    pub fn lock(&self) -> Result<Option<Lock>> {
        while let Some(file) = self.open_lock(OFlags::RDWR)? {
            match fcntl(&file, FcntlArg::F_OFD_SETLKW(&whole_file())) {
                Ok(_) if is_at(&self.path.join("lock"), &file) => return Ok(Some(Lock(file))),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => {
                    return Err(e).with_context(|| format!("wait for container {} to end", self.id.short()));
                }
            }
        }
        Ok(None)
    }

    /// Wait for whoever is replacing a file of the container by what it made of the file before, and be the one. Held for a
    /// moment only, whether the container lives or not.
    ///
    /// # Errors
    /// The container is gone.
    pub fn lock_changes(&self) -> Result<OwnedFd> {
        let doing = || format!("change container {}", self.id.short());
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let dir = open(&self.path, flags, Mode::empty()).with_context(doing)?;
        retry_on_intr(|| flock(&dir, FlockOperation::LockExclusive)).with_context(doing)?;
        ensure!(is_at(&self.path, &dir), "container {} was removed", self.id.short());
        Ok(dir)
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
pub struct Lock(pub(super) OwnedFd);

impl Lock {
    /// Take the lock that `file` is for; `None` when somebody has it.
    pub(super) fn take(file: OwnedFd) -> Result<Option<Lock>> {
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

/// Whether `file` is what lies at `path`: while one waits for its lock, a container is moved to the trash.
fn is_at(path: &Path, file: impl AsFd) -> bool {
    let (there, here) = (stat(path), fstat(file));
    there.is_ok_and(|there| here.is_ok_and(|here| (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)))
}

fn whole_file() -> libc::flock {
    libc::flock { l_type: libc::F_WRLCK as _, l_whence: libc::SEEK_SET as _, l_start: 0, l_len: 0, l_pid: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::store::test_store;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let (_temp, store) = test_store();
        let (dir, _lock) = store.create_container(&ContainerId::random().unwrap(), &[]).unwrap();
        assert_eq!(dir.read("exit").unwrap(), None);
        dir.write("exit", b"a long text").unwrap();
        dir.write("exit", b"short").unwrap();
        assert_eq!(dir.read("exit").unwrap().unwrap(), b"short");
    }

    #[test]
    fn the_lock_of_a_container_that_is_gone_is_nobodys() {
        let (_temp, store) = test_store();
        let (dir, lock) = store.create_container(&ContainerId::random().unwrap(), &[]).unwrap();
        let change = dir.lock_changes().unwrap();
        let waiting =
            [(); 2].map(|()| dir.clone()).map(|dir| std::thread::spawn(move || dir.lock().unwrap()));
        let late = {
            let dir = dir.clone();
            std::thread::spawn(move || dir.lock_changes().map_err(|e| e.to_string()))
        };
        // All three wait in the kernel for a file that is on its way to the trash.
        let sleeping = || {
            let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
            let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("syscall")).ok());
            stats
                .filter(|call| {
                    [libc::SYS_fcntl, libc::SYS_flock].iter().any(|n| call.starts_with(&format!("{n} ")))
                })
                .count()
        };
        while sleeping() < 3 {
            std::thread::yield_now();
        }
        store.retire_container(&dir, None).unwrap().unwrap();
        drop((lock, change));
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap().is_none()));
        assert!(late.join().unwrap().unwrap_err().contains("was removed"));
        assert!(dir.try_lock().unwrap().is_none());
    }
}
