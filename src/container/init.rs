//! The first process of a container, from its birth to the payload's first instruction: one flat list of steps over a
//! [`Plan`] that was made before the fork. It decides nothing; a step that fails is reported and ends it.

use super::{
    link::{Identity, Link},
    plan::{Command, Plan, Stdio},
    reaper,
};
use crate::{
    namespaces::{
        mount::{self, Mounter, Operation},
        root,
        target::open_in_root,
        unshare,
    },
    security::CapSet,
    sys::{exec::Failure, interface, keyring, seccomp, signal},
};
use rustix::{
    fs::{
        Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, accessat, fchown, fstat, statat,
    },
    io::{Errno, Result},
    mount::{MountAttrFlags, OpenTreeFlags, open_tree},
    process::{
        Resource, Rlimit, Signal, fchdir, getrlimit, set_parent_process_death_signal, setrlimit, setsid,
        umask,
    },
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    thread::{
        CapabilitySet, CapabilitySets, UnshareFlags, clear_ambient_capability_set,
        configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
        set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};
use std::{
    ffi::CStr,
    os::fd::{AsFd, OwnedFd},
};

/// A step of the start, as its failure is reported. The order is that of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    /// New namespaces besides user and pid.
    Unshare = 16,
    /// The starter's go-ahead.
    Wait,
    /// Ids of the user namespace.
    BecomeRoot,
    /// Mount propagation.
    Propagation,
    /// The loopback interface.
    Loopback,
    /// Host name.
    Hostname,
    /// The root file system.
    Root,
    /// A mount, device or link; the item counts in [`Plan::operations`].
    Operation,
    /// A sysctl; the item counts in [`Plan::sysctls`].
    Sysctl,
    /// The terminal.
    Terminal,
    /// pivot_root.
    Pivot,
    /// stdin, stdout, stderr.
    Stdio,
    /// A resource limit; the item counts in [`Plan::rlimits`].
    Limit,
    /// The working directory.
    WorkingDirectory,
    /// Capabilities, groups, ids.
    Credentials,
    /// The command.
    Find,
    /// The system call filter.
    Seccomp,
    /// The reaper's fork.
    Reaper,
}

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
    let command = match give_up_privileges(plan, &identity, &link) {
        Ok(command) => command,
        Err(failure) => return fail(&link, failure),
    };
    // Here: the payload's ids, capabilities and filter, nothing more.
    if let Some(command_line) = plan.reaper {
        match reaper::split() {
            Ok(reaper::Side::Payload) => {}
            Ok(reaper::Side::Reaper { payload }) => reaper::reap(payload, command_line),
            Err(errno) => return fail(&link, Step::Reaper.failed(0, errno)),
        }
    }
    let errno = plan.payload.execute(plan.command.path(command), identity.home(), link.as_fd());
    fail(&link, Failure { step: Failure::EXEC, item: 0, errno: errno.raw_os_error() })
}

fn set_up(plan: &mut Plan, link: &Link) -> std::result::Result<Identity, Failure> {
    signal::reset();
    follow_parent();
    // These four are made while our starter's newuidmap and newgidmap run.
    unshare(plan.unshare).step(Step::Unshare)?;
    link.wait().step(Step::Wait)?;
    become_root(plan.rootless).step(Step::BecomeRoot)?;
    follow_parent();
    let _ = setsid();
    root::keep_mounts_to_ourselves().step(Step::Propagation)?;
    if plan.unshare.contains(UnshareFlags::NEWNET) {
        interface::loopback_up().map_err(errno).step(Step::Loopback)?;
    }
    if let Some(hostname) = &plan.hostname {
        rustix::system::sethostname(hostname.as_bytes()).step(Step::Hostname)?;
    }
    link.before_root().step(Step::Wait)?;
    if plan.root_is_fuse() {
        link.wait().step(Step::Wait)?;
    }
    let root = plan.root.mount(&plan.mount_point).step(Step::Root)?;
    link.root(root.as_fd()).step(Step::Root)?;
    execute_operations(&plan.operations, &root)?;
    write_sysctls(plan)?;
    let terminal = match plan.stdio {
        Stdio::Terminal => Some(open_terminal(&root, link).step(Step::Terminal)?),
        Stdio::Pipes { .. } => None,
    };
    if plan.read_only {
        mount::set(&root, MountAttrFlags::MOUNT_ATTR_RDONLY, false).step(Step::Root)?;
    }
    root::pivot(root.as_fd()).step(Step::Pivot)?;
    drop(root);
    let identity = link.wait_for_identity().step(Step::Wait)?;
    connect_stdio(&plan.stdio, terminal, &identity).step(Step::Stdio)?;
    // Without one the caller's keys stay in sight, but the filter keeps keyctl from them; EDQUOT must not stop a start.
    let _ = keyring::join_new_session();
    set_limits(plan)?;
    umask(Mode::from_raw_mode(plan.umask));
    enter_working_directory(&plan.working_directory).step(Step::WorkingDirectory)?;
    Ok(identity)
}

