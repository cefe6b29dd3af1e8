//! What a container has changed (podman-diff(1)), read from overlay's upper directory: whiteouts, opaque directories and
//! what was copied up or made (kernel Documentation/filesystems/overlayfs.rst). The container may run and change it
//! meanwhile: every step is by descriptor and follows no link.

use super::{
    change::{Change, Kind, hear, tell},
    enter::{confine, null},
    lower::{self, BENEATH, Lower},
    paths::join,
};
use crate::{
    container::{
        plain,
        rootfs::{Layers, PLAIN},
        state::Record,
    },
    error::Explain,
    namespaces::{Inside, Mapping, start_inside_with},
    security::CapSet,
    storage::{ContainerDir, Store, archive::lossy},
};
use anyhow::{Context, Result, anyhow};
use caps::Capability;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, open, openat2, statat},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{chdir, chroot},
};
use serde::Deserialize;
use std::{
    collections::{BTreeSet, HashSet},
    fs::File,
    io::{BufWriter, Write},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    vec::IntoIter,
};

/// Hand `each` what differs in container `dir` from its image, sorted by path. Must be called before any thread exists.
pub fn changes(
    store: &Store,
    dir: &ContainerDir,
    record: &Record,
    each: impl FnMut(Change) -> Result<()>,
) -> Result<()> {
    if record.rootfs.is_some() && !record.rootfs_overlay {
        return Err(anyhow!("container {} has a directory of the host as its root", record.name))
            .hint("nothing tells what it has changed there; `--rootfs DIR:O` would");
    }
    let ignored = ignored(dir)?;
    let copied = copied(dir, record);
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let inside = beside_layers(store, dir, record, write, |upper, lower, pipe| {
        let mut comparison =
            Comparison { lower, copied, ignored, out: BufWriter::new(pipe), levels: Vec::new() };
        comparison.run(upper)?;
        Ok(comparison.out.flush()?)
    })?;
    let told = hear(read, each);
    // A reader that gave up has made the other end fail.
    told.and(inside.wait())
}

/// Start a process in an empty root that has nothing but `pipe`, the upper directory of container `dir` and the layers below it.
pub fn beside_layers(
    store: &Store,
    dir: &ContainerDir,
    record: &Record,
    pipe: OwnedFd,
    work: impl FnOnce(OwnedFd, Lower, File) -> Result<()>,
) -> Result<Inside> {
    let layers = Layers::of(store, dir, record)?;
    let null = null()?;
    // With the container's ids: what it calls user 5 is user 5 in a layer.
    let (inside, ()) = start_inside_with(
        &record.mapping_of_files(&Mapping::detect()),
        |_| Ok(()),
        || {
            let hold = |path: &PathBuf| {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
            };
            let upper = hold(&layers.upper)?;
            let lower = layers.lower.iter().map(hold).collect::<Result<Vec<_>>>()?;
            chroot(&layers.merged).and_then(|()| chdir("/")).context("leave the host's root")?;
            Ok((upper, lower))
        },
        |(upper, lower), report| {
            let directories = lower.iter().chain([&upper, &pipe]).map(|fd| fd.as_fd());
            confine(&directories.chain([report]).collect::<Vec<_>>(), null, TO_COMPARE)?;
            work(upper, Lower(lower), File::from(pipe))
        },
    )?;
    Ok(inside)
}

/// To look at any file; root's overlay keeps its marks where CAP_SYS_ADMIN alone sees them (xattr(7), "trusted").
const TO_COMPARE: CapSet = CapSet::of(&[Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_ADMIN]);

/// A directory of the upper layer, or one that was there before it became opaque.
struct Level {
    path: Vec<u8>,
    /// Below it everything is new.
    new: bool,
    told: bool,
    names: IntoIter<Vec<u8>>,
}

struct Comparison<W> {
    lower: Lower,
    copied: Option<Copied>,
    ignored: HashSet<Vec<u8>>,
    out: W,
    levels: Vec<Level>,
}

