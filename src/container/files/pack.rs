//! A tree of files as a tar stream, sorted by name: the same tree is the same stream. The tree may change while it is read
//! and belong to somebody hostile: every step is by descriptor and follows no link, what vanishes is passed over, a file
//! has the size that it had when it was opened. Memory is that of one path of directories.

use super::{
    extract::Skipped,
    member::{self, Member, Xattrs},
    paths::{MAX_PATH, join},
    segments,
};
use crate::storage::{archive::lossy, ownership::OVERRIDE_STAT, sparse::Segment, xattr};
use anyhow::{Context, Result, bail};
use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, flistxattr, fstat, major,
        makedev, minor, openat, openat2, readlinkat, statat,
    },
    io::Errno,
};
use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    vec::IntoIter,
};
use tar::EntryType;

/// What is packed.
#[derive(Debug)]
pub enum Source {
    /// A directory, open for reading, and all below it.
    Directory(OwnedFd),
    /// A regular file, open for reading.
    File(OwnedFd),
    /// Anything else.
    Node(Stat),
}

/// How the stream tells of files.
#[derive(Clone, Copy)]
pub struct Style<'a> {
    /// The name of what is packed; empty: what is in the directory, without itself.
    pub name: &'a [u8],
    /// From owner and group of a file to those that the stream names.
    pub owner: &'a dyn Fn(u32, u32) -> (u32, u32),
    /// With device nodes.
    pub devices: bool,
    /// With fractions of seconds, which cost a kilobyte a file.
    pub exact: bool,
    /// Owners that the files of an image could not have are in an xattr.
    pub recorded: bool,
    /// It is a layer: no other than these very changes decide on a byte of it.
    pub layer: Option<AsLayer>,
}

/// What is special about a layer. Devices that are only recorded are devices in it, and holes of files are zeros: where a
/// file has them is the file system's affair.
#[derive(Clone, Copy, Debug)]
pub struct AsLayer {
    /// Nothing in it is younger, in seconds since the epoch.
    pub latest: Option<i64>,
}

/// Write `source` to `out`, without the end of an archive.
///
/// # Errors
/// A file can't be read, or `out` takes no more.
pub fn pack(source: Source, style: Style<'_>, out: &mut impl Write) -> Result<Skipped> {
    let mut pack = Pack::new(style, out);
    match source {
        Source::Directory(top) => pack.tree(top)?,
        Source::File(file) => pack.file(file, style.name.to_vec())?,
        Source::Node(stat) => pack.node(&stat, b"", style.name.to_vec())?,
    }
    Ok(pack.skipped)
}

/// A stream that grows.
pub struct Pack<'a, W> {
    style: Style<'a>,
    out: &'a mut W,
    /// Where the first name of a file with several went.
    links: HashMap<(u64, u64), Vec<u8>>,
    links_size: usize,
    skipped: Skipped,
}

/// A directory that is being read.
struct Level {
    /// Below the top.
    path: Vec<u8>,
    directory: Option<OwnedFd>,
    names: IntoIter<CString>,
}

/// Directories that are open at a time.
const OPEN: usize = 32;
/// Bytes that names of hard links may take; beyond that files are written as often as they have names.
const MAX_LINKS: usize = 32 << 20;
/// Bytes of the xattrs of one file.
const MAX_XATTRS: usize = 256 << 10;

