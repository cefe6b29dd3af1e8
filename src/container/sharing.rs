//! `--pid`, `--ipc`, `--uts` and `--network container:`: namespaces that a container has in common with others (podman-run(1)).

use super::{
    link::{Link, Report},
    record::Record,
    state::{self, Container, Status},
    userns::{Join, Userns},
};
use crate::{
    error::{Explain, OURS},
    namespaces::{mount::clone_tree, start_beside, target::open_in_root},
    storage::{ContainerDir, ContainerId, Store},
    sys::fork::Child,
    weakened,
};
use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, open},
    system::uname,
    thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

/// Whose namespace of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// The container's own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of a running container: as the user wrote it, and in a record its id.
    Container(String),
    /// One that is there.
    Path(PathBuf),
}

/// Those that a container may share, but for the user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharing {
    /// Processes.
    #[serde(default)]
    pub pid: Whose,
    /// Shared memory, semaphores and message queues; /dev/shm with them.
    #[serde(default)]
    pub ipc: Whose,
    /// The host name.
    #[serde(default)]
    pub uts: Whose,
    /// The network.
    #[serde(default)]
    pub network: Whose,
}

/// `private`, `host`, `container:NAME` or `ns:PATH`.
pub fn parse(text: &str) -> Result<Whose> {
    match text.split_once(':') {
        None if matches!(text, "" | "private") => Ok(Whose::Private),
        None if text == "host" => Ok(Whose::Host),
        Some(("container", name)) if !name.is_empty() => Ok(Whose::Container(name.to_owned())),
        Some(("ns", path)) if path.starts_with('/') => Ok(Whose::Path(path.into())),
        Some(("ns", _)) => bail!("the path of the namespace is not absolute"),
        _ => bail!("there is no mode {text:?}"),
    }
}

/// The same for `--ipc`, which has two words more: others may always join, and /dev/shm is always there.
pub fn parse_ipc(text: &str) -> Result<Whose> {
    if matches!(text, "none" | "shareable") { Ok(Whose::Private) } else { parse(text) }
}

impl Whose {
    /// As `inspect` shows it; `own`: Podman's word for one of its own.
    pub fn shown(&self, own: &str) -> String {
        match self {
            Whose::Private => own.to_owned(),
            Whose::Host => "host".to_owned(),
            Whose::Container(id) => format!("container:{id}"),
            Whose::Path(path) => format!("ns:{}", path.display()),
        }
    }

    /// Made anew for this container.
    pub fn is_own(&self) -> bool {
        *self == Whose::Private
    }

    /// Somebody has it already, but not the host.
    pub fn is_joined(&self) -> bool {
        matches!(self, Whose::Container(_) | Whose::Path(_))
    }
}

impl Sharing {
    /// With ids in place of names, and the user namespace that this needs: only who belongs to it may join its others.
    /// `asked`: the user namespace that was asked for.
    ///
    /// # Errors
    /// A container that doesn't run; containers of several user namespaces.
    pub fn settle(&mut self, store: &Store, rootless: bool, asked: &Userns) -> Result<Userns> {
        let mut userns = asked.clone();
        for (option, whose) in self.each() {
            let Whose::Container(name) = whose else { continue };
            let asking = || format!("{option} container:{name}");
            let dir = super::find::find(store, name).with_context(asking).status(OURS)?;
            let record =
                Record::read(&dir)?.ok_or_else(|| anyhow!("it was never finished")).with_context(asking)?;
            *name = dir.id().as_str().to_owned();
            if !rootless && record.ids.is_none() {
                continue;
            }
            let theirs = Userns::Container(owner(dir.id(), &record).as_str().to_owned());
            if userns == Userns::Host {
                userns = theirs;
            } else if whose_user(store, &userns)? != whose_user(store, &theirs)? {
                return Err(anyhow!("{option}: that container has another user namespace"))
                    .hint("leave --userns out, and name containers that share theirs");
            }
        }
        Ok(userns)
    }

