//! What a user mounts into a container: directories and files of the host, volumes, overlays over either, secrets.

use super::{
    copyup::{self, Kept},
    mount::{Setting, attach, clone_tree, new_filesystem},
    target::Target,
};
use crate::{sys::mount::change_attributes_and_propagation, weakened};
use rustix::{
    fs::{
        AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, flock,
        fstat, open, openat, openat2, unlinkat,
    },
    io::{Errno, Result, fcntl_dupfd_cloexec, pwrite, retry_on_intr, write},
    mount::{MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags, mount, unmount},
};
use std::{
    ffi::{CStr, CString},
    fmt,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

/// A file or directory of the host, or what is in a volume.
#[derive(Debug)]
pub struct Volume {
    /// Its path on the host.
    pub source: CString,
    /// A place below it, to which no link leads.
    pub subpath: Option<CString>,
    /// With the mounts below it.
    pub recursive: bool,
    /// `MOUNT_ATTR_*` to add. Those that it has on the host stay.
    pub attributes: MountAttrFlags,
    /// Whether mounts that are made below it later are seen on the other side.
    pub propagation: MountPropagationFlags,
    /// It, mounted with other ids, attached nowhere: made while we were root of the host.
    pub mapped: Option<OwnedFd>,
    /// It may be a volume that no container has used yet.
    pub fresh: Option<Fresh>,
    /// Where it goes.
    pub at: Target,
}

/// A volume that its first user gets as its image has the place.
#[derive(Debug)]
pub struct Fresh {
    /// The volume's directory.
    pub directory: CString,
    /// With what is there; else its owner and mode alone.
    pub copy: bool,
    /// The directory, opened before ids changed.
    pub held: Option<OwnedFd>,
}

impl Fresh {
    /// The directory, which only the user who runs us may walk to.
    pub(super) fn open(&self) -> Result<OwnedFd> {
        match &self.held {
            Some(held) => fcntl_dupfd_cloexec(held, 3),
            None => open(&self.directory, DIRECTORY, Mode::empty()),
        }
    }
}

/// The source of a [`Volume`], found with its user's rights.
#[derive(Debug)]
pub enum Found {
    /// It, in the mount namespace that the container gets.
    Place(OwnedFd),
    /// A detached copy of its mount, which can go to any.
    Tree(OwnedFd),
}

impl Volume {
    /// Find the source. The caller still has its user's ids and groups, and so their rights. `leaves`: it is about to go to
    /// another mount namespace. What is shared with the host can only be had now, before mounts are kept to ourselves.
    pub fn open(&self, leaves: bool) -> Result<Found> {
        if let Some(mapped) = &self.mapped {
            return fcntl_dupfd_cloexec(mapped, 3).map(Found::Tree);
        }
        let place = open(&self.source, TOP, Mode::empty())?;
        let place = match &self.subpath {
            None => place,
            Some(subpath) => below(place, subpath)?,
        };
        match leaves || self.propagation != MountPropagationFlags::PRIVATE {
            true => clone_tree(place, c"", self.recursive).map(Found::Tree),
            false => Ok(Found::Place(place)),
        }
    }

    /// Mount what was found at `place`.
    pub fn mount(&self, found: Found, place: OwnedFd) -> Result<()> {
        let tree = match found {
            Found::Place(source) => clone_tree(source, c"", self.recursive)?,
            Found::Tree(tree) => tree,
        };
        let (set, propagation) = (self.attributes.bits().into(), self.propagation.bits().into());
        change_attributes_and_propagation(tree.as_fd(), set, propagation, self.recursive).map_err(errno)?;
        attach(&tree, place)
    }

    /// Fill the volume if nobody has yet. What is handed back is to become the container's user's, as its image doesn't
    /// say whose the place is.
    pub fn fill(&self, root: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
        let Some(fresh) = &self.fresh else { return Ok(None) };
        let directory = fresh.open()?;
        // Of two first containers one fills it, and the other waits.
        retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive))?;
        let mark =
            match openat(&directory, FRESH, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            {
                Err(Errno::NOENT) => return Ok(None),
                opened => opened?,
            };
        let data = match &self.mapped {
            Some(mapped) => openat(mapped, c".", DIRECTORY, Mode::empty())?,
            None => openat(&directory, c"_data", DIRECTORY, Mode::empty())?,
        };
        if fstat(&mark)?.st_size > 0 {
            // Whoever began to fill it was killed.
            copyup::clear(&data)?;
        }
        let owed = match self.at.find(root) {
            Ok(place) if is_directory(&place)? => {
                if copyup::is_empty(&data)? {
                    pwrite(&mark, b"1", 0)?;
                    let keep = Kept { mode: false, owner: false, content: !fresh.copy };
                    copyup::fill(place.as_fd(), data.as_fd(), keep).inspect_err(|_| {
                        let _ = copyup::clear(&data);
                    })?;
                }
                None
            }
            _ => Some(data),
        };
        unlinkat(&directory, FRESH, AtFlags::empty())?;
        Ok(owed)
    }
}

/// An overlay over directories of the host: `:O`, or an image.
#[derive(Debug)]
pub struct Overlay {
    /// Read-only, topmost first.
    pub lower: Vec<CString>,
    /// What files without contents in `lower` point into, topmost first.
    pub data: Vec<CString>,
    /// Upper and work directory.
    pub upper: Option<[CString; 2]>,
    /// All of these in that order, opened before ids changed.
    pub held: Vec<OwnedFd>,
    /// These two are ours and new: what is written is thrown away.
    pub ephemeral: bool,
    /// In a user namespace.
    pub rootless: bool,
    /// A directory below its top, to which no link leads; shown in its place.
    pub subpath: Option<CString>,
    /// `MS_RDONLY` and its like.
    pub flags: MountFlags,
    /// It, mounted with other ids, attached nowhere: made while we were root of the host.
    pub mapped: Option<OwnedFd>,
    /// Where it goes.
    pub at: Target,
}

