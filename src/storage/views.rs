//! Views: the layers of an image as a container with other ids than the default ones sees them, without a second copy of
//! their contents. `views/<key>/fs` has every directory, link and file with the owner that belongs there; a file larger than
//! a block is empty and points into the layer (kernel Documentation/filesystems/overlayfs.rst, "Data-only lower layers",
//! in user namespaces since Linux 6.16). Where the kernel can't follow that, the contents are cloned (FICLONE), else copied.
//! Made once for each stack of layers and each map; gone with the layers, or once nobody has wanted it for a week.

use super::{
    Digest, Store, delete_tree,
    digest::hex,
    merged::Merged,
    view_files::{Filler, point},
};
use crate::{
    error::Explain,
    namespaces::{IdMaps, Mapping, run_inside},
};
use anyhow::{Context, Result, bail};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, open, openat, syncfs, utimensat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
        fsmount, fsopen,
    },
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

/// A view, and what it needs besides itself.
#[derive(Clone, Debug)]
pub struct View {
    /// overlay's lower directory.
    pub lower: PathBuf,
    /// Its data-only layers, topmost first.
    pub data: Vec<PathBuf>,
}

impl Store {
    /// The view `key` of `layers`, base first.
    pub fn view(&self, key: &str, layers: &[Digest]) -> View {
        let points = key.starts_with(POINTERS);
        let data = layers.iter().rev().filter(|_| points).map(|layer| self.layer_path(layer));
        View { lower: self.directory("views").join(key).join("fs"), data: data.collect() }
    }

    /// The key of the view of `layers`, base first, for containers with the ids `maps`, where `own` is the mapping that they
    /// were stored with. Made when it isn't there. `copies`: it is for a file system that follows no pointers.
    ///
    /// # Errors
    /// A layer is gone; the disk is full.
    pub fn make_view(&self, layers: &[Digest], own: &Mapping, maps: &IdMaps, copies: bool) -> Result<String> {
        let keys = [POINTERS, COPIES].map(|kind| format!("{kind}{}", fingerprint(layers, own, maps)));
        let kinds = if copies { &keys[1..] } else { &keys[..] };
        let views = self.directory("views");
        if let Some(key) = kinds.iter().find(|key| views.join(key).join("fs").is_dir()) {
            // The collector takes those that nobody has wanted for long.
            let _ = utimensat(CWD, views.join(key), &NOW, AtFlags::empty());
            return Ok(key.clone());
        }
        let _hold = self.hold()?;
        private_directory(&views)?;
        for key in kinds {
            let points = key.starts_with(POINTERS);
            match self.make_one(key, layers, own, maps, points) {
                Ok(()) => return Ok(key.clone()),
                // The kernel, or the file system: copies need neither.
                Err(_) if points => {}
                failed => failed.context("show the image's files with the container's ids")?,
            }
        }
        bail!("show the image's files with the container's ids")
    }

    fn make_one(
        &self,
        key: &str,
        layers: &[Digest],
        own: &Mapping,
        maps: &IdMaps,
        points: bool,
    ) -> Result<()> {
        let draft = self.draft_path()?;
        let made = private_directory(&draft).and_then(|()| {
            let list: String = layers.iter().map(|layer| format!("{layer}\n")).collect();
            fs::write(draft.join("layers"), list)?;
            run_inside(own, || self.fill(&draft, layers, own, maps, points))?;
            if points {
                self.try_out(&draft, layers, own)?;
            }
            syncfs(File::open(&draft)?)?;
            match fs::rename(&draft, self.directory("views").join(key)) {
                // Another process was first.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                    ) =>
                {
                    Ok(())
                }
                renamed => renamed.context("publish the view"),
            }
        });
        if draft.exists() {
            let _ = run_inside(own, || Ok(delete_tree(&draft)?));
        }
        made
    }

