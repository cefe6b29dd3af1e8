//! The process of a network: made by the monitor of a container, told of it over a line, gone when nobody holds a line.

use super::{
    confine,
    engine::Engine,
    resolvers,
    wire::{Ask, Member, Questions, Settings, Tell},
};
use crate::{
    cgroups,
    error::Explain,
    sys::{
        channel::{Channel, DESCRIPTORS, Door},
        fork, memory, signal,
        title::CommandLine,
    },
};
use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FlockOperation, Mode, OFlags, flock, open},
    io::Errno,
    net::{Shutdown, shutdown},
    process::{
        Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
        setsid, waitpid,
    },
    time::Timespec,
};
use std::{
    cell::Cell,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// A monitor's line to the process of a network. It stands for the container's membership: dropped, the container has left.
#[derive(Debug)]
pub struct Line {
    channel: Channel,
    /// The process is gone.
    dead: Cell<bool>,
    /// So many were asked by [`Line::find`].
    questions: Cell<u64>,
    /// Held so that it ends with the line.
    _process: Option<Process>,
}

/// A process that nobody else has a line to. Dropped, it ends.
#[derive(Debug)]
struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

/// A network of one container's own: a process that ends with us.
///
/// # Errors
/// No process can be made. What fails in it fails [`Line::join`].
pub fn private(settings: &Settings) -> Result<Line> {
    let (ours, theirs) = Channel::pair()?;
    let birth = Birth { settings: settings.clone(), line: theirs, door: None, lock: None };
    let title = CommandLine::of_this_process().ok();
    let pid = fork::fork(|| birth.live(title, true)).context("fork the network's process")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("watch the network's process")?;
    Ok(Line::new(ours, Some(Process { pid, pidfd })))
}

/// The network that lives in `dir` (a directory of ours below the runtime directory): its process if it has one, else a new
/// one, which outlives us as long as somebody holds a line.
///
/// # Errors
/// The directory can't be used; a process that holds its lock but doesn't answer.
pub fn of_network(settings: &Settings, dir: &Path) -> Result<Line> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(line) = running(dir)? {
            return Ok(line);
        }
        let lock = dir.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file = open(&lock, flags, Mode::RUSR | Mode::WUSR)
            .with_context(|| format!("open {}", lock.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return found(settings, dir, file),
            // It is being born, or ends.
            Err(Errno::WOULDBLOCK) => sleep(PATIENCE / 5000),
            Err(errno) => return Err(errno).with_context(|| format!("lock {}", lock.display())),
        }
    }
    Err(anyhow!("the process of network {} doesn't answer", settings.name))
        .hint(format!("`fuser -k {}` ends it", dir.join("lock").display()))
}

/// A line to the process of the network in `dir`, if it has one.
///
/// # Errors
/// The directory can't be used.
pub fn running(dir: &Path) -> Result<Option<Line>> {
    let Some(channel) = Channel::through(&dir.join("sock"))? else { return Ok(None) };
    let line = Line::new(channel, None);
    // One that is about to end has closed its door by the time it would answer.
    Ok(line.members().is_ok().then_some(line))
}

impl Line {
    /// `member` comes in with the device `tap` and a socket for each published port.
    ///
    /// # Errors
    /// An address is taken; or the process could not be set up.
    pub fn join(&self, member: &Member, tap: OwnedFd, sockets: Vec<OwnedFd>) -> Result<()> {
        let many = || member.published.chunks(DESCRIPTORS - 1).zip(sockets.chunks(DESCRIPTORS - 1));
        let doing = "join the network";
        for (ports, sockets) in many().skip(1) {
            let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
            self.channel.say(&Ask::Publish(ports.to_vec()), &sockets).context(doing)?;
        }
        let (ports, sockets) = many().next().unwrap_or_default();
        let descriptors: Vec<_> = std::iter::once(&tap).chain(sockets).map(AsFd::as_fd).collect();
        let member = Member { published: ports.to_vec(), ..member.clone() };
        let said = self.channel.say(&Ask::Join(member), &descriptors).context(doing);
        // One that could not be set up has said why before it hung up.
        match (self.answer().context(doing), said) {
            (Ok(Tell::Joined), Ok(())) => Ok(()),
            (Ok(Tell::Failed(why)), _) => bail!("{doing}: {why}"),
            (Ok(other), Ok(())) => bail!("{doing}: the network's process says {other:?}"),
            (Err(failure), _) | (_, Err(failure)) => Err(failure),
        }
    }

