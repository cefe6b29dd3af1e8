//! The plan of a container's first process: everything that it will do, as plain data, made before the fork. Built from
//! the OCI runtime specification that `spec` wrote and from what only this run knows.

use super::{init::Step, mounts};
use crate::{
    namespaces::{Mapping, mount::Operation, root::Root},
    security::CapSet,
    sys::{
        exec::{Failure, Payload},
        title::CommandLine,
    },
};
use anyhow::{Context, Result, anyhow};
use oci_spec::runtime::{LinuxNamespaceType, PosixRlimitType, Process, Spec};
use rustix::{process::Resource, thread::UnshareFlags};
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
    /// setgroups(2) is possible there.
    pub set_groups: bool,
    /// Namespaces besides user and pid.
    pub unshare: UnshareFlags,
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
    /// Where the payload's descriptors 0 to 2 lead.
    pub stdio: Stdio,
    /// Soft and hard limits; `None` is unlimited.
    pub rlimits: Vec<(Resource, Option<u64>, Option<u64>)>,
    /// File mode creation mask.
    pub umask: u32,
    /// The payload's working directory.
    pub working_directory: CString,
    /// Capabilities of a payload that is user 0 …
    pub capabilities: CapSet,
    /// … and of any other, who keeps them as ambient ones.
    pub capabilities_of_others: CapSet,
    /// Capabilities that nothing in the container can ever gain.
    pub bounding_drop: CapSet,
    /// no_new_privs.
    pub no_new_privileges: bool,
    /// The system call filter.
    pub filter: Option<Vec<libc::sock_filter>>,
    /// A process 1 of ours before the payload, and the command line that it hides.
    pub reaper: Option<CommandLine>,
    /// What to look for …
    pub command: Command,
    /// … and its arguments and environment.
    pub payload: Payload,
}

