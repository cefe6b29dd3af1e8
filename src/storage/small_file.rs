//! Small files of our own: read with a bound, replaced as a whole.

use super::disk::ByErrno;
use crate::weakened;
use anyhow::{Context, Result, bail};
use rustix::{
    fs::{CWD, Mode, OFlags, open},
    io::Errno,
};
use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

/// Write the file `path` so that readers see the old or the new contents. Atomic, not durable.
pub fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    // Of two that write at the same time each has a draft of its own; the last one wins.
    let draft = path.with_added_extension(format!("{}.new", std::process::id()));
    if weakened::is("replace") {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        fs::File::from(open(path, flags, Mode::RUSR | Mode::WUSR)?).write_all(contents)?;
        return Ok(());
    }
    let write = || -> std::io::Result<()> {
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(CWD, &draft, flags, Mode::RUSR | Mode::WUSR)?;
        fs::File::from(file).write_all(contents)?;
        fs::rename(&draft, path)
    };
    write().with_context(|| format!("write {}", path.display())).hint_by_errno()
}

/// Our own small files; the limit keeps a damaged one from filling memory.
const LIMIT: u64 = 16 << 20;

/// The contents of the file `path`, or `None` without one.
///
/// # Errors
/// It is larger than 16 MiB, or a symbolic link.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    // NONBLOCK: a FIFO in its place must stop nobody.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => fs::File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("open {}", path.display())),
    };
    // Most are read at once.
    let mut contents = Vec::with_capacity(4096);
    file.take(LIMIT + 1).read_to_end(&mut contents).with_context(|| format!("read {}", path.display()))?;
    if contents.len() as u64 > LIMIT {
        bail!("{} is larger than {LIMIT} bytes", path.display());
    }
    Ok(Some(contents))
}
