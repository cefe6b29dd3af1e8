//! The plan of a container's first process: everything that it will do, as plain data, made before the fork. Built from
//! the OCI runtime specification that `spec` wrote and from what only this run knows.

use super::{entries::Way, mounts, profile, program::Program, single, step::Step};
use crate::{
    namespaces::{Mapping, mount::Operation, root::Root},
    network::device::Interface,
    security::CapSet,
    sys::{exec::Failure, title::CommandLine},
};
use anyhow::{Context, Result, anyhow};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::{io::Errno, thread::UnshareFlags};
use std::{
    ffi::CString,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// What [`super::init::run`] executes.
#[derive(Debug)]
pub struct Plan {
    /// In a user namespace of its own.
    pub rootless: bool,
    /// Who sets it up there.
    pub builder: (u32, u32),
    /// The user who runs us doesn't exist there.
    pub without_caller: bool,
    /// The supplementary groups of the user who runs us stay.
    pub keep_groups: bool,
    /// How lines get into its /etc/passwd and /etc/group.
    pub entries: Way,
    /// Namespaces that are made for it, with its birth or after.
    pub own: UnshareFlags,
    /// Its network is there before it needs it.
    pub network_follows: bool,
    /// Those of them that are made with its birth.
    pub born_in: UnshareFlags,
    /// Others may look at it from its birth on.
    pub watched: bool,
    /// It is in the host's pid namespace.
    pub shares_processes: bool,
    /// It is moved to its control group while it mounts: only then it makes that namespace, and shows it.
    pub late_cgroup: bool,
    /// The control group that it is born in.
    pub cgroup: Option<OwnedFd>,
    /// So many descriptors from 3 on are the payload's alone.
    pub preserved: u8,
    /// The network interfaces that it makes.
    pub interfaces: Vec<Interface>,
    /// Host name, if it has a UTS namespace.
    pub hostname: Option<CString>,
    /// The root file system, and the host's directory where it is mounted.
    pub root: Root,
    /// An empty directory of the store.
    pub mount_point: CString,
    /// The root is read-only once everything is mounted.
    pub read_only: bool,
    /// Mounts, devices, links, masks, in order.
    pub operations: Vec<Operation>,
    /// Path below /proc/sys, and value.
    pub sysctls: Vec<(CString, CString)>,
    /// All of them are ours, and it can do without.
    pub sysctls_may_fail: bool,
    /// Where the payload's descriptors 0 to 2 lead.
    pub stdio: Stdio,
    /// A process 1 of ours before the payload, and the command line that it hides.
    pub reaper: Option<CommandLine>,
    /// It has no payload, and waits.
    pub waits: bool,
    /// The payload.
    pub program: Program,
}

/// Where the payload's descriptors 0 to 2 lead.
#[derive(Debug)]
pub enum Stdio {
    /// To a new terminal of the container.
    Terminal,
    /// To the container's /dev/null.
    Nothing,
    /// To these pipes.
    Pipes {
        /// `None`: the container's /dev/null.
        stdin: Option<OwnedFd>,
        /// What it prints.
        stdout: OwnedFd,
        /// Its complaints.
        stderr: OwnedFd,
    },
}

/// What only this run knows.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// How ids are mapped.
    pub mapping: &'a Mapping,
    /// The root file system.
    pub root: Root,
    /// Where to mount it.
    pub mount_point: &'a Path,
    /// stdin, stdout, stderr.
    pub stdio: Stdio,
    /// The system call filters.
    pub filters: Vec<Vec<libc::sock_filter>>,
    /// `--init`.
    pub init: bool,
    /// There is no payload: it waits.
    pub waits: bool,
    /// More directories that have to exist.
    pub directories: Vec<String>,
    /// Host devices to hand in: the host's path and the container's.
    pub devices: Vec<(PathBuf, PathBuf)>,
    /// What `--cap-add` asked for by name.
    pub capabilities_of_others: CapSet,
    /// Descriptors from 3 on that the payload inherits.
    pub preserved: u8,
    /// The control group that it is born in.
    pub cgroup: Option<OwnedFd>,
    /// It is moved to one while it mounts.
    pub late_cgroup: bool,
    /// `--group-add keep-groups`
    pub keep_groups: bool,
    /// How lines get into /etc/passwd and /etc/group.
    pub entries: Way,
    /// Namespaces that are there already.
    pub joined: UnshareFlags,
    /// One for its network is being made beside it.
    pub network_follows: bool,
    /// Others may look at it from its birth on.
    pub watched: bool,
    /// What it shares as /dev/shm.
    pub memory: Option<OwnedFd>,
    /// The network interfaces that it makes.
    pub interfaces: Vec<Interface>,
}

