//! Where a container's processes go: below our own group where that is ours to divide, else into a scope of systemd's, else
//! nowhere of their own.

use super::{group::Group, scope};
use anyhow::Result;
use rustix::{
    fs::{Access, access, getxattr, statfs},
    process::geteuid,
};
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// `--cgroups`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// A group of the container's own, and one for its monitor where that is needed.
    #[default]
    Enabled,
    /// None.
    Disabled,
    /// The monitor stays where it is.
    NoConmon,
    /// Below the group of the one who starts it, or not at all.
    Split,
}

/// A place that was found.
#[derive(Debug)]
pub enum Place {
    /// None; for the reason given.
    Nowhere(&'static str),
    /// A new group below this one, which is ours to divide.
    Below(Group),
    /// A scope that the systemd at this socket makes.
    Scope(PathBuf),
}

/// Find it.
pub fn find(choice: Choice, parent: Option<&str>) -> Result<Place> {
    if choice == Choice::Disabled {
        return Ok(Place::Nowhere("--cgroups=disabled was asked for"));
    }
    if !is_version_2() {
        return Ok(Place::Nowhere("this host has control groups of version 1"));
    }
    if let Some(parent) = parent.filter(|parent| parent.starts_with('/')) {
        return Ok(Place::Below(Group::at(parent)));
    }
    let own = Group::of("self")?;
    let own = match own.path().rsplit_once('/') {
        // We have been here before: this is the leaf into which we moved.
        Some((above, SUPERVISOR)) => Group::at(above),
        _ => own,
    };
    if choice == Choice::Split || (is_ours(&own) && parent.is_none()) {
        return Ok(Place::Below(own));
    }
    if let (None, Some(unit)) = (parent, own.service()) {
        // A user's systemd marks nothing, but says so.
        if unit == own && is_writable(&own) && !geteuid().is_root() && scope::is_delegated(unit.name()) {
            return Ok(Place::Below(own));
        }
        // The unit's limits, and what stops it, are meant for what it starts.
        return Ok(Place::Nowhere("the unit that it is part of has no Delegate=yes"));
    }
    Ok(scope::bus()
        .map_or(Place::Nowhere("no group is delegated to you, and no systemd is there to ask"), Place::Scope))
}

/// The leaf for ourselves: a group with processes of its own passes no controllers on.
pub const SUPERVISOR: &str = "ctr-supervisor";
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Have `group`, a delegated one, pass its controllers on to the groups below. The processes in it move into a leaf for that:
/// we, whoever waits for us, a shell. What can't be is left as it is: a limit that needs it says so.
pub fn divide(group: &Group) -> Result<()> {
    let busy = |e: &std::io::Error| e.raw_os_error() == Some(libc::EBUSY);
    let leaf = group.below(SUPERVISOR);
    // Processes that are just being born come with the next turn. One that is ending can't be moved and still counts: it takes a
    // moment, which nothing tells the end of.
    for turn in 0..TURNS {
        match group.pass_on(&CONTROLLERS) {
            Err(e) if busy(&e) => {}
            _ => return Ok(()),
        }
        if turn >= AT_ONCE {
            thread::sleep(Duration::from_millis(1));
        }
        leaf.make()?;
        let inside = group.read("cgroup.procs").unwrap_or_default();
        for pid in inside.lines().filter_map(|line| line.parse().ok()) {
            // It may have ended.
            let _ = leaf.take_in(pid);
        }
    }
    Ok(())
}

const AT_ONCE: usize = 4;
const TURNS: usize = 100;

/// Whether the hierarchy at its usual place is the unified one.
pub fn is_version_2() -> bool {
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    statfs(super::group::ROOT).is_ok_and(|stat| stat.f_type == CGROUP2_SUPER_MAGIC)
}

fn is_writable(group: &Group) -> bool {
    let dir = group.directory();
    let writable = |file: &str| access(dir.join(file), Access::WRITE_OK).is_ok();
    writable("") && writable("cgroup.procs") && writable("cgroup.subtree_control")
}

/// Whether it was delegated to us: systemd marks what it delegates (systemd.exec(5), "Delegate="); where no systemd runs, what
/// we may write is ours.
fn is_ours(group: &Group) -> bool {
    let dir = group.directory();
    if !is_writable(group) {
        return false;
    }
    if !Path::new("/run/systemd/system").is_dir() {
        return true;
    }
    // Older ones mark it for root alone.
    let marks = ["user.delegate", "trusted.delegate"];
    // The whole of a user's units is delegated to the user's systemd, not to what runs in them.
    let manager = dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"user@"));
    let mut value = [0; 1];
    let marked = |mark: &str| getxattr(&dir, mark, &mut value) == Ok(1) && value == *b"1";
    !manager && (marks.into_iter().any(marked) || is_delegated_scope(group.name()))
}

/// A user's systemd older than 254 marks nothing; what it was asked for lies beside its socket (systemd.unit(5), "Unit File Load
/// Path"), which takes no question. Scopes are always asked for.
fn is_delegated_scope(name: &str) -> bool {
    let file = format!("/run/user/{}/systemd/transient/{name}", geteuid().as_raw());
    let text =
        if name.ends_with(".scope") { fs::read_to_string(file).unwrap_or_default() } else { String::new() };
    text.lines()
        .filter_map(|line| line.strip_prefix("Delegate="))
        .next_back()
        .is_some_and(|said| said != "no")
}
