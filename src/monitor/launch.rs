//! The birth of a container's first process, seen from the process that starts it.

use crate::{
    container::{
        init,
        link::{Identity, Link, Report},
        plan::{Plan, Stdio},
        sharing::Joining,
        step::Step,
    },
    error::{CANNOT_INVOKE, Explain, NOT_FOUND},
    namespaces,
    sys::{
        exec::Failure,
        fork::{self, Child},
    },
};
use anyhow::{Context, Error, Result, anyhow};
use rustix::{
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{
        DumpableBehavior, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, pidfd_open,
        pidfd_send_signal, set_dumpable_behavior, waitid, waitpid,
    },
    thread::UnshareFlags,
};
use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// What the starter does while the child waits.
pub trait Preparation {
    /// `child` is there, in its new namespaces: whatever takes long may begin.
    fn born(&mut self, child: &Child) -> Result<()>;
    /// See to it that the user namespace of `child`, which is its own, is mapped; the network's namespace, if one was made
    /// meanwhile.
    fn map(&mut self, child: &Child) -> Result<Option<OwnedFd>>;
    /// Put `child` into its control group. Only called for one that is not born in it.
    fn place(&mut self, child: &Child) -> Result<()>;
    /// Mount the root in the namespaces of `child` (fuse-overlayfs). Only called for such a root.
    fn mount_root(&mut self, child: &Child) -> Result<()>;
    /// The root, mounted for `child`, whose user namespace is mapped. Only called for [`Root::Given`].
    fn give_root(&mut self, child: &Child) -> Result<OwnedFd>;
    /// The namespaces that it is born in because they are there already.
    fn joining(&self) -> &Joining;
    /// Connect the network of `child`, whose user namespace is mapped and whose loopback interface is up.
    fn connect(&mut self, child: &Child) -> Result<()>;
    /// One of the plan's interfaces is there, in order: its frames come through `tap`.
    fn interface(&mut self, tap: OwnedFd) -> Result<()>;
    /// Who the payload is, looked up in the root of `child`.
    fn identify(&mut self, child: &Child, root: BorrowedFd<'_>) -> Result<Identity>;
    /// Everything is set up; the payload comes next.
    fn before_payload(&mut self, child: &Child) -> Result<()>;
    /// What can be done while the child goes on to its payload.
    fn meanwhile(&mut self);
}

/// A container whose payload runs. Dropped, it ends: whatever goes wrong beside it, no process is left.
#[derive(Debug)]
pub struct Started {
    /// Its process 1.
    pub child: Child,
    /// Its terminal's master side.
    pub terminal: Option<OwnedFd>,
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
        // ECHILD: it ended, and whoever watched it has its status.
        let _ = waitid(WaitId::PidFd(self.child.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// Why a container did not start.
#[derive(Debug)]
pub enum Failed {
    /// The kernel refused the root file system, before anything else was done.
    Root(Error),
    /// Anything else.
    Other(Error),
}

/// Start what `plan` says. When this fails no process is left.
pub fn start(mut plan: Plan, preparation: &mut impl Preparation) -> Result<Started, Failed> {
    let other = |errno| Failed::Other(Error::new(errno).context("talk to the container's first process"));
    let (link, theirs) = Link::pair().map_err(other)?;
    let cgroup = plan.cgroup.as_ref().map(AsFd::as_fd);
    let child = match preparation.joining() {
        joining if !joining.spaces.is_empty() => {
            let hint = if joining.kinds().intersects(plan.own) {
                namespaces::mend()
            } else {
                "name one that you own, of a container that runs".to_owned()
            };
            clone_joined(joining, plan.born_in - joining.kinds(), cgroup)
                .map_err(|error| Failed::Other(or_itself(Err(error).hint(hint))))?
        }
        _ => fork::clone_into(plan.born_in.bits().into(), cgroup).map_err(|error| {
            let missing = error.raw_os_error() == Some(libc::ENOSYS);
            let hint = if missing { NO_CLONE3.to_owned() } else { namespaces::mend() };
            Failed::Other(or_itself(Err(error).context("make a process in new namespaces").hint(hint)))
        })?,
    };
    let Some(child) = child else {
        // Here: the child. Were our end open here too, it would never hear that its starter is gone.
        drop(link);
        fork::exit_now(init::run(&mut plan, theirs));
    };
    drop(theirs);
    // The payload's alone: newuidmap, pasta and their like have no part in them.
    let _concealed = fork::conceal(plan.preserved);
    // Here: the caller, in its own namespaces, with the caller's privileges; `child` is the process in the new ones.
    let mut started = Started { child, terminal: None };
    started.terminal = accompany(&plan, &link, &started.child, preparation)?;
    Ok(started)
}

/// Make the first process in namespaces that are there, and in those of `own` that are not. A process that has joined a user
/// namespace can't come back: another goes there and makes the child for us.
fn clone_joined(
    joining: &Joining,
    own: UnshareFlags,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Option<Child>> {
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let Some(envoy) = fork::split().context("fork")? else {
        // Who am I: a copy of the starter, single-threaded; once I have joined a user namespace I hold every capability in it.
        drop(told);
        // Those who live there may hold as many: the host's files and our memory are not theirs to open through me or my child
        // (CVE-2016-9962).
        let closed = match joining.is_watched() {
            true => set_dumpable_behavior(DumpableBehavior::NotDumpable),
            false => Ok(()),
        };
        let joined = closed.and_then(|()| joining.enter()).map_err(Into::into);
        let outcome = joined.and_then(|()| fork::clone_sibling(own.bits().into(), cgroup));
        let answer = match outcome {
            Ok(None) => return Ok(None),
            Ok(Some(pid)) => pid.as_raw_pid(),
            Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        };
        let _ = rustix::io::write(&tell, &answer.to_ne_bytes());
        fork::exit_now(0)
    };
    drop(tell);
    let mut answer = [0; 4];
    let heard = File::from(told).read_exact(&mut answer);
    let _ = waitpid(Some(envoy), WaitOptions::empty());
    heard.context("make a process in namespaces of another")?;
    let pid = match i32::from_ne_bytes(answer) {
        errno if errno < 0 => {
            return Err(std::io::Error::from_raw_os_error(-errno)).context("join the namespaces of another");
        }
        pid => Pid::from_raw(pid).context("make a process in namespaces of another")?,
    };
    // It is our child and nobody has waited for it: the number is its own.
    Ok(Some(Child { pid, pidfd: pidfd_open(pid, PidfdFlags::empty()).context("watch the first process")? }))
}

fn accompany(
    plan: &Plan,
    link: &Link,
    child: &Child,
    preparation: &mut impl Preparation,
) -> Result<Option<OwnedFd>, Failed> {
    preparation.born(child).map_err(Failed::Other)?;
    let network = match plan.own.contains(UnshareFlags::NEWUSER) {
        true => preparation.map(child).map_err(|error| last_words(plan, link, error))?,
        false => None,
    };
    let mut terminal = None;
    let mut identity = None;
    let mut unneeded = None;
    let mut placed = !plan.late_cgroup;
    tell(link.go_on_in(network.as_ref().map(AsFd::as_fd)))?;
    loop {
        match link.next().context("hear from the container's first process").map_err(Failed::Other)? {
            Report::BeforeRoot => {
                if plan.root_is_given() {
                    let root = preparation.give_root(child).map_err(Failed::Other)?;
                    tell(link.give_root(root.as_fd()))?;
                }
                if plan.root_is_fuse() {
                    preparation.mount_root(child).map_err(Failed::Root)?;
                    tell(link.go_on())?;
                }
            }
            Report::BeforeCgroup => {
                preparation.place(child).map_err(|error| last_words(plan, link, error))?;
                placed = true;
                tell(link.go_on())?;
            }
            Report::Root(root) => {
                let prepared =
                    preparation.connect(child).and_then(|()| preparation.identify(child, root.as_fd()));
                identity = Some(prepared.map_err(|error| last_words(plan, link, error))?);
            }
            Report::Interface(tap) => {
                preparation.interface(tap).map_err(|error| last_words(plan, link, error))?;
            }
            Report::Terminal(master) => {
                super::terminal::adopt(&master).map_err(Failed::Other)?;
                terminal = Some(master);
            }
            Report::Unneeded(mount) => unneeded = Some(mount),
            Report::Failed(failure) => return Err(explain(plan, failure)),
            Report::Closed => return Ok(terminal),
        }
        let ready = placed && (terminal.is_some() || !matches!(plan.stdio, Stdio::Terminal));
        if let (Some(identity), true) = (identity.take_if(|_| ready), ready) {
            preparation.before_payload(child).map_err(Failed::Other)?;
            tell(link.become_payload(&identity))?;
            preparation.meanwhile();
            drop(unneeded.take());
        }
    }
}

/// A child that is already gone says why in its last message, so a line that is closed is no failure of its own.
fn tell(sent: rustix::io::Result<()>) -> Result<(), Failed> {
    match sent {
        Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        Err(errno) => Err(Failed::Other(anyhow!("talk to the container's first process: {errno}"))),
    }
}

/// Nothing can be done for a child that already failed (maps, network, user): then its own words are the cause of `error`.
fn last_words(plan: &Plan, link: &Link, error: Error) -> Failed {
    // One that lives waits for us and says no more than that the wait was in vain.
    let _ = rustix::net::shutdown(link, rustix::net::Shutdown::Write);
    loop {
        match link.next() {
            Ok(Report::Failed(failure)) if failure.step != Step::Wait as u32 => {
                return explain(plan, failure);
            }
            Ok(
                Report::BeforeRoot
                | Report::BeforeCgroup
                | Report::Root(_)
                | Report::Terminal(_)
                | Report::Interface(_)
                | Report::Unneeded(_),
            ) => {}
            _ => return Failed::Other(error),
        }
    }
}

fn explain(plan: &Plan, failure: Failure) -> Failed {
    let errno = Errno::from_raw_os_error(failure.errno);
    let reason = std::io::Error::from(errno);
    if failure.step == Failure::EXEC || failure.step == Step::Find as u32 {
        return Failed::Other(command_failed(&plan.program.name(), errno));
    }
    let what = plan.describe(failure);
    if failure.step == Step::Root as u32 {
        return Failed::Root(Error::new(reason).context(what));
    }
    if failure.step == Step::Unshare as u32 {
        return Failed::Other(or_itself(Err(reason).context(what).hint(namespaces::mend())));
    }
    if failure.step == Step::Credentials as u32 && errno == Errno::INVAL {
        return Failed::Other(or_itself(Err(anyhow!("{what}: the user or a group is beyond the ids mapped here")).hint(
            "`ctr info` lists the ids under idMappings; `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \
             $USER` gives more",
        )));
    }
    if let Some(hint) = plan.mend(failure) {
        return Failed::Other(or_itself(Err(reason).context(what).hint(hint)));
    }
    let is = |step: Step| failure.step == step as u32;
    let (failed, hint) = match errno {
        Errno::LOOP if is(Step::Operation) => (
            anyhow!("{what}: the image has a symbolic link there"),
            "name the place that the link leads to, or use another image",
        ),
        _ if is(Step::Operation) => (
            Error::new(reason).context(what),
            "name another place, or look at what the image has there: `ctr run --rm IMAGE ls -la PATH`",
        ),
        Errno::PERM if is(Step::Sysctl) => (
            Error::new(reason).context(what),
            "inside another container: start that one with --privileged; `ctr doctor` says what it shows of /proc",
        ),
        _ if is(Step::Sysctl) => (
            Error::new(reason).context(what),
            "`sysctl -a` lists the names and values that this kernel knows",
        ),
        _ if is(Step::WorkingDirectory) => {
            (Error::new(reason).context(what), "name a directory that the user may enter with --workdir")
        }
        _ => return Failed::Other(Error::new(reason).context(what)),
    };
    Failed::Other(or_itself(Err(failed).hint(hint)))
}

/// A kernel, or a filter of system calls, that lacks what is asked for.
const NO_CLONE3: &str = "clone3(2) needs Linux 5.5; inside another container: start that one with --security-opt \
     seccomp=unconfined";

/// The payload `name` can't be executed: what the user hears, with exit status 126 or 127.
pub fn command_failed(name: &str, errno: Errno) -> Error {
    let (status, reason, hint) = match errno {
        Errno::NOENT | Errno::NOTDIR if name.contains('/') => {
            (NOT_FOUND, "no such file, or its interpreter is missing", "name a command that the image has")
        }
        Errno::NOENT | Errno::NOTDIR => (
            NOT_FOUND,
            "not found in the container's PATH",
            "name a command that the image has, or its full path",
        ),
        Errno::ACCESS => {
            (CANNOT_INVOKE, "permission denied", "name an executable file, not a directory or a data file")
        }
        Errno::NOEXEC => (
            CANNOT_INVOKE,
            "exec format error",
            "the file is for another platform, or a script without #!: see --platform",
        ),
        _ => (CANNOT_INVOKE, "", "name a command that the image has"),
    };
    let failure = match reason {
        "" => Err(std::io::Error::from(errno)).with_context(|| format!("execute {name:?}")),
        reason => Err(anyhow!("execute {name:?}: {reason}")),
    };
    or_itself(failure.hint(hint).status(status))
}

pub fn or_itself(result: Result<std::convert::Infallible>) -> Error {
    match result {
        Err(error) => error,
        Ok(never) => match never {},
    }
}
