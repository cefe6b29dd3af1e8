//! Unpacking a layer: a hostile archive into a directory that it can't leave (OCI image-spec, layer.md, "Applying
//! Changesets"). Bounded: what an archive makes us do costs time and memory in proportion to its size.

use super::{
    archive::{Archive, Entry, Kind, lossy},
    attributes,
    sparse::{Segment, SparseMap},
    tree::{Place, Tree, normal},
    whiteout::{self, Meaning},
};
pub use attributes::Policy;

use crate::{sys::writeback, weakened};
use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};
use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, SeekFrom, Timestamps, fchmod, ftruncate, futimens, linkat, makedev,
        mkdirat, mknodat, openat, seek, statat, symlinkat, utimensat,
    },
    io::{Errno, retry_on_intr},
    process::umask,
};
use std::{
    collections::BTreeMap,
    io::BufRead,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Files and directories that one layer may make.
pub const MAX_ENTRIES: u64 = 4 << 20;
/// Bytes of holes that the sparse files of one layer may have together. They take no space, but whoever reads them waits.
pub const MAX_HOLES: u64 = 1 << 40;
/// Below this the call costs more than the wait that it saves.
const WORTH_WRITING_EARLY: u64 = 64 << 10;
/// Bytes kept to give directories their times at the end; beyond that the first ones get theirs early.
const MAX_LATER: usize = 16 << 20;

/// What came of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files and directories made.
    pub entries: u64,
    /// Bytes of data in them.
    pub size: u64,
}

/// Unpack `archive` into the empty directory `root` and read it to its end. The calling thread works with a umask of its
/// own meanwhile.
///
/// # Errors
/// The archive is malformed, climbs out, or exceeds a bound; or the disk. What was unpacked until then stays.
pub fn unpack(archive: impl BufRead, root: BorrowedFd<'_>, policy: &Policy) -> Result<Unpacked> {
    let _umask = NoUmask::set()?;
    fchmod(root, Mode::from_raw_mode(0o755)).context("chmod the layer's root")?;
    let mut archive = Archive::new(archive);
    let tree = Tree::new(root, policy.opaque());
    let mut unpacker =
        Unpacker { tree, policy, later: BTreeMap::new(), later_size: 0, holes: 0, made: Unpacked::default() };
    while let Some(entry) = archive.next()? {
        unpacker.entry(&entry, &mut archive).with_context(|| format!("unpack {:?}", lossy(&entry.path)))?;
    }
    unpacker.finish_directories();
    archive.drain(u64::MAX)?;
    Ok(unpacker.made)
}

struct Unpacker<'a> {
    tree: Tree<'a>,
    policy: &'a Policy,
    /// What directories get once nothing is made in them any more.
    later: BTreeMap<Vec<u8>, Later>,
    later_size: usize,
    holes: u64,
    made: Unpacked,
}

struct Later {
    times: Timestamps,
    /// With setuid, setgid or sticky bits: what is made in a setgid directory would inherit its group.
    mode: Option<Mode>,
}

