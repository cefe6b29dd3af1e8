//! Beside a running container: its output, its clients, signals and deadlines, in one poll(2), until something happens
//! that [`super::life`] has to decide about.

use super::{
    control::{Ask, Channel, Door, Tell},
    ended::{BROKEN_PIPE, Ended, leaves_broken_pipes_to_the_kernel, reap},
    event::{Event, Ready, Subject, remaining},
    log::Log,
    log_line::Kind,
    pump::Ends,
    streams::{Flow, Stream},
};
use anyhow::{Context, Result};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, fcntl_dupfd_cloexec},
    pty::{OpenptFlags, ioctl_tiocgptpeer},
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

/// Everything a monitor waits for.
#[derive(Debug)]
pub struct Watch {
    door: Door,
    signals: SignalFd,
    clients: Vec<Client>,
    next_client: u64,
    streams: Vec<Stream>,
    log: Log,
    /// The way to stdin, for clients: a pipe's end or the terminal.
    input: Option<OwnedFd>,
    user_side: Option<OwnedFd>,
    tty: bool,
    stop: (i32, Duration),
    kill_at: Option<Instant>,
    stopped: bool,
    reload: bool,
    broken: bool,
    lost: Option<Errno>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Client {
    id: u64,
    channel: Channel,
    /// The one who started the container in the foreground: without it the container ends.
    foreground: bool,
    watches: bool,
    /// Where its output goes, for the streams of the next start.
    outputs: [Option<OwnedFd>; 2],
}

impl Watch {
    /// From here on signals are kept for [`Watch::until`]. `stop`: how to ask for the end, and the time to SIGKILL.
    pub fn new(door: Door, log: Log, stop: (i32, Duration)) -> Result<Watch> {
        // Whoever ends a session or shuts the machine down means the container.
        let caught: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT].into_iter().collect();
        SigSet::all().thread_block().context("block signals")?;
        let signals = SignalFd::with_flags(&caught, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        Ok(Watch {
            door,
            signals: signals.context("make a signalfd")?,
            clients: Vec::new(),
            next_client: 0,
            streams: Vec::new(),
            log,
            input: None,
            user_side: None,
            tty: false,
            stop,
            kill_at: None,
            stopped: false,
            reload: false,
            broken: false,
            lost: None,
            buffer: Vec::new(),
        })
    }

    /// Take in a client; its number.
    pub fn admit(&mut self, channel: Channel, foreground: bool) -> u64 {
        self.next_client += 1;
        let id = self.next_client;
        self.clients.push(Client { id, channel, foreground, watches: foreground, outputs: [None, None] });
        id
    }

    /// Carry what comes from the new terminal `master`.
    pub fn adopt_terminal(&mut self, master: OwnedFd) -> Result<()> {
        self.input = Some(duplicate(master.as_fd())?);
        // While a user side is open, one that the payload closes and opens again is no end of the output.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        self.user_side = Some(ioctl_tiocgptpeer(&master, flags).context("open the container's terminal")?);
        (self.tty, self.streams) = (true, vec![Stream::new(Kind::Stdout, master)]);
        self.attach_again();
        Ok(())
    }

    /// Carry what comes from new pipes.
    pub fn adopt_pipes(&mut self, ends: Ends) {
        (self.tty, self.input) = (false, ends.stdin);
        self.streams = vec![Stream::new(Kind::Stdout, ends.stdout), Stream::new(Kind::Stderr, ends.stderr)];
        self.attach_again();
    }

