//! User namespaces (user_namespaces(7)): which ids this user may map, and writing the maps of a new namespace.

use super::{idmap, subid};
use crate::{error::Explain, sys};
use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{DumpableBehavior, Pid, WaitOptions, getgid, getuid, set_dumpable_behavior, waitpid},
    thread::{CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space},
};
use std::{
    fs,
    io::Read,
    os::fd::AsFd,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

/// A run of ids: `count` ids from `host` on appear as `inside` and on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdRange {
    /// First id inside the namespace.
    pub inside: u32,
    /// First id outside.
    pub host: u32,
    /// How many ids.
    pub count: u32,
}

impl IdRange {
    pub(super) fn has(&self, inside: u32) -> bool {
        inside >= self.inside && inside - self.inside < self.count
    }
}

/// How ids of a container map to ids of the host.
#[derive(Clone, Debug)]
pub enum Mapping {
    /// We are root: no user namespace, ids are the host's.
    Root,
    /// Ids of the user's: by default the own one as 0 and all subordinate ids after it.
    Ranges {
        /// For /proc/PID/uid_map.
        uids: Vec<IdRange>,
        /// For /proc/PID/gid_map.
        gids: Vec<IdRange>,
        /// newuidmap(1) and newgidmap(1), which write them; None: we are root.
        helpers: Option<[PathBuf; 2]>,
    },
    /// The user's own ids, nothing else.
    Single {
        /// What was missing for the full mapping.
        why: String,
        /// What user and group are inside: 0 by default.
        inside: (u32, u32),
    },
}

/// The maps of a container that are not the default ones: what its record keeps.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdMaps {
    /// For /proc/PID/uid_map.
    pub uids: Vec<IdRange>,
    /// For /proc/PID/gid_map.
    pub gids: Vec<IdRange>,
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
            Err(why) => Mapping::Single { why: format!("{why:#}"), inside: (0, 0) },
        }
    }

    /// Whether a new user namespace is needed.
    pub fn is_rootless(&self) -> bool {
        !matches!(self, Mapping::Root)
    }

    /// Whether overlay's marks are attributes of the user's: the others are the host's root's (xattr(7), "trusted").
    pub fn marks_as_user(&self) -> bool {
        self.is_rootless() || !is_initial(&ours().uids)
    }

    /// The mapping of a container with these maps in place of this one, the user's default.
    pub fn with(&self, maps: &IdMaps) -> Mapping {
        let IdMaps { uids, gids } = maps.clone();
        match self {
            Mapping::Root => Mapping::Ranges { uids, gids, helpers: None },
            Mapping::Ranges { helpers, .. } => Mapping::Ranges { uids, gids, helpers: helpers.clone() },
            Mapping::Single { why, .. } => {
                let first = |map: &[IdRange]| map.first().map_or(0, |range| range.inside);
                Mapping::Single { why: why.clone(), inside: (first(&uids), first(&gids)) }
            }
        }
    }

    /// Its maps; without a user namespace, that of everybody.
    pub fn maps(&self) -> IdMaps {
        let one = |inside, host, count| vec![IdRange { inside, host, count }];
        match self {
            Mapping::Root => ours().clone(),
            Mapping::Ranges { uids, gids, .. } => IdMaps { uids: uids.clone(), gids: gids.clone() },
            Mapping::Single { inside, .. } => IdMaps {
                uids: one(inside.0, getuid().as_raw(), 1),
                gids: one(inside.1, getgid().as_raw(), 1),
            },
        }
    }

    /// Whether the user who runs us exists inside, as user and as group.
    pub fn has_caller(&self) -> bool {
        let IdMaps { uids, gids } = self.maps();
        let found = |map: &[IdRange], id| idmap::to_inside(map, id).is_some();
        found(&uids, getuid().as_raw()) && found(&gids, getgid().as_raw())
    }

    /// User and group that set a container up: 0, or in a map without it the user who runs us.
    pub fn builder(&self) -> (u32, u32) {
        let IdMaps { uids, gids } = self.maps();
        let of = |map: &[IdRange], own: u32| match map.iter().any(|range| range.has(0)) {
            true => 0,
            false => idmap::to_inside(map, own).unwrap_or(0),
        };
        (of(&uids, getuid().as_raw()), of(&gids, getgid().as_raw()))
    }

    /// Whether user `uid` exists inside.
    pub fn has_user(&self, uid: u32) -> bool {
        match self {
            Mapping::Root => true,
            Mapping::Ranges { uids, .. } => uids.iter().any(|range| range.has(uid)),
            Mapping::Single { inside, .. } => uid == inside.0,
        }
    }

    /// Whether group `gid` exists inside.
    pub fn has_group(&self, gid: u32) -> bool {
        match self {
            Mapping::Root => true,
            Mapping::Ranges { gids, .. } => gids.iter().any(|range| range.has(gid)),
            Mapping::Single { inside, .. } => gid == inside.1,
        }
    }

    /// User and group of the host as they appear inside; 65534 for those that don't (user_namespaces(7)).
    pub fn inside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let IdMaps { uids, gids } = self.maps();
        let find = |map: &[IdRange], id| idmap::to_inside(map, id).unwrap_or(65534);
        (find(&uids, uid), find(&gids, gid))
    }

    /// Write the maps of the user namespace that process `pid` has just made. Both helpers run side by side.
    ///
    /// # Errors
    /// A helper refuses (its words are in the error), or the kernel does (EPERM: user namespaces are restricted).
    pub fn write(&self, pid: Pid) -> Result<()> {
        match self {
            Mapping::Root => Ok(()),
            Mapping::Ranges { uids, gids, helpers: None } => write_as_root(pid, [uids, gids]),
            Mapping::Ranges { uids, gids, helpers: Some([newuidmap, newgidmap]) } => {
                let jobs =
                    [(newuidmap, uids), (newgidmap, gids)].map(|(helper, ranges)| spawn(helper, pid, ranges));
                jobs.into_iter().try_for_each(|job| finish(job?))
            }
            Mapping::Single { inside, .. } => write_single(pid, *inside),
        }
    }

    /// Whether others write the maps of a new namespace.
    pub(super) fn has_helpers(&self) -> bool {
        matches!(self, Mapping::Ranges { helpers: Some(_), .. })
    }
}

