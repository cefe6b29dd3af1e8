//! Where things lie: the XDG base directories of a user (XDG Base Directory Specification), or /var/lib, /run, /etc and
//! /var/cache as root. Nothing else in the project knows a path outside a container.

use super::disk::ByErrno;
use crate::{error::Explain, weakened};
use anyhow::{Context, Result, anyhow};
use rustix::{
    fs::{Access, access},
    process,
};
use std::{
    env, fs,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::PathBuf,
};

/// The four directories of this user, each `…/ctr`.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// What must never be lost: blobs, layers, images, containers.
    pub data: PathBuf,
    /// What dies with the boot: pids, sockets.
    pub runtime: PathBuf,
    /// The user's own settings; beside it lies `containers/registries.conf`.
    pub config: PathBuf,
    /// What may be deleted at any time.
    pub cache: PathBuf,
}

impl Dirs {
    /// The directories that the environment names; none is made yet. `root` and `runroot` (podman(1)) take the place of
    /// the data and the runtime directory.
    ///
    /// # Errors
    /// Neither `HOME` nor the XDG variables say where a user's data lies.
    pub fn resolve(root: Option<PathBuf>, runroot: Option<PathBuf>) -> Result<Dirs> {
        let mut dirs = if process::getuid().is_root() { Dirs::of_root() } else { Dirs::of_user()? };
        if let Some(root) = root {
            dirs.data = root;
        }
        if let Some(runroot) = runroot {
            dirs.runtime = runroot;
        }
        Ok(dirs)
    }

    /// Make data and runtime directories, 0700 whatever the umask.
    ///
    /// # Errors
    /// One that is there is somebody else's, or others may write to it: what lies there decides what runs.
    pub fn create(&self) -> Result<()> {
        for dir in [&self.data, &self.runtime] {
            if let Ok(meta) = fs::metadata(dir)
                && meta.is_dir()
            {
                let ours = [0, process::geteuid().as_raw()].contains(&meta.uid()) && meta.mode() & 0o022 == 0;
                if !ours && !weakened::is("store-owner") {
                    return Err(anyhow!("{} may be written by other users", dir.display())).hint(format!(
                        "`chmod 700 {0}` if it is yours, or name another place",
                        dir.display()
                    ));
                }
                continue;
            }
            // Parents get the mode the XDG specification asks for, too.
            fs::DirBuilder::new()
                .recursive(true)
                .mode(if weakened::is("store-mode") { 0o777 } else { 0o700 })
                .create(dir)
                .with_context(|| format!("make directory {}", dir.display()))
                .hint_by_errno()
                .hint("name another place with --root and --runroot")?;
        }
        Ok(())
    }

    fn of_root() -> Dirs {
        Dirs {
            data: "/var/lib/ctr".into(),
            runtime: "/run/ctr".into(),
            config: "/etc/ctr".into(),
            cache: "/var/cache/ctr".into(),
        }
    }

    fn of_user() -> Result<Dirs> {
        let runtime = match absolute("XDG_RUNTIME_DIR") {
            Some(dir) if dir.is_dir() => dir,
            // No login session (cron, CI): a directory that no other user can have made first, under our own data, and
            // that a reboot leaves behind.
            _ => {
                let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
                xdg("XDG_CACHE_HOME", ".cache")?.join("ctr-run").join(boot.trim())
            }
        };
        Ok(Dirs {
            data: xdg("XDG_DATA_HOME", ".local/share")?.join("ctr"),
            runtime: runtime.join("ctr"),
            config: xdg("XDG_CONFIG_HOME", ".config")?.join("ctr"),
            cache: xdg("XDG_CACHE_HOME", ".cache")?.join("ctr"),
        })
    }
}

fn xdg(variable: &str, below_home: &str) -> Result<PathBuf> {
    if let Some(dir) = absolute(variable) {
        return Ok(dir);
    }
    Ok(home()?.join(below_home))
}

/// `HOME`, or what /etc/passwd calls so. A user who has none, as in a container, gets a directory of its own in /var/tmp or /tmp.
///
/// # Errors
/// That directory is somebody else's.
fn home() -> Result<PathBuf> {
    let usable = |home: &PathBuf| {
        let ours = fs::metadata(home).is_ok_and(|meta| meta.uid() == process::geteuid().as_raw());
        ours || access(home, Access::WRITE_OK).is_ok() || home.join(".local/share/ctr").exists()
    };
    let known = || {
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        let uid = process::getuid().as_raw().to_string();
        let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
        line.split(':').nth(5).map(PathBuf::from).filter(|home| home.is_absolute())
    };
    if let Some(home) = absolute("HOME").filter(usable).or_else(|| known().filter(usable)) {
        return Ok(home);
    }
    let uid = process::geteuid().as_raw();
    let mut failure = None;
    for place in ["/var/tmp", "/tmp"] {
        let own = PathBuf::from(format!("{place}/ctr-{uid}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&own);
        let meta = fs::symlink_metadata(&own).map_err(|missing| made.err().unwrap_or(missing));
        match meta.with_context(|| format!("there is no home; make directory {}", own.display())) {
            Ok(meta) if meta.is_dir() && meta.uid() == uid && meta.mode() & 0o022 == 0 => return Ok(own),
            Ok(_) => {
                return Err(anyhow!("there is no home, and {} may be written by other users", own.display()))
                    .hint("HOME=/home/you ctr …");
            }
            Err(e) => failure = failure.or(Some(e)),
        }
    }
    Err(failure.unwrap_or_else(|| anyhow!("there is no home"))).hint("HOME=/home/you ctr …")
}

/// The specification: relative paths in these variables are ignored.
fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}