impl Unpacker<'_> {
    fn entry(&mut self, entry: &Entry, archive: &mut Archive<impl BufRead>) -> Result<()> {
        self.made.entries += 1;
        if self.made.entries > MAX_ENTRIES {
            bail!("layer has more than {MAX_ENTRIES} files");
        }
        let path = normal(&entry.path)?;
        match whiteout::meaning(&path)? {
            Meaning::Plain if path.is_empty() => self.root(entry),
            Meaning::Plain => {
                let place = self.tree.place(&path, &mut self.made.entries)?;
                self.file(entry, &path, &place, archive)
            }
            Meaning::Gone { name } => {
                let place = self.tree.place(&path, &mut self.made.entries)?;
                self.whiteout(&Place { name, ..place })
            }
            Meaning::Opaque => {
                let place = self.tree.place(&path, &mut self.made.entries)?;
                Ok(whiteout::make_opaque(place.parent.as_fd(), self.policy.opaque())?)
            }
            Meaning::Ignored => Ok(()),
        }
    }

    fn file(
        &mut self,
        entry: &Entry,
        path: &[u8],
        place: &Place<'_>,
        archive: &mut Archive<impl BufRead>,
    ) -> Result<()> {
        let parent = place.parent.as_fd();
        match &entry.kind {
            Kind::File { sparse } => {
                let file = self.new_file(entry, path, place)?;
                let before = self.made.size;
                match sparse {
                    None => self.made.size += copy(archive, &file, u64::MAX)?,
                    Some(map) => self.sparse(map, archive, &file)?,
                }
                // So that the syncfs(2) before the layer is published has little left to wait for.
                if self.made.size - before >= WORTH_WRITING_EARLY {
                    writeback::begin(file.as_fd());
                }
                self.policy.dress(file.as_fd(), entry, "file")?;
                futimens(&file, &attributes::times(entry))?;
            }
            Kind::Directory => self.directory(entry, path, place)?,
            Kind::HardLink { target } => self.hard_link(target, path, place)?,
            Kind::Symlink { target } => {
                self.anew(path, place, || symlinkat(target.as_slice(), parent, place.name))?;
                self.policy.dress_node(entry, place)?;
            }
            Kind::Fifo => {
                let mode = attributes::plain_mode(entry);
                self.anew(path, place, || mknodat(parent, place.name, FileType::Fifo, mode, 0))?;
                self.policy.dress_node(entry, place)?;
            }
            Kind::Char { major, minor } => {
                self.device(entry, path, place, (FileType::CharacterDevice, *major, *minor))?;
            }
            Kind::Block { major, minor } => {
                self.device(entry, path, place, (FileType::BlockDevice, *major, *minor))?;
            }
        }
        Ok(())
    }

    fn new_file(&mut self, entry: &Entry, path: &[u8], place: &Place<'_>) -> Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = attributes::plain_mode(entry);
        self.anew(path, place, || openat(&place.parent, place.name, flags, mode))
    }

    fn sparse(&mut self, map: &SparseMap, archive: &mut Archive<impl BufRead>, file: &OwnedFd) -> Result<()> {
        let stored: u64 = map.segments.iter().map(|segment| segment.length).sum();
        self.holes += map.size - stored;
        if self.holes > MAX_HOLES && !weakened::is("sparse-holes") {
            bail!("sparse files of the layer have more than {MAX_HOLES} bytes of holes");
        }
        for Segment { offset, length } in map.segments.iter().filter(|segment| segment.length > 0) {
            seek(file, SeekFrom::Start(*offset))?;
            self.made.size += copy(archive, file, *length)?;
        }
        Ok(ftruncate(file, map.size)?)
    }

    fn directory(&mut self, entry: &Entry, path: &[u8], place: &Place<'_>) -> Result<()> {
        let mode = attributes::plain_mode(entry);
        let make = || mkdirat(&place.parent, place.name, mode);
        let mut exists = false;
        match make() {
            Err(Errno::EXIST) if is_directory(place) => exists = true,
            Err(Errno::EXIST) => {
                let replaces_whiteout = whiteout::is_at(place.parent.as_fd(), place.name);
                self.anew(path, place, make)?;
                if replaces_whiteout {
                    whiteout::make_opaque(open_directory(place)?.as_fd(), self.policy.opaque())?;
                }
            }
            made => {
                made?;
                if whiteout::replaced(place.parent.as_fd(), place.name) {
                    whiteout::make_opaque(open_directory(place)?.as_fd(), self.policy.opaque())?;
                }
            }
        }
        if exists || self.policy.needs_dress(entry) {
            let directory = open_directory(place)?;
            self.policy.dress(directory.as_fd(), entry, "dir")?;
            fchmod(&directory, mode)?;
        }
        self.remember(path, entry);
        Ok(())
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if !matches!(entry.kind, Kind::Directory) {
            bail!("the layer's root is no directory");
        }
        let root = open_directory(&self.tree.find(b"")?)?;
        self.policy.dress(root.as_fd(), entry, "dir")?;
        fchmod(&root, attributes::plain_mode(entry))?;
        self.remember(b"", entry);
        Ok(())
    }

    /// A hard link to what this layer has made, also to a symbolic link as such.
    fn hard_link(&mut self, target: &[u8], path: &[u8], place: &Place<'_>) -> Result<()> {
        let link_to = || format!("link it to {:?}", lossy(target));
        let target = normal(target).with_context(link_to)?;
        let source = self.tree.find(&target).with_context(link_to)?;
        let link = || linkat(&source.parent, source.name, &place.parent, place.name, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) if is_same(&source, place) => Ok(()),
            Err(Errno::EXIST) => self.anew(path, place, link).with_context(link_to),
            linked => linked.with_context(link_to),
        }
    }

    /// A device if we may make one; else a file that records it.
    fn device(
        &mut self,
        entry: &Entry,
        path: &[u8],
        place: &Place<'_>,
        (kind, major, minor): (FileType, u32, u32),
    ) -> Result<()> {
        let (mode, number) = (attributes::plain_mode(entry), makedev(major, minor));
        let made = if self.policy.makes_devices() {
            self.anew(path, place, || mknodat(&place.parent, place.name, kind, mode, number))
        } else {
            Err(Errno::PERM.into())
        };
        match made {
            Err(e) if e.downcast_ref() == Some(&Errno::PERM) => {
                let file = self.new_file(entry, path, place)?;
                let name = if kind == FileType::BlockDevice { "block" } else { "char" };
                self.policy.record(file.as_fd(), entry, &format!("{name}-{major}-{minor}"))?;
                Ok(futimens(&file, &attributes::times(entry))?)
            }
            made => made.and_then(|()| self.policy.dress_node(entry, place)),
        }
    }

    fn whiteout(&mut self, place: &Place<'_>) -> Result<()> {
        match whiteout::make(place.parent.as_fd(), place.name) {
            // It concerns lower layers only: what this layer has made stays, and hides theirs.
            Err(Errno::EXIST) if is_directory(place) => {
                Ok(whiteout::make_opaque(open_directory(place)?.as_fd(), self.policy.opaque())?)
            }
            Err(Errno::EXIST) => Ok(()),
            made => Ok(made?),
        }
    }

    /// Make something where the archive may have made another thing before.
    fn anew<T>(&mut self, path: &[u8], place: &Place<'_>, make: impl Fn() -> Result<T, Errno>) -> Result<T> {
        match make() {
            Err(Errno::EXIST) => {
                self.clear(path, place)?;
                Ok(make()?)
            }
            made => Ok(made?),
        }
    }

    fn clear(&mut self, path: &[u8], place: &Place<'_>) -> Result<()> {
        self.tree.remove(place)?;
        let below = [path, b"/"].concat();
        let end = [path, b"0"].concat();
        let gone: Vec<_> = self.later.range(below..end).map(|(path, _)| path.clone()).collect();
        for path in gone.iter().map(Vec::as_slice).chain([path]) {
            self.later.remove(path);
        }
        Ok(())
    }

    fn remember(&mut self, path: &[u8], entry: &Entry) {
        let special = entry.mode & 0o6000 != 0 && self.policy.owner(entry).is_some();
        let mode = special.then(|| Mode::from_raw_mode(entry.mode));
        self.later_size += path.len() + 128;
        self.later.insert(path.to_vec(), Later { times: attributes::times(entry), mode });
        if self.later_size > MAX_LATER {
            self.finish_directories();
        }
    }

    /// Times and set-id bits of directories. One that is gone by way of a link needs none.
    fn finish_directories(&mut self) {
        self.later_size = 0;
        for (path, later) in std::mem::take(&mut self.later) {
            let Ok(place) = self.tree.find(&path) else { continue };
            if let Some(mode) = later.mode {
                let _ = open_directory(&place).and_then(|directory| fchmod(directory, mode));
            }
            let _ = utimensat(&place.parent, place.name, &later.times, AtFlags::SYMLINK_NOFOLLOW);
        }
    }
}