/// The ids that there are where we are, each as itself: in another container not all of them.
fn ours() -> &'static IdMaps {
    static OURS: OnceLock<IdMaps> = OnceLock::new();
    OURS.get_or_init(|| {
        let all = || vec![IdRange { inside: 0, host: 0, count: u32::MAX }];
        let read = |file: &str| {
            let map = fs::read_to_string(file).ok().and_then(|text| parse(&text).ok());
            map.map_or_else(all, |map| map.into_iter().map(|r| IdRange { host: r.inside, ..r }).collect())
        };
        IdMaps { uids: read("/proc/self/uid_map"), gids: read("/proc/self/gid_map") }
    })
}

fn is_initial(map: &[IdRange]) -> bool {
    map == [IdRange { inside: 0, host: 0, count: u32::MAX }]
}

/// What /proc/PID/uid_map says.
fn parse(text: &str) -> Result<Vec<IdRange>> {
    let line = |line: &str| {
        let numbers: Vec<u32> = line.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [inside, host, count] = numbers[..] else { return None };
        Some(IdRange { inside, host, count })
    };
    text.lines().map(|text| line(text).with_context(|| format!("read {text:?}"))).collect()
}

/// The maps of the user namespace at `path`: a process of ours goes there, and we read what the kernel says of it.
///
/// # Errors
/// It is none, or not ours to enter.
pub fn maps_of(path: &Path) -> Result<IdMaps> {
    let namespace = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context("make a pipe");
    let ((entered, tell), (go, release)) = (pipe()?, pipe()?);
    let Some(pid) = sys::fork::split().context("fork")? else {
        drop((entered, release));
        // Who owns it has every capability in it: where that is somebody else, our memory is not theirs to open.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let joined = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User));
        let _ = joined.and_then(|()| rustix::io::write(&tell, &[1]));
        drop(tell);
        let _ = fs::File::from(go).read(&mut [0]);
        sys::fork::exit_now(0)
    };
    drop((tell, go));
    let arrived = fs::File::from(entered).read(&mut [0]).is_ok_and(|length| length == 1);
    let map = |name: &str| -> Result<Vec<IdRange>> {
        parse(&fs::read_to_string(format!("/proc/{}/{name}", pid.as_raw_pid()))?)
    };
    let maps = map("uid_map").and_then(|uids| Ok(IdMaps { uids, gids: map("gid_map")? }));
    drop(release);
    let _ = waitpid(Some(pid), WaitOptions::empty());
    match arrived {
        true => maps,
        false => Err(anyhow!("it can't be joined")),
    }
}

fn ranges() -> Result<Mapping> {
    let helpers = [setuid_helper("newuidmap")?, setuid_helper("newgidmap")?];
    let owner = subid::Owner::current();
    let uids = owner.ranges(Path::new("/etc/subuid"), getuid().as_raw())?;
    let gids = owner.ranges(Path::new("/etc/subgid"), getgid().as_raw())?;
    Ok(Mapping::Ranges { uids, gids, helpers: Some(helpers) })
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

fn write_as_root(pid: Pid, maps: [&Vec<IdRange>; 2]) -> Result<()> {
    for (name, map) in ["uid_map", "gid_map"].into_iter().zip(maps) {
        let lines: String = map.iter().map(|r| format!("{} {} {}\n", r.inside, r.host, r.count)).collect();
        let file = PathBuf::from(format!("/proc/{}/{name}", pid.as_raw_pid()));
        fs::write(&file, lines).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

fn write_single(pid: Pid, inside: (u32, u32)) -> Result<()> {
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
    let files = [
        // The kernel wants this before an unprivileged gid_map (user_namespaces(7), "setgroups").
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{} {} 1", inside.0, getuid().as_raw())),
        ("gid_map", format!("{} {} 1", inside.1, getgid().as_raw())),
    ];
    for (name, line) in files {
        let file = proc.join(name);
        fs::write(&file, line).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}
