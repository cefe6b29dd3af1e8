//! Where Quadlet files lie (podman-systemd.unit(5), "unit search path").

use anyhow::{Result, bail};
use rustix::process;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

const SYSTEM: [&str; 3] =
    ["/run/containers/systemd", "/etc/containers/systemd", "/usr/share/containers/systemd"];

/// The directories and all below them, the ones that take precedence first. `QUADLET_UNIT_DIRS` takes the place of all.
///
/// # Errors
/// `QUADLET_UNIT_DIRS` names a path that is not absolute.
pub fn search(user: bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if let Some(given) = env::var_os("QUADLET_UNIT_DIRS").filter(|given| !given.is_empty()) {
        for dir in env::split_paths(&given) {
            if !dir.is_absolute() {
                bail!("QUADLET_UNIT_DIRS: {} is not an absolute path", dir.display());
            }
            add(&mut found, &dir, &|_| true);
        }
        return Ok(found);
    }
    let users = SYSTEM.map(|dir| Path::new(dir).join("users"));
    let users = users.map(|dir| fs::canonicalize(&dir).unwrap_or(dir));
    if !user {
        let nobodys = |dir: &Path| !users.iter().any(|users| dir == users);
        SYSTEM.iter().for_each(|dir| add(&mut found, Path::new(dir), &nobodys));
        return Ok(found);
    }
    for dir in [absolute("XDG_RUNTIME_DIR"), config_home()].into_iter().flatten() {
        add(&mut found, &dir.join("containers/systemd"), &|_| true);
    }
    let own = process::getuid().as_raw().to_string();
    for users in &users[1..] {
        add(&mut found, &users.join(&own), &|_| true);
        // What is below a number is that user's.
        let number = |dir: &Path| {
            dir.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
        };
        add(&mut found, users, &|dir| !(dir.parent() == Some(users) && number(dir)));
    }
    Ok(found)
}

/// Where `install` puts files.
pub fn install_dir(user: bool) -> Result<PathBuf> {
    match (user, config_home()) {
        (false, _) => Ok(SYSTEM[1].into()),
        (true, Some(config)) => Ok(config.join("containers/systemd")),
        (true, None) => bail!("neither XDG_CONFIG_HOME nor HOME is set to an absolute path"),
    }
}

/// `dir` and the directories below it that `wanted` takes, links followed, each once; what has drop-ins is left out.
fn add(found: &mut Vec<PathBuf>, dir: &Path, wanted: &dyn Fn(&Path) -> bool) {
    let Ok(real) = fs::canonicalize(dir) else { return };
    if found.contains(&real) || real.extension().is_some_and(|extension| extension == "d") || !wanted(&real) {
        return;
    }
    let Ok(entries) = fs::read_dir(&real) else { return };
    found.push(real);
    let mut below: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    below.sort();
    below.iter().for_each(|dir| add(found, dir, wanted));
}

fn config_home() -> Option<PathBuf> {
    absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))
}

fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}