    fn each(&mut self) -> [(&'static str, &mut Whose); 4] {
        [
            ("--pid", &mut self.pid),
            ("--ipc", &mut self.ipc),
            ("--uts", &mut self.uts),
            ("--network", &mut self.network),
        ]
    }

    /// The host name that comes with the namespace, if it is another's.
    pub fn hostname(&self, store: &Store) -> Result<Option<String>> {
        match &self.uts {
            Whose::Private | Whose::Path(_) => Ok(None),
            Whose::Host => Ok(Some(uname().nodename().to_string_lossy().into_owned())),
            Whose::Container(id) => {
                let record = Record::read(&super::find::find(store, id)?)?;
                Ok(record.map(|record| record.hostname))
            }
        }
    }

    /// The containers that have to run before this one can.
    pub fn containers(&self) -> impl Iterator<Item = &str> {
        [&self.pid, &self.ipc, &self.uts, &self.network].into_iter().filter_map(|whose| match whose {
            Whose::Container(id) => Some(id.as_str()),
            _ => None,
        })
    }
}

/// The containers whose namespaces the one of `record` has.
fn providers(record: &Record) -> impl Iterator<Item = &str> {
    let user = match &record.join {
        Some(Join::Container(id)) => Some(id.as_str()),
        _ => None,
    };
    record.sharing.containers().chain(user)
}

/// Let it be known that the container of `record`, which is about to be there, has namespaces of others.
pub fn mark(store: &Store, record: &Record) -> Result<()> {
    providers(record).try_for_each(|id| store.container(&id.parse()?).write(MARK, b""))
}

/// The containers that have namespaces of the one in `dir`.
pub fn dependents(store: &Store, dir: &ContainerDir) -> Result<Vec<Container>> {
    // Most have none, and then nobody has to look at all the others.
    if !dir.path().join(MARK).exists() {
        return Ok(Vec::new());
    }
    let mut all = state::list(store)?.0;
    all.retain(|one| providers(&one.record).any(|id| id == dir.id().as_str()));
    Ok(all)
}

/// Somebody has namespaces of the container, or had.
const MARK: &str = "shared";

/// The container whose user namespace the one of `record` has.
fn owner(id: &ContainerId, record: &Record) -> ContainerId {
    match &record.join {
        Some(Join::Container(other)) => other.clone(),
        _ => id.clone(),
    }
}

fn whose_user(store: &Store, userns: &Userns) -> Result<Option<ContainerId>> {
    let Userns::Container(name) = userns else { return Ok(None) };
    let dir =
        super::find::find(store, name).with_context(|| format!("--userns container:{name}")).status(OURS)?;
    let record = Record::read(&dir)?.ok_or_else(|| anyhow!("container {name} was never finished"))?;
    Ok(Some(owner(dir.id(), &record)))
}

/// The namespaces that a container's first process is born in, because they are there already.
#[derive(Debug, Default)]
pub struct Joining {
    /// A process, or a namespace's file, and what to join of it (setns(2)); the user namespace first.
    pub spaces: Vec<(OwnedFd, UnshareFlags)>,
    /// The process whose /dev/shm it has.
    pub memory: Option<Child>,
    /// One of them was named by its path.
    foreign: bool,
}

impl Joining {
    /// Open what `record` names.
    ///
    /// # Errors
    /// A container that doesn't run, a file that is no namespace.
    pub fn of(store: &Store, record: &Record) -> Result<Joining> {
        let Sharing { pid, ipc, uts, network } = &record.sharing;
        let user = match &record.join {
            None => Whose::Private,
            Some(Join::Container(id)) => Whose::Container(id.as_str().to_owned()),
            Some(Join::Path(path)) => Whose::Path(path.clone()),
        };
        let mut joining = Joining::default();
        for (whose, kind) in [
            (&user, UnshareFlags::NEWUSER),
            (pid, UnshareFlags::NEWPID),
            (ipc, UnshareFlags::NEWIPC),
            (uts, UnshareFlags::NEWUTS),
            (network, UnshareFlags::NEWNET),
        ] {
            match whose {
                Whose::Private | Whose::Host => {}
                Whose::Container(id) => {
                    if kind == UnshareFlags::NEWPID && has_hosts_users(record) {
                        nobody_traces(store, id)?;
                    }
                    let child = running(store, id)?;
                    let pidfd = child.pidfd.try_clone().context("watch a process")?;
                    joining.spaces.push((pidfd, kind));
                    if kind == UnshareFlags::NEWIPC {
                        joining.memory = Some(child);
                    }
                }
                Whose::Path(path) => {
                    joining.foreign = true;
                    let file = File::open(path).with_context(|| format!("open {}", path.display()));
                    joining
                        .spaces
                        .push((file.hint("name a namespace, such as /proc/PID/ns/net")?.into(), kind));
                }
            }
        }
        Ok(joining)
    }

