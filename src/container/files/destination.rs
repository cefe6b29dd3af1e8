//! Where a copy goes (podman-cp(1), "DESCRIPTION"): into a directory that is there, over a file that is there, or under a
//! new name. The last component may be a symbolic link, which is followed as its root has it.

use crate::{error::Explain, namespaces::target::open_in_root};
use anyhow::{Result, anyhow};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, readlinkat},
    io::Errno,
};
use std::os::fd::{BorrowedFd, OwnedFd};

/// One side of a copy, as it resolves paths.
#[derive(Clone, Copy, Debug)]
pub enum Ground<'fd> {
    /// The user's own file system.
    Host,
    /// The root of a container, and its name; the process is inside.
    Container(BorrowedFd<'fd>, &'fd str),
}

/// The place of a copy: `name` in `directory`, or the directory itself.
#[derive(Debug)]
pub struct Destination {
    pub directory: OwnedFd,
    /// What the stream's first component becomes; empty: it falls away.
    pub name: Vec<u8>,
}

/// What is copied.
#[derive(Clone, Copy, Debug)]
pub struct Top<'a> {
    pub is_directory: bool,
    /// Its name for a directory that it is copied into; empty: what is in it is meant (`/.`).
    pub name: &'a [u8],
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
/// Links followed in one path (path_resolution(7)).
const MAX_LINKS: u32 = 40;

impl Ground<'_> {
    /// Open `path`, links followed.
    pub fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        match self {
            Ground::Host => openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()),
            Ground::Container(root, _) => open_in_root(root, path, flags, ResolveFlags::empty()),
        }
    }

    /// Nothing is called `path`.
    pub fn missing(&self, path: &[u8], errno: Errno) -> anyhow::Error {
        let path = String::from_utf8_lossy(path);
        let (place, hint) = match self {
            Ground::Host => ("the host".to_owned(), format!("name one that is there: `ls -la {path}`")),
            Ground::Container(_, name) => (
                format!("container {name}"),
                "paths without a leading slash begin at its working directory".to_owned(),
            ),
        };
        let reason = std::io::Error::from(errno);
        explain(anyhow!("{path:?} could not be found on {place}: {reason}"), hint)
    }
}

/// Where `top` goes when the user says `path`.
///
/// # Errors
/// As podman-cp(1) has them: the parent is missing, or a directory would go over a file.
pub fn destination(ground: Ground<'_>, path: &[u8], top: Top<'_>) -> Result<Destination> {
    match ground.open(path, DIRECTORY) {
        Ok(directory) => return Ok(Destination { directory, name: top.name.to_vec() }),
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(errno) => return Err(ground.missing(path, errno)),
    }
    if path.ends_with(b"/") || path.ends_with(b"/.") {
        return Err(ground.missing(path, Errno::NOENT));
    }
    if let Ok(there) = ground.open(path, OFlags::PATH) {
        let words = String::from_utf8_lossy(path);
        if top.is_directory {
            return Err(explain(
                anyhow!("destination must be a directory when copying a directory"),
                format!("remove {words} or name another place"),
            ));
        }
        let stat = fstat(there).map_err(|errno| ground.missing(path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(explain(
                anyhow!("invalid destination: {words:?} must be a directory or a regular file"),
                "write a tar stream to standard output with `-`".to_owned(),
            ));
        }
    }
    let (directory, name) = last(ground, path).map_err(|errno| ground.missing(path, errno))?;
    Ok(Destination { directory, name })
}

/// The directory that holds the last component of `path`, and that component, once no link is left.
fn last(ground: Ground<'_>, path: &[u8]) -> Result<(OwnedFd, Vec<u8>), Errno> {
    let mut path = path.to_vec();
    for _ in 0..MAX_LINKS {
        let (holder, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..=slash], &path[slash + 1..]),
            None => (&b"."[..], &path[..]),
        };
        let directory = ground.open(holder, DIRECTORY)?;
        match readlinkat(&directory, name, Vec::new()) {
            Ok(target) if target.as_bytes().starts_with(b"/") => path = target.into_bytes(),
            Ok(target) => path = [holder, b"/", target.as_bytes()].concat(),
            Err(Errno::INVAL | Errno::NOENT) if !matches!(name, b"" | b"." | b"..") => {
                return Ok((directory, name.to_vec()));
            }
            Err(Errno::INVAL) => return Err(Errno::NOENT),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::LOOP)
}

fn explain(error: anyhow::Error, hint: String) -> anyhow::Error {
    let explained: Result<()> = Err(error).hint(hint);
    explained.err().unwrap_or_else(|| anyhow!("no error"))
}
