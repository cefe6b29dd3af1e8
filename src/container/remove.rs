//! Removing containers: killed if need be, out of the listing by one rename, then deleted.

use super::{
    cage,
    claim::Claim,
    events,
    files::mounts,
    state::{self, Process, Record, Status},
    volumes,
};
use crate::{
    error::Explain,
    namespaces::{Mapping, run_inside},
    storage::{ContainerDir, Lock, Store, delete_tree},
};
use anyhow::{Context, Result, anyhow};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, retry_on_intr},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{
    io,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long the one who removes by force waits for others who hold the container.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const SOON: Duration = Duration::from_millis(1);

/// Remove container `dir`; with `force` kill it first, and with `volumes` those of its volumes that have no name. Must be called before any thread exists.
///
/// # Errors
/// It runs, with exit status 2 (podman-rm(1), "Exit Status"); or what it left can't be deleted.
pub fn remove(store: &Store, dir: &ContainerDir, force: bool, volumes: bool) -> Result<()> {
    let Some(lock) = stop(dir, force)? else { return Ok(()) };
    retire(store, dir, &lock, None, volumes)?.delete()
}

/// What is left of a container that is gone: files that nobody finds any more.
#[derive(Debug)]
#[must_use]
pub struct Remains {
    trash: Option<PathBuf>,
    volumes: Result<()>,
}

/// Take away the container whose lock the caller holds: dead, or the caller is its monitor and its processes are gone.
/// `record` is the one it has, when the caller knows. Its anonymous volumes go with it when `volumes` says so, or `--rm`.
pub fn retire(
    store: &Store,
    dir: &ContainerDir,
    _lock: &Lock,
    record: Option<&Record>,
    volumes: bool,
) -> Result<Remains> {
    mounts::let_go(store, dir.id())?;
    cage::forget(dir);
    // A record that can't be read is no reason to keep the container.
    let record = record.cloned().or_else(|| Record::read(dir).ok().flatten());
    let theirs = volumes || record.as_ref().is_none_or(|record| record.auto_remove);
    let theirs = if theirs { store.volumes_of(dir)? } else { Vec::new() };
    let trash = store.retire_container(dir, record.as_ref().map(|record| &record.name))?;
    if trash.is_none() {
        return Ok(Remains { trash, volumes: Ok(()) });
    }
    if let Some(record) = &record {
        events::record(store, "remove", record);
    }
    Ok(Remains { trash, volumes: volumes::remove_anonymous(store, &theirs) })
}

impl Remains {
    /// Give the space back.
    ///
    /// # Errors
    /// Something can't be deleted, or a volume could not be.
    pub fn delete(self) -> Result<()> {
        self.trash.as_deref().map_or(Ok(()), delete).and(self.volumes)
    }
}

/// Remove what nobody else will: `--rm` containers whose monitor was killed, and containers whose maker died before it had
/// written their record. Returns what could not be removed.
pub fn sweep(store: &Store) -> Result<Vec<anyhow::Error>> {
    let mut failures = Vec::new();
    store.forget_the_gone()?;
    for id in store.containers()? {
        let dir = store.container(&id);
        // One that `create --rm` made waits for its first start.
        let ended = || matches!(Status::of(&dir), Ok(Status::Exited(_)));
        let disposable = |ended: &dyn Fn() -> bool| {
            Record::read(&dir).is_ok_and(|record| record.is_none_or(|r| r.auto_remove && ended()))
        };
        // The record first: it is there for most, and saves asking for the lock.
        if !disposable(&ended) {
            continue;
        }
        match dir.try_lock() {
            // Asked again: its maker may have finished the record meanwhile.
            Ok(Some(lock)) if disposable(&|| true) => {
                failures.extend(retire(store, &dir, &lock, None, false).and_then(Remains::delete).err())
            }
            Ok(_) => {}
            Err(e) => failures.push(e),
        }
    }
    Ok(failures)
}

/// Remove the image that `record` names, unless another container uses it (podman-run(1), `--rmi`).
pub fn image_of(store: &Store, record: &Record, mapping: &Mapping) -> Result<()> {
    let (containers, _) = state::list(store)?;
    let in_use = |id| containers.iter().any(|c| c.record.image_id == Some(id) && c.record.id != record.id);
    let Some(id) = record.image_id.filter(|id| !in_use(*id)) else { return Ok(()) };
    store.forget(&id, &[&record.image])?;
    // Inside, as root of the namespace that owns the layers' files.
    run_inside(mapping, || store.collect_garbage().map(drop))
}

/// The lock of the container once it is dead; `None` when it is gone altogether. By force it is killed as often as somebody
/// else starts it meanwhile.
fn stop(dir: &ContainerDir, force: bool) -> Result<Option<Lock>> {
    let due = Instant::now() + PATIENCE;
    while force && Instant::now() < due {
        if let Some(lock) = dir.try_lock()? {
            return Ok(Some(lock));
        }
        if !dir.path().exists() {
            return Ok(None);
        }
        let doing = || format!("kill container {}", dir.id().short());
        if let Some(process) = Process::read(dir)?.filter(Process::is_same) {
            kill(&process).with_context(doing)?;
        }
        sleep(SOON);
    }
    if !dir.path().exists() {
        return Ok(None);
    }
    let short = dir.id().short();
    let status = Status::of(dir).with_context(|| format!("see what container {short} is doing"))?;
    match status.process() {
        Some(process) if force => kill(process).with_context(|| format!("kill container {short}"))?,
        Some(_) => {
            return Err(anyhow!("container {short} is {}", status.word()))
                .hint(format!("`ctr rm -f {short}` kills and removes it"))
                .status(2);
        }
        None => {}
    }
    if let Some(lock) = dir.try_lock()? {
        return Ok(Some(lock));
    }
    match status {
        // With a process that has just ended, its monitor is about to say so.
        Status::Created if dir.read_pid_file()?.is_none() => {
            Err(anyhow!("container {short} is just being started"))
                .hint(format!("try again: `ctr rm -f {short}`"))
                .status(2)
        }
        Status::Restarting(_) if !force => Err(anyhow!("container {short} is about to be started again"))
            .hint(format!("`ctr rm -f {short}` stops and removes it"))
            .status(2),
        _ => match Claim::of(dir)? {
            Claim::Ours(lock) => Ok(Some(lock)),
            Claim::Gone => Ok(None),
            Claim::Alive(status) => Err(anyhow!("container {short} is {}", status.word()))
                .hint(format!("`ctr rm -f {short}` kills and removes it"))
                .status(2),
        },
    }
}

/// Kill it and wait for its end: no monitor may be left to do so.
fn kill(process: &Process) -> Result<()> {
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(()) };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(()),
        opened => opened.with_context(|| format!("open process {pid}"))?,
    };
    // Only now: the descriptor stays with this process, so what is true of the number is true of it.
    if !process.is_same() {
        return Ok(());
    }
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Err(Errno::SRCH) => return Ok(()),
        sent => sent.with_context(|| format!("send SIGKILL to process {pid}"))?,
    }
    let mut end = [PollFd::new(&pidfd, PollFlags::IN)];
    retry_on_intr(|| poll(&mut end, None)).with_context(|| format!("wait for the end of process {pid}"))?;
    Ok(())
}

