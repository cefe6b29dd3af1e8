//! What distinguishes two stacks of layers (podman-diff(1) of images): only what lies in layers that the other doesn't have
//! can differ, so only that is looked at. By descriptor, through no link.

use super::{
    change::{Change, Kind, hear, tell},
    enter::{confine, null},
    lower::{self, BENEATH, Lower},
    paths::join,
};
use crate::{
    namespaces::{Mapping, start_inside},
    security::CapSet,
    storage::{Digest, Store, archive::lossy},
};
use anyhow::{Context, Result};
use caps::Capability;
use rustix::{
    fs::{FileType, Mode, OFlags, Stat, open, openat2},
    pipe::{PipeFlags, pipe_with},
    process::{chdir, chroot},
};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufWriter, Write},
    os::fd::AsFd,
    path::PathBuf,
    vec::IntoIter,
};

/// Directories that are seen together, topmost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack(pub Vec<PathBuf>);

impl Stack {
    /// Of `layers`, base first.
    pub fn of_layers(store: &Store, layers: &[Digest]) -> Stack {
        Stack(layers.iter().rev().map(|layer| store.layer_path(layer)).collect())
    }
}

/// Hand `each` what `new` has otherwise than `old`, directories before what is in them. Must be called before any thread
/// exists.
pub fn compare(
    store: &Store,
    old: &Stack,
    new: &Stack,
    each: impl FnMut(Change) -> Result<()>,
) -> Result<()> {
    let common = old.0.iter().rev().zip(new.0.iter().rev()).take_while(|(a, b)| a == b).count();
    let null = null()?;
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let empty = store.mount_point();
    let (inside, ()) = start_inside(
        &Mapping::detect(),
        |_| Ok(()),
        |report| {
            let hold = |path: &PathBuf| {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
            };
            let [old, new] = [old, new].map(|stack| stack.0.iter().map(hold).collect::<Result<Vec<_>>>());
            let (old, new) = (old?, new?);
            chroot(&empty).and_then(|()| chdir("/")).context("leave the host's root")?;
            let directories = old.iter().chain(&new).chain([&write]).map(|fd| fd.as_fd());
            confine(&directories.chain([report]).collect::<Vec<_>>(), null, TO_COMPARE)?;
            let out = BufWriter::new(File::from(write));
            let mut comparison =
                Comparison { old: Lower(old), new: Lower(new), common, out, levels: Vec::new() };
            comparison.run()?;
            Ok(comparison.out.flush()?)
        },
    )?;
    let told = hear(read, each);
    // A reader that gave up has made the other end fail.
    told.and(inside.wait())
}

/// To look at any file; root's overlay keeps its marks where CAP_SYS_ADMIN alone sees them (xattr(7), "trusted").
const TO_COMPARE: CapSet = CapSet::of(&[Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_ADMIN]);

/// A directory that both have, or that only the new one has.
struct Level {
    path: Vec<u8>,
    added: bool,
    told: bool,
    names: IntoIter<Vec<u8>>,
}

struct Comparison<W> {
    old: Lower,
    new: Lower,
    /// So many layers at the bottom are the same.
    common: usize,
    out: W,
    levels: Vec<Level>,
}

impl<W: Write> Comparison<W> {
    fn run(&mut self) -> Result<()> {
        self.descend(Vec::new(), false, true)?;
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let (path, added) = (join(&level.path, &name), level.added);
            self.entry(path.clone(), added).with_context(|| format!("compare {:?}", lossy(&path)))?;
        }
        Ok(())
    }

    fn entry(&mut self, path: Vec<u8>, added: bool) -> Result<()> {
        let old = if added { None } else { self.old.find(&path)? };
        match (old, self.new.find(&path)?) {
            (None, None) => Ok(()),
            (Some(_), None) => self.tell(Kind::Deleted, &path),
            (None, Some(new)) => {
                self.tell(Kind::Added, &path)?;
                if lower::is_directory(&new) { self.descend(path, true, true) } else { Ok(()) }
            }
            (Some(old), Some(new)) => {
                let differs = differs(&old, &new);
                if differs {
                    self.tell(Kind::Changed, &path)?;
                }
                match (lower::is_directory(&old), lower::is_directory(&new)) {
                    (true, true) => self.descend(path, false, differs),
                    (false, true) => self.descend(path, true, true),
                    _ => Ok(()),
                }
            }
        }
    }

    fn descend(&mut self, path: Vec<u8>, added: bool, told: bool) -> Result<()> {
        let names: BTreeSet<Vec<u8>> =
            if added { self.new.names(&path)?.into_iter().collect() } else { self.candidates(&path)? };
        self.levels.push(Level {
            path,
            added,
            told,
            names: names.into_iter().collect::<Vec<_>>().into_iter(),
        });
        Ok(())
    }

    /// The names in directory `path` that may differ: those in layers of one's own, unless one of these hides what is below.
    fn candidates(&self, path: &[u8]) -> Result<BTreeSet<Vec<u8>>> {
        let own = |stack: &Lower| stack.0.len() - self.common;
        let mut names = BTreeSet::new();
        for layer in self.old.0[..own(&self.old)].iter().chain(&self.new.0[..own(&self.new)]) {
            let at = if path.is_empty() { b"." } else { path };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = match openat2(layer, at, flags, Mode::empty(), BENEATH) {
                Ok(directory) => directory,
                Err(errno) if lower::missing(errno) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if lower::is_opaque(&directory) {
                return Ok(self.old.names(path)?.into_iter().chain(self.new.names(path)?).collect());
            }
            names.extend(lower::names(&directory)?);
        }
        Ok(names)
    }

    /// Those directories first that differ only because something in them does.
    fn tell(&mut self, kind: Kind, path: &[u8]) -> Result<()> {
        for level in self.levels.iter_mut().filter(|level| !level.told) {
            level.told = true;
            tell(&mut self.out, Kind::Changed, &level.path)?;
        }
        tell(&mut self.out, kind, path)
    }
}

/// As containers/storage tells files apart: a directory's size and time say nothing.
fn differs(old: &Stat, new: &Stat) -> bool {
    let what = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    let content = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    let directory = FileType::from_raw_mode(new.st_mode) == FileType::Directory;
    let same_file = (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino);
    !same_file && (what(old) != what(new) || !directory && content(old) != content(new))
}
