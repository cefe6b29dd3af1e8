//! The lowest layer of every container: empty places for what is mounted over an image. Without it each start would copy
//! the image's /etc and /run up and make files there, and each removal would take them away again.

use anyhow::{Context, Result};
use std::{
    fs::{self, File, Permissions},
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::Path,
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
    for name in FILES {
        let path = root.join(name);
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .and_then(|file| file.set_permissions(Permissions::from_mode(0o644)))
            .with_context(|| format!("make {}", path.display()))?;
    }
    Ok(())
}

fn directory(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => fs::set_permissions(path, Permissions::from_mode(0o755)),
    }
    .with_context(|| format!("make directory {}", path.display()))
}
