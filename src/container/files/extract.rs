//! A tar stream into a directory. The stream is hostile, and so may be what is in the directory: each place is found by
//! descriptor, below the directory and, outside a container, through no link at all.

use super::paths::{components, split};
use crate::{
    error::Explain,
    storage::{
        archive::{Archive, Entry, Kind, lossy},
        delete::delete_tree_at,
        sparse::{Segment, SparseMap},
        xattr,
    },
};
use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Timespec, Timestamps, Uid, chownat,
        fchmod, fchown, fstat, ftruncate, futimens, linkat, makedev, mkdirat, mknodat, openat, openat2, seek,
        symlinkat, unlinkat, utimensat,
    },
    io::{Errno, retry_on_intr},
};
use std::{
    io::BufRead,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

/// Whose the new files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Of whoever makes them.
    Maker,
    /// Of this user and group.
    One(u32, u32),
    /// As the stream says, where such an id exists.
    AsPacked,
}

/// How files are made.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The first component of each path in the stream becomes this one; empty: it falls away.
    pub rename: Option<Vec<u8>>,
    /// Whose they are.
    pub owner: Owner,
    /// On the host: no link is followed, no device made, no privilege given.
    pub outside: bool,
    /// A directory may give way to a file, and a file to a directory.
    pub overwrite: bool,
}

/// What was left out.
#[derive(Debug, Default)]
pub struct Skipped {
    count: u64,
    first: Vec<String>,
}

impl Skipped {
    pub(super) fn add(&mut self, path: &[u8]) {
        self.count += 1;
        if self.first.len() < 5 {
            self.first.push(format!("{:?}", lossy(path)));
        }
    }

    /// What to tell the user, if anything.
    pub fn words(&self) -> Option<String> {
        let more = if self.count > self.first.len() as u64 { ", …" } else { "" };
        (self.count > 0).then(|| {
            format!("{} devices and sockets are not copied: {}{more}", self.count, self.first.join(", "))
        })
    }
}

/// Make what `first` and the rest of `archive` tell of, below `base`.
///
/// # Errors
/// The stream is malformed or climbs out, something is in the way, or the disk is full. What was made until then stays.
pub fn extract(
    first: Entry,
    archive: &mut Archive<impl BufRead>,
    base: BorrowedFd<'_>,
    rules: Rules,
) -> Result<Skipped> {
    let mut extract = Extract { base, rules, parent: None, open: Vec::new(), skipped: Skipped::default() };
    let mut next = Some(first);
    while let Some(entry) = next {
        extract
            .entry(&entry, archive)
            .with_context(|| format!("make {:?}", lossy(&extract.path(&entry.path).unwrap_or_default())))
            .hint("what was copied before it stays; `df -h` and `ls -la` show whether there is room for it, and whose")?;
        next = archive.next().hint("see what is in the archive with `tar -tv`")?;
    }
    extract.leave(None);
    Ok(extract.skipped)
}

struct Extract<'a> {
    base: BorrowedFd<'a>,
    rules: Rules,
    /// Where the last entry went.
    parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Directories in which more may be made, outermost first.
    open: Vec<Open>,
    skipped: Skipped,
}

/// What a directory gets when the stream is through with it.
struct Open {
    path: Vec<u8>,
    mode: Mode,
    times: Timestamps,
}

/// A name in a directory.
struct Place<'a> {
    parent: Rc<OwnedFd>,
    name: &'a [u8],
}

