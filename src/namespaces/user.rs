//! User namespaces (user_namespaces(7)): which ids this user may map, and writing the maps of a new namespace.

use super::subid;
use crate::{error::Explain, sys};
use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    process::{Pid, getgid, getuid},
    thread::{CapabilitySet, capabilities},
};
use std::{
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A run of ids: `count` ids from `host` on appear as `inside` and on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside the namespace.
    pub inside: u32,
    /// First id outside.
    pub host: u32,
    /// How many ids.
    pub count: u32,
}

impl IdRange {
    fn has(&self, inside: u32) -> bool {
        inside >= self.inside && inside - self.inside < self.count
    }
}

/// How ids of a container map to ids of the host.
#[derive(Clone, Debug)]
pub enum Mapping {
    /// We are root: no user namespace, ids are the host's.
    Root,
    /// The user's own id as 0 and all subordinate ids after it, written by newuidmap(1) and newgidmap(1).
    Ranges {
        /// For /proc/PID/uid_map.
        uids: Vec<IdRange>,
        /// For /proc/PID/gid_map.
        gids: Vec<IdRange>,
        /// newuidmap and newgidmap.
        helpers: [PathBuf; 2],
    },
    /// The user's own id as 0, nothing else.
    Single {
        /// What was missing for the full mapping.
        why: String,
    },
}

impl Mapping {
    /// The best mapping this user can have: all subordinate ids, else the one id.
    pub fn detect() -> Mapping {
        // Root of a container that was given no privileges needs a user namespace like everybody else.
        let admin = capabilities(None).is_ok_and(|caps| caps.effective.contains(CapabilitySet::SYS_ADMIN));
        if getuid().is_root() && admin {
            return Mapping::Root;
        }
        match ranges() {
            Ok(mapping) => mapping,
            Err(why) => Mapping::Single { why: format!("{why:#}") },
        }
    }

    /// Whether a new user namespace is needed.
    pub fn is_rootless(&self) -> bool {
        !matches!(self, Mapping::Root)
    }

    /// Whether user `uid` exists inside.
    pub fn has_user(&self, uid: u32) -> bool {
        match self {
            Mapping::Root => true,
            Mapping::Ranges { uids, .. } => uids.iter().any(|range| range.has(uid)),
            Mapping::Single { .. } => uid == 0,
        }
    }

    /// Whether group `gid` exists inside.
    pub fn has_group(&self, gid: u32) -> bool {
        match self {
            Mapping::Root => true,
            Mapping::Ranges { gids, .. } => gids.iter().any(|range| range.has(gid)),
            Mapping::Single { .. } => gid == 0,
        }
    }

    /// User and group of the host as they appear inside; 65534 for those that don't (user_namespaces(7)).
    pub fn inside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let find = |ranges: &[IdRange], id: u32| {
            let range = ranges.iter().find(|range| id >= range.host && id - range.host < range.count);
            range.map_or(65534, |range| range.inside + (id - range.host))
        };
        match self {
            Mapping::Root => (uid, gid),
            Mapping::Ranges { uids, gids, .. } => (find(uids, uid), find(gids, gid)),
            Mapping::Single { .. } => {
                let own = |same| if same { 0 } else { 65534 };
                (own(uid == getuid().as_raw()), own(gid == getgid().as_raw()))
            }
        }
    }

    /// Write the maps of the user namespace that process `pid` has just made. Both helpers run side by side.
    ///
    /// # Errors
    /// A helper refuses (its words are in the error), or the kernel does (EPERM: user namespaces are restricted).
    pub fn write(&self, pid: Pid) -> Result<()> {
        match self {
            Mapping::Root => Ok(()),
            Mapping::Ranges { uids, gids, helpers: [newuidmap, newgidmap] } => {
                let jobs =
                    [(newuidmap, uids), (newgidmap, gids)].map(|(helper, ranges)| spawn(helper, pid, ranges));
                jobs.into_iter().try_for_each(|job| finish(job?))
            }
            Mapping::Single { .. } => write_single(pid),
        }
    }
}

fn ranges() -> Result<Mapping> {
    let helpers = [setuid_helper("newuidmap")?, setuid_helper("newgidmap")?];
    let owner = subid::Owner::current();
    let uids = owner.ranges(Path::new("/etc/subuid"), getuid().as_raw())?;
    let gids = owner.ranges(Path::new("/etc/subgid"), getgid().as_raw())?;
    Ok(Mapping::Ranges { uids, gids, helpers })
}

/// Find `name`, and make sure that executing it can give it the privilege it needs.
fn setuid_helper(name: &str) -> Result<PathBuf> {
    let Some(helper) = sys::path::find(name) else {
        bail!("{name} is not installed (Debian: apt install uidmap)");
    };
    let meta = fs::metadata(&helper).with_context(|| format!("look at {}", helper.display()))?;
    let setuid = meta.uid() == 0 && meta.permissions().mode() & 0o4000 != 0;
    if !setuid && rustix::fs::getxattr(&helper, "security.capability", &mut [0; 64][..]).is_err() {
        bail!("{} is neither setuid root nor has file capabilities", helper.display());
    }
    if rustix::thread::no_new_privs().unwrap_or(false) {
        bail!("{name} can't gain privileges here (no_new_privs is set)");
    }
    Ok(helper)
}

fn spawn(helper: &Path, pid: Pid, ranges: &[IdRange]) -> Result<Child> {
    let numbers = ranges.iter().flat_map(|r| [r.inside, r.host, r.count]).map(|n| n.to_string());
    Command::new(helper)
        .arg(pid.as_raw_pid().to_string())
        .args(numbers)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", helper.display()))
}

fn finish(mut helper: Child) -> Result<()> {
    let status = helper.wait().context("wait for newuidmap")?;
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(stderr) = &mut helper.stderr {
        let _ = stderr.take(4096).read_to_string(&mut said);
    }
    Err(anyhow!("map subordinate ids: {}", said.trim()))
        .hint("compare /etc/subuid and /etc/subgid with `ctr info`; `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER` adds ranges")
}

fn write_single(pid: Pid) -> Result<()> {
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
    let files = [
        // The kernel wants this before an unprivileged gid_map (user_namespaces(7), "setgroups").
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {} 1", getuid().as_raw())),
        ("gid_map", format!("0 {} 1", getgid().as_raw())),
    ];
    for (name, line) in files {
        let file = proc.join(name);
        fs::write(&file, line).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}
