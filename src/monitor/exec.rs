//! `exec`: a process beside the client that lets another join the container, carries what that prints, and takes its exit
//! status. To the client it is what a monitor is to `run`; it outlives a client that detaches, and no other.

use super::{
    begin::{Begun, Manner},
    control::{Ask, Channel, Tell, Told},
    ended::{Ended, reap},
    launch::{Started, command_failed, or_itself},
    pump::{self, Ends, Flow, Pump},
    terminal,
};
use crate::{
    container::{
        exec::{self, Plan, Request},
        link::{Link, Report},
        plan::Stdio,
        state::Container,
        step::Step,
    },
    error::{CANNOT_INVOKE, Explain, NOT_FOUND},
    sys::{
        exec::Failure,
        fork::{self, Child, close_descriptors_except},
        title::CommandLine,
    },
    weakened,
};
use anyhow::{Context, Error, Result, anyhow};
use nix::sys::signal::SigSet;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, Mode, OFlags, openat},
    io::{Errno, fcntl_dupfd_cloexec},
    process::{Signal, WaitOptions, kill_process_group, setsid, waitpid},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout},
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Start what `request` asks for in `container`; returns when the payload runs.
///
/// # Errors
/// The container doesn't run, or what went wrong on the way to the payload.
pub fn begin(container: &Container, request: &Request, manner: Manner) -> Result<Begun> {
    let (line, theirs) = Channel::pair()?;
    let title = CommandLine::of_this_process().ok();
    let keeper = fork::fork(|| {
        // Who am I: a copy of the client with its privileges and in its namespaces, but in a session of my own. I hold its
        // standard streams, unless it does not stay, and the line.
        let _ = setsid();
        let _ = SigSet::all().thread_block();
        close_descriptors_except(&[stdin(), stdout(), stderr(), theirs.as_fd()], request.preserve_fds);
        let _ = rustix::thread::set_name(c"ctr-exec");
        // The process that joins is seen inside, at first as a copy of me.
        if let Some(title) = title
            && !weakened::is("joiner-namespaces")
        {
            title.replace("ctr-exec");
        }
        keep(container, request, manner, theirs)
    });
    let keeper = keeper.context("fork")?;
    // One that has failed is about to end.
    Begun::hear(line, keeper).inspect_err(|_| {
        let _ = waitpid(Some(keeper), WaitOptions::empty());
    })
}

/// The keeper's life; nobody reads its exit status.
fn keep(container: &Container, request: &Request, manner: Manner, line: Channel) -> i32 {
    let mut session = match Session::start(container, request, manner) {
        Ok(session) => session,
        Err(failure) => {
            let _ = line.say(&Tell::Failed(Told::of(&failure)), &[]);
            return 1;
        }
    };
    let pid = session.started.child.pid.as_raw_pid();
    let descriptors = [Some(session.started.child.pidfd.as_fd()), session.input.as_ref().map(AsFd::as_fd)];
    let said = line.say(&Tell::Started { pid }, &descriptors.into_iter().flatten().collect::<Vec<_>>());
    // The client's copy is the only one: that it is closed is the end of the input.
    session.input = None;
    let line = match manner.foreground {
        true if said.is_err() => return 1,
        true => Some(line),
        false => None,
    };
    if line.is_none() {
        session.let_go();
    }
    i32::from(session.carry(line).is_err())
}

struct Session {
    started: Started,
    input: Option<OwnedFd>,
    pumps: Vec<Pump>,
    lost: Option<Errno>,
    /// The host's, which is out of reach once the container was entered.
    null: OwnedFd,
}

impl Session {
    fn start(container: &Container, request: &Request, manner: Manner) -> Result<Session> {
        let subject = exec::subject(container)?;
        let (stdio, ends) = streams(request, manner)?;
        let null = null()?;
        let plan = Plan::new(container, &subject, request, stdio)?;
        exec::join_group(container)?;
        exec::enter(container, &subject)?;
        let started = start(plan, &subject)?;
        let mut session = Session { started, input: None, pumps: Vec::new(), lost: None, null };
        let duplicate = |fd: BorrowedFd<'_>| fcntl_dupfd_cloexec(fd, 3).context("duplicate a descriptor");
        match (session.started.terminal.take(), ends) {
            (Some(master), _) => {
                session.input = manner.foreground.then(|| duplicate(master.as_fd())).transpose()?;
                session.pumps.push(Pump::new(master, duplicate(stdout())?));
            }
            (None, Some(Ends { stdin, stdout: out, stderr: err })) => {
                session.input = stdin;
                session.pumps.push(Pump::new(out, duplicate(stdout())?));
                session.pumps.push(Pump::new(err, duplicate(stderr())?));
            }
            (None, None) => {}
        }
        Ok(session)
    }