impl Plan {
    /// Plan the start of `spec`.
    ///
    /// # Errors
    /// The specification names what can't be: a NUL byte in a string, a mount without a source.
    pub fn new(spec: &Spec, circumstances: Circumstances<'_>) -> Result<Plan> {
        let process = spec.process().clone().ok_or_else(|| anyhow!("the specification has no process"))?;
        let process = &single::prepare(process, single::is_single(circumstances.mapping));
        let linux = spec.linux().as_ref().ok_or_else(|| anyhow!("the specification has no linux section"))?;
        let Circumstances {
            mapping,
            root,
            mount_point,
            stdio,
            filters,
            init,
            waits,
            directories,
            devices,
            capabilities_of_others,
            preserved,
            cgroup,
            late_cgroup,
            keep_groups,
            entries,
            joined,
            network_follows,
            watched,
            memory,
            interfaces,
        } = circumstances;
        let own = namespaces(spec) - joined;
        let late = if late_cgroup { UnshareFlags::NEWCGROUP } else { UnshareFlags::empty() };
        // What /proc shows everybody of a process, its network for one, is never the host's then.
        let at_birth = if watched { own - late } else { UnshareFlags::NEWPID | UnshareFlags::NEWUSER };
        let terminal = matches!(stdio, Stdio::Terminal);
        let ours = profile::own_sysctls(mapping);
        let asked =
            |(key, value): (&String, &String)| !ours.iter().any(|our| (&our.0, &our.1) == (key, value));
        let sysctls_may_fail = !linux.sysctl().iter().flatten().any(asked);
        let sysctls = linux.sysctl().iter().flatten().map(|(key, value)| {
            Ok((c_string(&key.replace('.', "/"), "a sysctl")?, c_string(value, "a sysctl's value")?))
        });
        let mut operations =
            mounts::operations(spec, mapping, terminal, &devices, &directories, mount_point)?;
        if late_cgroup {
            operations.sort_by_key(Operation::shows_control_groups);
        }
        if let Some(memory) = memory {
            operations.push(mounts::held(memory, "/dev/shm")?);
        }
        let set_groups = !matches!(mapping, Mapping::Single { .. }) && !keep_groups;
        Ok(Plan {
            rootless: mapping.is_rootless(),
            builder: mapping.builder(),
            without_caller: !mapping.has_caller(),
            keep_groups,
            entries,
            own,
            network_follows,
            born_in: own & at_birth,
            watched,
            interfaces,
            shares_processes: !namespaces(spec).contains(UnshareFlags::NEWPID),
            hostname: spec.hostname().as_deref().map(|name| c_string(name, "the host name")).transpose()?,
            root,
            mount_point: path_c_string(mount_point)?,
            read_only: spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false)),
            operations,
            late_cgroup,
            cgroup,
            preserved,
            sysctls: sysctls.collect::<Result<_>>()?,
            sysctls_may_fail,
            stdio,
            waits,
            reaper: init.then(CommandLine::of_this_process).transpose().context("find our command line")?,
            program: Program::new(process, set_groups, capabilities_of_others, filters, preserved)?,
        })
    }

    /// Namespaces that it makes itself, once it is there.
    pub fn unshare(&self) -> UnshareFlags {
        let follows = if self.network_follows { UnshareFlags::NEWNET } else { UnshareFlags::empty() };
        self.own - self.born_in - follows
    }

    /// Whether our parent sends the root.
    pub fn root_is_given(&self) -> bool {
        matches!(self.root, Root::Given(_))
    }

    /// Whether somebody else mounts the root.
    pub fn root_is_fuse(&self) -> bool {
        matches!(self.root, Root::FuseOverlay)
    }

    /// What mends it, where more is known than the step.
    pub fn mend(&self, failure: Failure) -> Option<&'static str> {
        let operation = self.operations.get(failure.item as usize)?;
        let errno = Errno::from_raw_os_error(failure.errno);
        if failure.step == Step::Source as u32 {
            return Some(match errno {
                Errno::NOENT => {
                    "it is gone: make it again, and a file or directory in it before anything is to be mounted there"
                }
                Errno::INVAL => {
                    "other things are mounted below it, which the kernel does not let be left out here: use rbind"
                }
                Errno::LOOP | Errno::XDEV => "a symbolic link is on the way: name the place that it leads to",
                _ => "name something that you may read",
            });
        }
        match (failure.step == Step::Operation as u32, operation, errno) {
            (true, Operation::Secret(_), Errno::INVAL) => Some(
                "its uid or gid is beyond the ids of this container: `ctr info` lists them under idMappings",
            ),
            (true, Operation::Give(_), Errno::PERM | Errno::INVAL) => Some(
                "files of a user whom the container has no id for are not its to give away: leave U out, or change the owner by hand",
            ),
            (true, Operation::Volume(_) | Operation::Overlay(_), Errno::NOTDIR) => {
                Some("a file goes to the place of a file, and a directory to that of a directory")
            }
            (true, Operation::Overlay(_), Errno::ACCESS) if self.without_caller => Some(
                "its owner is none of the container's users, so others have to be let in: chmod o+rx DIR, or use --userns=keep-id",
            ),
            (true, Operation::Overlay(_), _) => Some(
                "an overlay needs directories on a file system that the kernel's overlay takes (see `ctr info`): mount it without O",
            ),
            _ => None,
        }
    }

    /// What was being done when `failure` happened: "mount proc on /proc".
    pub fn describe(&self, failure: Failure) -> String {
        let item = failure.item as usize;
        let is = |step: Step| failure.step == step as u32;
        if is(Step::Operation) || is(Step::Source) {
            return self.operations.get(item).map(Operation::describe).unwrap_or_default();
        }
        if is(Step::Interface) {
            let name = self.interfaces.get(item).map_or("", |interface| &interface.name);
            return format!("make the network interface {name}");
        }
        if is(Step::Sysctl) {
            let name = self.sysctls.get(item).map(|(key, _)| key.to_string_lossy().replace('/', "."));
            return format!("set sysctl {}", name.unwrap_or_default());
        }
        if is(Step::Root) {
            return "mount the root file system".to_owned();
        }
        if let Some(described) = self.program.describe(failure) {
            return described;
        }
        let known = [
            (Step::Unshare, "make namespaces"),
            (Step::Wait, "hear from the process that started the container"),
            (Step::BecomeRoot, "become root of the user namespace"),
            (Step::Propagation, "make mounts private"),
            (Step::Loopback, "bring the loopback interface up"),
            (Step::Hostname, "set the host name"),
            (Step::Entries, "add the user to /etc/passwd and /etc/group"),
            (Step::Pivot, "change to the container's root"),
            (Step::Reaper, "fork the payload"),
        ];
        known.iter().find(|(step, _)| is(*step)).map_or("start", |(_, name)| name).to_owned()
    }
}

