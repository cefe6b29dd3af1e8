//! The root file system of a container over the layers of its image: native overlay, fuse-overlayfs where the kernel refuses
//! that, or a copy.

use super::{files::mounts, plan::path_c_string, record::Record};
use crate::{
    error::Explain,
    namespaces::{
        Mapping,
        root::{Root, View},
    },
    storage::{ContainerDir, Store},
};
use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{Mode, OFlags, open};
use std::{
    ffi::CString,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// The drivers: the kernel's overlay,
pub const OVERLAY: &str = "overlay";
/// fuse-overlayfs(1),
pub const FUSE: &str = "fuse-overlayfs";
/// and a copy.
pub const PLAIN: &str = "plain";

/// The directories that make a root.
#[derive(Clone, Debug)]
pub struct Layers {
    /// Read-only, topmost first.
    pub lower: Vec<PathBuf>,
    /// What files without contents in `lower` point into, topmost first.
    pub data: Vec<PathBuf>,
    /// Its ids are not those that the store's are.
    pub mapped: bool,
    /// Where changes go; with [`Layers::plain`] all there is.
    pub upper: PathBuf,
    /// `upper` is the root itself, a copy.
    pub plain: bool,
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
    /// Those of the container in `dir`; the last one is ours.
    pub fn of(store: &Store, dir: &ContainerDir, record: &Record) -> Result<Layers> {
        let mut data = Vec::new();
        let lower = match (&record.rootfs, &record.view) {
            (Some(rootfs), _) => vec![rootfs.clone()],
            (None, Some(key)) => {
                let view = store.view(key, &dir.layers()?);
                data = view.data;
                vec![view.lower]
            }
            (None, None) => {
                let layers = dir.layers()?;
                let lowest = record.places.as_ref().map_or_else(|| store.skeleton(), |key| store.places(key));
                layers.iter().rev().map(|layer| store.layer_path(layer)).chain([lowest]).collect()
            }
        };
        let (merged, mounted) = (store.mount_point(), mounts::place_of(store, dir.id())?);
        let (upper, work, mapped) = (dir.upper(), dir.work(), record.ids.is_some());
        let plain = record.storage_driver == PLAIN;
        Ok(Layers { lower, data, mapped, upper, plain, work, merged, ephemeral: false, mounted })
    }

    /// As a native overlay, or what is mounted already. The directories are held open and named by descriptor: a name in the
    /// options could be too long (127 layers have to fit in a page) or hold a comma.
    pub fn overlay(&self, mapping: &Mapping) -> Result<Root> {
        if let Some(place) = &self.mounted {
            if self.mapped && mapping.is_rootless() {
                return Err(anyhow!("it is mounted at {} with the ids of the host", place.display()))
                    .hint("`ctr unmount` it first");
            }
            return directory(place);
        }
        if self.plain {
            return directory(&self.upper);
        }
        match mapping {
            Mapping::Ranges { helpers: None, .. } => return Ok(Root::Given(None)),
            Mapping::Ranges { .. } if self.mapped => return self.view(mapping).map(Root::View),
            _ => {}
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
        if mapping.marks_as_user() {
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

impl Layers {
    fn view(&self, mapping: &Mapping) -> Result<View> {
        let all =
            |paths: &[PathBuf]| paths.iter().map(|path| path_c_string(path)).collect::<Result<Vec<_>>>();
        Ok(View {
            lower: all(&self.lower)?,
            data: all(&self.data)?,
            upper: path_c_string(&self.upper)?,
            work: path_c_string(&self.work)?,
            volatile: self.ephemeral,
            caller: mapping.has_caller().then(|| mapping.builder()),
        })
    }
}

/// A directory as the root, without layers (`--rootfs DIR`).
pub fn directory(path: &Path) -> Result<Root> {
    if !path.is_dir() {
        bail!("{} is no directory", path.display());
    }
    Ok(Root::Directory(path_c_string(path)?))
}