    /// How many are in.
    ///
    /// # Errors
    /// The process is gone.
    pub fn members(&self) -> Result<usize> {
        self.channel.say(&Ask::Members, &[])?;
        match self.answer()? {
            Tell::Members(members) => Ok(members),
            other => bail!("the network's process says {other:?}"),
        }
    }

    /// How the container asks for names, from now on.
    ///
    /// # Errors
    /// The process is gone.
    pub fn set_questions(&self, questions: Questions) -> Result<()> {
        self.channel.say(&Ask::Questions(questions), &[])
    }

    /// What others call the container, from now on.
    ///
    /// # Errors
    /// The process is gone.
    pub fn set_names(&self, names: Vec<String>) -> Result<()> {
        self.channel.say(&Ask::Names(names), &[])
    }

    /// What the network says to `question`, a DNS message; nothing if nobody there is called so.
    ///
    /// # Errors
    /// The process is gone, or too slow for who asks.
    pub fn find(&self, question: Vec<u8>) -> Result<Vec<u8>> {
        self.questions.set(self.questions.get() + 1);
        let asked = self.questions.get();
        self.channel.say(&Ask::Find { number: asked, question }, &[])?;
        let due = Instant::now() + PATIENCE_FOR_NAMES;
        loop {
            match self.answer_before(due)? {
                Tell::Found { number, reply } if number == asked => return Ok(reply),
                // To one that nobody waited for any more.
                Tell::Found { .. } => {}
                other => bail!("the network's process says {other:?}"),
            }
        }
    }

    /// Do what the process asks, for which the line has become readable.
    ///
    /// # Errors
    /// The process is gone: the container's link is dead.
    pub fn serve(&self) -> Result<()> {
        self.serve_and_find(|_| Vec::new())
    }

    /// The same for a container in several networks. `find`: what the others say to a question, if anything.
    ///
    /// # Errors
    /// As of [`Line::serve`].
    pub fn serve_and_find(&self, find: impl Fn(Vec<u8>) -> Vec<u8>) -> Result<()> {
        let served = match self.channel.hear::<Tell>() {
            Ok(Some((Tell::NeedName { number, question }, _))) => {
                self.channel.say(&Ask::Name { number, reply: find(question) }, &[])
            }
            Ok(Some((told, _))) => self.obey(&told),
            Ok(None) => Err(anyhow!("the network's process has ended")),
            Err(failure) => Err(failure),
        };
        self.dead.set(served.is_err());
        served
    }

    /// Whether there is anything left to wait for.
    pub fn is_alive(&self) -> bool {
        !self.dead.get()
    }

    fn obey(&self, told: &Tell) -> Result<()> {
        match told {
            Tell::NeedResolvers => self.channel.say(&Ask::Resolvers(resolvers::now()), &[]),
            // It comes amid another question: we don't look elsewhere meanwhile.
            Tell::NeedName { number, .. } => {
                self.channel.say(&Ask::Name { number: *number, reply: Vec::new() }, &[])
            }
            _ => Ok(()),
        }
    }

    /// What it says to what we said last.
    fn answer(&self) -> Result<Tell> {
        let due = Instant::now() + PATIENCE;
        loop {
            match self.answer_before(due)? {
                // To one that nobody waits for any more.
                Tell::Found { .. } => {}
                told => return Ok(told),
            }
        }
    }

    fn answer_before(&self, due: Instant) -> Result<Tell> {
        loop {
            if !self.speaks_before(due)? {
                bail!("the network's process doesn't answer");
            }
            match self.channel.hear::<Tell>()? {
                Some((told @ (Tell::NeedResolvers | Tell::NeedName { .. }), _)) => self.obey(&told)?,
                Some((told, _)) => return Ok(told),
                None => bail!("the network's process has ended"),
            }
        }
    }
}

impl Line {
    fn new(channel: Channel, process: Option<Process>) -> Line {
        Line { channel, dead: Cell::new(false), questions: Cell::new(0), _process: process }
    }