impl Overlay {
    /// Its directories: lower ones, data, upper and work.
    pub(super) fn open(&self) -> Result<Vec<OwnedFd>> {
        let all = self.lower.iter().chain(&self.data).chain(self.upper.iter().flatten());
        all.map(|path| open(path, TOP | OFlags::DIRECTORY, Mode::empty())).collect()
    }

    /// Mount it at `place`, an empty spot below `root`.
    pub fn mount(&self, root: BorrowedFd<'_>, place: OwnedFd) -> Result<()> {
        if let Some(mapped) = &self.mapped {
            return attach(mapped, place);
        }
        let opened = if self.held.is_empty() { self.open()? } else { Vec::new() };
        let all = if self.held.is_empty() { &opened } else { &self.held };
        let (lower, rest) = all.split_at(self.lower.len());
        let (data, upper) = rest.split_at(self.data.len());
        let names: Vec<String> = lower.iter().map(proc_path).collect();
        let mut options = format!("lowerdir={}", names.join(":"));
        options.extend(data.iter().map(|fd| format!("::{}", proc_path(fd))));
        if let [upper, work] = upper {
            if let (true, Some(top)) = (self.ephemeral, lower.first()) {
                copyup::fill(top.as_fd(), upper.as_fd(), Kept { mode: false, owner: false, content: true })?;
                options.push_str(",volatile");
            }
            options += &format!(",upperdir={},workdir={}", proc_path(upper), proc_path(work));
        }
        options.push_str(if self.rootless { ",userxattr" } else { "" });
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        mount(c"overlay", proc_path(&place), c"overlay", self.flags, options.as_c_str())?;
        let Some(subpath) = &self.subpath else { return Ok(()) };
        let whole = self.at.find(root)?;
        let part = clone_tree(below(&whole, subpath)?, c"", false)?;
        unmount(proc_path(&whole), UnmountFlags::DETACH)?;
        attach(part, place)
    }
}

/// A file in memory.
pub struct Secret {
    /// What is in it.
    pub content: Vec<u8>,
    /// Its owner inside.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// A directory of the host that is of no use to anybody from here on: what is mounted over it stays behind there.
    pub stage: CString,
    /// It, opened before ids changed.
    pub held: Option<OwnedFd>,
    /// Where it goes.
    pub at: Target,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.at.display())
    }
}

impl Secret {
    /// Make it in `staging`, the tmpfs of all of them, and mount it at `place`.
    pub fn mount(&self, staging: &mut Option<(OwnedFd, u32)>, place: OwnedFd) -> Result<()> {
        let (filesystem, count) = match staging {
            Some(staged) => staged,
            None => {
                let mode = [Setting::Value(c"mode".to_owned(), c"700".to_owned())];
                let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
                    | MountAttrFlags::MOUNT_ATTR_NODEV
                    | MountAttrFlags::MOUNT_ATTR_NOEXEC;
                let filesystem = new_filesystem(c"tmpfs", &mode, attributes)?;
                // Only what is attached can be shown in another place.
                match &self.held {
                    Some(held) => attach(&filesystem, held)?,
                    None => attach(&filesystem, open(&self.stage, TOP, Mode::empty())?)?,
                }
                staging.insert((filesystem, 0))
            }
        };
        *count += 1;
        let name = CString::new(count.to_string()).map_err(|_| Errno::INVAL)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&*filesystem, &name, flags, Mode::RUSR | Mode::WUSR)?;
        let mut rest = self.content.as_slice();
        while !rest.is_empty() {
            rest = &rest[write(&file, rest)?..];
        }
        fchown(&file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        fchmod(&file, Mode::from_raw_mode(self.mode))?;
        attach(clone_tree(&*filesystem, &name, false)?, place)
    }
}

/// What is to be given to the container's user, with all that is in it.
#[derive(Debug)]
pub enum Gift {
    /// A path of the host, and a place below it.
    Host(CString, Option<CString>),
    /// A place of the container.
    Inside(Target),
}

impl Gift {
    /// What giving it is, for a message about its failure.
    pub fn describe(&self) -> String {
        let what = match self {
            Gift::Host(path, _) => path.to_string_lossy(),
            Gift::Inside(at) => at.display().to_string().into(),
        };
        format!("give {what} to the container's user")
    }

    /// Hold it until it is known who the user is.
    pub fn open(&self, root: BorrowedFd<'_>) -> Result<OwnedFd> {
        match self {
            Gift::Host(path, None) => open(path, TOP, Mode::empty()),
            Gift::Host(path, Some(subpath)) => below(open(path, TOP, Mode::empty())?, subpath),
            Gift::Inside(target) => target.find(root),
        }
    }
}

/// `path` below `top`, whatever containers have made there.
pub fn below(top: impl AsFd, path: &CStr) -> Result<OwnedFd> {
    let resolve = match weakened::is("subpath-links") {
        true => ResolveFlags::empty(),
        false => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    };
    loop {
        match openat2(&top, path, TOP, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
}

fn is_directory(place: &OwnedFd) -> Result<bool> {
    Ok(FileType::from_raw_mode(fstat(place)?.st_mode) == FileType::Directory)
}

fn proc_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

pub(super) const TOP: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The mark of a volume that nobody has used; one byte in it: somebody has begun to fill it.
const FRESH: &CStr = c"fresh";