/// A NUL-terminated copy.
pub fn c_string(text: &str, what: &str) -> Result<CString> {
    CString::new(text).with_context(|| format!("{what} has a NUL byte"))
}

/// A path's bytes, NUL-terminated.
pub fn path_c_string(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).with_context(|| format!("{} has a NUL byte", path.display()))
}

/// The kinds of namespace that a container does not have in common with the host.
pub fn namespaces(spec: &Spec) -> UnshareFlags {
    let linux = spec.linux().as_ref();
    let wanted = linux.and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten();
    wanted.fold(UnshareFlags::empty(), |flags, namespace| {
        flags
            | match namespace.typ() {
                LinuxNamespaceType::Mount => UnshareFlags::NEWNS,
                LinuxNamespaceType::Cgroup => UnshareFlags::NEWCGROUP,
                LinuxNamespaceType::Uts => UnshareFlags::NEWUTS,
                LinuxNamespaceType::Ipc => UnshareFlags::NEWIPC,
                LinuxNamespaceType::Network => UnshareFlags::NEWNET,
                LinuxNamespaceType::User => UnshareFlags::NEWUSER,
                LinuxNamespaceType::Pid => UnshareFlags::NEWPID,
                LinuxNamespaceType::Time => UnshareFlags::NEWTIME,
            }
    })
}
