//! The first process of a container, from its birth to the payload's first instruction: one flat list of steps over a
//! [`Plan`] that was made before the fork. It decides nothing; a step that fails is reported and ends it.

use super::{
    entries,
    link::{Identity, Link},
    plan::{Plan, Stdio},
    privileges, reaper, stdio,
    step::{AtStep, Step, errno},
};
use crate::{
    namespaces::{
        mount::{self, Mounter, Operation, Owed},
        ownership,
        root::{self, Root},
        sources,
        target::open_in_root,
        unshare,
        volume::Found,
    },
    sys::{exec::Failure, holder, interface, signal},
};
use rustix::{
    fs::{Gid, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Uid, fstatfs, open},
    io::{Errno, Result},
    mount::{MountAttrFlags, OpenTreeFlags, open_tree},
    process::{DumpableBehavior, set_dumpable_behavior, setsid},
    thread::{
        CapabilitySet, CapabilitySets, ThreadNameSpaceType, UnshareFlags, capabilities,
        move_into_thread_name_spaces, set_capabilities, set_keep_capabilities, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};
use std::{
    collections::VecDeque,
    os::fd::{AsFd, OwnedFd},
};

/// Live the child's life up to the payload; its exit status if that fails.
///
/// Who am I here: a copy of `ctr`, single-threaded, the first process of a new pid namespace and, unless the caller is
/// root, of a new user namespace in which I hold every capability but where no id is mapped yet.
pub fn run(plan: &mut Plan, link: Link) -> i32 {
    let identity = match set_up(plan, &link) {
        Ok(identity) => identity,
        Err(failure) => return fail(&link, failure),
    };
    // Here: in the container's root and namespaces, still with every capability of its user namespace.
    let command = match privileges::give_up(&plan.program, &identity, &link) {
        Ok(command) => command,
        Err(failure) => return fail(&link, failure),
    };
    // Here: the payload's ids, capabilities and filter, nothing more.
    if plan.waits {
        return fail(&link, Step::Reaper.failed(0, holder::execute(link.as_fd())));
    }
    if let Some(command_line) = plan.reaper {
        match reaper::split() {
            Ok(reaper::Side::Payload) => {}
            Ok(reaper::Side::Reaper { payload }) => reaper::reap(payload, command_line),
            Err(errno) => return fail(&link, Step::Reaper.failed(0, errno)),
        }
    }
    fail(&link, plan.program.execute(command, &identity, &link))
}

fn set_up(plan: &mut Plan, link: &Link) -> std::result::Result<Identity, Failure> {
    signal::reset();
    privileges::follow_parent();
    // These are made while our starter's newuidmap and newgidmap run.
    let own = plan.unshare();
    let late = if plan.late_cgroup { own & UnshareFlags::NEWCGROUP } else { UnshareFlags::empty() };
    unshare(own - late).step(Step::Unshare)?;
    let sources = open_volumes(plan)?;
    let network = link.wait_for_maps().step(Step::Wait)?;
    if plan.network_follows {
        // Who was to make it could not: why, I find out.
        network.map_or_else(|| unshare(UnshareFlags::NEWNET), join_network).step(Step::Unshare)?;
    }
    let mut opened = None;
    if plan.rootless && !plan.root_is_fuse() {
        opened = Some(plan.root.open(&plan.mount_point).step(Step::Root)?);
        if plan.without_caller {
            sources::hold(&mut plan.operations);
        }
    }
    become_builder(plan).step(Step::BecomeRoot)?;
    privileges::follow_parent();
    let _ = setsid();
    root::keep_mounts_to_ourselves().step(Step::Propagation)?;
    if plan.own.contains(UnshareFlags::NEWNET) {
        interface::loopback_up().map_err(errno).step(Step::Loopback)?;
    }
    for (item, interface) in plan.interfaces.iter().enumerate() {
        let tap = interface.make().map_err(|errno| Step::Interface.failed(item, errno))?;
        link.interface(tap.as_fd()).step(Step::Wait)?;
    }
    if let (Some(hostname), true) = (&plan.hostname, plan.own.contains(UnshareFlags::NEWUTS)) {
        rustix::system::sethostname(hostname.as_bytes()).step(Step::Hostname)?;
    }
    link.before_root().step(Step::Wait)?;
    match &mut plan.root {
        Root::FuseOverlay => link.wait().step(Step::Wait)?,
        Root::Given(root) => *root = Some(link.wait_for_root().step(Step::Wait)?),
        _ => {}
    }
    let opened = match opened {
        Some(opened) => opened,
        None => plan.root.open(&plan.mount_point).step(Step::Root)?,
    };
    let root = plan.root.mount(&plan.mount_point, opened).step(Step::Root)?;
    link.root(root.as_fd()).step(Step::Root)?;
    let cgroup =
        plan.operations.iter().position(Operation::shows_control_groups).filter(|_| plan.late_cgroup);
    let (before, after) = plan.operations.split_at(cgroup.unwrap_or(plan.operations.len()));
    let mut mounter = Mounter::new(root.as_fd(), sources);
    let mut owed = execute_operations(before, 0, &mut mounter)?;
    if plan.late_cgroup {
        link.before_cgroup().step(Step::Wait)?;
        link.wait().step(Step::Wait)?;
        unshare(late).step(Step::Unshare)?;
        owed.extend(execute_operations(after, before.len(), &mut mounter)?);
    }
    write_sysctls(plan, link)?;
    let terminal = match plan.stdio {
        Stdio::Terminal => Some(open_console(&root, link).step(Step::Terminal)?),
        Stdio::Pipes { .. } | Stdio::Nothing => None,
    };
    let identity = link.wait_for_identity().step(Step::Wait)?;
    entries::add(&root, &plan.entries, &identity).step(Step::Entries)?;
    if plan.read_only {
        mount::set(&root, MountAttrFlags::MOUNT_ATTR_RDONLY, false).step(Step::Root)?;
    }
    root::pivot(root.as_fd()).step(Step::Pivot)?;
    drop(root);
    for (item, Owed { top, all }) in owed {
        ownership::give(&top, identity.uid, identity.gid, all)
            .map_err(|errno| Step::Operation.failed(item, errno))?;
    }
    stdio::connect(&plan.stdio, terminal, &identity).step(Step::Stdio)?;
    privileges::settle(&plan.program)?;
    Ok(identity)
}

fn join_network(namespace: OwnedFd) -> Result<()> {
    move_into_thread_name_spaces(namespace.as_fd(), ThreadNameSpaceType::NETWORK)
}

/// Root of the user namespace; where that has none, the user who started us, who has every capability there, too.
fn become_builder(plan: &Plan) -> Result<()> {
    if plan.rootless {
        let (uid, gid) = (Uid::from_raw(plan.builder.0), Gid::from_raw(plan.builder.1));
        set_keep_capabilities(true)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        set_keep_capabilities(false)?;
        let held = capabilities(None)?.permitted;
        let sets = CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() };
        set_capabilities(None, sets)?;
        // Our starter looks for our namespaces in /proc, which a change of ids forbids until the payload's own change.
        if !plan.watched {
            set_dumpable_behavior(DumpableBehavior::Dumpable)?;
        }
    }
    if plan.keep_groups {
        return Ok(());
    }
    match set_thread_groups(&[]) {
        Err(Errno::PERM) if !plan.rootless => Err(Errno::PERM),
        // A namespace of one id keeps its caller's groups (user_namespaces(7), "setgroups").
        Err(Errno::PERM) => Ok(()),
        other => other,
    }
}

