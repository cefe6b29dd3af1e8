//! A process that joins a running container (podman-exec(1)): what was asked for, its plan as data, and its life up to the
//! payload.

use super::{
    cage, create,
    environment::{self, Variable},
    filter, fuse,
    link::{Identity, Link},
    plan::{self, Stdio},
    privileges,
    program::Program,
    record::Record,
    secrets, single,
    state::{Container, Status},
    stdio,
    step::{AtStep, Step},
    users,
};
use crate::{
    error::Explain,
    namespaces::{
        mount::{attach, new_filesystem},
        root, unshare,
    },
    security::{CapSet, capabilities},
    sys::{exec::Failure, fork::Child, signal},
    weakened,
};
use anyhow::{Context, Result, anyhow};
use oci_spec::runtime::{Process, Spec};
use rustix::{
    fs::{Mode, OFlags, open},
    mount::MountAttrFlags,
    process::{DumpableBehavior, set_dumpable_behavior, setsid},
    thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces},
};
use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables beside the container's.
    pub env: Vec<Variable>,
    /// `USER[:GROUP]` in place of the container's.
    pub user: Option<String>,
    /// Working directory in place of the container's; a relative one is below it.
    pub workdir: Option<String>,
    /// It has a terminal.
    pub tty: bool,
    /// It has a stdin.
    pub interactive: bool,
    /// It has every capability that there is.
    pub privileged: bool,
    /// It goes on when the process that started it is killed.
    pub detached: bool,
    /// Descriptors from 3 on that it inherits.
    pub preserve_fds: u8,
}

/// What [`run`] executes.
#[derive(Debug)]
pub struct Plan {
    stdio: Stdio,
    identity: Identity,
    /// The payload.
    pub program: Program,
}

impl Plan {
    /// Plan what `request` asks for in `container`, whose first process is `subject`.
    ///
    /// # Errors
    /// No such user in the container, a NUL byte somewhere, or no command.
    pub fn new(container: &Container, subject: &Child, request: &Request, stdio: Stdio) -> Result<Plan> {
        let Container { dir, record, .. } = container;
        let mut spec = create::read_spec(dir)?;
        secrets::reveal(&mut spec, dir, &record.secrets)?;
        let added = record.added_capabilities.iter().filter_map(|name| CapSet::named(name));
        let added = added.fold(CapSet::EMPTY, CapSet::union);
        let set_groups = record.mapping != "single" && !record.keep_groups;
        let process = single::prepare(process(&spec, request)?, record.mapping == "single");
        let mut program =
            Program::new(&process, set_groups, added, filter::of(dir, record)?, request.preserve_fds)?;
        program.follows_parent = !request.detached;
        if request.privileged {
            (program.capabilities, program.bounding_drop) = (capabilities::all_of_kernel(), CapSet::EMPTY);
        }
        Ok(Plan { stdio, identity: identify(record, subject, request)?, program })
    }
}

/// The first process of `container`.
///
/// # Errors
/// It doesn't run; the words and the status are Podman's.
pub fn subject(container: &Container) -> Result<Child> {
    let process = match &container.status {
        Status::Running(process) => process.child()?,
        _ => None,
    };
    match process {
        Some(child) => Ok(child),
        None => Err(anyhow!("can only create exec sessions on running containers: container state improper"))
            .hint(container.status.hint(container.dir.id().short())),
    }
}

/// Join the control group of `container`, before its namespaces hide it.
pub fn join_group(container: &Container) -> Result<()> {
    container.status.process().map_or(Ok(()), cage::join)
}

/// Join the namespaces of `subject`, the first process of `container`, but for its mounts: in their place there are none at
/// all. Of this process only its children are seen inside, and nothing of the host through them.
pub fn enter(container: &Container, subject: &Child) -> Result<()> {
    let doing = || format!("join the namespaces of process {}", subject.pid.as_raw_pid());
    // Our memory and our executable are not for the container to open, whatever ids it shares with us (CVE-2019-5736).
    if !weakened::is("not-dumpable") {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).context("close our memory to others")?;
    }
    let all = plan::namespaces(&create::read_spec(&container.dir)?);
    let user = UnshareFlags::NEWUSER | UnshareFlags::NEWPID;
    let mut namespaces = ThreadNameSpaceType::from_bits_retain((all & user).bits());
    namespaces.set(ThreadNameSpaceType::USER, container.record.mapping != "root");
    if weakened::is("joiner-namespaces") {
        return move_into_thread_name_spaces(subject.pidfd.as_fd(), namespaces).with_context(doing);
    }
    // What /proc shows everybody of the children: mounts, cgroups and, in /proc/PID/net, the network.
    let others = all - user - UnshareFlags::NEWNS;
    namespaces |= ThreadNameSpaceType::from_bits_retain(others.bits());
    move_into_thread_name_spaces(subject.pidfd.as_fd(), namespaces)
        .map_err(Into::into)
        .and_then(|()| leave_mounts())
        .with_context(doing)
}

