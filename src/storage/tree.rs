//! The directory tree that a layer unpacks into. Every path is resolved by descriptor, below the tree's root: a symbolic
//! link of the layer leads where it will lead in the container, never outside.

use super::{archive::lossy, delete::delete_tree_at, whiteout};
use crate::{error::Explain, weakened};
use anyhow::{Result, anyhow, bail};
use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat, unlinkat},
    io::Errno,
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

/// Bytes of one path (limits.h, PATH_MAX, less its NUL).
const MAX_PATH: usize = 4095;
/// Links followed in one path (path_resolution(7)).
const MAX_LINKS: u32 = 40;
/// Directories kept open: archives go through their tree depth first, so the last few are what comes next.
const KEPT: usize = 8;

pub struct Tree<'fd> {
    root: BorrowedFd<'fd>,
    /// Names the xattr that marks a directory opaque.
    opaque: &'static str,
    kept: Vec<(Vec<u8>, Rc<OwnedFd>)>,
    oldest: usize,
}

/// The last component of a path and the directory that holds it.
pub struct Place<'p> {
    pub parent: Rc<OwnedFd>,
    pub name: &'p [u8],
}

impl<'fd> Tree<'fd> {
    pub fn new(root: BorrowedFd<'fd>, opaque: &'static str) -> Tree<'fd> {
        Tree { root, opaque, kept: Vec::new(), oldest: 0 }
    }

    /// The place of `path`, which is normalised and not the root. Parents that the archive has left out are made.
    /// `implied` counts them.
    pub fn place<'p>(&mut self, path: &'p [u8], implied: &mut u64) -> Result<Place<'p>> {
        let (parent, name) = split(path);
        Ok(Place { parent: self.directory(parent, implied)?, name })
    }

    /// The place of `path` if its parent is there.
    pub fn find<'p>(&mut self, path: &'p [u8]) -> Result<Place<'p>, Errno> {
        let (parent, name) = split(path);
        let parent = match self.kept.iter().find(|(kept, _)| kept == parent) {
            Some((_, directory)) => Rc::clone(directory),
            None => self.keep(parent, self.open(parent)?),
        };
        Ok(Place { parent, name })
    }

    /// Make the way free for something new at `place`.
    pub fn remove(&mut self, place: &Place<'_>) -> Result<()> {
        // A directory or link that others were reached through may be gone now.
        self.kept.clear();
        match unlinkat(&place.parent, place.name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => Ok(delete_tree_at(place.parent.as_fd(), place.name)?),
            done => Ok(done?),
        }
    }

    fn directory(&mut self, path: &[u8], implied: &mut u64) -> Result<Rc<OwnedFd>> {
        if let Some((_, directory)) = self.kept.iter().find(|(kept, _)| kept == path) {
            return Ok(Rc::clone(directory));
        }
        let directory = match self.open(path) {
            // A parent is missing, or a link leads to something that is.
            Err(Errno::NOENT | Errno::NOTDIR) => self.make(path, implied)?,
            opened => opened?,
        };
        Ok(self.keep(path, directory))
    }

    fn keep(&mut self, path: &[u8], directory: OwnedFd) -> Rc<OwnedFd> {
        let directory = Rc::new(directory);
        let slot = (path.to_vec(), Rc::clone(&directory));
        if self.kept.len() < KEPT {
            self.kept.push(slot);
        } else {
            self.kept[self.oldest % KEPT] = slot;
            self.oldest += 1;
        }
        directory
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        if weakened::is("layer-root") {
            return openat(self.root, path, DIRECTORY, Mode::empty());
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(self.root, path, DIRECTORY, Mode::empty(), resolve)
    }

    /// Walk `path` component by component, making what is missing, also behind links, as the container would see it.
    fn make(&self, path: &[u8], implied: &mut u64) -> Result<OwnedFd> {
        let mut at = self.open(b"")?;
        let mut real: Vec<Vec<u8>> = Vec::new();
        let mut ahead: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == b".." {
                real.pop();
                at = self.open(&real.join(&b'/'))?;
                continue;
            }
            match openat(&at, name.as_slice(), DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(directory) => {
                    at = directory;
                    real.push(name);
                }
                Err(Errno::NOENT) => {
                    mkdirat(&at, name.as_slice(), Mode::from_raw_mode(0o755))?;
                    if whiteout::replaced(at.as_fd(), &name) {
                        let made = openat(&at, name.as_slice(), DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
                        whiteout::make_opaque(made.as_fd(), self.opaque)?;
                    }
                    *implied += 1;
                    ahead.push(name);
                }
                Err(Errno::NOTDIR | Errno::LOOP) => match readlinkat(&at, name.as_slice(), Vec::new()) {
                    Ok(target) => {
                        links += 1;
                        let target = target.as_bytes();
                        if links > MAX_LINKS || target.len() > MAX_PATH {
                            return Err(Errno::LOOP.into());
                        }
                        if target.starts_with(b"/") {
                            real.clear();
                            at = self.open(b"")?;
                        }
                        ahead.extend(components(target).rev().map(<[u8]>::to_vec));
                    }
                    // A lower layer's file is gone and this layer has a directory in its place.
                    Err(Errno::INVAL) if whiteout::is_at(at.as_fd(), &name) => {
                        unlinkat(&at, name.as_slice(), AtFlags::empty())?;
                        mkdirat(&at, name.as_slice(), Mode::from_raw_mode(0o755))?;
                        *implied += 1;
                        at = openat(&at, name.as_slice(), DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
                        whiteout::make_opaque(at.as_fd(), self.opaque)?;
                        real.push(name);
                    }
                    Err(Errno::INVAL) => return Err(Errno::NOTDIR.into()),
                    Err(e) => return Err(e.into()),
                },
                Err(e) => return Err(e.into()),
            }
        }
        Ok(at)
    }
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// `path` without `.`, `..`, empty components and slashes at its ends; empty for the root itself. `..` takes the component
/// before it back, as the text stands: GNU tar, Go and containerd agree.
///
/// # Errors
/// It climbs out of the layer, or no system call would take it.
pub fn normal(path: &[u8]) -> Result<Vec<u8>> {
    if path.len() > MAX_PATH {
        bail!("path of {} bytes is longer than {MAX_PATH}", path.len());
    }
    if path.contains(&0) {
        bail!("path contains NUL");
    }
    let mut normal = Vec::with_capacity(path.len());
    for component in components(path) {
        if component != b".." {
            if !normal.is_empty() {
                normal.push(b'/');
            }
            normal.extend_from_slice(component);
        } else if normal.is_empty() {
            return Err(anyhow!("path {:?} climbs out of the layer", lossy(path)))
                .hint("don't trust this image; pull one from another source (`ctr pull …`)");
        } else {
            normal.truncate(split(&normal).0.len());
        }
    }
    Ok(normal)
}

/// The directory and the last component of a normal path.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None if path.is_empty() => (b"", b"."),
        None => (b"", path),
    }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty() && *component != b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_paths() {
        for (path, expected) in [
            ("a/b", Some("a/b")),
            ("./a//b/./c/", Some("a/b/c")),
            ("/etc/passwd", Some("etc/passwd")),
            ("a/../b", Some("b")),
            ("a/b/../../c/d/..", Some("c")),
            ("./", Some("")),
            ("", Some("")),
            ("a/..", Some("")),
            ("...", Some("...")),
            ("..", None),
            ("a/../../b", None),
            ("/../b", None),
            ("a\0b", None),
        ] {
            let normal = normal(path.as_bytes());
            assert_eq!(normal.ok().as_deref(), expected.map(str::as_bytes), "{path:?}");
        }
        assert!(normal(&[b'a'; 4096]).is_err());
    }
}
