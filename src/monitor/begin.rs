//! From a client to a monitor: the fork, seen from the client, who waits until the payload runs or can't.

use super::{
    control::{Ask, Channel, Tell},
    life::{self, Beginning},
    notify::Manager,
};
use crate::{
    container::{create::Container, plan, service::Service},
    namespaces::{Ahead, Mapping, Promised},
    storage::Store,
    sys::{
        fork::{self, close_descriptors_except},
        title::CommandLine,
    },
};
use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    process::{Pid, WaitOptions, setsid, waitpid},
    thread::UnshareFlags,
};
use std::os::fd::{AsFd, OwnedFd};

/// A container whose payload runs, and the line to its monitor.
#[derive(Debug)]
pub struct Begun {
    /// The payload's process id.
    pub pid: i32,
    /// The payload itself.
    pub pidfd: OwnedFd,
    /// The way to its stdin: a pipe's end or a terminal; None when that is /dev/null, or we are not attached.
    pub input: Option<OwnedFd>,
    /// To the monitor. In the foreground its end is the container's.
    pub line: Channel,
    /// The monitor, a child of ours.
    pub monitor: Pid,
    /// A service manager started us and waits for our end.
    pub service: bool,
    /// It wants to hear of the container.
    pub manager: Option<Manager>,
}

/// How the client goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// The client stays: the container prints to the client's streams and ends with it.
    pub foreground: bool,
    /// What the client reads goes to the container, whose stdin ends with it.
    pub stdin: bool,
    /// stdout and stderr are wanted; else what it prints there is only kept in the log.
    pub output: [bool; 2],
    /// The payload waits for `start`.
    pub hold: bool,
}

impl Manner {
    /// The client goes away.
    pub const BACKGROUND: Manner =
        Manner { foreground: false, stdin: false, output: [false; 2], hold: false };

    /// The client stays; `stdin`: what it reads goes to the container.
    pub fn foreground(stdin: bool) -> Manner {
        Manner { foreground: true, stdin, output: [true; 2], hold: false }
    }
}

/// Start `container` under a monitor of its own, in the user namespace `ahead` if that suits it. On failure nobody holds the
/// container any more.
///
/// # Errors
/// What the monitor says of a start that failed.
pub fn begin(
    store: &Store,
    container: Container,
    mapping: &Mapping,
    ahead: Option<Ahead>,
    manner: Manner,
) -> Result<Begun> {
    let (line, theirs) = Channel::pair()?;
    let record = &container.record;
    let ahead = ahead.filter(|ahead| record.join.is_none() && ahead.suits(&record.mapping(mapping)));
    let (promised, told) = ahead
        .as_ref()
        .map(|ahead| ahead.promise(plan::namespaces(&container.spec).contains(UnshareFlags::NEWNET)))
        .transpose()?
        .unzip();
    let title = CommandLine::of_this_process().ok();
    let (service, manager) = (Service::of_this_process(), Manager::of(&container.record));
    let is_main = service.is_main;
    let announced = manager.is_some() && !manner.foreground;
    let monitor = fork::fork(|| {
        // Who am I: the monitor, a copy of the client with its privileges and in its namespaces, but in a session of my own.
        // I hold its standard streams (until nobody needs them), the container's lock and the line.
        // A manager notices the end of its own children alone: I am its, once my parent is gone.
        if announced && fork::split().is_ok_and(|child| child.is_some()) {
            return 0;
        }
        let _ = setsid();
        let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        let [stdin, stdout, stderr] = streams;
        let mut kept = vec![stdin, stdout, stderr, container.lock.as_fd(), theirs.as_fd()];
        kept.extend(promised.iter().flat_map(Promised::descriptors));
        close_descriptors_except(&kept, container.record.preserve_fds.max(service.sockets));
        let _ = rustix::thread::set_name(c"ctr-monitor");
        if let Some(title) = title {
            title.replace("ctr-monitor");
        }
        if announced {
            // It believes the client until it knows me, who must not speak before.
            let own = rustix::process::getpid().as_raw_pid();
            let _ = theirs.say(&Tell::Notify(format!("MAINPID={own}")), &[]);
            let _ = theirs.hear::<Ask>();
        }
        life::live(
            store,
            container,
            mapping,
            Beginning { line: theirs, manner, service, namespace: promised },
        )
    })
    .context("fork the monitor")?;
    let mapped = ahead.zip(told).map_or(Ok(()), |(ahead, told)| ahead.finish(told));
    if let (Some(manager), true) = (&manager, announced) {
        let _ = waitpid(Some(monitor), WaitOptions::empty());
        if let Some((Tell::Notify(text), _)) = line.hear()? {
            manager.say(&text);
            line.say(&Ask::Go { foreground: false }, &[])?;
        }
    }
    let begun = Begun::hear(line, monitor);
    // Its words are the cause of what the monitor says.
    mapped?;
    Ok(Begun { service: is_main, manager, ..begun? })
}

impl Begun {
    /// The first words of the process `monitor` over `line`.
    pub(super) fn hear(line: Channel, monitor: Pid) -> Result<Begun> {
        match line.hear::<Tell>()? {
            Some((Tell::Started { pid }, descriptors)) => {
                let mut descriptors = descriptors.into_iter();
                let pidfd = descriptors.next().ok_or_else(|| anyhow!("the monitor sent no pidfd"))?;
                Ok(Begun {
                    pid,
                    pidfd,
                    input: descriptors.next(),
                    line,
                    monitor,
                    service: false,
                    manager: None,
                })
            }
            Some((Tell::Failed(told), _)) => Err(told.into_error()),
            Some((other, _)) => {
                bail!("the monitor says {other:?} where it should say what came of the start")
            }
            None => bail!("the container's monitor was killed"),
        }
    }
}
