//! A container's first process, as its pid file describes it.

use super::state::parse;
use crate::{storage::ContainerDir, sys::fork::Child};
use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde::{Deserialize, Serialize};
use std::{fs, os::fd::OwnedFd, sync::OnceLock};

/// The pid file: a container's first process, in a way that no later process of that number can be taken for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// As the host sees it.
    pub pid: i32,
    /// Clock ticks between the boot and its start (proc_pid_stat(5), field 22).
    pub start: u64,
    /// Which boot.
    pub boot: String,
    /// When it started.
    pub since: Timestamp,
    /// The process that watches it.
    #[serde(default)]
    pub monitor: i32,
    /// It waits for `start` before it becomes the payload.
    #[serde(default)]
    pub waits: bool,
    /// `pause` stopped it and all its children.
    #[serde(default)]
    pub paused: bool,
    /// How often it has been started again.
    #[serde(default)]
    pub restart_count: u32,
    /// Its control group, if it has one of its own.
    #[serde(default)]
    pub cgroup: Option<String>,
}

impl Process {
    /// Describe the process `pid`, which has not been waited for.
    pub fn of(pid: i32) -> Result<Process> {
        let stat = Stat::of(pid).with_context(|| format!("find out when process {pid} started"))?;
        let monitor = rustix::process::getpid().as_raw_pid();
        Ok(Process {
            pid,
            start: stat.start,
            boot: boot_id()?.to_owned(),
            since: Timestamp::now(),
            monitor,
            waits: false,
            paused: false,
            restart_count: 0,
            cgroup: None,
        })
    }

    /// Read it. A file that a power cut has emptied names nobody.
    pub fn read(dir: &ContainerDir) -> Result<Option<Process>> {
        parse("pid", dir.read_pid_file()?.filter(|json| !json.is_empty()))
    }

    /// Write it.
    pub fn write(&self, dir: &ContainerDir) -> Result<()> {
        dir.write_pid_file(&serde_json::to_vec(self).context("encode the pid file")?)
    }

    /// Whether process `pid` of this moment is still the one that was described, and lives.
    pub fn is_same(&self) -> bool {
        self.look().is_some()
    }

    /// It while it lives, and whether it dies: it was killed, or it ends, and nothing can hold it up but the kernel.
    pub fn alive(self) -> Option<(Process, bool)> {
        let stat = self.look()?;
        Some((self, stat.dies))
    }

    /// Its monitor is there, though it may be about to die and to take it along.
    pub fn is_watched(&self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.parent == self.monitor)
    }

    fn look(&self) -> Option<Stat> {
        let stat = Stat::of(self.pid).filter(|stat| stat.start == self.start && !stat.ended)?;
        boot_id().is_ok_and(|boot| boot == self.boot).then_some(stat)
    }

    /// The process itself; `None` when it has ended.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(None),
            opened => opened.with_context(|| format!("open process {pid}"))?,
        };
        // Only now: the descriptor stays with this process, so what is true of the number is true of it.
        Ok(self.is_same().then_some(pidfd))
    }

    /// A process by which the container can be entered and looked into; `None` when it has ended. The first one, but with
    /// `--init`: that is a copy of ours into which nobody may look, so it is the payload then, its first child.
    pub fn child(&self) -> Result<Option<Child>> {
        let Some((pidfd, pid)) = self.open()?.zip(Pid::from_raw(self.pid)) else { return Ok(None) };
        if fs::read_link(format!("/proc/{}/ns/pid", self.pid)).is_ok() {
            return Ok(Some(Child { pid, pidfd }));
        }
        let children =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).unwrap_or_default();
        let first = children.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
        let Some(pid) = first.and_then(Pid::from_raw) else { return Ok(None) };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(None) };
        // Only now, as above: whoever still has that parent is that child.
        Ok((Stat::of(pid.as_raw_pid()).is_some_and(|stat| stat.parent == self.pid))
            .then_some(Child { pid, pidfd }))
    }
}

fn boot_id() -> Result<&'static str> {
    static ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(id);
    }
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot id")?;
    Ok(ID.get_or_init(|| id.trim_end().to_owned()))
}

/// What proc_pid_stat(5) says of a process.
#[derive(Debug, PartialEq)]
struct Stat {
    parent: i32,
    start: u64,
    ended: bool,
    dies: bool,
}

impl Stat {
    fn of(pid: i32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The program's name in parentheses may hold anything, parentheses and spaces too: the last one ends it.
    fn parse(stat: &str) -> Option<Stat> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // The first of them is field 3.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let killed = number(31)? & 1 << (libc::SIGKILL - 1) != 0;
        Some(Stat {
            parent: number(4)?.try_into().ok()?,
            start: number(22)?,
            ended: matches!(*fields.first()?, "Z" | "X"),
            dies: killed || number(9)? & PF_EXITING != 0,
        })
    }
}

/// linux/sched.h: it is in the middle of its end.
const PF_EXITING: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats() {
        let stat = |name: &str, state: &str, flags: u32, pending: u32| {
            format!(
                "7 ({name}) {state} 1 1 1 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9 9 9 9 9 9 9 {pending} 0"
            )
        };
        let alive = Stat { parent: 1, start: 4711, ended: false, dies: false };
        for (stat, expected) in [
            (stat("init", "S", 4194560, 0), Some(alive)),
            (
                stat("a) b (c", "R", 4194304, 1 << 14),
                Some(Stat { parent: 1, start: 4711, ended: false, dies: false }),
            ),
            (
                stat("a", "S", 4194560, 1 << 8),
                Some(Stat { parent: 1, start: 4711, ended: false, dies: true }),
            ),
            (stat("a", "S", 4194564, 0), Some(Stat { parent: 1, start: 4711, ended: false, dies: true })),
            (stat("a", "Z", 4194564, 0), Some(Stat { parent: 1, start: 4711, ended: true, dies: true })),
            ("7 (short) S 1".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(Stat::parse(&stat), expected, "{stat:?}");
        }
    }
}