/// Here I still have my user's ids and all of its groups, and with them the right to reach what it mounts. What is shared
/// with the host is only before mounts are kept to ourselves.
fn open_volumes(plan: &Plan) -> std::result::Result<VecDeque<Found>, Failure> {
    let mut sources = VecDeque::new();
    for (item, operation) in plan.operations.iter().enumerate() {
        if let Operation::Volume(volume) = operation {
            let found = volume.open(plan.root_is_fuse());
            sources.push_back(found.map_err(|errno| Step::Source.failed(item, errno))?);
        }
    }
    Ok(sources)
}

fn execute_operations<'plan>(
    operations: &'plan [Operation],
    first: usize,
    mounter: &mut Mounter<'plan>,
) -> std::result::Result<Vec<(usize, Owed)>, Failure> {
    let mut owed = Vec::new();
    for (item, operation) in operations.iter().enumerate() {
        mounter.execute(operation).map_err(|errno| Step::Operation.failed(first + item, errno))?;
        owed.extend(mounter.take_owed().into_iter().map(|one| (first + item, one)));
    }
    Ok(owed)
}

fn write_sysctls(plan: &Plan, link: &Link) -> std::result::Result<(), Failure> {
    if plan.sysctls.is_empty() {
        return Ok(());
    }
    // Only who owns a pid namespace may mount a new /proc; what belongs to other namespaces is the same in any.
    let proc = match plan.shares_processes {
        true => kernel_proc(),
        false => mount::new_filesystem(c"proc", &[], MountAttrFlags::empty()),
    };
    let proc = match proc {
        // Inside another container that shows only a part of its own.
        Err(Errno::PERM) if plan.sysctls_may_fail => return Ok(()),
        proc => proc.step(Step::Sysctl)?,
    };
    for (item, (path, value)) in plan.sysctls.iter().enumerate() {
        mount::write_sysctl(proc.as_fd(), path, value.as_bytes())
            .map_err(|errno| Step::Sysctl.failed(item, errno))?;
    }
    // The last to close a mount that is attached nowhere waits until every processor has passed by, half a millisecond.
    link.let_go(proc.as_fd()).step(Step::Wait)
}

/// The host's, which nothing else may have taken the place of (CVE-2023-27561).
fn kernel_proc() -> Result<OwnedFd> {
    let proc = open(c"/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let is_it = fstatfs(&proc)?.f_type == PROC_SUPER_MAGIC;
    if is_it { Ok(proc) } else { Err(Errno::XDEV) }
}

/// A terminal, whose user side is /dev/console.
fn open_console(root: &OwnedFd, link: &Link) -> Result<OwnedFd> {
    let (master, slave) = stdio::open_terminal(root)?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let console = open_in_root(root, c"dev/console", OFlags::PATH, ResolveFlags::NO_SYMLINKS)?;
    mount::attach(open_tree(&slave, c"", flags)?, console)?;
    link.terminal(master.as_fd())?;
    Ok(slave)
}

fn fail(link: &Link, failure: Failure) -> i32 {
    let _ = link.failed(failure);
    127
}