    /// Pass output on to stdout and stderr of client `id`.
    pub fn attach(&mut self, id: u64, outputs: [Option<OwnedFd>; 2]) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.id == id) {
            client.outputs = outputs;
            connect(client, &mut self.streams);
        }
    }

    /// Clients stay when the container is started again.
    fn attach_again(&mut self) {
        self.clients.iter().for_each(|client| connect(client, &mut self.streams));
    }

    /// A copy of the way to stdin; the only one, if nobody may come later: then its closing is the end of the input.
    pub fn input(&mut self, only: bool) -> Result<Option<OwnedFd>> {
        match only && !self.tty {
            true => Ok(self.input.take()),
            false => self.input.as_ref().map(|input| duplicate(input.as_fd())).transpose(),
        }
    }

    /// Kill the container after this time.
    pub fn limit(&mut self, time: Duration) {
        self.kill_at = Some(Instant::now() + time);
    }

    /// Tell client `id` alone.
    pub fn tell(&mut self, id: u64, message: &Tell, descriptors: &[BorrowedFd<'_>]) {
        let client = self.clients.iter().position(|client| client.id == id);
        if let Some(at) = client
            && self.clients[at].channel.say(message, descriptors).is_err()
        {
            self.dismiss(at);
        }
    }

    /// Tell everybody who watches.
    pub fn announce(&mut self, message: &Tell) {
        self.clients.retain(|client| !client.watches || client.channel.say(message, &[]).is_ok());
    }

    /// Somebody wanted it to end.
    pub fn was_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether the record was changed since this was asked last.
    pub fn takes_reload(&mut self) -> bool {
        std::mem::take(&mut self.reload)
    }

    /// Serve until something happens to `subject` or the time is `due`.
    pub fn until(&mut self, subject: Option<Subject<'_>>, due: Option<Instant>) -> Result<Event> {
        loop {
            let ready = self.wait(subject, due)?;
            if ready.signals {
                self.take_signals(subject);
            }
            if ready.door
                && let Some(channel) = self.door.next()
            {
                self.admit(channel, false);
            }
            if let Some(event) = self.hear(&ready.clients, subject) {
                return Ok(event);
            }
            self.move_output(subject);
            if subject.is_none() && self.stopped {
                return Ok(Event::Stop);
            }
            if let (Some(subject), true) = (subject, self.kill_at.is_some_and(|at| at <= Instant::now())) {
                let _ = crate::sys::signal::send(subject.pidfd, libc::SIGKILL);
                self.kill_at = None;
            }
            if let (Some(subject), true) = (subject, ready.ended) {
                return Ok(Event::Ended(self.end(subject)?));
            }
            if ready.checked {
                return Ok(Event::Checked);
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                return Ok(Event::Due);
            }
        }
    }

    /// After the end: what readers have not taken yet, until they have or are gone.
    pub fn flush(&mut self) {
        self.streams.retain_mut(Stream::flush);
        while !self.streams.is_empty() {
            let waits: Vec<_> = self.streams.iter().flat_map(Stream::waits_for).collect();
            let outputs = waits.iter().filter(|(_, flags)| *flags == PollFlags::OUT);
            let mut fds: Vec<_> = outputs.map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
            let outputs = fds.len();
            fds.extend(self.clients.iter().map(|client| PollFd::new(&client.channel, PollFlags::IN)));
            let due = self.streams.iter().filter_map(Stream::last_due).min();
            if outputs == 0 || poll(&mut fds, due.map(remaining).as_ref()).is_err() {
                return;
            }
            let gone: Vec<usize> = (0..self.clients.len())
                .filter(|at| fds[outputs + at].revents().contains(PollFlags::HUP))
                .collect();
            drop(fds);
            for at in gone.into_iter().rev() {
                self.dismiss(at);
            }
            self.streams.retain_mut(Stream::flush);
        }
    }

    fn wait(&self, subject: Option<Subject<'_>>, due: Option<Instant>) -> Result<Ready> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.door, PollFlags::IN)];
        fds.extend(self.clients.iter().map(|client| PollFd::new(&client.channel, PollFlags::IN)));
        fds.extend(subject.iter().map(|s| PollFd::from_borrowed_fd(s.pidfd, PollFlags::IN)));
        let check = subject.and_then(|subject| subject.check);
        fds.extend(check.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let waits: Vec<_> = self.streams.iter().flat_map(Stream::waits_for).collect();
        fds.extend(waits.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
        let next = self.kill_at.filter(|_| subject.is_some()).into_iter().chain(due);
        let next = next.chain(self.streams.iter().filter_map(Stream::due)).min();
        match poll(&mut fds, next.map(remaining).as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(errno) => return Err(errno).context("poll"),
        }
        let ready = |at: usize| !fds[at].revents().is_empty();
        let clients = 2 + self.clients.len();
        Ok(Ready {
            signals: ready(0),
            door: ready(1),
            clients: (2..clients).map(ready).collect(),
            ended: subject.is_some() && ready(clients),
            checked: check.is_some() && ready(clients + 1),
        })
    }

    fn take_signals(&mut self, subject: Option<Subject<'_>>) {
        while let Ok(Some(_)) = self.signals.read_signal() {
            self.begin_stop(subject, None, None);
        }
    }

    /// As `ctr stop` would.
    pub fn begin_stop(&mut self, subject: Option<Subject<'_>>, signal: Option<i32>, time: Option<Duration>) {
        self.stopped = true;
        self.begin_end(subject, signal, time);
    }

    /// The same, but its restart policy holds.
    pub fn begin_end(&mut self, subject: Option<Subject<'_>>, signal: Option<i32>, time: Option<Duration>) {
        if let Some(subject) = subject {
            let _ = crate::sys::signal::send(subject.pidfd, signal.unwrap_or(self.stop.0));
            let at = Instant::now() + time.unwrap_or(self.stop.1);
            self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    fn hear(&mut self, ready: &[bool], subject: Option<Subject<'_>>) -> Option<Event> {
        let mut event = None;
        for at in (0..ready.len()).rev().filter(|at| ready[*at]) {
            match self.clients[at].channel.hear::<Ask>() {
                Ok(Some((ask, descriptors))) => {
                    event = self.answer(at, ask, descriptors, subject).or(event);
                }
                // Closed, or it talks nonsense.
                _ => {
                    let deserted = self.clients[at].foreground;
                    self.dismiss(at);
                    if deserted {
                        self.begin_stop(subject, None, None);
                    }
                }
            }
        }
        event
    }

    fn answer(
        &mut self,
        at: usize,
        ask: Ask,
        descriptors: Vec<OwnedFd>,
        subject: Option<Subject<'_>>,
    ) -> Option<Event> {
        let id = self.clients[at].id;
        match ask {
            Ask::Attach { stdin } => {
                let input = if stdin { self.input(false).ok().flatten() } else { None };
                let said: Vec<_> = input.iter().map(AsFd::as_fd).collect();
                let tty = self.tty;
                if let Ok(streams) = <[OwnedFd; 2]>::try_from(descriptors) {
                    self.attach(id, streams.map(Some));
                    self.clients[at].watches = true;
                    self.tell(id, &Tell::Attached { tty }, &said);
                }
            }
            Ask::Detach => {
                if self.clients[at].foreground {
                    super::life::leave_streams();
                }
                self.dismiss(at);
            }
            Ask::Stop { signal, milliseconds } => {
                self.clients[at].watches = true;
                self.begin_stop(subject, signal, milliseconds.map(Duration::from_millis));
            }
            Ask::Signal(number) => {
                // As with Podman, what the user killed is not started again.
                self.stopped |= number != libc::SIGWINCH && number != libc::SIGCONT;
                if let Some(subject) = subject {
                    let _ = crate::sys::signal::send(subject.pidfd, number);
                }
                self.tell(id, &Tell::Done, &[]);
            }
            Ask::Watch => {
                self.clients[at].watches = true;
                self.tell(id, &Tell::Done, &[]);
            }
            Ask::Go => {
                self.clients[at].watches = true;
                return Some(Event::Go);
            }
            Ask::Reload => {
                self.reload = true;
                self.tell(id, &Tell::Done, &[]);
            }
        }
        None
    }

    fn dismiss(&mut self, at: usize) {
        let client = self.clients.remove(at);
        for stream in &mut self.streams {
            stream.detach(client.id);
        }
    }

    fn move_output(&mut self, subject: Option<Subject<'_>>) {
        let mut lagging = Vec::new();
        let Watch { log, lost, broken, buffer, .. } = self;
        self.streams.retain_mut(|stream| {
            let flow = stream.step(log, buffer, &mut lagging);
            // Asked before the payload hears of it: afterwards it may be gone.
            *broken |=
                flow == Flow::Lost && subject.is_some_and(|s| leaves_broken_pipes_to_the_kernel(s.pid));
            *lost = lost.or(flow.failure());
            flow == Flow::Open
        });
        for id in lagging {
            self.tell(id, &Tell::LetGo, &[]);
            if let Some(at) = self.clients.iter().position(|client| client.id == id) {
                self.dismiss(at);
            }
        }
    }

    fn end(&mut self, subject: Subject<'_>) -> Result<Ended> {
        let ended = reap(subject.pidfd)?;
        for stream in &mut self.streams {
            stream.drain(&mut self.log, &mut self.buffer);
            self.lost = self.lost.or(stream.fate().and_then(|flow| flow.failure()));
        }
        let broken = std::mem::take(&mut self.broken) && ended.code != 0;
        (self.kill_at, self.input) = (None, None);
        Ok(Ended { lost: self.lost.take(), ..if broken { BROKEN_PIPE } else { ended } })
    }
}

fn connect(client: &Client, streams: &mut [Stream]) {
    for (stream, to) in streams.iter_mut().zip(&client.outputs) {
        if let Some(to) = to.as_ref().and_then(|to| duplicate(to.as_fd()).ok()) {
            stream.attach(client.id, to, client.foreground);
        }
    }
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fcntl_dupfd_cloexec(fd, 3).context("duplicate a descriptor")
}