    /// Until the payload ends, or the client of `line` goes without a word.
    fn carry(mut self, mut line: Option<Channel>) -> Result<()> {
        let pidfd = self.started.child.pidfd.try_clone().context("duplicate a pidfd")?;
        loop {
            let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
            fds.extend(self.pumps.iter().map(|pump| {
                let (fd, flags) = pump.waits_for();
                PollFd::from_borrowed_fd(fd, flags)
            }));
            fds.extend(line.iter().map(|line| PollFd::new(line, PollFlags::IN)));
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                polled => polled.context("poll")?,
            };
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            let asked = ready.get(1 + self.pumps.len()) == Some(&true);
            let mut at = 0;
            self.pumps.retain_mut(|pump| {
                at += 1;
                !ready[at] || goes_on(pump.step(), &mut self.lost)
            });
            if let (true, Some(client)) = (asked, &line) {
                match client.hear::<Ask>() {
                    Ok(Some((Ask::Detach, _))) => {
                        line = None;
                        self.let_go();
                    }
                    Ok(Some((Ask::Signal(number), _))) => {
                        let _ = crate::sys::signal::send(pidfd.as_fd(), number);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => {
                        // It leads its group, and its number is its own until we take its status.
                        let _ = kill_process_group(self.started.child.pid, Signal::KILL);
                        return Ok(());
                    }
                }
            }
            if ready[0] {
                let Ended { code, .. } = reap(pidfd.as_fd())?;
                self.drain(line.as_ref());
                let lost = self.lost.map(Errno::raw_os_error);
                return line
                    .map_or(Ok(()), |line| line.say(&Tell::Exited { code, lost, restarts: false }, &[]));
            }
        }
    }

    /// What was printed before the end and is not passed on yet.
    fn drain(&mut self, line: Option<&Channel>) {
        for pump in &mut self.pumps {
            loop {
                let (fd, flags) = pump.waits_for();
                let mut fds = vec![PollFd::from_borrowed_fd(fd, flags)];
                fds.extend(line.map(|line| PollFd::new(line, PollFlags::IN)));
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                // There is no more to come; only for a reader is it worth to wait.
                let polled = poll(&mut fds, (flags == PollFlags::IN).then_some(&now));
                if polled == Err(Errno::INTR) {
                    continue;
                }
                if fds[0].revents().is_empty() || !goes_on(pump.step(), &mut self.lost) {
                    break;
                }
            }
        }
    }

    /// The client is gone: nobody is to wait for the end of its streams because of us.
    fn let_go(&mut self) {
        let null = &self.null;
        let _ = (dup2_stdin(null), dup2_stdout(null), dup2_stderr(null));
        for pump in &mut self.pumps {
            if let Ok(null) = null.try_clone() {
                pump.redirect(null);
            }
        }
    }
}

/// Let a process join `subject`, whose user and pid namespaces we have joined.
pub fn start(mut plan: Plan, subject: &Child) -> Result<Started> {
    let talking = "talk to the process that joins the container";
    let (link, theirs) = Link::pair().context(talking)?;
    let child = fork::clone_into(0, None).context("make a process in the container")?;
    let Some(child) = child else {
        // Here: the child. Were our end open here too, it would never hear that its starter is gone.
        drop(link);
        fork::exit_now(exec::run(&mut plan, subject, theirs));
    };
    drop(theirs);
    let mut started = Started { child, terminal: None };
    loop {
        match link.next().context(talking)? {
            Report::Terminal(master) => {
                terminal::adopt(&master)?;
                link.go_on().context(talking)?;
                started.terminal = Some(master);
            }
            Report::Failed(failure) => return Err(explain(&plan, failure)),
            Report::Closed => return Ok(started),
            Report::BeforeRoot
            | Report::BeforeCgroup
            | Report::Root(_)
            | Report::Interface(_)
            | Report::Unneeded(_) => {}
        }
    }
}

fn streams(request: &Request, manner: Manner) -> Result<(Stdio, Option<Ends>)> {
    if request.tty {
        return Ok((Stdio::Terminal, None));
    }
    if manner.output == [false; 2] {
        // Never the host's: root of a container could chmod it.
        let host = weakened::is("detached-streams");
        let streams = if host {
            Stdio::Pipes { stdin: None, stdout: null()?, stderr: null()? }
        } else {
            Stdio::Nothing
        };
        return Ok((streams, None));
    }
    let (theirs, ours) = pump::pipes(manner.stdin)?;
    Ok((theirs, Some(ours)))
}

fn null() -> Result<OwnedFd> {
    openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context("open /dev/null")
}

/// Whether more may come after a step that had this outcome.
fn goes_on(flow: Flow, lost: &mut Option<Errno>) -> bool {
    if let Flow::Failed(errno) = flow {
        *lost = lost.or(Some(errno));
    }
    flow == Flow::Open
}

fn explain(plan: &Plan, failure: Failure) -> Error {
    let errno = Errno::from_raw_os_error(failure.errno);
    let is = |step: Step| failure.step == step as u32;
    if failure.step == Failure::EXEC || is(Step::Find) {
        return command_failed(&plan.program.name(), errno);
    }
    let what = match plan.program.describe(failure) {
        Some(what) => what,
        None if is(Step::Join) => "join the container's namespaces".to_owned(),
        None => "join the container".to_owned(),
    };
    if is(Step::Credentials) && errno == Errno::INVAL {
        return or_itself(
            Err(anyhow!("{what}: the user or a group is beyond the ids of this container"))
                .hint("`ctr info` lists the ids under idMappings; name a user that is among them"),
        );
    }
    let failed = Err(std::io::Error::from(errno)).context(what);
    or_itself(match (is(Step::WorkingDirectory), errno) {
        (true, Errno::NOENT) => {
            failed.status(NOT_FOUND).hint("name a directory of the container with --workdir")
        }
        (true, _) => failed.status(CANNOT_INVOKE).hint("name a directory of the container with --workdir"),
        _ => failed,
    })
}
