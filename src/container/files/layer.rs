//! What a container has changed, as a layer: what was made or copied up, whiteouts for what is gone (OCI image-spec,
//! layer.md, "Representing Changes"), and each directory on the way to them. Sorted by name, the same changes are the same
//! stream. Left out is what we ourselves put into a container, and what a layer can't have: sockets, and names that mean a
//! whiteout there. The container may run and change its files meanwhile: every step is by descriptor and follows no link.

use super::{
    changes::{Copied, beside_layers, copied, differs, mount_points},
    enter::{Guest, Reached, View},
    framed::Framed,
    lower::{self, BENEATH, Lower},
    member,
    pack::{AsLayer, Pack, Style},
    paths::{MAX_PATH, join, split},
    transfer::unless_unread,
};
use crate::{
    container::rootfs::FUSE,
    error::Explain,
    namespaces::Inside,
    storage::{Store, archive::lossy, skeleton},
};
use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    fs::{FileType, Mode, OFlags, Stat, fgetxattr, fstat, open, openat, openat2, readlinkat},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};
use std::{collections::HashSet, fs::File, os::fd::OwnedFd, vec::IntoIter};

/// A process that packs a layer.
#[derive(Debug)]
pub enum Packer {
    /// Beside the layers of the container.
    Beside(Inside),
    /// In its root.
    Guest(Guest),
}

impl Packer {
    /// Wait for its end and hand back what it said.
    pub fn wait(self) -> Result<()> {
        match self {
            Packer::Beside(inside) => inside.wait(),
            Packer::Guest(guest) => guest.wait(),
        }
    }
}

/// Start to pack what `container` has changed, or all its files when `squashed`; nothing in it is younger than `latest`, in
/// seconds since the epoch. [`super::read_frames`] reads it from the pipe. Must be called before any thread exists.
pub fn layer(
    store: &Store,
    container: &Reached,
    squashed: bool,
    latest: Option<i64>,
) -> Result<(Packer, File)> {
    let Reached { dir, record, .. } = container;
    let as_layer = AsLayer { latest };
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let mut ours = mount_points(dir)?;
    if squashed {
        ours.extend(skeleton::places().map(|place| place.as_bytes().to_vec()));
    }
    let mut places: HashSet<_> = ours.iter().flat_map(|path| on_the_way(path)).collect();
    let packer = if squashed {
        let image = of_image(store, container)?;
        // What is there without us, too, stays.
        ours.retain(|path| matches!(image.find(path), Ok(None)));
        places.retain(|path| matches!(image.find(path), Ok(None)));
        drop(image);
        Packer::Guest(container.with_root(View::RootFileSystem, write, |root, pipe| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let top = openat(&root, ".", flags, Mode::empty()).context("open the root")?;
            pack_layer(
                Tree { top, lower: Lower(Vec::new()), copied: None, ours, places, fuse: false },
                as_layer,
                pipe,
            )
        })?)
    } else {
        let copied = copied(dir, record);
        let fuse = record.storage_driver == FUSE;
        Packer::Beside(beside_layers(store, dir, record, write, |top, lower, pipe| {
            pack_layer(Tree { top, lower, copied, ours, places, fuse }, as_layer, pipe)
        })?)
    };
    Ok((packer, File::from(read)))
}

/// The image's layers, without the container's own.
fn of_image(store: &Store, container: &Reached) -> Result<Lower> {
    let layers = container.dir.layers()?;
    let hold = |layer| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = store.layer_path(layer);
        open(&path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
    };
    Ok(Lower(layers.iter().rev().map(hold).collect::<Result<_>>()?))
}

/// `path` and the directories that it is in.
fn on_the_way(path: &[u8]) -> Vec<Vec<u8>> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.chain([path.len()]).map(|end| path[..end].to_vec()).collect()
}

/// What is packed.
struct Tree {
    /// Open for reading.
    top: OwnedFd,
    /// What is below it and in no need to be packed.
    lower: Lower,
    /// `top` is a copy of all of that.
    copied: Option<Copied>,
    /// Places that we have made.
    ours: Vec<Vec<u8>>,
    /// Those, and what is on the way to them.
    places: HashSet<Vec<u8>>,
    /// fuse-overlayfs may have made files in the place of whiteouts.
    fuse: bool,
}

fn pack_layer(tree: Tree, as_layer: AsLayer, pipe: File) -> Result<()> {
    let mut out = Framed::new(pipe);
    let style = Style {
        name: b"",
        owner: &|uid, gid| (uid, gid),
        devices: true,
        exact: false,
        recorded: true,
        layer: Some(as_layer),
    };
    let packed = Walk { levels: Vec::new(), pack: Pack::new(style, &mut out), tree }.run();
    unless_unread(packed.and_then(|()| Ok(member::end(&mut out)?)).and_then(|()| Ok(out.finish()?)))
}

struct Walk<'a> {
    tree: Tree,
    pack: Pack<'a, Framed>,
    levels: Vec<Level>,
}

/// A directory that is being read.
struct Level {
    path: Vec<u8>,
    /// Nothing is below it that would show through.
    new: bool,
    /// It is packed as soon as something in it is.
    pending: bool,
    names: IntoIter<Vec<u8>>,
}

