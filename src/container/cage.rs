//! A container's control group while it runs: where it goes, what it may use, and its end.

use super::{first_process::Process, record::Record};
use crate::{
    cgroups::{self, Choice, Group, Limits, Place, Scope, Setting},
    error::Explain,
    storage::{ContainerDir, ContainerId},
    sys::fork::Child,
};
use anyhow::{Context, Result, anyhow};
use std::{io::ErrorKind, os::fd::OwnedFd, path::PathBuf};

/// The group, or what will lead to one. Dropped, it is gone with all its processes.
#[derive(Debug)]
pub struct Cage {
    limits: Limits,
    state: State,
}

#[derive(Debug)]
enum State {
    Nowhere,
    Made(Group),
    Wanted { socket: PathBuf, unit: String, slice: Option<String> },
    Asked { unit: String, scope: Scope },
}

impl Cage {
    /// For the container of `record`. Below a group that is delegated to us it is made at once.
    ///
    /// # Errors
    /// There is no place and limits were asked for, or the kernel doesn't know one of them.
    pub fn prepare(record: &Record) -> Result<Cage> {
        let limits = record.limits.clone();
        let mut cage = Cage { limits, state: State::Nowhere };
        match cgroups::find(record.cgroups, record.cgroup_parent.as_deref())? {
            Place::Nowhere(why) => {
                if record.systemd_always {
                    return Err(anyhow!("--systemd=always: there is no control group for it: {why}"))
                        .hint("`ctr info` shows what this host has; a unit of systemd's needs Delegate=yes");
                }
                if let Some(setting) = cage.limits.settings().first() {
                    return Err(anyhow!("limit {}: there is no control group to do so: {why}", setting.controller()))
                        .hint("`ctr info` shows what this host has; it takes control groups of version 2 and a systemd, and in a unit of its Delegate=yes");
                }
            }
            Place::Below(above) => {
                cgroups::divide(&above)?;
                let group = above.below(&name(&record.id));
                group.make().hint(match record.cgroups {
                    Choice::Split => "it takes a group that is delegated to you, as in a unit with Delegate=yes; `ctr info` says what there is",
                    _ => "name a group that you may write to, or a slice: --cgroup-parent user.slice",
                })?;
                cage.state = State::Made(group);
                cage.limit()?;
            }
            Place::Scope(socket) => {
                let unit = unit(&record.id);
                cage.state = State::Wanted { socket, unit, slice: record.cgroup_parent.clone() };
            }
        }
        Ok(cage)
    }

    /// For clone3(2): the group that the first process is born in.
    pub fn descriptor(&self) -> Result<Option<OwnedFd>> {
        self.group().map(Group::open).transpose()
    }

    /// The first process has to be moved there.
    pub fn is_late(&self) -> bool {
        matches!(self.state, State::Wanted { .. })
    }

    /// Begin to make it for `child`, whose start goes on meanwhile.
    pub fn ask(&mut self, child: &Child, record: &Record) -> Result<()> {
        let State::Wanted { socket, unit, slice } = &self.state else { return Ok(()) };
        let description = format!("ctr container {}", record.name);
        // With its monitor in it the scope outlives the last process, so that it can be asked what that died of; and what
        // ends a login session leaves both alone.
        let monitor = (record.cgroups != Choice::NoConmon).then(own_id);
        let pids: Vec<u32> = monitor.into_iter().chain([child.pid.as_raw_pid().unsigned_abs()]).collect();
        let scope = Scope::ask(socket, unit, &description, slice.as_deref(), &pids)?;
        self.state = State::Asked { unit: unit.clone(), scope };
        Ok(())
    }

    /// Wait until `child` is in it. The group is one below systemd's own, so that limits are ours to set.
    pub fn place(&mut self, child: &Child) -> Result<()> {
        let State::Asked { unit, scope } = std::mem::replace(&mut self.state, State::Nowhere) else {
            return Ok(());
        };
        scope.wait()?;
        let pid = child.pid.as_raw_pid();
        let above = Group::of(&pid.to_string())?;
        if !above.path().ends_with(&unit) {
            return Err(anyhow!("systemd put process {pid} into {}, not into {unit}", above.path()));
        }
        let group = above.below("container");
        group.make()?;
        let moved = group.take_in(pid.unsigned_abs());
        self.state = State::Made(group);
        moved.with_context(|| format!("move process {pid} into its control group"))?;
        if Group::of("self")? == above {
            let leaf = above.below(cgroups::SUPERVISOR);
            leaf.make()?;
            leaf.take_in(own_id()).context("move the monitor into its control group")?;
        }
        cgroups::divide(&above)?;
        self.limit()
    }

    /// It, once it is made.
    pub fn group(&self) -> Option<&Group> {
        match &self.state {
            State::Made(group) => Some(group),
            _ => None,
        }
    }

    fn limit(&self) -> Result<()> {
        let Some(group) = self.group() else { return Ok(()) };
        if self.limits.pids.is_none() {
            // Podman's default, where it can be set: a fork bomb is the container's own.
            let _ = group.limit(&[Setting { file: "pids.max".into(), value: PIDS.to_string() }]);
        }
        group.limit(&self.limits.settings())
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        if let State::Made(group) = &self.state {
            // What the last process left running in namespaces of the host's goes with the container.
            let _ = group.kill().and_then(|()| group.remove());
        }
    }
}

/// Move this process into the group of the container whose first process is `process`: what it starts is the container's.
/// Whoever comes from a login session may not do so itself.
pub fn join(process: &Process) -> Result<()> {
    let Some(path) = &process.cgroup else { return Ok(()) };
    let pid = own_id();
    // A first process that divides its group, as systemd does, has left it: nobody may be in it any more.
    let first = Group::of(&process.pid.to_string()).ok().filter(|first| first.path().starts_with(path));
    let group = first.unwrap_or_else(|| Group::at(path));
    match group.take_in(pid) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => cgroups::attach(&group, pid),
        moved => moved.with_context(|| format!("join control group {path}")),
    }
}

/// Remove what a monitor left that was killed: the pid file, and the group that it names.
pub fn forget(dir: &ContainerDir) {
    if let Ok(Some(Process { cgroup: Some(path), .. })) = Process::read(dir) {
        let group = Group::at(&path);
        let _ = group.kill().and_then(|()| group.remove());
    }
    dir.remove_pid_file();
}

/// Change what the group at `path`, which lives, may use.
pub fn change(path: &str, limits: &Limits) -> Result<()> {
    Group::at(path).limit(&limits.settings())
}

fn own_id() -> u32 {
    rustix::process::getpid().as_raw_pid().unsigned_abs()
}

/// The scope of container `id`.
fn unit(id: &ContainerId) -> String {
    format!("{}.scope", name(id))
}

fn name(id: &ContainerId) -> String {
    format!("ctr-{id}")
}

/// podman-run(1), `--pids-limit`.
pub const PIDS: u64 = 2048;
