//! Images mounted for root to look at (podman-image-mount(1)): read-only, each at one place below the runtime directory, as
//! [`super::mounts`] has containers. A mounted image isn't removed.

use super::mounts::{detach, is_mounted, list_in};
use crate::{
    error::Explain,
    namespaces::mount::{attach, clone_tree, set},
    storage::{Digest, Image, Store},
};
use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    fs::{CWD, Mode, OFlags, open},
    mount::{MountAttrFlags, MountFlags},
    process::geteuid,
};
use std::{
    ffi::CString,
    fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
};

/// Mount `image` and say where. One that is mounted stays as it is.
pub fn mount(store: &Store, image: &Image) -> Result<PathBuf> {
    let place = place(store, &image.config);
    let doing = || format!("mount image {} at {}", image.config.short(), place.display());
    // Nobody collects its layers meanwhile, and whoever removes it later sees the mount.
    let _hold = store.hold()?;
    if is_mounted(&place).with_context(doing)? {
        return Ok(place);
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&place).with_context(doing)?;
    let mounted = attach_layers(store, image, &place).and_then(|()| {
        let still_here = store.images()?.iter().any(|other| other.config == image.config);
        if still_here { Ok(()) } else { Err(anyhow!("somebody has just removed it")) }
    });
    if mounted.is_err() {
        let _ = detach(&place, true);
        let _ = fs::remove_dir(&place);
    }
    mounted.with_context(doing).map(|()| place)
}

/// Unmount image `id`, with `force` even while somebody is in it; false when it is not mounted.
pub fn unmount(store: &Store, id: &Digest, force: bool) -> Result<bool> {
    let place = place(store, id);
    if !is_mounted(&place)? {
        return Ok(false);
    }
    detach(&place, force)
        .with_context(|| format!("unmount image {}", id.short()))
        .hint(format!("leave it, or `ctr image unmount --force {}`", id.short()))?;
    Ok(true)
}

/// Where image `id` is mounted, if it is.
pub fn place_of(store: &Store, id: &Digest) -> Result<Option<PathBuf>> {
    // Nobody else can mount it there.
    if !geteuid().is_root() {
        return Ok(None);
    }
    let place = place(store, id);
    Ok(is_mounted(&place)?.then_some(place))
}

/// Unmount image `id`, which is removed; whoever is in it keeps what he sees.
pub fn let_go(store: &Store, id: &Digest) -> Result<()> {
    if place_of(store, id)?.is_some() { unmount(store, id, true).map(drop) } else { Ok(()) }
}

/// The images that are mounted, and where.
pub fn list(store: &Store) -> Result<Vec<(Digest, PathBuf)>> {
    list_in(&store.dirs().runtime.join(DIRECTORY), |name| format!("sha256:{name}").parse().ok())
}

const DIRECTORY: &str = "image-mounts";

fn place(store: &Store, id: &Digest) -> PathBuf {
    store.dirs().runtime.join(DIRECTORY).join(id.hex())
}

/// Read-only and without devices.
fn attach_layers(store: &Store, image: &Image, place: &Path) -> Result<()> {
    let path = |path: &Path| Ok::<_, anyhow::Error>(CString::new(path.as_os_str().as_bytes())?);
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let layers: Vec<PathBuf> = image.layers.iter().rev().map(|layer| store.layer_path(layer)).collect();
    match layers.as_slice() {
        [] => bail!("it has no layers"),
        // An overlay of a single directory is none.
        [layer] => {
            let tree = clone_tree(CWD, &path(layer)?, false)?;
            set(&tree, MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV, false)?;
            attach(&tree, open(place, directory, Mode::empty())?)?;
        }
        layers => {
            // Named by descriptor: 127 of them have to fit in a page.
            let hold = |layer: &PathBuf| {
                open(layer, directory, Mode::empty()).with_context(|| format!("open {}", layer.display()))
            };
            let held = layers.iter().map(hold).collect::<Result<Vec<OwnedFd>>>()?;
            let names: Vec<_> = held.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
            let options = CString::new(format!("lowerdir={}", names.join(":")))?;
            let flags = MountFlags::RDONLY | MountFlags::NODEV;
            rustix::mount::mount(c"overlay", path(place)?, c"overlay", flags, options.as_c_str())?;
        }
    }
    Ok(())
}