/// Copy at most `limit` bytes of the current entry's data to where `file` stands; how many.
fn copy(archive: &mut Archive<impl BufRead>, file: &OwnedFd, limit: u64) -> Result<u64> {
    let mut copied = 0;
    while copied < limit {
        let data = archive.read_data()?;
        if data.is_empty() {
            break;
        }
        let part = &data[..data.len().min(usize::try_from(limit - copied).unwrap_or(usize::MAX))];
        let written = retry_on_intr(|| rustix::io::write(file, part))?;
        archive.consume(written);
        copied += written as u64;
    }
    Ok(copied)
}

fn open_directory(place: &Place<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&place.parent, place.name, flags, Mode::empty())
}

fn is_directory(place: &Place<'_>) -> bool {
    statat(&place.parent, place.name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn is_same(a: &Place<'_>, b: &Place<'_>) -> bool {
    let inode = |place: &Place<'_>| {
        statat(&place.parent, place.name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| (stat.st_dev, stat.st_ino))
    };
    inode(a).is_ok_and(|a| inode(b) == Ok(a))
}

/// Modes are made as they are given, without a chmod(2) each: this thread alone has no umask while it unpacks.
struct NoUmask(Mode);

impl NoUmask {
    fn set() -> Result<NoUmask> {
        unshare(CloneFlags::CLONE_FS).context("take a umask for this thread alone")?;
        Ok(NoUmask(umask(Mode::empty())))
    }
}

impl Drop for NoUmask {
    fn drop(&mut self) {
        umask(self.0);
    }
}
