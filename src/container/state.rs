//! What a container is doing. Whether it lives is a held lock and a process that is still the same, never a recorded word;
//! `exit` says how it ended. A reader is right after kill -9 and after a reboot.

pub use super::record::Record;
use crate::{
    error,
    storage::{ContainerDir, Store},
    sys::fork::Child,
};
use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs,
    os::fd::OwnedFd,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// What a container is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// It has never run, or its first process is being made.
    Created,
    /// Everything is set up; its command waits for `start` (podman-init(1)).
    Initialized(Process),
    /// It runs.
    Running(Process),
    /// Its processes are stopped.
    Paused(Process),
    /// It has ended and will be started again.
    Restarting(Exit),
    /// It has ended.
    Exited(Exit),
}

impl Status {
    /// What container `dir` is doing right now.
    pub fn of(dir: &ContainerDir) -> Result<Status> {
        let due = Instant::now() + SOON;
        loop {
            match Status::look(dir)? {
                (_, true) if Instant::now() < due => std::thread::yield_now(),
                (status, _) => return Ok(status),
            }
        }
    }

    /// The same, and whether its first process has ended and its monitor is about to say how.
    fn look(dir: &ContainerDir) -> Result<(Status, bool)> {
        // The lock first: whoever lets go of it has said before how the container ended.
        let monitored = dir.is_alive()?;
        let process = Process::read(dir)?;
        // One whose monitor was killed may live on, and is no less alive for that.
        let had_one = process.is_some();
        if let Some(process) = process.filter(Process::is_same) {
            let status = match process {
                Process { waits: true, .. } => Status::Initialized(process),
                Process { paused: true, .. } => Status::Paused(process),
                _ => Status::Running(process),
            };
            return Ok((status, false));
        }
        let mut soon = false;
        let status = match exit_of(dir)? {
            Some(exit) if monitored && exit.finished.is_none() && had_one => {
                soon = true;
                Status::Exited(exit)
            }
            // It is being started: so far nothing else is true than before.
            Some(exit) if monitored && exit.finished.is_none() => match exit.previous {
                Some(previous) if previous.restarts => Status::Restarting(*previous),
                Some(previous) => Status::Exited(*previous),
                None => Status::Created,
            },
            Some(exit) if monitored && exit.restarts => Status::Restarting(exit),
            Some(exit) => Status::Exited(exit),
            None => Status::Created,
        };
        Ok((status, soon))
    }

    /// The one command after which container `name` runs.
    pub fn hint(&self, name: &str) -> String {
        match self {
            Status::Created | Status::Exited(_) => format!("`ctr start {name}` starts it"),
            Status::Initialized(_) => format!("`ctr start {name}` lets it go on"),
            Status::Paused(_) => format!("`ctr unpause {name}` lets it go on"),
            Status::Restarting(_) => {
                format!("`ctr wait --condition=running {name}` waits for its next start")
            }
            Status::Running(_) => format!("`ctr ps --filter id={name}` shows it"),
        }
    }

    /// As podman-ps(1) spells it in filters and JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Initialized(_) => "initialized",
            Status::Running(_) => "running",
            Status::Paused(_) => "paused",
            Status::Restarting(_) => "restarting",
            Status::Exited(_) => "exited",
        }
    }

    /// Its first process, while there is one.
    pub fn process(&self) -> Option<&Process> {
        match self {
            Status::Initialized(process) | Status::Running(process) | Status::Paused(process) => {
                Some(process)
            }
            Status::Created | Status::Restarting(_) | Status::Exited(_) => None,
        }
    }

    /// How often its monitor has started it again.
    pub fn restart_count(&self) -> u32 {
        let process = self.process().map(|process| process.restart_count);
        process.or(self.exit().map(|exit| exit.restart_count)).unwrap_or(0)
    }

    /// How it ended last.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            Status::Restarting(exit) | Status::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

/// A monitor that lives records an end within less.
const SOON: Duration = Duration::from_millis(100);

/// `exit`: how a container ended. Its monitor writes the worst right before the payload runs ([`Exit::abandoned`]) and the truth at the end,
/// before it lets go of the lock: whatever kills the monitor in between has killed the container too, or its process is
/// still there to be seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit status, 128+n after signal n.
    pub code: u8,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended; unknown when nobody was there to see it.
    pub finished: Option<Timestamp>,
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// The kernel ran out of the memory it may have.
    #[serde(default)]
    pub oom: bool,
    /// Why it could not run.
    #[serde(default)]
    pub error: Option<String>,
    /// Its monitor starts it again.
    #[serde(default)]
    pub restarts: bool,
    /// How often it has done so.
    #[serde(default)]
    pub restart_count: u32,
    /// Somebody wanted it to end.
    #[serde(default)]
    pub stopped: bool,
    /// How it had ended before; only until its process is there.
    #[serde(default)]
    pub previous: Option<Box<Exit>>,
}

