//! The root of a container: mounted, then made `/`.

use rustix::{
    fs::{Mode, OFlags, open},
    io::{DupFlags, Errno, Result, dup3},
    mount::{MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
    process::{chdir, fchdir, pivot_root},
    thread::UnshareFlags,
};
use std::{
    ffi::{CStr, CString},
    os::fd::{BorrowedFd, OwnedFd},
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
    /// fuse-overlayfs, which our parent starts in our namespaces and has mounted when it says so.
    FuseOverlay,
    /// A directory as it is (`--rootfs`).
    Directory(CString),
}

impl Root {
    /// Mount it at the directory `at`.
    pub fn mount(&mut self, at: &CStr) -> Result<OwnedFd> {
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
            Root::Directory(source) => {
                let tree = clone_tree(rustix::fs::CWD, source, true)?;
                attach(&tree, open(at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)?;
            }
        }
        let root = open(at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // Devices are in /dev. A node of an image would be the host's disk to a container of root's.
        if !weakened::is("nodev-root") {
            set(&root, MountAttrFlags::MOUNT_ATTR_NODEV, true)?;
        }
        Ok(root)
    }
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