/// Where the payload's descriptors 0 to 2 lead.
#[derive(Debug)]
pub enum Stdio {
    /// To a new terminal of the container.
    Terminal,
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

/// The payload's executable.
#[derive(Debug)]
pub enum Command {
    /// Named with a slash.
    Path(CString),
    /// To be searched for in these places, in order.
    Search(Vec<CString>),
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
    /// The system call filter.
    pub filter: Option<Vec<libc::sock_filter>>,
    /// `--init`.
    pub init: bool,
    /// More directories that have to exist.
    pub directories: Vec<String>,
    /// Host devices to hand in: the host's path and the container's.
    pub devices: Vec<(PathBuf, PathBuf)>,
    /// What `--cap-add` asked for by name.
    pub capabilities_of_others: CapSet,
}

impl Plan {
    /// Plan the start of `spec`.
    ///
    /// # Errors
    /// The specification names what can't be: a NUL byte in a string, a mount without a source.
    pub fn new(spec: &Spec, circumstances: Circumstances<'_>) -> Result<Plan> {
        let process = spec.process().as_ref().ok_or_else(|| anyhow!("the specification has no process"))?;
        let linux = spec.linux().as_ref().ok_or_else(|| anyhow!("the specification has no linux section"))?;
        let capabilities = bounding(process)?;
        let Circumstances {
            mapping,
            root,
            mount_point,
            stdio,
            filter,
            init,
            directories,
            devices,
            capabilities_of_others,
        } = circumstances;
        let terminal = matches!(stdio, Stdio::Terminal);
        let sysctls = linux.sysctl().iter().flatten().map(|(key, value)| {
            Ok((c_string(&key.replace('.', "/"), "a sysctl")?, c_string(value, "a sysctl's value")?))
        });
        let rlimits = process.rlimits().iter().flatten().filter_map(|limit| {
            let value = |n: u64| (n != u64::MAX).then_some(n);
            Some((resource(limit.typ())?, value(limit.soft()), value(limit.hard())))
        });
        Ok(Plan {
            rootless: mapping.is_rootless(),
            set_groups: !matches!(mapping, Mapping::Single { .. }),
            unshare: namespaces(spec),
            hostname: spec.hostname().as_deref().map(|name| c_string(name, "the host name")).transpose()?,
            root,
            mount_point: path_c_string(mount_point)?,
            read_only: spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false)),
            operations: mounts::operations(spec, mapping, terminal, &devices, &directories)?,
            sysctls: sysctls.collect::<Result<_>>()?,
            stdio,
            rlimits: rlimits.collect(),
            umask: process.user().umask().unwrap_or(0o022),
            working_directory: path_c_string(process.cwd())?,
            capabilities,
            capabilities_of_others,
            bounding_drop: CapSet::from_bits(!capabilities.bits()),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            filter,
            reaper: init.then(CommandLine::of_this_process).transpose().context("find our command line")?,
            command: command(process)?,
            payload: payload(process)?,
        })
    }

    /// Whether somebody else mounts the root.
    pub fn root_is_fuse(&self) -> bool {
        matches!(self.root, Root::FuseOverlay)
    }

    /// The payload's command as the user or the image named it.
    pub fn command_name(&self) -> String {
        let path = match &self.command {
            Command::Path(path) => path.to_string_lossy(),
            Command::Search(candidates) => {
                candidates.first().map(|path| path.to_string_lossy()).unwrap_or_default()
            }
        };
        match &self.command {
            Command::Path(_) => path.into_owned(),
            Command::Search(_) => path.rsplit('/').next().unwrap_or_default().to_owned(),
        }
    }

    /// What was being done when `failure` happened: "mount proc on /proc".
    pub fn describe(&self, failure: Failure) -> String {
        let item = failure.item as usize;
        let is = |step: Step| failure.step == step as u32;
        if is(Step::Operation) {
            return self.operations.get(item).map(Operation::describe).unwrap_or_default();
        }
        if is(Step::Sysctl) {
            let name = self.sysctls.get(item).map(|(key, _)| key.to_string_lossy().replace('/', "."));
            return format!("set sysctl {}", name.unwrap_or_default());
        }
        if is(Step::Limit) {
            return format!("set limit {:?}", self.rlimits.get(item).map(|(resource, ..)| resource));
        }
        if is(Step::Root) {
            return "mount the root file system".to_owned();
        }
        if is(Step::WorkingDirectory) {
            return format!("enter working directory {}", self.working_directory.to_string_lossy());
        }
        let known = [
            (Step::Unshare, "make namespaces"),
            (Step::Wait, "hear from the process that started the container"),
            (Step::BecomeRoot, "become root of the user namespace"),
            (Step::Propagation, "make mounts private"),
            (Step::Loopback, "bring the loopback interface up"),
            (Step::Hostname, "set the host name"),
            (Step::Terminal, "open a terminal"),
            (Step::Pivot, "change to the container's root"),
            (Step::Stdio, "connect stdin, stdout and stderr"),
            (Step::Credentials, "give up privileges"),
            (Step::Seccomp, "install the system call filter"),
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

fn namespaces(spec: &Spec) -> UnshareFlags {
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
                // These two are made by the clone itself; a time namespace is not offered.
                LinuxNamespaceType::User | LinuxNamespaceType::Pid | LinuxNamespaceType::Time => {
                    UnshareFlags::empty()
                }
            }
    })
}

fn bounding(process: &Process) -> Result<CapSet> {
    let sets = process.capabilities().as_ref();
    let names = sets.and_then(|sets| sets.bounding().as_ref()).into_iter().flatten();
    let known = names.filter_map(|capability| CapSet::named(&capability.to_string()));
    Ok(known.fold(CapSet::EMPTY, CapSet::union))
}

fn command(process: &Process) -> Result<Command> {
    let arguments = process.args().as_deref().unwrap_or_default();
    let name = arguments.first().ok_or_else(|| anyhow!("no command given"))?;
    if name.contains('/') {
        return Ok(Command::Path(c_string(name, "the command")?));
    }
    let environment = process.env().as_deref().unwrap_or_default();
    let path =
        environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or("/bin:/usr/bin");
    let places = path.split(':').map(|directory| if directory.is_empty() { "." } else { directory });
    let candidates = places.map(|directory| c_string(&format!("{directory}/{name}"), "the command"));
    Ok(Command::Search(candidates.collect::<Result<_>>()?))
}

fn payload(process: &Process) -> Result<Payload> {
    let strings = |list: &Option<Vec<String>>, what: &str| {
        list.iter().flatten().map(|text| c_string(text, what)).collect::<Result<Vec<_>>>()
    };
    let environment = strings(process.env(), "the environment")?;
    let has_home = environment.iter().any(|entry| entry.as_bytes().starts_with(b"HOME="));
    Payload::new(strings(process.args(), "the command line")?, environment, !has_home)
        .context("prepare the payload")
}

fn resource(kind: PosixRlimitType) -> Option<Resource> {
    Some(match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    })
}