impl Extract<'_> {
    fn entry(&mut self, entry: &Entry, archive: &mut Archive<impl BufRead>) -> Result<()> {
        let path = self.path(&entry.path)?;
        self.leave(Some(&path));
        if path.is_empty() {
            // The directory that was there before; its attributes are not the stream's business.
            return match entry.kind {
                Kind::Directory => Ok(()),
                _ => bail!("it has no name"),
            };
        }
        let (holder, name) = split(&path);
        let place = Place { parent: self.directory(holder)?, name };
        let parent = || place.parent.as_fd();
        match &entry.kind {
            Kind::Directory => return self.make_directory(entry, &path, &place),
            Kind::File { sparse } => return self.file(entry, &place, sparse.as_ref(), archive),
            Kind::HardLink { target } => {
                let target = self.path(target)?;
                let (holder, name) = split(&target);
                let from = self.open_directory(holder)?;
                return self.anew(&place, || linkat(&from, name, parent(), place.name, AtFlags::empty()));
            }
            Kind::Symlink { target } => {
                self.anew(&place, || symlinkat(target.as_slice(), parent(), place.name))?;
            }
            Kind::Fifo => {
                self.anew(&place, || mknodat(parent(), place.name, FileType::Fifo, self.mode(entry), 0))?;
            }
            Kind::Char { .. } | Kind::Block { .. } if self.rules.outside => {
                self.skipped.add(&path);
                return Ok(());
            }
            Kind::Char { major, minor } => {
                self.device(entry, &place, FileType::CharacterDevice, makedev(*major, *minor))?;
            }
            Kind::Block { major, minor } => {
                self.device(entry, &place, FileType::BlockDevice, makedev(*major, *minor))?;
            }
        }
        if let Some((uid, gid)) = self.owner(entry) {
            exists(chownat(parent(), place.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))?;
        }
        Ok(utimensat(parent(), place.name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn device(&self, entry: &Entry, place: &Place<'_>, kind: FileType, device: u64) -> Result<()> {
        self.anew(place, || mknodat(&place.parent, place.name, kind, self.mode(entry), device))
            .hint("only root makes devices; leave them out: `tar --exclude …`")
    }

    fn make_directory(&mut self, entry: &Entry, path: &[u8], place: &Place<'_>) -> Result<()> {
        // Its maker has to be able to make more in it.
        let make = || mkdirat(&place.parent, place.name, Mode::RWXU);
        match make() {
            Err(Errno::EXIST) => match self.open_directory(path) {
                Ok(_) => {}
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) if self.rules.overwrite => {
                    unlinkat(&place.parent, place.name, AtFlags::empty())?;
                    make()?;
                }
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {
                    return Err(anyhow!("there is a file in the way of the directory"))
                        .hint("`ctr cp --overwrite` replaces it");
                }
                Err(errno) => return Err(errno.into()),
            },
            made => made?,
        }
        let directory = openat2(self.base, path, READ_DIRECTORY, Mode::empty(), self.resolve())?;
        self.dress(directory.as_fd(), entry)?;
        let open = fchmod(&directory, Mode::RWXU | self.mode(entry));
        // Somebody else's, where more can be made all the same.
        if open != Err(Errno::PERM) {
            open?;
            self.open.push(Open { path: path.to_vec(), mode: self.mode(entry), times: times(entry) });
        }
        self.parent = None;
        Ok(())
    }

    fn file(
        &mut self,
        entry: &Entry,
        place: &Place<'_>,
        sparse: Option<&SparseMap>,
        archive: &mut Archive<impl BufRead>,
    ) -> Result<()> {
        let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || openat(&place.parent, place.name, create, Mode::RUSR | Mode::WUSR);
        let file = match self.anew(place, make) {
            // Something is mounted there: what is in it is replaced.
            Err(e) if e.downcast_ref() == Some(&Errno::BUSY) => rewrite(place)?,
            made => made?,
        };
        let mut fill = || -> Result<()> {
            match sparse {
                None => copy(archive, &file, u64::MAX)?,
                Some(map) => {
                    for Segment { offset, length } in map.segments.iter().filter(|segment| segment.length > 0)
                    {
                        seek(&file, SeekFrom::Start(*offset))?;
                        copy(archive, &file, *length)?;
                    }
                    ftruncate(&file, map.size)?;
                }
            }
            self.dress(file.as_fd(), entry)?;
            fchmod(&file, self.mode(entry))?;
            Ok(futimens(&file, &times(entry))?)
        };
        fill().inspect_err(|_| {
            let _ = unlinkat(&place.parent, place.name, AtFlags::empty());
        })
    }

    /// Owner and xattrs, before the mode: chown(2) takes set-id bits away.
    fn dress(&self, file: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        if let Some((uid, gid)) = self.owner(entry) {
            exists(fchown(file, Some(uid), Some(gid)))?;
        }
        let may_give = |name: &[u8]| !self.rules.outside || name.starts_with(b"user.");
        let xattrs: Vec<_> = entry.xattrs.iter().filter(|(name, _)| may_give(name)).cloned().collect();
        Ok(xattr::apply(file, &xattrs)?)
    }

    fn owner(&self, entry: &Entry) -> Option<(Uid, Gid)> {
        let pair = |uid, gid| (Uid::from_raw(uid), Gid::from_raw(gid));
        match self.rules.owner {
            Owner::Maker => None,
            Owner::One(uid, gid) => Some(pair(uid, gid)),
            Owner::AsPacked => {
                let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
                Some(pair(id(entry.uid)?, id(entry.gid)?))
            }
        }
    }

    /// On the host a file becomes its maker's, and must not lend out its maker's privileges.
    fn mode(&self, entry: &Entry) -> Mode {
        Mode::from_raw_mode(entry.mode & if self.rules.outside { 0o1777 } else { 0o7777 })
    }

    /// Make something where another thing may be.
    fn anew<T>(&self, place: &Place<'_>, make: impl Fn() -> Result<T, Errno>) -> Result<T> {
        match make() {
            Err(Errno::EXIST) => {}
            made => return Ok(made?),
        }
        match unlinkat(&place.parent, place.name, AtFlags::empty()) {
            Err(Errno::ISDIR) if self.rules.overwrite => delete_tree_at(place.parent.as_fd(), place.name)?,
            Err(Errno::ISDIR) => {
                return Err(anyhow!("there is a directory in the way of the file"))
                    .hint("`ctr cp --overwrite` replaces it with all that is in it");
            }
            Err(Errno::NOENT) => {}
            removed => removed?,
        }
        Ok(make()?)
    }

    /// The directory `path`, made with all its parents where the stream has left them out.
    fn directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        if let Some((last, directory)) = &self.parent
            && last == path
        {
            return Ok(Rc::clone(directory));
        }
        let mut opened = self.open_directory(path);
        if matches!(opened, Err(Errno::NOENT)) {
            let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            for end in slashes.chain([path.len()]) {
                let (holder, name) = split(&path[..end]);
                match mkdirat(self.open_directory(holder)?, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            opened = self.open_directory(path);
        }
        let directory = Rc::new(opened?);
        self.parent = Some((path.to_vec(), Rc::clone(&directory)));
        Ok(directory)
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        openat2(
            self.base,
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            self.resolve(),
        )
    }

    fn resolve(&self) -> ResolveFlags {
        match self.rules.outside {
            true if crate::weakened::is("cp-links") => ResolveFlags::empty(),
            true => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
            // Where the root is the container's, its links lead where they lead its processes.
            false => ResolveFlags::NO_MAGICLINKS,
        }
    }

    /// Where an entry goes, below the base.
    fn path(&self, path: &[u8]) -> Result<Vec<u8>> {
        let mut parts = components(path)?;
        if let Some(name) = &self.rules.rename
            && !parts.is_empty()
        {
            parts[0] = name;
        }
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Ok(parts.join(&b'/'))
    }

    /// Give the directories that `next` is not below what they are to have in the end.
    fn leave(&mut self, next: Option<&[u8]>) {
        while let Some(open) = self.open.last() {
            let below = |path: &[u8]| {
                path.strip_prefix(open.path.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
            };
            if next.is_some_and(below) {
                return;
            }
            if let Ok(directory) =
                openat2(self.base, &*open.path, READ_DIRECTORY, Mode::empty(), self.resolve())
            {
                // The directory was this process's own a moment ago; if it is gone there is nothing to give.
                let _ = fchmod(&directory, open.mode);
                let _ = futimens(&directory, &open.times);
            }
            self.open.pop();
        }
    }
}

const READ_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An id that the user namespace lacks leaves the file with whoever made it.
fn exists(given: Result<(), Errno>) -> Result<(), Errno> {
    match given {
        Err(Errno::INVAL) => Ok(()),
        given => given,
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn rewrite(place: &Place<'_>) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(&place.parent, place.name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        bail!("something is mounted there that is no file");
    }
    ftruncate(&file, 0)?;
    Ok(file)
}

/// At most `limit` bytes of the current entry's data to where `file` stands.
fn copy(archive: &mut Archive<impl BufRead>, file: &OwnedFd, limit: u64) -> Result<()> {
    let mut left = limit;
    while left > 0 {
        let data = archive.read_data()?;
        if data.is_empty() {
            break;
        }
        let part = &data[..data.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        let written = retry_on_intr(|| rustix::io::write(file, part))?;
        archive.consume(written);
        left -= written as u64;
    }
    Ok(())
}
