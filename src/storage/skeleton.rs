//! The lowest layer of every container: empty places for what is mounted over an image. Without it each start would copy
//! the image's /etc and /run up and make files there, and each removal would take them away again.

use super::places::Place;
use anyhow::{Context, Result};
use std::{
    fs::{self, File, Permissions},
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

const DIRECTORIES: [&str; 5] = ["dev", "etc", "proc", "run", "sys"];
const FILES: [&str; 4] = ["etc/hostname", "etc/hosts", "etc/resolv.conf", "run/.containerenv"];

/// What it has, without the leading slash.
pub fn places() -> impl Iterator<Item = &'static str> {
    DIRECTORIES.into_iter().chain(FILES)
}

/// Make it at `root`, as far as it isn't there; the modes are exact under any umask.
pub fn make(root: &Path) -> Result<()> {
    directory(root)?;
    for name in DIRECTORIES {
        directory(&root.join(name))?;
    }
    FILES.into_iter().try_for_each(|name| file(&root.join(name)))
}

/// Make one more, with the directories around it.
pub fn place(root: &Path, (path, is_directory): &Place) -> Result<()> {
    let names = path.components().count();
    for upto in 1..=names {
        let here = root.join(path.components().take(upto).collect::<PathBuf>());
        match upto < names || *is_directory {
            true => directory(&here)?,
            false => file(&here)?,
        }
    }
    Ok(())
}

fn file(path: &Path) -> Result<()> {
    let file = File::options().write(true).create(true).truncate(false).open(path);
    file.and_then(|file| file.set_permissions(Permissions::from_mode(0o644)))
        .with_context(|| format!("make {}", path.display()))
}

fn directory(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => fs::set_permissions(path, Permissions::from_mode(0o755)),
    }
    .with_context(|| format!("make directory {}", path.display()))
}