impl<W: Write> Comparison<W> {
    fn run(&mut self, upper: OwnedFd) -> Result<()> {
        self.descend(&upper, Vec::new(), false, true)?;
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let path = join(&level.path, &name);
            let new = level.new;
            self.entry(&upper, path.clone(), new).with_context(|| format!("compare {:?}", lossy(&path)))?;
        }
        Ok(())
    }

    fn entry(&mut self, upper: &OwnedFd, path: Vec<u8>, new: bool) -> Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let before = if new { None } else { self.lower.find(&path)? };
        let stat = match openat2(upper, path.as_slice(), flags, Mode::empty(), BENEATH) {
            // Of the directory before it became opaque.
            Err(Errno::NOENT) if before.is_some() => return self.tell(Kind::Deleted, &path),
            Err(errno) if lower::missing(errno) => return Ok(()),
            opened => fstat(opened?)?,
        };
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if lower::is_whiteout(&stat) {
            return if before.is_some() { self.tell(Kind::Deleted, &path) } else { Ok(()) };
        }
        match before {
            None => {
                self.tell(Kind::Added, &path)?;
                if directory { self.descend(upper, path, true, true) } else { Ok(()) }
            }
            Some(before) if directory && lower::is_directory(&before) => {
                let differs = differs(&before, &stat);
                if differs {
                    self.tell(Kind::Changed, &path)?;
                }
                self.descend(upper, path, false, differs)
            }
            Some(before) if self.copied.is_some_and(|copied| copied.is_unchanged(&before, &stat)) => Ok(()),
            Some(_) => {
                self.tell(Kind::Changed, &path)?;
                if directory { self.descend(upper, path, true, true) } else { Ok(()) }
            }
        }
    }

    fn descend(&mut self, upper: &OwnedFd, path: Vec<u8>, new: bool, told: bool) -> Result<()> {
        let at = if path.is_empty() { &b"."[..] } else { &path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match openat2(upper, at, flags, Mode::empty(), BENEATH) {
            Err(errno) if lower::missing(errno) => return Ok(()),
            opened => opened?,
        };
        let mut names: BTreeSet<Vec<u8>> = lower::names(&directory)?.into_iter().collect();
        if !new && (self.copied.is_some() || lower::is_opaque(&directory)) {
            names.extend(self.lower.names(&path)?);
        }
        names.retain(|name| !name.starts_with(lower::WHITEOUT));
        let names: Vec<_> = names.into_iter().collect();
        self.levels.push(Level { path: path.clone(), new, told, names: names.into_iter() });
        if new { Ok(()) } else { self.whiteout_files(&directory, &path) }
    }

    /// fuse-overlayfs where it may make no device: `.wh.NAME`.
    fn whiteout_files(&mut self, directory: &OwnedFd, path: &[u8]) -> Result<()> {
        for name in lower::names(directory)? {
            let Some(name) = name.strip_prefix(lower::WHITEOUT) else { continue };
            let gone = join(path, name);
            let again = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
            if !again && self.lower.find(&gone)?.is_some() {
                self.tell(Kind::Deleted, &gone)?;
            }
        }
        Ok(())
    }

    /// Those directories first that differ only because something in them does.
    fn tell(&mut self, kind: Kind, path: &[u8]) -> Result<()> {
        if self.ignored.contains(path) {
            return Ok(());
        }
        for level in self.levels.iter_mut().filter(|level| !level.told) {
            level.told = true;
            if !self.ignored.contains(&level.path) {
                tell(&mut self.out, Kind::Changed, &level.path)?;
            }
        }
        tell(&mut self.out, kind, path)
    }
}

/// In place of an upper directory there is a copy of all layers, finished at this time.
#[derive(Clone, Copy)]
pub struct Copied(Option<(i64, i64)>);

impl Copied {
    /// Whether a file that was `before` in the layers and is no directory is still the copy of it.
    pub fn is_unchanged(self, before: &Stat, now: &Stat) -> bool {
        let of = |stat: &Stat| (stat.st_size, stat.st_rdev);
        let younger = self.0.is_none_or(|time| (now.st_ctime, now.st_ctime_nsec as i64) > time);
        !younger && !differs(before, now) && of(before) == of(now)
    }
}

/// Whether container `dir` has such a copy.
pub fn copied(dir: &ContainerDir, record: &Record) -> Option<Copied> {
    (record.storage_driver == PLAIN).then(|| Copied(plain::made_at(dir.path())))
}

/// Whether mode, owner or time are others.
pub fn differs(before: &Stat, now: &Stat) -> bool {
    let of = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec);
    of(before) != of(now)
}

/// What we ourselves put into a container, without the leading slash: podman's list, and what is mounted.
fn ignored(dir: &ContainerDir) -> Result<HashSet<Vec<u8>>> {
    const OURS: [&str; 12] = [
        "dev",
        "proc",
        "sys",
        "sys/fs",
        "run",
        "run/notify",
        "run/.containerenv",
        "run/secrets",
        "etc/hostname",
        "etc/hosts",
        "etc/resolv.conf",
        "etc/mtab",
    ];
    Ok(OURS.iter().map(|path| path.as_bytes().to_vec()).chain(mount_points(dir)?).collect())
}

/// Where something is mounted in container `dir`, without the leading slash.
pub fn mount_points(dir: &ContainerDir) -> Result<Vec<Vec<u8>>> {
    #[derive(Deserialize)]
    struct Spec {
        #[serde(default)]
        mounts: Vec<Mount>,
    }
    #[derive(Deserialize)]
    struct Mount {
        destination: String,
    }
    let Some(spec) = dir.read("config.json")? else { return Ok(Vec::new()) };
    let spec: Spec = serde_json::from_slice(&spec).context("read its specification")?;
    let path = |mount: Mount| {
        let parts = mount.destination.split('/').filter(|part| !part.is_empty() && *part != ".");
        parts.collect::<Vec<_>>().join("/").into_bytes()
    };
    Ok(spec.mounts.into_iter().map(path).collect())
}