impl Exit {
    /// It ran from `started` until now.
    pub fn of(code: u8, signal: Option<i32>, started: Timestamp) -> Exit {
        let finished = Some(Timestamp::now());
        Exit { code, finished, signal, error: None, ..Exit::abandoned(started) }
    }

    /// It could not run, or not be watched, because of `failure`.
    pub fn failed(failure: &anyhow::Error, started: Timestamp) -> Exit {
        Exit { error: Some(format!("{failure:#}")), ..Exit::of(error::status(failure), None, started) }
    }

    /// Write it; the process it tells of is gone.
    pub fn write(&self, dir: &ContainerDir) -> Result<()> {
        dir.write("exit", &serde_json::to_vec(self).context("encode the exit status")?)?;
        dir.remove_pid_file();
        Ok(())
    }

    /// The container that started at `started` died together with its monitor (kill -9, a power cut).
    pub fn abandoned(started: Timestamp) -> Exit {
        Exit {
            code: 137,
            started: Some(started),
            finished: None,
            signal: Some(libc::SIGKILL),
            oom: false,
            error: Some("it was killed together with the process that watched it".to_owned()),
            restarts: false,
            restart_count: 0,
            stopped: false,
            previous: None,
        }
    }

    /// Write the worst of a start that is about to happen for the `count`th time after the first.
    pub fn foresee(dir: &ContainerDir, started: Timestamp, count: u32) -> Result<()> {
        let previous = exit_of(dir)?.map(|exit| Exit { previous: None, ..exit });
        let previous = previous.map(Box::new);
        let exit = Exit { restart_count: count, previous, ..Exit::abandoned(started) };
        dir.write("exit", &serde_json::to_vec(&exit).context("encode the exit status")?)
    }
}

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
}

impl Process {
    /// Describe the process `pid`, which has not been waited for.
    pub fn of(pid: i32) -> Result<Process> {
        let (_, start) = look_at(pid).with_context(|| format!("find out when process {pid} started"))?;
        let monitor = rustix::process::getpid().as_raw_pid();
        Ok(Process {
            pid,
            start,
            boot: boot_id()?.to_owned(),
            since: Timestamp::now(),
            monitor,
            waits: false,
            paused: false,
            restart_count: 0,
        })
    }

    /// Read it.
    pub fn read(dir: &ContainerDir) -> Result<Option<Process>> {
        parse("pid", dir.read_pid_file()?)
    }

    /// Write it.
    pub fn write(&self, dir: &ContainerDir) -> Result<()> {
        dir.write_pid_file(&serde_json::to_vec(self).context("encode the pid file")?)
    }

    /// Whether process `pid` of this moment is still the one that was described, and lives.
    pub fn is_same(&self) -> bool {
        look_at(self.pid).is_some_and(|(state, start)| {
            let same = start == self.start && boot_id().is_ok_and(|boot| boot == self.boot);
            same && !matches!(state, 'Z' | 'X')
        })
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
        Ok((parent(pid) == Some(self.pid)).then_some(Child { pid, pidfd }))
    }
}

/// One container of a listing.
#[derive(Clone, Debug)]
pub struct Container {
    /// Where it lies.
    pub dir: ContainerDir,
    /// What was asked for.
    pub record: Record,
    /// What it is doing.
    pub status: Status,
}

impl Container {
    /// Read the container in `dir`; `None` when it is gone or was never finished.
    pub fn read(dir: ContainerDir) -> Result<Option<Container>> {
        let read = || -> Result<_> { Ok((Record::read(&dir)?, Status::of(&dir)?)) };
        match read().with_context(|| format!("read container {}", dir.id().short()))? {
            (Some(record), status) => Ok(Some(Container { dir, record, status })),
            (None, _) => Ok(None),
        }
    }
}

/// All containers, newest first, and what is wrong with those that can't be read.
pub fn list(store: &Store) -> Result<(Vec<Container>, Vec<anyhow::Error>)> {
    let mut containers = Vec::new();
    let mut damaged = Vec::new();
    for id in store.containers()? {
        match Container::read(store.container(&id)) {
            Ok(container) => containers.extend(container),
            Err(e) => damaged.push(e),
        }
    }
    containers.sort_by(|a, b| (b.record.created, &b.record.id).cmp(&(a.record.created, &a.record.id)));
    Ok((containers, damaged))
}

fn parent(pid: Pid) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// What an `exit` file says. One that says nothing, as a power cut leaves it, is of a container that ended unseen.
fn exit_of(dir: &ContainerDir) -> Result<Option<Exit>> {
    let unseen = Exit { started: None, ..Exit::abandoned(Timestamp::UNIX_EPOCH) };
    Ok(dir.read("exit")?.map(|json| serde_json::from_slice(&json).unwrap_or(unseen)))
}

