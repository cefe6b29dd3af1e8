//! Mounts of root's whose files are seen with other ids (mount_setattr(2), "ID-mapped mounts"), made before the container's
//! first process, which has no right to: what the user mounts with `idmap`, and overlays over such mounts (as their layers since
//! Linux 5.19). So is the root file system of a container that has a user namespace: on disk every file keeps the ids of its
//! image, and what the container writes gets such ids, too.

use super::{
    link::{Link, Report},
    rootfs::Layers,
    user_mount::{IdMap, Triple, parse_idmap},
};
use crate::{
    error::Explain,
    namespaces::{
        IdMaps, Mapping,
        copyup::{self, Kept},
        id_namespace,
        idmap::{self, Entry},
        mount::{attach, clone_tree},
        start_inside,
        user::IdRange,
        volume::below,
    },
    sys::{fork::Child, mount::map_ids},
};
use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    fs::{CWD, Mode, OFlags, open, openat},
    mount::{MountFlags, mount},
    process::{Gid, Uid},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_res_gid, set_thread_res_uid,
    },
};
use std::{
    ffi::{CStr, CString},
    fs::File,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// Mount `layers` as `child`, whose user namespace is mapped, is to see them; attached nowhere.
///
/// # Errors
/// The kernel or the file system has no idmapped mounts.
pub fn mount_for(child: &Child, mapping: &Mapping, layers: &Layers) -> Result<OwnedFd> {
    let namespace = format!("/proc/{}/ns/user", child.pid.as_raw_pid());
    let namespace = File::open(&namespace).with_context(|| format!("open {namespace}"))?;
    let stack = Stack {
        lower: layers.lower.iter().map(|path| &**path).collect(),
        writable: Some((&layers.upper, &layers.work)),
        volatile: layers.ephemeral,
        takes_after: false,
        flags: MountFlags::empty(),
        subpath: None,
        place: &layers.merged,
    };
    let made =
        overlay(&stack, namespace.as_fd(), mapping).context("mount the root file system with mapped ids");
    made.hint("--userns needs Linux 5.19 and a file system that can map ids: ext4, xfs, btrfs, tmpfs")
}

/// A user namespace that stands for `map` (`uids=…;gids=…`, or what a container with `mapping` has), and none where nothing
/// is to be mapped. Must be called before any thread exists.
///
/// # Errors
/// A map that goes by the container's ids names some that it doesn't have.
pub fn namespace(map: Option<&str>, mapping: &Mapping) -> Result<Option<OwnedFd>> {
    let maps = mapping.maps();
    let IdMaps { uids, gids } = match map {
        None if !mapping.is_rootless() => return Ok(None),
        None => maps,
        Some(map) => {
            let IdMap { uids, gids } = parse_idmap(map)?;
            IdMaps { uids: settle(&uids, &maps.uids)?, gids: settle(&gids, &maps.gids)? }
        }
    };
    let lines = |map: &[IdRange]| map.iter().map(|r| [r.inside, r.host, r.count]).collect::<Vec<_>>();
    id_namespace::user_namespace(&lines(&uids), &lines(&gids)).map(Some)
}

/// Each id on the file system, and the host's as which it is shown; `own`: the container's map.
fn settle(triples: &[Triple], own: &[IdRange]) -> Result<Vec<IdRange>> {
    let entry = |triple: &Triple| {
        let Triple { file, seen, count, relative } = *triple;
        match relative {
            false => Ok(vec![IdRange { inside: file, host: seen, count }]),
            true => {
                let entry = Entry {
                    inside: file,
                    from: seen,
                    of_host: false,
                    count,
                    extends: false,
                    uids: true,
                    gids: true,
                };
                idmap::apply(&[entry], own)
                    .map_err(|_| {
                        anyhow!("idmap=@{file}-{seen}-{count}: the container has not all of these ids")
                    })
                    .hint("without @ these are ids of the host")
            }
        }
    };
    let map: Vec<IdRange> = triples.iter().map(entry).collect::<Result<Vec<_>>>()?.concat();
    idmap::check(&map)
        .context("idmap")
        .hint("each id of the file system, and each as which one is seen, may come but once")?;
    Ok(map)
}

/// What is at `source`, or at `subpath` below it, to which no link leads, with the ids of `namespace`; attached nowhere.
pub fn tree(source: &CStr, subpath: Option<&CStr>, recursive: bool, namespace: &OwnedFd) -> Result<OwnedFd> {
    let doing = || format!("map the ids of {}", source.to_string_lossy());
    let top = open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).with_context(doing)?;
    let place = match subpath {
        None => top,
        Some(subpath) => below(top, subpath).with_context(doing)?,
    };
    let tree = clone_tree(place, c"", recursive).with_context(doing)?;
    map_ids(tree.as_fd(), namespace.as_fd(), false).with_context(doing).hint(NEEDS)?;
    Ok(tree)
}

