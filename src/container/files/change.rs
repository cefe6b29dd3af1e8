//! What differs in a root file system, and its way from the process inside that looks to the one that wants to know.

use anyhow::{Context, Result};
use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    os::fd::OwnedFd,
};

/// How a path differs from the image's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is new.
    Added,
    /// It, or something in it, is another.
    Changed,
    /// It is gone.
    Deleted,
}

/// One path that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: Kind,
    /// From the container's root, with a leading slash.
    pub path: Vec<u8>,
}

/// Say it.
pub fn tell(out: &mut impl Write, kind: Kind, path: &[u8]) -> Result<()> {
    let letter = match kind {
        Kind::Added => b"A/",
        Kind::Changed => b"C/",
        Kind::Deleted => b"D/",
    };
    Ok(out.write_all(letter).and_then(|()| out.write_all(path)).and_then(|()| out.write_all(&[0]))?)
}

/// Hand `each` what is said at the other end of `pipe`.
pub fn hear(pipe: OwnedFd, mut each: impl FnMut(Change) -> Result<()>) -> Result<()> {
    BufReader::new(File::from(pipe)).split(0).try_for_each(|line| {
        let line = line.context("hear what differs")?;
        let (kind, path) = line.split_first().context("hear what differs")?;
        let kind = match kind {
            b'A' => Kind::Added,
            b'C' => Kind::Changed,
            _ => Kind::Deleted,
        };
        each(Change { kind, path: path.to_vec() })
    })
}