/// The host's mounts are not there any more.
fn leave_mounts() -> Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    root::keep_mounts_to_ourselves()?;
    let nothing = new_filesystem(c"tmpfs", &[], MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    let place = open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    attach(&nothing, place)?;
    Ok(root::pivot(nothing.as_fd())?)
}

/// Live the child's life up to the payload; its exit status if that fails.
///
/// Who am I here: a copy of `ctr`, single-threaded, in the container's pid namespace and, unless the caller is root, in its
/// other namespaces with every capability, but without any mount. Nobody may look into me.
pub fn run(plan: &mut Plan, subject: &Child, link: Link) -> i32 {
    let joined = join(plan, subject, &link);
    let command = joined.and_then(|()| privileges::give_up(&plan.program, &plan.identity, &link));
    // Here: the payload's ids, capabilities and filter, nothing more.
    let failure = match command {
        Ok(command) => plan.program.execute(command, &plan.identity, &link),
        Err(failure) => failure,
    };
    let _ = link.failed(failure);
    127
}

fn join(plan: &Plan, subject: &Child, link: &Link) -> std::result::Result<(), Failure> {
    signal::reset();
    if plan.program.follows_parent {
        privileges::follow_parent();
    }
    let _ = setsid();
    move_into_thread_name_spaces(subject.pidfd.as_fd(), ThreadNameSpaceType::MOUNT).step(Step::Join)?;
    // Here: the mount namespace's root is ours, too.
    let terminal = match plan.stdio {
        Stdio::Terminal => {
            let root = open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let (master, slave) = root.and_then(|root| stdio::open_terminal(&root)).step(Step::Terminal)?;
            // It has its size before the payload can ask.
            link.terminal(master.as_fd()).and_then(|()| link.wait()).step(Step::Terminal)?;
            Some(slave)
        }
        Stdio::Pipes { .. } | Stdio::Nothing => None,
    };
    stdio::connect(&plan.stdio, terminal, &plan.identity).step(Step::Stdio)?;
    privileges::settle(&plan.program)
}

/// The container's process with what was asked for in its place.
fn process(spec: &Spec, request: &Request) -> Result<Process> {
    let mut process = spec.process().clone().ok_or_else(|| anyhow!("the specification has no process"))?;
    let split =
        |entry: &String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut env: Vec<Variable> = process.env().iter().flatten().filter_map(split).collect();
    if request.tty && !env.iter().any(|(name, _)| name == "TERM") {
        environment::set(&mut env, "TERM", "xterm");
    }
    for (name, value) in &request.env {
        environment::set(&mut env, name, value);
    }
    process.set_args(Some(request.command.clone()));
    process.set_env(Some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()));
    if let Some(workdir) = &request.workdir {
        process.set_cwd(Path::new("/").join(process.cwd()).join(workdir));
    }
    Ok(process)
}

/// Who it is, looked up in the root that the container has now.
fn identify(record: &Record, subject: &Child, request: &Request) -> Result<Identity> {
    let user = request.user.as_ref().unwrap_or(&record.user);
    let user =
        user.parse().with_context(|| format!("--user {user}")).hint("write it as --user USER[:GROUP]")?;
    let groups = record.groups.iter().map(|group| group.parse()).collect::<Result<Vec<_>>>()?;
    let root = root_of(subject)?;
    let (passwd, group) = fuse::read_users(subject, root.as_fd(), record.mapping != "root")?;
    let who = users::resolve(&passwd, &group, &user, &groups)?;
    Ok(Identity::new(who.uid, who.gid, &who.groups, who.home.as_bytes()))
}

/// The root directory of `subject`.
pub fn root_of(subject: &Child) -> Result<OwnedFd> {
    let path = format!("/proc/{}/root", subject.pid.as_raw_pid());
    let root = open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = root.with_context(|| format!("open {path}"))?;
    // A process that can still be signalled has not been reaped: its number was not another's when it was used above.
    signal::send(subject.pidfd.as_fd(), 0).context("the container ended")?;
    Ok(root)
}