fn give_up_privileges(plan: &Plan, identity: &Identity, link: &Link) -> std::result::Result<usize, Failure> {
    let is_root = identity.uid == 0;
    let kept = if is_root { plan.capabilities } else { plan.capabilities_of_others };
    // Root's come back at the execution; anybody else keeps only what is ambient (capabilities(7)).
    let ambient = if is_root { CapSet::EMPTY } else { kept };
    drop_bounding_set(plan.bounding_drop).step(Step::Credentials)?;
    become_user(plan, identity).step(Step::Credentials)?;
    follow_parent();
    // The last time that our starter's death could go unheard was just now.
    link.is_open().step(Step::Wait)?;
    let command = plan.command.find().step(Step::Find)?;
    if plan.no_new_privileges {
        set_no_new_privs(true).step(Step::Credentials)?;
        keep(kept, ambient, CapSet::EMPTY).step(Step::Credentials)?;
        install_filter(plan)?;
    } else {
        // Without no_new_privs only CAP_SYS_ADMIN may install a filter, so it goes last.
        keep(kept, ambient, ADMIN).step(Step::Credentials)?;
        install_filter(plan)?;
        keep(kept, ambient, CapSet::EMPTY).step(Step::Credentials)?;
    }
    Ok(command)
}

/// A starter that is killed takes its container along. The kernel forgets this at each change of ids.
fn follow_parent() {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
}

fn become_root(rootless: bool) -> Result<()> {
    if !rootless {
        return set_thread_groups(&[]);
    }
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    match set_thread_groups(&[]) {
        // A namespace of one id keeps its caller's groups (user_namespaces(7), "setgroups").
        Err(Errno::PERM) => Ok(()),
        other => other,
    }
}

fn execute_operations(operations: &[Operation], root: &OwnedFd) -> std::result::Result<(), Failure> {
    let mut mounter = Mounter::new(root.as_fd());
    for (item, operation) in operations.iter().enumerate() {
        mounter.execute(operation).map_err(|errno| Step::Operation.failed(item, errno))?;
    }
    Ok(())
}

fn write_sysctls(plan: &Plan) -> std::result::Result<(), Failure> {
    if plan.sysctls.is_empty() {
        return Ok(());
    }
    let proc = mount::new_filesystem(c"proc", &[], MountAttrFlags::empty()).step(Step::Sysctl)?;
    for (item, (path, value)) in plan.sysctls.iter().enumerate() {
        mount::write_sysctl(proc.as_fd(), path, value.as_bytes())
            .map_err(|errno| Step::Sysctl.failed(item, errno))?;
    }
    Ok(())
}

/// A pair of the container's own devpts; /dev/console is its user side.
fn open_terminal(root: &OwnedFd, link: &Link) -> Result<OwnedFd> {
    let master =
        open_in_root(root, c"dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY, ResolveFlags::NO_SYMLINKS)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let console = open_in_root(root, c"dev/console", OFlags::PATH, ResolveFlags::NO_SYMLINKS)?;
    mount::attach(open_tree(&slave, c"", flags)?, console)?;
    link.terminal(master.as_fd())?;
    Ok(slave)
}

fn connect_stdio(stdio: &Stdio, terminal: Option<OwnedFd>, identity: &Identity) -> Result<()> {
    let null;
    let sources = match (&terminal, stdio) {
        (Some(slave), _) => {
            rustix::process::ioctl_tiocsctty(slave)?;
            [slave, slave, slave]
        }
        (None, Stdio::Pipes { stdin: Some(stdin), stdout, stderr }) => [stdin, stdout, stderr],
        (None, Stdio::Pipes { stdin: None, stdout, stderr }) => {
            null = mount::null_device(CWD, OFlags::RDONLY)?;
            [&null, stdout, stderr]
        }
        (None, Stdio::Terminal) => return Err(Errno::NOTTY),
    };
    for source in sources {
        // So that a payload that is not root may open /dev/stdout.
        let kind = FileType::from_raw_mode(fstat(source)?.st_mode);
        if kind == FileType::Fifo || terminal.is_some() {
            let group = (kind == FileType::Fifo).then(|| Gid::from_raw(identity.gid));
            let _ = fchown(source, Some(Uid::from_raw(identity.uid)), group);
        }
    }
    let [stdin, stdout, stderr] = sources;
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)
}

fn set_limits(plan: &Plan) -> std::result::Result<(), Failure> {
    for (item, (resource, soft, hard)) in plan.rlimits.iter().enumerate() {
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

fn become_user(plan: &Plan, identity: &Identity) -> Result<()> {
    let mut groups = [Gid::ROOT; Identity::GROUPS_MAX];
    for (group, raw) in groups.iter_mut().zip(identity.groups()) {
        *group = Gid::from_raw(*raw);
    }
    if plan.set_groups {
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
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: bits(ambient.bits()) };
    set_capabilities(None, sets)?;
    for capability in (0..64).filter(|n| ambient.bits() & 1 << n != 0) {
        configure_capability_in_ambient_set(bits(1 << capability), true)?;
    }
    Ok(())
}

const ADMIN: CapSet = CapSet::of(&[caps::Capability::CAP_SYS_ADMIN]);

fn install_filter(plan: &Plan) -> std::result::Result<(), Failure> {
    match &plan.filter {
        Some(filter) => seccomp::install(filter).map_err(errno).step(Step::Seccomp),
        None => Ok(()),
    }
}

fn fail(link: &Link, failure: Failure) -> i32 {
    let _ = link.failed(failure);
    127
}

impl Command {
    /// Which of the candidates to execute: the first that may be, as execvp(3) would choose.
    fn find(&self) -> Result<usize> {
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

    fn path(&self, at: usize) -> &CStr {
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

impl Step {
    fn failed(self, item: usize, errno: Errno) -> Failure {
        Failure { step: self as u32, item: item as u32, errno: errno.raw_os_error() }
    }
}

trait AtStep<T> {
    fn step(self, step: Step) -> std::result::Result<T, Failure>;
}

impl<T> AtStep<T> for Result<T> {
    fn step(self, step: Step) -> std::result::Result<T, Failure> {
        self.map_err(|errno| step.failed(0, errno))
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
