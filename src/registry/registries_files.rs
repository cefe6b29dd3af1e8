//! Finds and reads the registries.conf files, in the order of containers-registries.conf(5).

use super::{registries::Registries, registries_conf::parse};
use crate::{error::Explain, storage::Dirs};
use anyhow::{Context, Result};
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

const SYSTEM: [&str; 2] = ["/etc/containers", "/usr/share/containers"];

/// What all files of this user and of the system say. The first main file counts: the one that
/// `CONTAINERS_REGISTRIES_CONF` names, the user's, the system's; then all drop-ins, the user's last; then the aliases
/// that Podman remembered from its prompts.
///
/// # Errors
/// A file can't be read or has a mistake; the error names file and line.
pub fn load(dirs: &Dirs) -> Result<Registries> {
    let user = dirs.config.parent().unwrap_or(&dirs.config).join("containers");
    let mut registries = Registries::default();
    match env::var_os("CONTAINERS_REGISTRIES_CONF").filter(|path| !path.is_empty()) {
        Some(path) => {
            let path = PathBuf::from(path);
            if !add(&mut registries, &path)? {
                let cause = anyhow::anyhow!("read {}: no such file", path.display());
                return Err(cause)
                    .hint("CONTAINERS_REGISTRIES_CONF names it: unset the variable or write the file");
            }
        }
        None => {
            for dir in [user.as_path()].into_iter().chain(SYSTEM.map(Path::new)) {
                if add(&mut registries, &dir.join("registries.conf"))? {
                    break;
                }
            }
        }
    }
    for path in drop_ins(&user)? {
        add(&mut registries, &path)?;
    }
    let remembered = dirs.cache.parent().unwrap_or(&dirs.cache).join("containers/short-name-aliases.conf");
    add(&mut registries, &remembered)?;
    Ok(registries)
}

/// All `registries.conf.d/*.conf`, in the order they count; a file hides one of its name in a directory before.
fn drop_ins(user: &Path) -> Result<Vec<PathBuf>> {
    let mut dirs: Vec<&Path> = SYSTEM.into_iter().rev().map(Path::new).collect();
    if !dirs.contains(&user) {
        dirs.push(user);
    }
    let mut found = Vec::new();
    for dir in dirs {
        let dir = dir.join("registries.conf.d");
        let entries = match fs::read_dir(&dir) {
            Err(error) if absent(&error) => continue,
            entries => entries.with_context(|| format!("list {}", dir.display()))?,
        };
        let mut here = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
            if path.extension().is_some_and(|extension| extension == "conf") {
                here.push(path);
            }
        }
        here.sort();
        found.retain(|path: &PathBuf| !here.iter().any(|other| other.file_name() == path.file_name()));
        found.extend(here);
    }
    Ok(found)
}

fn add(registries: &mut Registries, path: &Path) -> Result<bool> {
    let text = match fs::read_to_string(path) {
        Err(error) if absent(&error) => return Ok(false),
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    let fragment = parse(&text)
        .map_err(|mistake| anyhow::anyhow!("{}:{}: {mistake}", path.display(), mistake.line))
        .hint(format!("mend {}; man containers-registries.conf describes it", path.display()))?;
    registries.add(fragment);
    Ok(true)
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
