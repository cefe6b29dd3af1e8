//! Root file systems mounted for root to look at (podman-mount(1)). Each has one place below the runtime directory, which
//! dies with the boot as the mount does; that something is mounted there is the only record of it.

use super::enter::Reached;
use crate::{
    container::rootfs::FUSE,
    error::Explain,
    namespaces::mount::{attach, clone_tree},
    storage::{ContainerDir, ContainerId, Store},
};
use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, open, statx},
    io::Errno,
    mount::UnmountFlags,
    process::{fchdir, geteuid},
    thread::{
        LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
    },
};
use std::{
    ffi::CString,
    fs,
    io::ErrorKind,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
};

/// Mount the root file system of `container` and say where. One that is mounted stays as it is. Of a running container it is
/// the same file system that the container sees, without what is mounted over it.
pub fn mount(store: &Store, container: &Reached) -> Result<PathBuf> {
    let place = place(store, container.dir.id());
    let doing = || format!("mount container {} at {}", container.dir.id().short(), place.display());
    if is_mounted(&place).with_context(doing)? {
        return Ok(place);
    }
    if container.record.storage_driver == FUSE {
        return Err(anyhow!("a root file system of fuse-overlayfs would need a process to serve it"))
            .with_context(doing)
            .hint("`ctr cp` and `ctr export` reach its files");
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&place).with_context(doing)?;
    let mounted = match (container.process(), container.root()?) {
        (Some(process), _) => share(process).and_then(|tree| {
            Ok(attach(
                &tree,
                open(&place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?,
            )?)
        }),
        (None, Some(mut root)) => {
            let at = CString::new(place.as_os_str().as_bytes()).with_context(doing)?;
            root.open(&at).and_then(|opened| root.mount(&at, opened)).map(drop).map_err(Into::into)
        }
        (None, None) => Ok(()),
    };
    if mounted.is_err() {
        let _ = fs::remove_dir(&place);
    }
    mounted.with_context(doing).map(|()| place)
}

/// Unmount container `dir`; with `force` even while somebody is in it.
///
/// # Errors
/// It is not mounted, or busy.
pub fn unmount(store: &Store, dir: &ContainerDir, force: bool) -> Result<()> {
    let place = place(store, dir.id());
    let doing = || format!("unmount container {}", dir.id().short());
    if !is_mounted(&place).with_context(doing)? {
        return Err(anyhow!("it is not mounted"))
            .with_context(doing)
            .hint("`ctr mount` lists those that are");
    }
    detach(&place, force)
        .with_context(doing)
        .hint(format!("leave it, or `ctr unmount --force {}`", dir.id().short()))
}

/// Unmount what is at `place`, with `force` even while somebody is in it.
pub(super) fn detach(place: &Path, force: bool) -> Result<()> {
    let flags = if force { UnmountFlags::DETACH } else { UnmountFlags::NOFOLLOW };
    match rustix::mount::unmount(place, flags) {
        Err(Errno::BUSY) => bail!("somebody uses {}", place.display()),
        done => done?,
    }
    let _ = fs::remove_dir(place);
    Ok(())
}

/// Where container `id` is mounted, if it is.
pub fn place_of(store: &Store, id: &ContainerId) -> Result<Option<PathBuf>> {
    // Nobody else can mount it there, and each start and end asks.
    if !geteuid().is_root() {
        return Ok(None);
    }
    let place = place(store, id);
    Ok(is_mounted(&place)?.then_some(place))
}

/// Unmount container `id`, which is removed; whoever is in it keeps what he sees (podman-rm(1) does so, too).
pub fn let_go(store: &Store, id: &ContainerId) -> Result<()> {
    let Some(place) = place_of(store, id)? else { return Ok(()) };
    rustix::mount::unmount(&place, UnmountFlags::DETACH)
        .with_context(|| format!("unmount container {}", id.short()))?;
    let _ = fs::remove_dir(&place);
    Ok(())
}

/// The containers that are mounted, and where.
pub fn list(store: &Store) -> Result<Vec<(ContainerId, PathBuf)>> {
    list_in(&store.dirs().runtime.join(DIRECTORY), |name| name.parse().ok())
}

/// What is mounted below `holder`, sorted, as `read` reads the names there.
pub(super) fn list_in<T: Ord>(holder: &Path, read: impl Fn(&str) -> Option<T>) -> Result<Vec<(T, PathBuf)>> {
    let entries = match fs::read_dir(holder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("list {}", holder.display()))?,
    };
    let mut mounted = Vec::new();
    for entry in entries.flatten() {
        if let Some(id) = entry.file_name().to_str().and_then(&read)
            && is_mounted(&entry.path())?
        {
            mounted.push((id, entry.path()));
        }
    }
    mounted.sort();
    Ok(mounted)
}

const DIRECTORY: &str = "mounts";

fn place(store: &Store, id: &ContainerId) -> PathBuf {
    store.dirs().runtime.join(DIRECTORY).join(id.as_str())
}

pub(super) fn is_mounted(place: &Path) -> Result<bool> {
    match statx(CWD, place, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno).with_context(|| format!("look at {}", place.display())),
        Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
    }
}

/// The root mount of `process`, as a copy that belongs to nobody yet. It can be made in its mount namespace only, so this
/// process, single-threaded, goes there for one call and comes back.
fn share(process: BorrowedFd<'_>) -> Result<OwnedFd> {
    let directory = |path| open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let home = directory("/proc/self/ns/mnt")?;
    let here = open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    move_into_thread_name_spaces(process, ThreadNameSpaceType::MOUNT)?;
    let tree = clone_tree(CWD, c"/", false);
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Mount))?;
    fchdir(here)?;
    match tree {
        Err(Errno::INVAL) => bail!("the container has locked its mounts"),
        tree => Ok(tree?),
    }
}