    /// Of all of them.
    pub fn kinds(&self) -> UnshareFlags {
        self.spaces.iter().fold(UnshareFlags::empty(), |all, (_, kind)| all | *kind)
    }

    /// Whether the first process can be seen by others while it is set up: its pid namespace is theirs, or a namespace may be that of
    /// another user of the host.
    pub fn is_watched(&self) -> bool {
        let watched = self.kinds().contains(UnshareFlags::NEWPID) || self.foreign;
        watched && !weakened::is("joined-dumpable")
    }

    /// Join them: this process but for the pid namespace, where its children are born.
    pub fn enter(&self) -> rustix::io::Result<()> {
        self.spaces.iter().try_for_each(|(fd, kind)| {
            move_into_thread_name_spaces(fd.as_fd(), ThreadNameSpaceType::from_bits_retain(kind.bits()))
        })
    }
}

/// Without a user namespace between them who may trace anybody may trace a process of root's that is on its way in, with the
/// host's files in sight. One that is privileged has those anyway.
///
/// # Errors
/// A container in the pid namespace of `owner` has that capability.
fn nobody_traces(store: &Store, owner: &str) -> Result<()> {
    let containers = state::list(store)?.0;
    let joined =
        |id: &str| match containers.iter().find(|one| one.record.id.as_str() == id)?.record.sharing.pid {
            Whose::Container(ref other) => Some(other.clone()),
            _ => None,
        };
    // One joins only what runs, so this ends; but records are files.
    let first = |id: &str| {
        let mut others =
            std::iter::successors(Some(id.to_owned()), |id| joined(id)).take(containers.len() + 1);
        others.by_ref().last()
    };
    let owner = first(owner);
    let traces = |one: &&Container| {
        let added = one.record.added_capabilities.iter().any(|name| name.ends_with("SYS_PTRACE"));
        added && !one.record.privileged && has_hosts_users(&one.record)
    };
    let there = |one: &&Container| one.status.process().is_some() && first(one.record.id.as_str()) == owner;
    match containers.iter().filter(traces).find(there) {
        Some(one) if !weakened::is("tracers") => Err(anyhow!(
            "--pid: container {} may trace processes (SYS_PTRACE), this one's too while it still has the host's files",
            one.record.id.short()
        ))
        .hint("give that one a user namespace, as with --userns=auto, or leave SYS_PTRACE out"),
        _ => Ok(()),
    }
}

/// It is root's, without a user namespace.
fn has_hosts_users(record: &Record) -> bool {
    record.mapping == "root" && record.ids.is_none() && record.join.is_none()
}

fn running(store: &Store, id: &str) -> Result<Child> {
    let dir = super::find::find(store, id)?;
    let process = Status::of(&dir)?.process().map(|process| process.child()).transpose()?.flatten();
    process
        .ok_or_else(|| anyhow!("container {} doesn't run", dir.id().short()))
        .hint(format!("ctr start {}", dir.id().short()))
}

/// The /dev/shm of `child`, as a mount that is attached nowhere. As `user` of its user namespace, unless we are root in the same.
///
/// # Errors
/// It has none.
pub fn memory_of(child: &Child, user: Option<(u32, u32)>) -> Result<OwnedFd> {
    let (ours, theirs) = Link::pair().context("make a line to a process of ours")?;
    let inside = start_beside(child.pidfd.as_fd(), user, |_| {
        // Here: in the mount namespace of that container, with every capability of its user namespace.
        let root = open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let place =
            open_in_root(&root, c"dev/shm", OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)?;
        let tree = clone_tree(&place, c"", false)?;
        theirs.root(tree.as_fd()).context("hand /dev/shm over")
    })?;
    inside.wait().context("share /dev/shm")?;
    match ours.next().context("take /dev/shm over")? {
        Report::Root(tree) => Ok(tree),
        _ => bail!("nobody handed /dev/shm over"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, expected) in [
            ("", Whose::Private),
            ("private", Whose::Private),
            ("host", Whose::Host),
            ("container:web", Whose::Container("web".into())),
            ("ns:/proc/1/ns/pid", Whose::Path("/proc/1/ns/pid".into())),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(parse_ipc("none").unwrap(), Whose::Private);
        assert_eq!(parse_ipc("shareable").unwrap(), Whose::Private);
        for bad in ["none", "container:", "container", "ns:", "ns:x", "hosts", "host:x", "pod"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
