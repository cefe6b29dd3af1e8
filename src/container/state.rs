//! What is known about a container. `container.json` says what was asked for and never changes; whether it lives is its
//! held lock, never a recorded word; `exit` says how it ended. A reader is right after kill -9 and after a reboot.

use crate::{
    error,
    storage::{ContainerDir, ContainerId, Digest, Name, Store},
};
use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, fs, path::PathBuf};

/// `container.json`: what was asked for. Written once, before the container starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: Name,
    /// When it was made.
    pub created: Timestamp,
    /// The canonical reference of the image it was made from; empty with a root directory of the user's.
    #[serde(default)]
    pub image: String,
    /// That image's id.
    #[serde(default)]
    pub image_id: Option<Digest>,
    /// The digest of that image's manifest.
    #[serde(default)]
    pub image_digest: Option<Digest>,
    /// The root directory given instead of an image.
    #[serde(default)]
    pub rootfs: Option<PathBuf>,
    /// The command line that made it, `ctr` first.
    #[serde(default)]
    pub command_line: Vec<String>,
    /// The program and its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// The image's or the user's entry point: the first of `args`.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// The program's environment, `NAME=VALUE`.
    #[serde(default)]
    pub env: Vec<String>,
    /// The user as asked for.
    #[serde(default)]
    pub user: String,
    /// Working directory inside.
    #[serde(default)]
    pub workdir: String,
    /// Host name inside.
    #[serde(default)]
    pub hostname: String,
    /// It has a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Its stdin is open.
    #[serde(default)]
    pub interactive: bool,
    /// It is removed when it exits.
    #[serde(default)]
    pub auto_remove: bool,
    /// It has all capabilities and no filter.
    #[serde(default)]
    pub privileged: bool,
    /// Its root file system is read-only.
    #[serde(default)]
    pub read_only: bool,
    /// An init of ours is process 1.
    #[serde(default)]
    pub init: bool,
    /// The capabilities it has, `CAP_…`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// `--label`s, and the image's.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `--annotation`s.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The signal that asks it to stop, `SIG…`.
    #[serde(default)]
    pub stop_signal: String,
    /// Seconds between that and SIGKILL.
    #[serde(default)]
    pub stop_timeout: u32,
    /// `none`, `host` or `private`.
    #[serde(default)]
    pub network: String,
    /// `overlay` or `fuse-overlayfs`.
    #[serde(default)]
    pub storage_driver: String,
    /// How its ids map to ours: `root`, `ranges` or `single`.
    #[serde(default)]
    pub mapping: String,
}

impl Record {
    /// A record with nothing but an identity; the rest is filled in by struct update.
    pub fn new(id: ContainerId, name: Name, created: Timestamp) -> Record {
        Record {
            id,
            name,
            created,
            image: String::new(),
            image_id: None,
            image_digest: None,
            rootfs: None,
            command_line: Vec::new(),
            args: Vec::new(),
            entrypoint: Vec::new(),
            env: Vec::new(),
            user: String::new(),
            workdir: String::new(),
            hostname: String::new(),
            tty: false,
            interactive: false,
            auto_remove: false,
            privileged: false,
            read_only: false,
            init: false,
            capabilities: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            stop_signal: String::new(),
            stop_timeout: 0,
            network: String::new(),
            storage_driver: String::new(),
            mapping: String::new(),
        }
    }

    /// Write it.
    pub fn write(&self, dir: &ContainerDir) -> Result<()> {
        dir.write("container.json", &serde_json::to_vec(self).context("encode the container's record")?)
    }

    /// Read it. `None` for a container whose maker died before it wrote one.
    pub fn read(dir: &ContainerDir) -> Result<Option<Record>> {
        let record: Option<Record> = parse("record", dir.read("container.json")?)?;
        match record {
            Some(record) if record.id != *dir.id() => Err(anyhow!("the record is that of {}", record.id)),
            other => Ok(other),
        }
    }
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Its first process is being made.
    Created,
    /// It runs.
    Running(Process),
    /// It has ended.
    Exited(Exit),
}

impl Status {
    /// What container `dir` is doing right now.
    pub fn of(dir: &ContainerDir) -> Result<Status> {
        // The lock first: whoever lets go of it has said before how the container ended.
        let alive = dir.is_alive()?;
        if let Some(exit) = parse("exit", dir.read("exit")?)? {
            return Ok(Status::Exited(exit));
        }
        if !alive {
            return Ok(Status::Exited(Exit::abandoned()));
        }
        let process: Option<Process> = parse("pid", dir.read_pid_file()?)?;
        Ok(process.map_or(Status::Created, Status::Running))
    }

    /// As podman-ps(1) spells it in filters and JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running(_) => "running",
            Status::Exited(_) => "exited",
        }
    }
}

/// `exit`: how a container ended. Written by its monitor before it lets go of the lock.
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
}

impl Exit {
    /// It ran from `started` until now.
    pub fn of(code: u8, signal: Option<i32>, started: Timestamp) -> Exit {
        let (started, finished) = (Some(started), Some(Timestamp::now()));
        Exit { code, started, finished, signal, oom: false, error: None }
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

    /// It ended just now with `code`, by `signal` if one ended it.
    pub fn now(code: u8, signal: Option<i32>, started: Timestamp) -> Exit {
        Exit {
            code,
            started: Some(started),
            finished: Some(Timestamp::now()),
            signal,
            oom: false,
            error: None,
        }
    }

    /// The container died together with its monitor (kill -9, a power cut).
    fn abandoned() -> Exit {
        let error = Some("it was killed together with the process that watched it".to_owned());
        Exit { code: 137, started: None, finished: None, signal: Some(libc::SIGKILL), oom: false, error }
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
}

impl Process {
    /// Describe the process `pid`, which has not been waited for.
    pub fn of(pid: i32) -> Result<Process> {
        let start = start_of(pid).with_context(|| format!("find out when process {pid} started"))?;
        Ok(Process { pid, start, boot: boot_id()?, since: Timestamp::now() })
    }

    /// Write it.
    pub fn write(&self, dir: &ContainerDir) -> Result<()> {
        dir.write_pid_file(&serde_json::to_vec(self).context("encode the pid file")?)
    }

    /// Whether process `pid` of this moment is still the one that was described.
    pub fn is_same(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot) && start_of(self.pid) == Some(self.start)
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

fn parse<T: DeserializeOwned>(what: &str, contents: Option<Vec<u8>>) -> Result<Option<T>> {
    let parsed = contents.map(|json| serde_json::from_slice(&json)).transpose();
    parsed.with_context(|| format!("understand its {what}"))
}

fn boot_id() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot id")?;
    Ok(id.trim_end().to_owned())
}

fn start_of(pid: i32) -> Option<u64> {
    parse_start(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The program's name in parentheses may hold anything, parentheses and spaces too: the last one ends it.
fn parse_start(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Dirs;

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
        let process = Process::of(std::process::id() as i32).unwrap();
        process.write(&dir).unwrap();
        assert_eq!(Status::of(&dir).unwrap(), Status::Running(process.clone()));
        assert!(process.is_same());
        assert!(!Process { start: process.start + 1, ..process.clone() }.is_same());
        assert!(!Process { boot: String::new(), ..process }.is_same());
        // The monitor is killed: nobody has said how it ended.
        drop(lock);
        assert!(matches!(Status::of(&dir).unwrap(), Status::Exited(Exit { code: 137, finished: None, .. })));
        let exit = Exit { code: 3, finished: Some(Timestamp::now()), ..Exit::abandoned() };
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
            assert_eq!(parse_start(&stat), start, "{stat:?}");
        }
    }
}