/// Most containers leave files of our own alone; only what belongs to subordinate ids needs a user namespace, which costs
/// more than all the rest.
pub fn delete(trash: &Path) -> Result<()> {
    let from_here = delete_tree(trash);
    let outcome = match from_here {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            run_inside(&Mapping::detect(), || Ok(delete_tree(trash)?))
        }
        done => done.map_err(Into::into),
    };
    outcome.with_context(|| format!("delete {}", trash.display())).hint(
        "the container is gone; `ctr rmi` and later versions of `ctr system prune` delete its files again",
    )
}

#[cfg(test)]
mod tests {
    use super::super::state::Exit;
    use super::*;
    use crate::{
        error,
        storage::{ContainerId, Dirs},
    };
    use jiff::Timestamp;
    use std::{fs, process::Command};

    fn store() -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let dirs = Dirs { data: at("data"), runtime: at("run"), config: at("config"), cache: at("cache") };
        let store = Store::open(dirs).unwrap();
        (temp, store)
    }

    fn container(store: &Store, name: &str, auto_remove: bool) -> (ContainerDir, Lock) {
        let id = ContainerId::random().unwrap();
        let (dir, lock) = store.create_container(&id, &[]).unwrap();
        let name: crate::storage::Name = name.parse().unwrap();
        store.claim_name(&name, &id).unwrap();
        Record { auto_remove, ..Record::new(id, name, Timestamp::now()) }.write(&dir).unwrap();
        (dir, lock)
    }

    fn is_empty(path: &Path) -> bool {
        fs::read_dir(path).unwrap().next().is_none()
    }

    #[test]
    fn a_dead_one_leaves_nothing() {
        let (_temp, store) = store();
        let (dir, lock) = container(&store, "a", false);
        fs::write(dir.upper().join("file"), "x").unwrap();
        drop(lock);
        remove(&store, &dir, false, false).unwrap();
        remove(&store, &dir, false, false).unwrap();
        for name in ["containers", "names", "trash", "tmp"] {
            assert!(is_empty(&store.dirs().data.join(name)), "{name}");
        }
    }

    #[test]
    fn a_running_one_is_killed_only_by_force() {
        let (_temp, store) = store();
        let (dir, lock) = container(&store, "a", false);
        assert_eq!(error::status(&remove(&store, &dir, true, false).unwrap_err()), 2, "no process yet");
        let mut payload = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::of(payload.id() as i32).unwrap();
        process.write(&dir).unwrap();
        let refused = remove(&store, &dir, false, false).unwrap_err();
        assert!(error::hint(&refused).unwrap().contains("rm -f") && error::status(&refused) == 2);
        // The monitor: holds the lock until the payload has ended.
        let monitor = std::thread::spawn(move || {
            let status = payload.wait().unwrap();
            drop(lock);
            status
        });
        remove(&store, &dir, true, false).unwrap();
        assert!(!monitor.join().unwrap().success() && !dir.path().exists());
    }

    #[test]
    fn a_process_that_took_over_the_number_is_spared() {
        let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::of(bystander.id() as i32).unwrap();
        kill(&Process { start: process.start + 1, ..process }).unwrap();
        assert!(bystander.try_wait().unwrap().is_none());
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }

    #[test]
    fn the_sweep_takes_what_is_dead_and_disposable() {
        let (_temp, store) = store();
        let (kept, _) = container(&store, "kept", false);
        let (living, _lock) = container(&store, "living", true);
        let (waiting, _) = container(&store, "waiting", true);
        let (disposable, _) = container(&store, "disposable", true);
        Exit::abandoned(Timestamp::now()).write(&disposable).unwrap();
        let (_, unfinished) = store.create_container(&ContainerId::random().unwrap(), &[]).unwrap();
        drop(unfinished);
        let (damaged, _) = container(&store, "damaged", true);
        damaged.write("container.json", b"{").unwrap();
        assert!(sweep(&store).unwrap().is_empty());
        let mut left = store.containers().unwrap();
        let mut expected = [&kept, &living, &waiting, &damaged].map(|dir| dir.id().clone());
        left.sort();
        expected.sort();
        assert_eq!(left, expected);
        // A name of no record is found all the same.
        remove(&store, &damaged, false, false).unwrap();
        assert!(store.named(&"damaged".parse().unwrap()).unwrap().is_none());
    }
}