impl<'a, W: Write> Pack<'a, W> {
    /// An empty one.
    pub fn new(style: Style<'a>, out: &'a mut W) -> Pack<'a, W> {
        Pack { style, out, links: HashMap::new(), links_size: 0, skipped: Skipped::default() }
    }

    /// An empty file of nobody, which means something by its name alone.
    pub fn mark(&mut self, path: &[u8]) -> Result<()> {
        let member = Member {
            path,
            kind: EntryType::Regular,
            target: b"",
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size: 0,
            segments: None,
            device: (0, 0),
            xattrs: &[],
        };
        Ok(member.write(self.out).map(drop)?)
    }

    fn tree(&mut self, top: OwnedFd) -> Result<()> {
        if !self.style.name.is_empty() {
            self.directory(&top, self.style.name.to_vec())?;
        }
        let reopen = openat(&top, ".", DIRECTORY, Mode::empty()).context("open the directory again")?;
        let mut levels = vec![Level { path: Vec::new(), names: names(&reopen)?, directory: Some(reopen) }];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            let path = join(&level.path, name.to_bytes());
            let directory = match level.directory.take() {
                Some(directory) => directory,
                None => match openat2(&top, level.path.as_slice(), DIRECTORY, Mode::empty(), BENEATH) {
                    Err(errno) if vanished(errno) => continue,
                    opened => opened.with_context(|| format!("open {:?}", lossy(&level.path)))?,
                },
            };
            let below = self
                .entry(directory.as_fd(), &name, &path)
                .with_context(|| format!("read {:?}", lossy(&path)))?;
            level.directory = Some(directory);
            if let Some(directory) = below {
                let names = names(&directory).with_context(|| format!("list {:?}", lossy(&path)))?;
                let deep = levels.len();
                levels.push(Level { path, names, directory: Some(directory) });
                if deep > OPEN {
                    levels[deep - OPEN].directory = None;
                }
            }
        }
        Ok(())
    }

    /// Pack `name` of `parent`; a directory is handed back to be gone into.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<Option<OwnedFd>> {
        let full = join(self.style.name, path);
        if full.len() > MAX_PATH {
            bail!("the path is longer than {MAX_PATH} bytes");
        }
        let mut attempt = || -> Result<Option<OwnedFd>> {
            let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let directory = openat(parent, name, DIRECTORY, Mode::empty())?;
                    self.directory(&directory, full.clone())?;
                    return Ok(Some(directory));
                }
                FileType::RegularFile => {
                    self.file(openat(parent, name, FILE, Mode::empty())?, full.clone())?
                }
                FileType::Symlink => {
                    let target = readlinkat(parent, name, Vec::new())?;
                    self.node(&stat, target.to_bytes(), full.clone())?;
                }
                _ => self.node(&stat, b"", full.clone())?,
            }
            Ok(None)
        };
        match attempt() {
            // It went, or became something else, between two looks.
            Err(e) if e.downcast_ref::<Errno>().is_some_and(|errno| vanished(*errno)) => Ok(None),
            done => done,
        }
    }

    /// A directory without what is in it.
    pub fn directory(&mut self, directory: &OwnedFd, mut path: Vec<u8>) -> Result<()> {
        path.push(b'/');
        let stat = fstat(directory)?;
        let (stat, xattrs) = self.attributes(directory.as_fd(), stat)?;
        self.member(&stat, EntryType::Directory, &path, b"", None, &xattrs).map(drop)
    }

    /// A regular file. One that is cut short meanwhile ends with zeros.
    pub fn file(&mut self, file: OwnedFd, path: Vec<u8>) -> Result<()> {
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return self.node(&stat, b"", path);
        }
        if let Some(first) = self.seen(&stat, &path) {
            return self.member(&stat, EntryType::Link, &path, &first, None, &[]).map(drop);
        }
        let segments = segments::of(file.as_fd(), &stat)?;
        let segments = segments.filter(|segments| self.style.layer.is_none() || are_worth_it(segments));
        let (stat, xattrs) = self.attributes(file.as_fd(), stat)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return self.node(&stat, b"", path);
        }
        let data = self.member(&stat, EntryType::Regular, &path, b"", segments.as_deref(), &xattrs)?;
        let whole = [Segment { offset: 0, length: data }];
        let mut file = File::from(file);
        for segment in segments.as_deref().unwrap_or(&whole) {
            file.seek(SeekFrom::Start(segment.offset))?;
            let copied = io::copy(&mut (&file).take(segment.length), self.out)?;
            // It was cut short meanwhile.
            io::copy(&mut io::repeat(0).take(segment.length - copied), self.out)?;
        }
        Ok(member::pad(data, self.out)?)
    }

    /// What has no data.
    pub fn node(&mut self, stat: &Stat, target: &[u8], path: Vec<u8>) -> Result<()> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => EntryType::Symlink,
            FileType::Fifo => EntryType::Fifo,
            FileType::CharacterDevice if self.style.devices => EntryType::Char,
            FileType::BlockDevice if self.style.devices => EntryType::Block,
            _ => {
                self.skipped.add(&path);
                return Ok(());
            }
        };
        match self.seen(stat, &path) {
            Some(first) => self.member(stat, EntryType::Link, &path, &first, None, &[]).map(drop),
            None => self.member(stat, kind, &path, target, None, &[]).map(drop),
        }
    }

    fn member(
        &mut self,
        stat: &Stat,
        kind: EntryType,
        path: &[u8],
        target: &[u8],
        segments: Option<&[Segment]>,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<u64> {
        let (uid, gid) = (self.style.owner)(stat.st_uid, stat.st_gid);
        let nanoseconds = if self.style.exact { stat.st_mtime_nsec as u32 } else { 0 };
        let latest = self.style.layer.and_then(|layer| layer.latest).unwrap_or(i64::MAX);
        let size = if kind == EntryType::Regular { stat.st_size as u64 } else { 0 };
        let device = match kind {
            EntryType::Char | EntryType::Block => (major(stat.st_rdev), minor(stat.st_rdev)),
            _ => (0, 0),
        };
        let member = Member {
            path,
            kind,
            target,
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            mtime: (stat.st_mtime.min(latest), nanoseconds),
            size,
            segments,
            device,
            xattrs,
        };
        Ok(member.write(self.out)?)
    }

    /// The path that was the first of this file's, unless this is.
    fn seen(&mut self, stat: &Stat, path: &[u8]) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        let first = self.links.get(&(stat.st_dev, stat.st_ino)).cloned();
        if first.is_none() && self.links_size + path.len() + 64 <= MAX_LINKS {
            self.links_size += path.len() + 64;
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        first
    }

    /// Those xattrs of `file` that may travel, and its owner as recorded.
    fn attributes(&self, file: BorrowedFd<'_>, mut stat: Stat) -> Result<(Stat, Xattrs)> {
        let mut list = vec![0; 64 << 10];
        let length = match flistxattr(file, list.as_mut_slice()) {
            Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => 0,
            listed => listed?,
        };
        let mut xattrs = Vec::new();
        let mut total = 0;
        for name in list[..length].split(|byte| *byte == 0) {
            let recorded = self.style.recorded && name == OVERRIDE_STAT.as_bytes();
            if !recorded && !xattr::may_set(name) {
                continue;
            }
            let mut value = vec![0; 64 << 10];
            let Ok(length) = fgetxattr(file, name, value.as_mut_slice()) else { continue };
            value.truncate(length);
            if recorded {
                restore(&mut stat, &value, self.style.layer.is_some());
                continue;
            }
            total += name.len() + length;
            if total > MAX_XATTRS {
                bail!("its xattrs have more than {MAX_XATTRS} bytes");
            }
            xattrs.push((name.to_vec(), value));
        }
        xattrs.sort();
        Ok((stat, xattrs))
    }
}