    /// Here: root of a namespace with all the user's ids, in a mount namespace of our own.
    fn fill(
        &self,
        draft: &Path,
        layers: &[Digest],
        own: &Mapping,
        maps: &IdMaps,
        points: bool,
    ) -> Result<()> {
        let lower = layers.iter().rev().map(|layer| self.layer_path(layer)).chain([self.skeleton()]);
        let merged = Merged::new(lower.map(|path| top(&path)).collect::<Result<Vec<_>>>()?);
        let fs = draft.join("fs");
        fs::create_dir(&fs).with_context(|| format!("make directory {}", fs.display()))?;
        let to = top(&fs)?;
        let stored = own.maps();
        // Files of the skeleton have no layer to point into, and none is larger than nothing.
        let mut filler = Filler {
            stored: &stored,
            maps,
            points,
            links: HashMap::new(),
            top: to.try_clone()?,
            pointer: None,
        };
        filler.directory(&merged, &to, "", true)?;
        match filler.pointer {
            Some(path) => fs::write(draft.join(POINTER), path).context("keep a pointer to try"),
            None => Ok(()),
        }
    }

    /// Whether the kernel follows the pointers of the view in `draft`: read through one.
    fn try_out(&self, draft: &Path, layers: &[Digest], own: &Mapping) -> Result<()> {
        let Ok(path) = fs::read_to_string(draft.join(POINTER)) else { return Ok(()) };
        let data: Vec<PathBuf> = layers.iter().rev().map(|layer| self.layer_path(layer)).collect();
        run_inside(own, || follow(&draft.join("fs"), &data, &path))
    }

    /// Whether views need no copies here.
    ///
    /// # Errors
    /// What the kernel says to a pointer.
    pub fn probe_views(&self, own: &Mapping) -> Result<()> {
        let draft = self.draft_path()?;
        let (view, data) = (draft.join("fs"), draft.join("data"));
        let outcome =
            [&draft, &view, &data].into_iter().try_for_each(|dir| private_directory(dir)).and_then(|()| {
                fs::write(data.join("file"), "x")?;
                point(&File::create_new(view.join("file"))?.into(), "file", 1)?;
                run_inside(own, || follow(&view, std::slice::from_ref(&data), "file"))
            });
        let _ = delete_tree(&draft);
        outcome
    }
}

/// Make the directory `to`, with everything that `lower`, topmost first, show together: contents are cloned (FICLONE), else
/// copied. Called by root of a namespace with all the user's ids; `own`: the mapping that all of them were stored with.
///
/// # Errors
/// The disk is full; a layer is gone.
pub fn copy_layers(own: &Mapping, lower: &[PathBuf], to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| format!("make directory {}", to.display()))?;
    let merged = Merged::new(lower.iter().map(|path| top(path)).collect::<Result<Vec<_>>>()?);
    let (maps, to) = (own.maps(), top(to)?);
    let mut filler = Filler {
        stored: &maps,
        maps: &maps,
        points: false,
        links: HashMap::new(),
        top: to.try_clone()?,
        pointer: None,
    };
    filler.directory(&merged, &to, "", true)
}

fn top(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}

/// Here: root of a namespace with all the user's ids.
fn follow(view: &Path, data: &[PathBuf], path: &str) -> Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "lowerdir+", view)?;
    for layer in data {
        fsconfig_set_string(&context, "datadir+", layer.as_path())?;
    }
    fsconfig_set_flag(&context, "userxattr")?;
    fsconfig_create(&context).context("mount a data-only layer in a user namespace")?;
    let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let file =
        openat(&root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("follow a pointer")?;
    rustix::io::read(file, &mut [MaybeUninit::uninit(); 1]).context("read through a pointer")?;
    Ok(())
}

const POINTERS: &str = "pointers-";
const COPIES: &str = "copies-";
/// A path that has one.
const POINTER: &str = "pointer";
const NOW: Timestamps = {
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW as _ };
    Timestamps { last_access: now, last_modification: now }
};

fn fingerprint(layers: &[Digest], own: &Mapping, maps: &IdMaps) -> String {
    let mut hash = Sha256::new();
    for layer in layers {
        hash.update(format!("{layer}\n"));
    }
    let stored = own.maps();
    for (kind, map) in [("u", &stored.uids), ("g", &stored.gids), ("U", &maps.uids), ("G", &maps.gids)] {
        for range in map {
            hash.update(format!("{kind} {} {} {}\n", range.inside, range.host, range.count));
        }
    }
    hex(&hash.finalize()[..16])
}

fn private_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make directory {}", path.display()))
        .hint("see with `df -h` whether there is room")
}
