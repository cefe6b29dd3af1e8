//! The root of a container: mounted, then made `/`.

use rustix::{
    fs::{Gid, Mode, OFlags, Uid, chown, open},
    io::{DupFlags, Errno, Result, dup3},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change,
        unmount,
    },
    process::{chdir, fchdir, pivot_root},
    thread::UnshareFlags,
};
use std::{
    ffi::{CStr, CString},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use super::mount::{attach, clone_tree, set};
use crate::weakened;

/// Where a container's root comes from.
#[derive(Debug)]
pub enum Root {
    /// Native overlay: the options for mount(2).
    Overlay {
        /// `lowerdir=…,upperdir=…,workdir=…`, each directory named by its descriptor.
        options: CString,
        /// Those directories: path and descriptor.
        directories: Vec<(CString, OwnedFd)>,
    },
    /// Native overlay in a user namespace whose ids are not those that the layers were stored with.
    View(View),
    /// What our parent, who is root of the host, has mounted and sends.
    Given(Option<OwnedFd>),
    /// fuse-overlayfs, which our parent starts in our namespaces and has mounted when it says so.
    FuseOverlay,
    /// A directory as it is (`--rootfs`).
    Directory(CString),
}

/// Directories of a [`Root::View`].
#[derive(Debug)]
pub struct View {
    /// Read-only, topmost first: metadata as the container sees it.
    pub lower: Vec<CString>,
    /// Read-only, topmost first: what files without contents in `lower` point into.
    pub data: Vec<CString>,
    /// Where changes go.
    pub upper: CString,
    /// overlay's own.
    pub work: CString,
    /// Nothing has to reach the disk.
    pub volatile: bool,
    /// The user who runs us exists in the namespace and can mount it: so what overlay makes for itself can be removed without
    /// a namespace, and `upper` can be given to this user and group, its root.
    pub caller: Option<(u32, u32)>,
}

/// What [`Root::open`] has opened.
#[derive(Debug)]
pub struct Opened {
    at: OwnedFd,
    tree: Option<OwnedFd>,
    directories: Vec<OwnedFd>,
}

impl Root {
    /// Open what it is made of and the directory `at`, as the user whose files these are: a user namespace may lack that user,
    /// and then its root can't walk through private directories.
    pub fn open(&mut self, at: &CStr) -> Result<Opened> {
        let mut opened = Opened { at: hold(at)?, tree: None, directories: Vec::new() };
        match self {
            Root::Directory(source) => opened.tree = Some(clone_tree(rustix::fs::CWD, source, true)?),
            Root::View(view) => {
                let all = view.lower.iter().chain(&view.data).chain([&view.upper, &view.work]);
                opened.directories = all.map(|path| hold(path)).collect::<Result<_>>()?;
                if let Some((uid, gid)) = view.caller {
                    chown(&*view.upper, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
                    opened.tree = Some(view.mount(&opened.directories)?);
                }
            }
            Root::Overlay { .. } | Root::Given(_) | Root::FuseOverlay => {}
        }
        Ok(opened)
    }

    /// Mount it at the directory `at`, which [`Root::open`] has opened.
    pub fn mount(&mut self, at: &CStr, opened: Opened) -> Result<OwnedFd> {
        let Opened { at: place, tree, directories } = opened;
        let detached = match self {
            Root::View(view) if tree.is_none() => Some(view.mount(&directories)?),
            Root::Given(given) => given.take(),
            _ => tree,
        };
        if let Some(root) = detached {
            attach(&root, place)?;
            return finished(root);
        }
        match self {
            Root::Overlay { options, directories } => {
                for (path, descriptor) in directories {
                    // overlay takes directories of its own mount namespace only, and these are our starter's: the same
                    // number now stands for the same directory here.
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    dup3(open(path.as_c_str(), flags, Mode::empty())?, descriptor, DupFlags::CLOEXEC)?;
                }
                mount(c"overlay", at, c"overlay", MountFlags::empty(), options.as_c_str())?
            }
            // Its server stays in the namespace it mounted in, with the host's root; pivot_root(2) would move it along.
            Root::FuseOverlay => super::unshare(UnshareFlags::NEWNS)?,
            // Nobody has sent it.
            Root::Given(_) | Root::View(_) | Root::Directory(_) => return Err(Errno::NOENT),
        }
        finished(hold(at)?)
    }
}

impl View {
    /// One by one, by descriptor: the new mount calls take no more than 255 bytes for an option, and no path shows up in
    /// /proc/mounts. `directories` are in the order in which [`Root::open`] holds them.
    fn mount(&self, directories: &[OwnedFd]) -> Result<OwnedFd> {
        let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let lower = self.lower.len();
        let data = lower + self.data.len();
        for (at, directory) in directories.iter().enumerate() {
            let key = match at {
                at if at < lower && self.data.is_empty() && lower == 1 => c"lowerdir",
                at if at < lower => c"lowerdir+",
                at if at < data => c"datadir+",
                at if at == data => c"upperdir",
                _ => c"workdir",
            };
            fsconfig_set_string(&context, key, format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
        }
        fsconfig_set_flag(&context, c"userxattr")?;
        if self.volatile {
            fsconfig_set_flag(&context, c"volatile")?;
        }
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    }
}

fn hold(path: &CStr) -> Result<OwnedFd> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn finished(root: OwnedFd) -> Result<OwnedFd> {
    // Devices are in /dev. A node of an image would be the host's disk to a container of root's.
    if !weakened::is("nodev-root") {
        set(&root, MountAttrFlags::MOUNT_ATTR_NODEV, true)?;
    }
    Ok(root)
}

/// Nothing that we mount is seen outside; what the host mounts later may come in.
pub fn keep_mounts_to_ourselves() -> Result<()> {
    mount_change(c"/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)
}

/// Make `root` the root of this mount namespace and let go of the old one.
pub fn pivot(root: BorrowedFd<'_>) -> Result<()> {
    fchdir(root)?;
    // pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one, and goes.
    pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)?;
    match chdir(c"/") {
        Err(Errno::NOTDIR) => Err(Errno::NOENT),
        other => other,
    }
}
