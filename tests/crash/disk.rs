//! File systems of the tests' own, in a mount namespace of their own: memory for speed, ext4 on a loop device for power
//! cuts.

use super::raw;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use rustix::fs::{statvfs, syncfs};
use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    thread::yield_now,
    time::{Duration, Instant},
};

/// A directory in memory, which this thread, and what it starts, alone can see; gone with the value.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// `None`, and a word about it, where the tests may not mount.
    pub fn new() -> Option<Scratch> {
        if !rustix::process::getuid().is_root() {
            println!("skipped: only root can trace setuid programs and mount");
            return None;
        }
        let private = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| {
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        });
        if let Err(errno) = private {
            println!("skipped: no mount namespace can be made: {errno}");
            return None;
        }
        let dir =
            tempfile::Builder::new().prefix("ctr-crash-").tempdir_in("/var/tmp").expect("make a directory");
        mount_memory(dir.path(), "size=1g,mode=755");
        Some(Scratch(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

/// A tmpfs with `options` at `place`.
pub fn mount_memory(place: &Path, options: &str) {
    mount(Some("none"), place, Some("tmpfs"), MsFlags::empty(), Some(options)).expect("mount a tmpfs");
}

/// Make what is mounted at `place` read-only, or writable again.
pub fn remount(place: &Path, read_only: bool) -> nix::Result<()> {
    let flags = if read_only { MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY } else { MsFlags::MS_REMOUNT };
    mount(None::<&str>, place, None::<&str>, flags, None::<&str>)
}

/// Leave the tmpfs at `place` `count` pages, or `inodes`, more than are used.
pub fn resize(place: &Path, inodes: bool, count: u64) {
    let now = statvfs(place).expect("ask for the size of a tmpfs");
    let options = match inodes {
        true => format!("nr_inodes={}", now.f_files - now.f_ffree + count),
        // 0 would be no limit at all.
        false => format!("size={}", (now.f_blocks - now.f_bfree + count).max(1) * now.f_frsize),
    };
    mount(None::<&str>, place, None::<&str>, MsFlags::MS_REMOUNT, Some(options.as_str()))
        .expect("resize a tmpfs");
}

/// Nothing is mounted at `place` any more, by anybody.
pub fn unmount(place: &Path) {
    // Namespaces of processes that are gone are taken down behind their backs.
    soon(|| umount2(place, MntFlags::empty()).ok());
}

/// An ext4 at a place. Dropped, it is gone.
pub struct Disk {
    device: PathBuf,
    place: PathBuf,
}

impl Disk {
    /// A new one in `file`, mounted at `place`, whose root belongs to `owner`.
    pub fn make(file: &Path, place: &Path, owner: Option<(u32, u32)>) -> Option<Disk> {
        File::create(file).and_then(|file| file.set_len(48 << 20)).expect("make a disk");
        let quick =
            ["-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "-O", "^resize_inode"];
        let made = Command::new("mkfs.ext4").args(quick).arg(file).output().expect("run mkfs.ext4");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let loops =
            Command::new("losetup").args(["--find", "--show"]).arg(file).output().expect("run losetup");
        if !loops.status.success() {
            println!("skipped: no loop device: {}", String::from_utf8_lossy(&loops.stderr));
            return None;
        }
        let device = PathBuf::from(String::from_utf8_lossy(&loops.stdout).trim());
        let disk = Disk { device, place: place.to_owned() };
        disk.mount();
        let (uid, gid) = owner.unzip();
        std::os::unix::fs::chown(place, uid, gid).expect("chown the disk");
        Some(disk)
    }

    /// Everything so far is on it.
    pub fn sync(&self) {
        syncfs(File::open(&self.place).expect("open the disk")).expect("sync the disk");
    }

    /// What can be done once the power is to go: it has no failure of its own.
    pub fn plug(&self) -> impl Fn(bool) + use<> {
        let root = File::open(&self.place).expect("open the disk");
        move |flushed| raw::cut_power(root.as_fd(), flushed).expect("cut the power")
    }

    /// The power is back. Nobody uses the disk.
    pub fn restart(&self) {
        unmount(&self.place);
        // The next mount would find the old one where that is still on its way down.
        soon(|| rustix::fs::open(&self.device, exclusive(), rustix::fs::Mode::empty()).ok());
        self.mount();
    }

    fn mount(&self) {
        mount(Some(&self.device), &self.place, Some("ext4"), MsFlags::empty(), None::<&str>)
            .expect("mount the disk");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

/// The file system that `path` lies on.
pub fn device(path: &Path) -> u64 {
    fs::metadata(path).expect("stat a directory").dev()
}

fn exclusive() -> rustix::fs::OFlags {
    rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::EXCL | rustix::fs::OFlags::CLOEXEC
}

fn soon<T>(attempt: impl Fn() -> Option<T>) -> T {
    let due = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(Instant::now() < due, "a file system is still in use");
        yield_now();
    }
}