/// What `uid:gid:mode:kind` records (containers/storage), unless it has been changed since: root owns the file as long as it
/// stands for another, and its mode is then the one that it was made with.
fn restore(stat: &mut Stat, recorded: &[u8], devices: bool) {
    let mut fields = std::str::from_utf8(recorded).unwrap_or_default().split(':');
    let mut number = |radix| u32::from_str_radix(fields.next()?, radix).ok();
    let (Some(uid), Some(gid), Some(mode)) = (number(10), number(10), number(8)) else { return };
    if (stat.st_uid, stat.st_gid) == (0, 0) {
        (stat.st_uid, stat.st_gid) = (uid, gid);
    }
    if stat.st_mode & 0o1777 == mode & 0o1777 {
        stat.st_mode = stat.st_mode & !0o7777 | mode & 0o7777;
    }
    let Some(kind) = fields.next().filter(|_| devices && stat.st_size == 0) else { return };
    let mut parts = kind.split('-');
    let file_type = match parts.next() {
        Some("char") => FileType::CharacterDevice,
        Some("block") => FileType::BlockDevice,
        _ => return,
    };
    let mut number = || parts.next()?.parse().ok();
    if let (Some(major), Some(minor)) = (number(), number()) {
        stat.st_mode = file_type.as_raw_mode() | stat.st_mode & 0o7777;
        stat.st_rdev = makedev(major, minor);
    }
}

/// Bytes of holes that a file of a layer has to have to be sparse in it. Docker and Podman read sparse files but can't put such
/// a layer together again (tar-split); beyond this size zeros would look like a decompression bomb.
const WORTHWHILE_HOLES: u64 = 1 << 30;

fn are_worth_it(segments: &[Segment]) -> bool {
    let stored: u64 = segments.iter().map(|segment| segment.length).sum();
    segments.last().is_some_and(|last| last.offset + last.length - stored >= WORTHWHILE_HOLES)
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

fn vanished(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::STALE)
}

fn names(directory: &OwnedFd) -> Result<IntoIter<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names.into_iter())
}
