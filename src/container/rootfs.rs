//! The root file system of a container over the layers of its image: native overlay, or fuse-overlayfs where the kernel
//! refuses it.

use super::plan::path_c_string;
use crate::namespaces::root::Root;
use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, open};
use std::{
    ffi::CString,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// The directories that make a root.
#[derive(Clone, Debug)]
pub struct Layers {
    /// Read-only, topmost first.
    pub lower: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// overlay's own.
    pub work: PathBuf,
    /// Where all of it is seen together.
    pub merged: PathBuf,
    /// Changes are thrown away at the end, so nothing has to reach the disk.
    pub ephemeral: bool,
    /// Where root has mounted it already (podman-mount(1)): an overlay over an upper directory that is another's, too, is
    /// undefined.
    pub mounted: Option<PathBuf>,
}

impl Layers {
    /// As a native overlay, or what is mounted already. The directories are held open and named by descriptor: a name in the
    /// options could be too long (127 layers have to fit in a page) or hold a comma.
    pub fn overlay(&self, rootless: bool) -> Result<Root> {
        if let Some(place) = &self.mounted {
            return directory(place);
        }
        let hold = |dir: &PathBuf| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let held = open(dir, flags, Mode::empty()).with_context(|| format!("open {}", dir.display()))?;
            Ok((path_c_string(dir)?, held))
        };
        let lower: Vec<(CString, OwnedFd)> = self.lower.iter().map(hold).collect::<Result<_>>()?;
        let (upper, work) = (hold(&self.upper)?, hold(&self.work)?);
        let name = |(_, fd): &(CString, OwnedFd)| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let mut options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.iter().map(name).collect::<Vec<_>>().join(":"),
            name(&upper),
            name(&work)
        );
        if rootless {
            options.push_str(",userxattr");
        }
        // Not otherwise: it would make an fsync of a database inside mean nothing.
        if self.ephemeral {
            options.push_str(",volatile");
        }
        let directories = lower.into_iter().chain([upper, work]).collect();
        Ok(Root::Overlay { options: CString::new(options).context("overlay options")?, directories })
    }
}

/// A directory as the root, without layers (`--rootfs DIR`).
pub fn directory(path: &Path) -> Result<Root> {
    if !path.is_dir() {
        bail!("{} is no directory", path.display());
    }
    Ok(Root::Directory(path_c_string(path)?))
}
