//! Writes what was planned below the generator's output directory, and nowhere else: each name was checked to be one.

use super::generate::Service;
use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::symlink,
    path::Path,
};

/// Write one service and its links into `dir`; what had the names goes.
pub fn write(dir: &Path, service: &Service) -> Result<()> {
    let path = dir.join(&service.name);
    let made = || -> std::io::Result<()> {
        gone(&path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(CWD, &path, flags, Mode::from_raw_mode(0o644))?;
        File::from(file).write_all(service.text.as_bytes())
    };
    made().with_context(|| format!("write {}", path.display()))?;
    for (link, target) in &service.links {
        let path = dir.join(link);
        let made = || -> std::io::Result<()> {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            gone(&path)?;
            symlink(target, &path)
        };
        made().with_context(|| format!("make the link {}", path.display()))?;
    }
    Ok(())
}

fn gone(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