pub(super) fn parse<T: DeserializeOwned>(what: &str, contents: Option<Vec<u8>>) -> Result<Option<T>> {
    let parsed = contents.map(|json| serde_json::from_slice(&json)).transpose();
    parsed.with_context(|| format!("understand its {what}"))
}

fn boot_id() -> Result<&'static str> {
    static ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(id);
    }
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot id")?;
    Ok(ID.get_or_init(|| id.trim_end().to_owned()))
}

/// The state of a process and when it started.
fn look_at(pid: i32) -> Option<(char, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The program's name in parentheses may hold anything, parentheses and spaces too: the last one ends it.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{ContainerId, Dirs};

    fn store() -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let dirs = Dirs { data: at("data"), runtime: at("run"), config: at("config"), cache: at("cache") };
        let store = Store::open(dirs).unwrap();
        (temp, store)
    }

    #[test]
    fn a_life() {
        let (_temp, store) = store();
        let id = ContainerId::random().unwrap();
        let (dir, lock) = store.create_container(&id, &[]).unwrap();
        assert!(Container::read(dir.clone()).unwrap().is_none());
        Record::new(id.clone(), "a".parse().unwrap(), Timestamp::now()).write(&dir).unwrap();
        assert_eq!(Status::of(&dir).unwrap(), Status::Created);
        let started = Timestamp::now();
        Exit::foresee(&dir, started, 0).unwrap();
        assert_eq!(Status::of(&dir).unwrap(), Status::Created, "it is being started");
        let ended = Exit { code: 3, finished: Some(started), restarts: true, ..Exit::abandoned(started) };
        ended.write(&dir).unwrap();
        Exit::foresee(&dir, started, 1).unwrap();
        assert_eq!(Status::of(&dir).unwrap(), Status::Restarting(ended), "it is being started again");
        let process = Process::of(std::process::id() as i32).unwrap();
        process.write(&dir).unwrap();
        assert_eq!(Status::of(&dir).unwrap(), Status::Running(process.clone()));
        assert!(process.is_same());
        assert!(!Process { start: process.start + 1, ..process.clone() }.is_same());
        let paused = Process { paused: true, ..process.clone() };
        paused.write(&dir).unwrap();
        assert_eq!(Status::of(&dir).unwrap(), Status::Paused(paused));
        process.write(&dir).unwrap();
        assert!(!Process { boot: String::new(), ..process.clone() }.is_same());
        // The monitor is killed: the process lives on; once it is gone nobody has said how it ended.
        drop(lock);
        assert_eq!(Status::of(&dir).unwrap(), Status::Running(process.clone()));
        Process { start: process.start + 1, ..process }.write(&dir).unwrap();
        assert!(matches!(Status::of(&dir).unwrap(), Status::Exited(Exit { code: 137, finished: None, .. })));
        let exit = Exit { code: 3, finished: Some(Timestamp::now()), ..Exit::abandoned(started) };
        exit.write(&dir).unwrap();
        assert_eq!(Status::of(&dir).unwrap(), Status::Exited(exit));
    }

    #[test]
    fn one_damaged_record_hides_no_other() {
        let (_temp, store) = store();
        let mut ids = Vec::new();
        for (seconds, name) in [(1, "old"), (2, "new"), (3, "damaged")] {
            let id = ContainerId::random().unwrap();
            let (dir, _lock) = store.create_container(&id, &[]).unwrap();
            let created = Timestamp::from_second(seconds).unwrap();
            Record::new(id.clone(), name.parse().unwrap(), created).write(&dir).unwrap();
            ids.push(dir);
        }
        ids[2].write("container.json", br#"{"id": "../../etc"}"#).unwrap();
        let (containers, damaged) = list(&store).unwrap();
        let names: Vec<_> = containers.iter().map(|c| c.record.name.as_str()).collect();
        assert_eq!(names, ["new", "old"]);
        assert!(format!("{:#}", damaged[0]).contains(ids[2].id().short()));
    }

    #[test]
    fn records_of_other_versions() {
        let id = ContainerId::random().unwrap();
        let json =
            format!(r#"{{"id":"{id}","name":"n","created":"2026-01-01T00:00:00Z","of the future":[1]}}"#);
        let record: Record = serde_json::from_str(&json).unwrap();
        assert!(record.id == id && record.args.is_empty());
    }

    #[test]
    fn start_times() {
        let tail = " S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        for (stat, start) in [
            (format!("1 (init){tail}"), Some(4711)),
            (format!("7 (a) b (c){tail}"), Some(4711)),
            ("7 (short) S 1".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(parse_stat(&stat).map(|(_, start)| start), start, "{stat:?}");
        }
    }
}
