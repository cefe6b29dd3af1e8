//! Small files of our own: read with a bound, replaced as a whole.

use super::{Name, Store, disk::ByErrno, store::sync_directory};
use crate::weakened;
use anyhow::{Context, Result, bail};
use rustix::{
    fs::{CWD, Mode, OFlags, RenameFlags, fsync, open, renameat_with},
    io::Errno,
};
use std::{
    fs,
    fs::DirBuilder,
    io::{ErrorKind, Read, Write},
    os::unix::fs::DirBuilderExt,
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

impl Store {
    /// Write the file `name` of `directory`, which is made when it isn't there, as a whole and durable. False: there is one of that
    /// name, and it was not to be replaced.
    pub(super) fn put_record(
        &self,
        directory: &str,
        name: &Name,
        contents: &[u8],
        replace: bool,
    ) -> Result<bool> {
        let directory = self.directory(directory);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.with_context(|| format!("make directory {}", directory.display())).hint_by_errno()?;
        let _hold = self.hold()?;
        let draft = self.draft_path()?;
        let write = || -> Result<bool> {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let mut file = fs::File::from(open(&draft, flags, Mode::RUSR | Mode::WUSR)?);
            file.write_all(contents)?;
            fsync(&file)?;
            let how = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
            match renameat_with(CWD, &draft, CWD, directory.join(name.as_str()), how) {
                Err(Errno::EXIST) => Ok(false),
                moved => Ok(moved.map(|()| true)?),
            }
        };
        let written = write()
            .with_context(|| format!("write {}", directory.join(name.as_str()).display()))
            .hint_by_errno();
        if !matches!(written, Ok(true)) {
            let _ = fs::remove_file(&draft);
            return written;
        }
        sync_directory(&directory)?;
        Ok(true)
    }

    /// The names of the files in `directory`, sorted; none without it.
    pub(super) fn record_names(&self, directory: &str) -> Result<Vec<Name>> {
        let path = self.directory(directory);
        let entries = match fs::read_dir(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("list {}", path.display()))?,
        };
        let mut names: Vec<Name> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        names.sort();
        Ok(names)
    }
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
