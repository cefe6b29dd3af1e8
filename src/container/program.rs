//! What a payload is and what it may: its command, limits, capabilities and filter, as plain data made before the fork. The
//! same for a container's first process and for one that joins it later.

use super::{
    link::{Identity, Link},
    plan::{c_string, path_c_string},
    step::Step,
};
use crate::{
    security::CapSet,
    sys::exec::{Failure, Payload},
};
use anyhow::{Context, Result, anyhow};
use oci_spec::runtime::{PosixRlimitType, Process};
use rustix::process::Resource;
use std::{ffi::CString, os::fd::AsFd};

/// What [`super::privileges`] makes of a process.
#[derive(Debug)]
pub struct Program {
    /// setgroups(2) is possible in its user namespace.
    pub set_groups: bool,
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
    /// Capabilities that nothing it starts can ever gain.
    pub bounding_drop: CapSet,
    /// no_new_privs.
    pub no_new_privileges: bool,
    /// The AppArmor profile.
    pub apparmor: Option<CString>,
    /// The system call filters, in the order in which they are installed.
    pub filters: Vec<Vec<libc::sock_filter>>,
    /// It is killed when its parent is.
    pub follows_parent: bool,
    /// What to look for …
    pub command: Command,
    /// … and its arguments and environment.
    pub payload: Payload,
}

/// The payload's executable.
#[derive(Debug)]
pub enum Command {
    /// Named with a slash.
    Path(CString),
    /// To be searched for in these places, in order.
    Search(Vec<CString>),
}

impl Program {
    /// The program that `process` of a specification describes.
    ///
    /// # Errors
    /// It names no command, or a string has a NUL byte.
    pub fn new(
        process: &Process,
        set_groups: bool,
        capabilities_of_others: CapSet,
        filters: Vec<Vec<libc::sock_filter>>,
        preserved: u8,
    ) -> Result<Program> {
        let capabilities = bounding(process)?;
        let rlimits = process.rlimits().iter().flatten().filter_map(|limit| {
            let value = |n: u64| (n != u64::MAX).then_some(n);
            Some((resource(limit.typ())?, value(limit.soft()), value(limit.hard())))
        });
        let apparmor = process.apparmor_profile().as_deref();
        Ok(Program {
            set_groups,
            rlimits: rlimits.collect(),
            umask: process.user().umask().unwrap_or(0o022),
            working_directory: path_c_string(process.cwd())?,
            capabilities,
            capabilities_of_others,
            bounding_drop: CapSet::from_bits(!capabilities.bits()),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            apparmor: apparmor.map(|name| c_string(name, "the AppArmor profile")).transpose()?,
            filters,
            follows_parent: true,
            command: command(process)?,
            payload: payload(process, preserved)?,
        })
    }

    /// Become the payload, found at place `at` of its command. What went wrong if that returns.
    pub(super) fn execute(&mut self, at: usize, identity: &Identity, link: &Link) -> Failure {
        let errno = self.payload.execute(self.command.path(at), identity.home(), link.as_fd());
        Failure { step: Failure::EXEC, item: 0, errno: errno.raw_os_error() }
    }

    /// The payload's command as the user or the image named it.
    pub fn name(&self) -> String {
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

    /// What was being done when `failure` happened, if it was with one of these.
    pub fn describe(&self, failure: Failure) -> Option<String> {
        let is = |step: Step| failure.step == step as u32;
        if is(Step::Limit) {
            let limit = self.rlimits.get(failure.item as usize);
            return Some(format!("set limit {:?}", limit.map(|(resource, ..)| resource)));
        }
        if is(Step::WorkingDirectory) {
            return Some(format!("enter working directory {}", self.working_directory.to_string_lossy()));
        }
        let known = [
            (Step::Terminal, "open a terminal"),
            (Step::Stdio, "connect stdin, stdout and stderr"),
            (Step::Credentials, "give up privileges"),
            (Step::AppArmor, "take on the AppArmor profile"),
            (Step::Seccomp, "install the system call filter"),
        ];
        known.iter().find(|(step, _)| is(*step)).map(|(_, name)| (*name).to_owned())
    }
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

fn payload(process: &Process, preserved: u8) -> Result<Payload> {
    let strings = |list: &Option<Vec<String>>, what: &str| {
        list.iter().flatten().map(|text| c_string(text, what)).collect::<Result<Vec<_>>>()
    };
    let environment = strings(process.env(), "the environment")?;
    let has_home = environment.iter().any(|entry| entry.as_bytes().starts_with(b"HOME="));
    Payload::new(strings(process.args(), "the command line")?, environment, !has_home, preserved)
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
