//! The root file system of a container of root's that has a user namespace: an overlay over idmapped mounts
//! (mount_setattr(2), "ID-mapped mounts"; as layers of an overlay since Linux 5.19), so that on disk every file keeps the ids
//! of its image, and what the container writes gets such ids, too.

use super::rootfs::Layers;
use crate::{
    container::link::{Link, Report},
    error::Explain,
    namespaces::{IdMaps, Mapping, idmap},
    namespaces::{
        mount::{attach, clone_tree},
        start_inside,
    },
    sys::{fork::Child, mount::map_ids},
};
use anyhow::{Context, Result, bail};
use rustix::{
    fs::{CWD, Mode, OFlags, open, openat},
    mount::{MountFlags, mount},
    process::{Gid, Uid},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_res_gid, set_thread_res_uid,
    },
};
use std::{
    ffi::CString,
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
    let (IdMaps { uids, gids }, (uid, gid)) = (mapping.maps(), mapping.builder());
    let root =
        idmap::to_host(&uids, uid).zip(idmap::to_host(&gids, gid)).context("find the container's root")?;
    let namespace = format!("/proc/{}/ns/user", child.pid.as_raw_pid());
    let namespace = File::open(&namespace).with_context(|| format!("open {namespace}"))?;
    let (ours, theirs) = Link::pair().context("make a line to a process of ours")?;
    let (inside, ()) = start_inside(
        &Mapping::Root,
        |_| Ok(()),
        |_| {
            // Here: root of the host, in a mount namespace of my own that ends with me.
            let root = assemble(layers, namespace.as_fd(), root)
                .context("mount the root file system with mapped ids")?;
            theirs.root(root.as_fd()).context("hand the root file system over")
        },
    )?;
    inside
        .wait()
        .hint("--userns needs Linux 5.19 and a file system that can map ids: ext4, xfs, btrfs, tmpfs")?;
    match ours.next().context("take the root file system over")? {
        Report::Root(root) => Ok(root),
        _ => bail!("nobody handed the root file system over"),
    }
}

/// overlay takes directories of attached mounts only (before Linux 6.15): they go on top of each other to the place of the
/// root, which is what is on top in the end.
fn assemble(layers: &Layers, namespace: BorrowedFd<'_>, root: (u32, u32)) -> Result<OwnedFd> {
    let place = CString::new(layers.merged.as_os_str().as_bytes())?;
    let at = || open(place.as_c_str(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let mapped = |path: &Path| -> Result<OwnedFd> {
        let doing = || format!("map the ids of {}", path.display());
        let source = CString::new(path.as_os_str().as_bytes())?;
        let tree = clone_tree(CWD, &source, false).with_context(doing)?;
        map_ids(tree.as_fd(), namespace, false).with_context(doing)?;
        attach(&tree, at()?).with_context(doing)?;
        Ok(tree)
    };
    let lower = layers.lower.iter().map(|path| mapped(path)).collect::<Result<Vec<_>>>()?;
    // Both in one mount: overlay asks for that.
    let own = layers.upper.parent().context("the upper directory has no parent")?;
    let own = mapped(own)?;
    let inside = |path: &Path| {
        let name = path.file_name().context("a directory without a name")?;
        openat(&own, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("open {}", path.display()))
    };
    let (upper, work) = (inside(&layers.upper)?, inside(&layers.work)?);
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.iter().map(name).collect::<Vec<_>>().join(":"),
        name(&upper),
        name(&work)
    );
    if layers.ephemeral {
        options.push_str(",volatile");
    }
    let options = CString::new(options)?;
    become_mounter(root).context("take on the ids of the container's root")?;
    mount(c"overlay", place.as_c_str(), c"overlay", MountFlags::empty(), options.as_c_str())
        .context("mount overlay")?;
    Ok(clone_tree(CWD, &place, false)?)
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
