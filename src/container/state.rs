//! What a container is doing. Whether it lives is a held lock and a process that is still the same, never a recorded word;
//! `exit` says how it ended. A reader is right after kill -9 and after a reboot.

pub use super::{first_process::Process, record::Record};
use crate::{
    error,
    storage::{ContainerDir, Store},
};
use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    thread::{sleep, yield_now},
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
        let begin = Instant::now();
        loop {
            match Status::look(dir)? {
                (_, true) if begin.elapsed() < AT_ONCE => yield_now(),
                (_, true) if begin.elapsed() < SOON => sleep(AT_ONCE / 5),
                (status, _) => return Ok(status),
            }
        }
    }

    /// The same, and whether another is about to be true: its first process dies, or has ended and its monitor is about to
    /// say how.
    fn look(dir: &ContainerDir) -> Result<(Status, bool)> {
        // The lock first: whoever lets go of it has said before how the container ended.
        let monitored = dir.is_alive()?;
        let process = Process::read(dir)?;
        // One whose monitor was killed may live on, and is no less alive for that.
        let had_one = process.is_some();
        if let Some((process, dies)) = process.and_then(Process::alive) {
            let status = match process {
                Process { waits: true, .. } => Status::Initialized(process),
                Process { paused: true, .. } => Status::Paused(process),
                _ => Status::Running(process),
            };
            return Ok((status, dies));
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

    /// The process that watches it; 0 where none does.
    pub fn monitor(&self) -> i32 {
        match self {
            Status::Restarting(exit) => exit.monitor,
            other => other.process().map_or(0, |process| process.monitor),
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

/// As long as most deaths take.
const AT_ONCE: Duration = Duration::from_millis(5);
/// Within less a process that was killed is gone, and a monitor that lives has said so.
const SOON: Duration = Duration::from_secs(1);

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
    /// Who starts it again, or is about to start it: its monitor's process id.
    #[serde(default)]
    pub monitor: i32,
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
            monitor: rustix::process::getpid().as_raw_pid(),
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

/// What an `exit` file says. One that says nothing, as a power cut leaves it, is of a container that ended unseen.
fn exit_of(dir: &ContainerDir) -> Result<Option<Exit>> {
    let unseen = Exit { started: None, ..Exit::abandoned(Timestamp::UNIX_EPOCH) };
    Ok(dir.read("exit")?.map(|json| serde_json::from_slice(&json).unwrap_or(unseen)))
}

pub(super) fn parse<T: DeserializeOwned>(what: &str, contents: Option<Vec<u8>>) -> Result<Option<T>> {
    let parsed = contents.map(|json| serde_json::from_slice(&json)).transpose();
    parsed.with_context(|| format!("understand its {what}"))
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
        assert_eq!(Status::of(&dir).unwrap(), Status::Exited(exit.clone()));
        dir.write_pid_file(b"").unwrap();
        assert_eq!(Status::of(&dir).unwrap(), Status::Exited(exit), "the power went");
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
}
