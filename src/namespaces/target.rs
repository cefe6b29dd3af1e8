//! Places inside a container's root. An image is hostile: every place is found by descriptor with openat2(2), which keeps
//! the walk below the root whatever symbolic links the image holds.

use crate::weakened;
use rustix::{
    fs::{
        AtFlags, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstatfs, mkdirat, openat, openat2,
        unlinkat,
    },
    io::{Errno, Result},
};
use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// A place to mount on or to write, prepared before the fork.
#[derive(Debug)]
pub struct Target {
    /// Below the root, without a leading slash; "." is the root itself.
    path: CString,
    /// Each directory on the way, outermost first.
    parents: Vec<CString>,
    kind: Kind,
    links: Links,
}

/// What has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory; made with mode 0755 when it is missing.
    Directory,
    /// A regular file; made empty when it is missing.
    File,
}

/// Whether symbolic links of the image may lead to another place in its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// They may, but not into /proc and /sys: /etc, /run, and what a user names.
    Follow,
    /// They may not: /proc, /sys and /dev are where every program expects them (CVE-2019-16884, CVE-2023-27561).
    Refuse,
}

impl Target {
    /// The place `path` of the container, absolute or relative to its root.
    pub fn new(path: &str, kind: Kind, links: Links) -> Result<Target> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            return Err(Errno::INVAL);
        }
        let join = |upto: usize| CString::new(parts[..upto].join("/")).map_err(|_| Errno::INVAL);
        let parents = (1..parts.len()).map(join).collect::<Result<_>>()?;
        let path = if parts.is_empty() { c".".to_owned() } else { join(parts.len())? };
        Ok(Target { path, parents, kind, links })
    }

    /// As messages print it.
    pub fn display(&self) -> String {
        format!("/{}", self.path.to_string_lossy())
    }

    /// The place as it is (`O_PATH`), or ENOENT.
    pub fn find(&self, root: BorrowedFd<'_>) -> Result<OwnedFd> {
        self.open(root, &self.path, OFlags::PATH)
    }

    /// The place, made with everything on the way to it when it is missing.
    pub fn ensure(&self, root: BorrowedFd<'_>) -> Result<OwnedFd> {
        match self.find(root) {
            Err(Errno::NOENT) => self.make(root),
            found => found,
        }
    }

    /// The directory that holds the last component, made when it is missing, and that component.
    pub fn ensure_parent(&self, root: BorrowedFd<'_>) -> Result<(OwnedFd, CString)> {
        let holder = match self.parents.last() {
            Some(parent) => match self.open(root, parent, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    self.parents.iter().try_for_each(|parent| self.ensure_directory(root, parent))?;
                    self.open(root, parent, OFlags::PATH | OFlags::DIRECTORY)?
                }
                opened => opened?,
            },
            None => openat(root, c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?,
        };
        let name = self.path.to_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default();
        Ok((holder, CString::new(name).map_err(|_| Errno::INVAL)?))
    }

    /// Its name in the directory `parent` of the container, if it lies right there.
    pub fn name_in(&self, parent: &Target) -> Option<&CStr> {
        let below = self.path.to_bytes_with_nul().strip_prefix(parent.path.to_bytes())?.strip_prefix(b"/")?;
        CStr::from_bytes_with_nul(below).ok().filter(|name| !name.to_bytes().contains(&b'/'))
    }

    /// Make it in `holder`, a directory where only this process makes anything.
    ///
    /// # Errors
    /// EEXIST.
    pub fn create_in(&self, holder: &OwnedFd, name: &CStr) -> Result<OwnedFd> {
        match self.kind {
            Kind::Directory => {
                mkdirat(holder, name, Mode::from_raw_mode(0o755))?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(holder, name, flags, Mode::empty())
            }
            Kind::File => create_file(holder, name),
        }
    }

    fn make(&self, root: BorrowedFd<'_>) -> Result<OwnedFd> {
        let (holder, name) = self.ensure_parent(root)?;
        match self.kind {
            Kind::Directory => ignore_existing(mkdirat(&holder, &name, Mode::from_raw_mode(0o755)))?,
            Kind::File => {
                // A link of the image whose target is missing (resolv.conf into /run) gives way to the file.
                let dangling =
                    openat(&holder, &name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
                if dangling.is_ok() {
                    unlinkat(&holder, &name, AtFlags::empty())?;
                }
                drop(create_file(&holder, &name)?);
            }
        }
        self.find(root)
    }

    fn ensure_directory(&self, root: BorrowedFd<'_>, path: &CString) -> Result<()> {
        let Err(Errno::NOENT) = self.open(root, path, OFlags::PATH | OFlags::DIRECTORY) else {
            return Ok(());
        };
        let bytes = path.to_bytes();
        let (holder, name) = match bytes.iter().rposition(|b| *b == b'/') {
            Some(slash) => {
                let holder = CString::new(&bytes[..slash]).map_err(|_| Errno::INVAL)?;
                (self.open(root, &holder, OFlags::PATH | OFlags::DIRECTORY)?, &bytes[slash + 1..])
            }
            None => (openat(root, c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?, bytes),
        };
        ignore_existing(mkdirat(&holder, name, Mode::from_raw_mode(0o755)))
    }

    fn open(&self, root: BorrowedFd<'_>, path: &CString, flags: OFlags) -> Result<OwnedFd> {
        let links = match self.links {
            Links::Follow => ResolveFlags::empty(),
            Links::Refuse if weakened::is("fixed-places") => ResolveFlags::empty(),
            Links::Refuse => ResolveFlags::NO_SYMLINKS,
        };
        let place = open_in_root(root, path, flags, links)?;
        if self.links == Links::Follow && is_kernels(&place)? && !weakened::is("kernel-places") {
            return Err(Errno::LOOP);
        }
        Ok(place)
    }
}

/// What the kernel tells of itself: no link of an image leads a mount or its contents there.
fn is_kernels(place: &OwnedFd) -> Result<bool> {
    const SYSFS_MAGIC: FsWord = 0x6265_6572;
    const CGROUP2_SUPER_MAGIC: FsWord = 0x6367_7270;
    Ok([PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP2_SUPER_MAGIC].contains(&fstatfs(place)?.f_type))
}

/// openat2(2) below `root`, never out of it and never through a magic link.
pub fn open_in_root(
    root: impl AsFd,
    path: impl rustix::path::Arg,
    flags: OFlags,
    more: ResolveFlags,
) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    let path = path.into_c_str()?;
    if weakened::is("in-root") {
        let relative =
            path.to_bytes().iter().position(|b| *b != b'/').map_or(&b"."[..], |at| &path.to_bytes()[at..]);
        return openat(&root, relative, flags | OFlags::CLOEXEC, Mode::empty());
    }
    loop {
        match openat2(&root, &*path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Somebody renamed a directory on the way: the kernel can't be sure, so it asks to try again.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

fn create_file(holder: &OwnedFd, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(holder, name, flags, Mode::from_raw_mode(0o644))
}

fn ignore_existing(made: Result<()>) -> Result<()> {
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}