/// What an idmapped mount takes.
pub const NEEDS: &str = "idmap needs root of the host and a file system that can map ids: ext4, xfs, btrfs, tmpfs (since Linux 6.3); \
                     `:U` gives the files to the container's user instead";

/// An overlay whose directories are shown with other ids.
#[derive(Debug)]
pub struct Stack<'a> {
    /// Read-only, topmost first.
    pub lower: Vec<&'a Path>,
    /// Upper and work directory, side by side.
    pub writable: Option<(&'a Path, &'a Path)>,
    /// Nothing of it has to reach the disk.
    pub volatile: bool,
    /// The new upper directory gets owner and mode of the topmost lower one.
    pub takes_after: bool,
    /// `MS_RDONLY` and its like.
    pub flags: MountFlags,
    /// A directory below its top, to which no link leads; shown in its place.
    pub subpath: Option<&'a CStr>,
    /// An empty directory of the store.
    pub place: &'a Path,
}

/// Mount `stack` with the ids of `namespace` for a container with `mapping`; attached nowhere. Must be called before any thread
/// exists.
pub fn overlay(stack: &Stack<'_>, namespace: BorrowedFd<'_>, mapping: &Mapping) -> Result<OwnedFd> {
    let (IdMaps { uids, gids }, (uid, gid)) = (mapping.maps(), mapping.builder());
    let root =
        idmap::to_host(&uids, uid).zip(idmap::to_host(&gids, gid)).context("find the container's root")?;
    let (ours, theirs) = Link::pair().context("make a line to a process of ours")?;
    let (inside, ()) = start_inside(
        &Mapping::Root,
        |_| Ok(()),
        |_| {
            // Here: root of the host, in a mount namespace of my own that ends with me.
            let tree = assemble(stack, namespace, root)?;
            theirs.root(tree.as_fd()).context("hand the file system over")
        },
    )?;
    inside.wait()?;
    match ours.next().context("take the file system over")? {
        Report::Root(tree) => Ok(tree),
        _ => bail!("nobody handed the file system over"),
    }
}

/// overlay takes directories of attached mounts only (before Linux 6.15): they go on top of each other to one place, which is
/// what is on top in the end.
fn assemble(stack: &Stack<'_>, namespace: BorrowedFd<'_>, root: (u32, u32)) -> Result<OwnedFd> {
    let place = CString::new(stack.place.as_os_str().as_bytes())?;
    let at = || open(place.as_c_str(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let mapped = |path: &Path| -> Result<OwnedFd> {
        let doing = || format!("map the ids of {}", path.display());
        let source = CString::new(path.as_os_str().as_bytes())?;
        let tree = clone_tree(CWD, &source, false).with_context(doing)?;
        map_ids(tree.as_fd(), namespace, false).with_context(doing)?;
        attach(&tree, at()?).with_context(doing)?;
        Ok(tree)
    };
    let lower = stack.lower.iter().map(|path| mapped(path)).collect::<Result<Vec<_>>>()?;
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut options = format!("lowerdir={}", lower.iter().map(name).collect::<Vec<_>>().join(":"));
    let mut held = Vec::new();
    if let Some((upper, work)) = stack.writable {
        // Both in one mount: overlay asks for that.
        let own = mapped(upper.parent().context("the upper directory has no parent")?)?;
        for (key, path) in [("upperdir", upper), ("workdir", work)] {
            let name = path.file_name().context("a directory without a name")?;
            let directory =
                openat(&own, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                    .with_context(|| format!("open {}", path.display()))?;
            options += &format!(",{key}=/proc/self/fd/{}", directory.as_raw_fd());
            held.push(directory);
        }
    }
    if let (true, Some(top), Some(upper)) = (stack.takes_after, lower.first(), held.first()) {
        copyup::fill(top.as_fd(), upper.as_fd(), Kept { mode: false, owner: false, content: true })
            .context("prepare the upper directory of an overlay")?;
    }
    if stack.volatile {
        options.push_str(",volatile");
    }
    let options = CString::new(options)?;
    become_mounter(root).context("take on the ids of the container's root")?;
    mount(c"overlay", place.as_c_str(), c"overlay", stack.flags, options.as_c_str())
        .context("mount overlay")?;
    match stack.subpath {
        None => Ok(clone_tree(CWD, &place, false)?),
        Some(subpath) => {
            let part =
                below(at()?, subpath).with_context(|| format!("open {}", subpath.to_string_lossy()))?;
            Ok(clone_tree(part, c"", false)?)
        }
    }
}

/// overlay makes files of its own as whoever mounts it, and in an idmapped mount nobody but the container's users can.
fn become_mounter((uid, gid): (u32, u32)) -> rustix::io::Result<()> {
    let held = capabilities(None)?.permitted;
    let root = Uid::ROOT;
    set_thread_res_gid(Gid::ROOT, Gid::from_raw(gid), Gid::ROOT)?;
    set_thread_res_uid(root, Uid::from_raw(uid), root)?;
    let sets = CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)
}
