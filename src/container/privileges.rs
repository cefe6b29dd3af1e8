//! The last steps of a child before it becomes the payload, the same for a container's first process and for one that joins:
//! limits, working directory, ids, capabilities, filter.

use super::{
    link::{Identity, Link},
    program::{Command, Program},
    step::{AtStep, Step, errno},
};
use crate::{
    namespaces::target::open_in_root,
    security::{CapSet, apparmor},
    sys::{exec::Failure, keyring, seccomp},
    weakened,
};
use rustix::{
    fs::{Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, accessat, statat},
    io::{Errno, Result},
    process::{
        DumpableBehavior, Resource, Rlimit, Signal, fchdir, getrlimit, set_dumpable_behavior,
        set_parent_process_death_signal, setrlimit, umask,
    },
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set, configure_capability_in_ambient_set,
        remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
        set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};
use std::ffi::CStr;

/// Limits, keys and working directory, while every capability is there.
pub(super) fn settle(program: &Program) -> std::result::Result<(), Failure> {
    // Without one the caller's keys stay in sight, but the filter keeps keyctl from them; EDQUOT must not stop a start.
    if !weakened::is("session-keyring") {
        let _ = keyring::join_new_session();
    }
    set_limits(program)?;
    umask(Mode::from_raw_mode(program.umask));
    enter_working_directory(&program.working_directory).step(Step::WorkingDirectory)
}

/// Only what the payload may keep is left; which of its command's places to execute.
pub(super) fn give_up(
    program: &Program,
    identity: &Identity,
    link: &Link,
) -> std::result::Result<usize, Failure> {
    let is_root = identity.uid == 0;
    let kept = if is_root { program.capabilities } else { program.capabilities_of_others };
    // Root's come back at the execution; anybody else keeps only what is ambient (capabilities(7)).
    let ambient = if is_root { CapSet::EMPTY } else { kept };
    drop_bounding_set(program.bounding_drop).step(Step::Credentials)?;
    become_user(program, identity).step(Step::Credentials)?;
    if program.follows_parent {
        follow_parent();
    }
    // Whoever shares the user's id now: our memory and our executable are not theirs to open (CVE-2019-5736).
    if !weakened::is("not-dumpable") {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).step(Step::Credentials)?;
    }
    // The last time that our starter's death could go unheard was just now.
    link.is_open().step(Step::Wait)?;
    let command = program.command.find().step(Step::Find)?;
    if let Some(profile) = &program.apparmor {
        apparmor::on_exec(profile).step(Step::AppArmor)?;
    }
    if program.no_new_privileges && !weakened::is("no-new-privileges") {
        set_no_new_privs(true).step(Step::Credentials)?;
        keep(kept, ambient, CapSet::EMPTY).step(Step::Credentials)?;
        install_filter(program)?;
    } else {
        // Without no_new_privs only CAP_SYS_ADMIN may install a filter, so it goes last.
        keep(kept, ambient, ADMIN).step(Step::Credentials)?;
        install_filter(program)?;
        keep(kept, ambient, CapSet::EMPTY).step(Step::Credentials)?;
    }
    Ok(command)
}

/// A parent that is killed takes its child along. The kernel forgets this at each change of ids.
pub(super) fn follow_parent() {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
}

fn set_limits(program: &Program) -> std::result::Result<(), Failure> {
    for (item, (resource, soft, hard)) in program.rlimits.iter().enumerate() {
        set_limit(*resource, *soft, *hard).map_err(|errno| Step::Limit.failed(item, errno))?;
    }
    Ok(())
}

/// `None` is unlimited. A hard limit can't be raised without CAP_SYS_RESOURCE on the host, so it is cut to what there is.
fn set_limit(resource: Resource, soft: Option<u64>, hard: Option<u64>) -> Result<()> {
    match setrlimit(resource, Rlimit { current: soft, maximum: hard }) {
        Err(Errno::PERM) => {
            let ceiling = getrlimit(resource).maximum;
            let cut = |limit: Option<u64>| match (limit, ceiling) {
                (Some(limit), Some(ceiling)) => Some(limit.min(ceiling)),
                (limit, ceiling) => limit.or(ceiling),
            };
            setrlimit(resource, Rlimit { current: cut(soft), maximum: cut(hard) })
        }
        other => other,
    }
}

/// By descriptor and through no magic link: /proc/self/fd/N would lead out of the container (CVE-2024-21626).
fn enter_working_directory(path: &CStr) -> Result<()> {
    let directory = open_in_root(CWD, path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty())?;
    fchdir(directory)
}

fn drop_bounding_set(dropped: CapSet) -> Result<()> {
    let dropped = if weakened::is("bounding-set") { CapSet::EMPTY } else { dropped };
    for capability in (0..64).filter(|n| dropped.bits() & 1 << n != 0) {
        let one = CapabilitySet::from_bits_retain(1 << capability);
        match remove_capability_from_bounding_set(one) {
            // A capability that this kernel doesn't know.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    clear_ambient_capability_set()
}

fn become_user(program: &Program, identity: &Identity) -> Result<()> {
    let mut groups = [Gid::ROOT; Identity::GROUPS_MAX];
    for (group, raw) in groups.iter_mut().zip(identity.groups()) {
        *group = Gid::from_raw(*raw);
    }
    if program.set_groups {
        set_thread_groups(&groups[..identity.groups().len()])?;
    }
    // What is kept is decided by `keep`, not by the change of ids.
    set_keep_capabilities(true)?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    set_keep_capabilities(false)
}

fn keep(kept: CapSet, ambient: CapSet, for_now: CapSet) -> Result<()> {
    let bits = CapabilitySet::from_bits_retain;
    let permitted = bits(kept.bits() | for_now.bits());
    let inherited = if weakened::is("inheritable-set") { kept } else { ambient };
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: bits(inherited.bits()) };
    set_capabilities(None, sets)?;
    for capability in (0..64).filter(|n| ambient.bits() & 1 << n != 0) {
        configure_capability_in_ambient_set(bits(1 << capability), true)?;
    }
    Ok(())
}

const ADMIN: CapSet = CapSet::of(&[caps::Capability::CAP_SYS_ADMIN]);

fn install_filter(program: &Program) -> std::result::Result<(), Failure> {
    program.filters.iter().try_for_each(|filter| seccomp::install(filter).map_err(errno).step(Step::Seccomp))
}

impl Command {
    /// Which of the candidates to execute: the first that may be, as execvp(3) would choose.
    pub(super) fn find(&self) -> Result<usize> {
        let Command::Search(candidates) = self else { return Ok(0) };
        let mut verdict = Errno::NOENT;
        for (at, path) in candidates.iter().enumerate() {
            match executable(path) {
                Ok(()) => return Ok(at),
                Err(Errno::ACCESS) => verdict = Errno::ACCESS,
                Err(_) => {}
            }
        }
        Err(verdict)
    }

    pub(super) fn path(&self, at: usize) -> &CStr {
        match self {
            Command::Path(path) => path,
            Command::Search(candidates) => &candidates[at],
        }
    }
}

fn executable(path: &CStr) -> Result<()> {
    let kind = FileType::from_raw_mode(statat(CWD, path, AtFlags::empty())?.st_mode);
    if kind != FileType::RegularFile {
        return Err(Errno::NOENT);
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}