    /// Whether there is something to hear before `due`: one that was taken over may talk for ever, and not be asked.
    fn speaks_before(&self, due: Instant) -> Result<bool> {
        let left = due.saturating_duration_since(Instant::now());
        let wait = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut line = [PollFd::new(&self.channel, PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut line, Some(&wait))).context("wait for it")?;
        Ok(ready > 0 && !left.is_zero())
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Drop for Line {
    /// Returns when what the container published is free for others.
    fn drop(&mut self) {
        if !self.is_alive() || shutdown(&self.channel, Shutdown::Write).is_err() {
            return;
        }
        let due = Instant::now() + Duration::from_secs(1);
        while self.speaks_before(due).unwrap_or(false) {
            if !matches!(self.channel.hear::<Tell>(), Ok(Some(_))) {
                return;
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// As long as the process may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);
/// As long as who asks for a name is waited for.
const PATIENCE_FOR_NAMES: Duration = Duration::from_secs(1);
/// Descriptors that are no sockets of members.
const OWN_DESCRIPTORS: usize = 512;

/// Make the process of the network in `dir`, whose lock we hold.
fn found(settings: &Settings, dir: &Path, lock: OwnedFd) -> Result<Line> {
    let (ours, theirs) = Channel::pair()?;
    let door = Door::at(&dir.join("sock"))?;
    let birth = Birth { settings: settings.clone(), line: theirs, door: Some(door), lock: Some(lock) };
    let title = CommandLine::of_this_process().ok();
    let name = settings.name.clone();
    let between = fork::fork(|| {
        // Who am I: a copy of the monitor that makes the process nobody's child.
        let _ = setsid();
        let Ok(pid) = fork::fork(|| birth.live(title, false)) else { return 1 };
        // Nobody waits for that.
        let _ = fork::fork(|| set_apart(&name, pid));
        0
    });
    let between = between.context("fork the network's process")?;
    waitpid(Some(between), WaitOptions::empty()).context("wait for a child")?;
    Ok(Line::new(ours, None))
}

/// Who am I: one more copy of the monitor, which asks systemd for a scope around the network's process and ends. So what stops the
/// first member's service, or the session that it was started from, is not meant for the network of the others.
fn set_apart(name: &str, pid: Pid) -> i32 {
    fork::close_descriptors_from(3);
    let pid = pid.as_raw_pid().unsigned_abs();
    let unit = format!("ctr-network-{name}-{pid}.scope");
    i32::from(cgroups::set_apart(&unit, &format!("ctr network {name}"), pid).is_err())
}

/// What the process is born with.
#[derive(Debug)]
struct Birth {
    settings: Settings,
    line: Channel,
    door: Option<Door>,
    lock: Option<OwnedFd>,
}

impl Birth {
    /// Who am I: the process of a network, a copy of a monitor. In a moment I have no files and no privileges; I stay in the
    /// host's network namespace, whose sockets I open with no right but any user's.
    fn live(self, title: Option<CommandLine>, follows: bool) -> i32 {
        signal::reset();
        let _ = rustix::thread::set_name(c"ctr-network");
        let Birth { settings, line, door, lock } = self;
        memory::map_large_blocks();
        let mut ready = confine::leave_streams();
        let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        let doors = door.as_ref().map(AsFd::as_fd).into_iter().chain(lock.as_ref().map(AsFd::as_fd));
        let kept: Vec<_> = streams.into_iter().chain([line.as_fd()]).chain(doors).collect();
        fork::close_descriptors_except(&kept, 0);
        let name = format!("ctr-network {}", settings.name);
        let sockets = confine::raise_limits().saturating_sub(OWN_DESCRIPTORS);
        ready = ready.and_then(|()| confine::confine());
        if let Some(title) = title {
            title.replace(&name);
        }
        if follows {
            // After the changes of who we are, which the kernel takes for a reason to forget it.
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
        }
        if let Err(failure) = ready {
            let _ = line.say(&Tell::Failed(format!("confine the network's process: {failure:#}")), &[]);
            return 1;
        }
        i32::from(Engine::new(settings, sockets, line, door).and_then(Engine::run).is_err())
    }
}