impl Walk<'_> {
    fn run(mut self) -> Result<()> {
        let top = self.tree.top.try_clone().context("open the layer")?;
        let new = self.tree.lower.0.is_empty();
        let stat = fstat(&top)?;
        // Overlay shows the root of the topmost layer, and ours has these unless it says otherwise.
        if (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) != (0o755, 0, 0) {
            self.pack.directory(&top, b".".to_vec())?;
        }
        self.push(&top, Vec::new(), new, false)?;
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let (path, new) = (join(&level.path, &name), level.new);
            let packed = self.entry(&name, path.clone(), new);
            packed.with_context(|| format!("read {:?}", lossy(&path)))?;
        }
        Ok(())
    }

    fn entry(&mut self, name: &[u8], path: Vec<u8>, new: bool) -> Result<()> {
        if path.len() > MAX_PATH {
            bail!("the path is longer than {MAX_PATH} bytes");
        }
        if let Some(gone) = name.strip_prefix(lower::WHITEOUT) {
            let gone = [&path[..path.len() - name.len()], gone].concat();
            let is_whiteout = self.tree.fuse && !new && !gone.ends_with(b"/") && self.look(&gone)?.is_none();
            return if is_whiteout { self.whiteout(&gone) } else { Ok(()) };
        }
        let Some((node, stat)) = self.look(&path)? else {
            return if self.tree.copied.is_some() && !new { self.whiteout(&path) } else { Ok(()) };
        };
        if lower::is_whiteout(&stat) {
            return if new { Ok(()) } else { self.whiteout(&path) };
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return self.directory(path, &stat, new);
        }
        if self.tree.ours.contains(&path) || self.is_copy(&path, &stat, new)? {
            return Ok(());
        }
        match kind {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
                let Some(file) = self.open(&path, flags)? else { return Ok(()) };
                refuse(&file, "metacopy")?;
                self.write_pending()?;
                self.pack.file(file, path)
            }
            FileType::Symlink => {
                let target = readlinkat(&node, c"", Vec::new())?;
                self.write_pending()?;
                self.pack.node(&stat, target.to_bytes(), path)
            }
            FileType::Socket => Ok(()),
            _ => {
                self.write_pending()?;
                self.pack.node(&stat, b"", path)
            }
        }
    }

    fn is_copy(&self, path: &[u8], stat: &Stat, new: bool) -> Result<bool> {
        let Some(copied) = self.tree.copied.filter(|_| !new) else { return Ok(false) };
        Ok(self.tree.lower.find(path)?.is_some_and(|before| copied.is_unchanged(&before, stat)))
    }

    fn directory(&mut self, path: Vec<u8>, stat: &Stat, new: bool) -> Result<()> {
        let Some(directory) = self.open(&path, OFlags::RDONLY | OFlags::DIRECTORY)? else { return Ok(()) };
        refuse(&directory, "redirect")?;
        let below = if new { None } else { self.tree.lower.find(&path)? };
        let below = below.filter(lower::is_directory);
        let opaque = below.is_some() && lower::is_opaque(&directory);
        let place = self.tree.places.contains(&path);
        let changed = match &below {
            // Making a mount point in it has changed its time.
            Some(below) if place => {
                let owned = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
                owned(below) != owned(stat)
            }
            Some(below) => differs(below, stat),
            None => !place,
        };
        let packed = changed || opaque;
        if packed {
            self.write_pending()?;
            self.pack.directory(&directory, path.clone())?;
        }
        if opaque {
            self.pack.mark(&join(&path, b".wh..wh..opq"))?;
        }
        self.push(&directory, path, opaque || below.is_none(), !packed)
    }

    /// `path` is gone, if it was ever there.
    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        if self.tree.ours.iter().any(|place| place == path) || self.tree.lower.find(path)?.is_none() {
            return Ok(());
        }
        self.write_pending()?;
        let (directory, name) = split(path);
        self.pack.mark(&join(directory, &[lower::WHITEOUT, name].concat()))
    }

    fn push(&mut self, directory: &OwnedFd, path: Vec<u8>, new: bool, pending: bool) -> Result<()> {
        let mut names = lower::names(directory)?;
        if self.tree.copied.is_some() && !new {
            names.extend(self.tree.lower.names(&path)?);
        }
        names.sort();
        names.dedup();
        self.levels.push(Level { path, new, pending, names: names.into_iter() });
        Ok(())
    }

    /// A directory that a layer doesn't tell of would get default attributes.
    fn write_pending(&mut self) -> Result<()> {
        for at in 0..self.levels.len() {
            if std::mem::take(&mut self.levels[at].pending) {
                let path = self.levels[at].path.clone();
                if let Some(directory) = self.open(&path, OFlags::RDONLY | OFlags::DIRECTORY)? {
                    self.pack.directory(&directory, path)?;
                }
            }
        }
        Ok(())
    }

    fn look(&self, path: &[u8]) -> Result<Option<(OwnedFd, Stat)>> {
        match self.open(path, OFlags::PATH | OFlags::NOFOLLOW)? {
            Some(node) => fstat(&node).map(|stat| Some((node, stat))).map_err(Into::into),
            None => Ok(None),
        }
    }

    fn open(&self, path: &[u8], flags: OFlags) -> Result<Option<OwnedFd>> {
        match openat2(&self.tree.top, path, flags | OFlags::CLOEXEC, Mode::empty(), BENEATH) {
            Err(errno) if lower::missing(errno) || errno == Errno::NXIO => Ok(None),
            opened => Ok(Some(opened?)),
        }
    }
}

/// Overlay can keep a directory's contents or a file's data in a lower layer, under another name; we never ask it to.
fn refuse(file: &OwnedFd, mark: &str) -> Result<()> {
    let marked = ["trusted.overlay", "user.overlay"]
        .iter()
        .any(|start| fgetxattr(file, format!("{start}.{mark}"), &mut [0; 0]).is_ok());
    match marked {
        true => Err(anyhow!("overlay has kept a part of it in another layer ({mark})"))
            .hint("make the container again while /sys/module/overlay/parameters/redirect_dir and metacopy are N; or `ctr commit --squash`"),
        false => Ok(()),
    }
}
