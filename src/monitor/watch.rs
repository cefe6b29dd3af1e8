//! Beside a running container: its output, its clients, signals and deadlines, in one poll(2), until something happens
//! that [`super::life`] has to decide about.

mod output;

use super::{
    clients::{Client, Clients, duplicate},
    control::{Ask, Channel, Door, KNOCK, Tell, open_door, open_second_door},
    event::{self, ENDING, Event, Ready, Subject, remaining},
    log::Log,
    log_line::Kind,
    networks::Membership,
    notify::Listener,
    pump::Ends,
    streams::Stream,
};
use crate::{
    container::{pause, record::Record, signal},
    storage::ContainerDir,
};
use anyhow::{Context, Result};
use nix::sys::signalfd::SignalFd;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    pty::{OpenptFlags, ioctl_tiocgptpeer},
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

/// Everything a monitor waits for.
#[derive(Debug)]
pub struct Watch {
    door: Door,
    signals: SignalFd,
    clients: Clients,
    streams: Vec<Stream>,
    log: Log,
    /// Where the payload talks to the service manager.
    listener: Option<Listener>,
    /// The way to stdin, for clients: a pipe's end or the terminal.
    input: Option<OwnedFd>,
    user_side: Option<OwnedFd>,
    tty: bool,
    dir: ContainerDir,
    stop: (i32, Duration),
    kill_at: Option<Instant>,
    stopped: bool,
    /// The last signal that a user sent.
    sent: Option<i32>,
    /// How it ended, until it is started again.
    ended: Option<Tell>,
    broken: bool,
    lost: Option<Errno>,
    buffer: Vec<u8>,
}

impl Watch {
    /// Of the container in `dir`. From here on signals are kept for [`Watch::until`].
    pub fn new(dir: &ContainerDir, record: &Record) -> Result<Watch> {
        let door = open_door(dir)?;
        Ok(Watch {
            door,
            signals: event::signals()?,
            clients: Clients::default(),
            streams: Vec::new(),
            log: Log::open(dir, record),
            listener: Listener::wanted(dir.path(), record)?,
            input: None,
            user_side: None,
            tty: record.tty,
            dir: dir.clone(),
            stop: (signal::asking(&record.stop_signal), Duration::from_secs(record.stop_timeout.into())),
            kill_at: None,
            stopped: false,
            sent: None,
            ended: None,
            broken: false,
            lost: None,
            buffer: Vec::new(),
        })
    }

    /// Take in a client; its number.
    pub fn admit(&mut self, channel: Channel, foreground: bool) -> u64 {
        self.clients.admit(channel, foreground)
    }

    /// Where the payload talks to the service manager, if there is one.
    pub fn notify_socket(&self) -> Option<&Path> {
        self.listener.as_ref().map(Listener::path)
    }

    /// Carry what comes from the new terminal `master`.
    pub fn adopt_terminal(&mut self, master: OwnedFd) -> Result<()> {
        self.input = Some(duplicate(&master)?);
        // While a user side is open, one that the payload closes and opens again is no end of the output.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        self.user_side = Some(ioctl_tiocgptpeer(&master, flags).context("open the container's terminal")?);
        self.carry(vec![Stream::new(Kind::Stdout, master)]);
        Ok(())
    }

    /// Carry what comes from new pipes.
    pub fn adopt_pipes(&mut self, ends: Ends) {
        self.input = ends.stdin;
        self.carry(vec![Stream::new(Kind::Stdout, ends.stdout), Stream::new(Kind::Stderr, ends.stderr)]);
    }

    /// Readers stay when the container is started again, with what they have not taken yet.
    fn carry(&mut self, streams: Vec<Stream>) {
        let mut before = std::mem::replace(&mut self.streams, streams);
        for stream in &mut self.streams {
            match before.iter().position(|old| old.kind == stream.kind) {
                Some(at) => stream.inherit(before.swap_remove(at)),
                None => self.clients.connect(stream),
            }
        }
    }

    /// Pass output on to stdout and stderr of client `id`; with `input` it gets the way to stdin.
    pub fn attach(&mut self, id: u64, outputs: [Option<OwnedFd>; 2], input: bool) {
        self.clients.attach(id, outputs, input, &mut self.streams);
    }

    /// Kill the container after this time.
    pub fn limit(&mut self, time: Duration) {
        self.kill_at = Some(Instant::now() + time);
    }

    /// Tell client `id` alone.
    pub fn tell(&mut self, id: u64, message: &Tell, descriptors: &[BorrowedFd<'_>]) {
        self.clients.tell(id, message, descriptors, &mut self.streams);
    }

    /// Tell everybody who watches.
    pub fn announce(&mut self, message: &Tell) {
        self.ended = Some(message).filter(|said| matches!(said, Tell::Exited { .. })).cloned();
        for id in self.watching() {
            self.tell(id, message, &[]);
        }
    }

    /// Tell client `id`, or everybody who watches, that the payload runs.
    pub fn introduce(&mut self, id: Option<u64>, subject: Subject<'_>) {
        self.ended = None;
        for id in id.map_or_else(|| self.watching(), |id| vec![id]) {
            let input = self.input(id);
            let descriptors = [Some(subject.pidfd), input.as_ref().map(AsFd::as_fd)];
            let descriptors: Vec<_> = descriptors.into_iter().flatten().collect();
            self.tell(id, &Tell::Started { pid: subject.pid.as_raw_pid() }, &descriptors);
        }
    }

    fn watching(&self) -> Vec<u64> {
        self.clients.all.iter().filter(|client| client.watches).map(|client| client.id).collect()
    }

    /// The way to stdin for client `id`; in the foreground the only one: then its closing is the end of the input.
    fn input(&mut self, id: u64) -> Option<OwnedFd> {
        let client = self.clients.all.iter().find(|client| client.id == id && client.input)?;
        match client.foreground && !self.tty {
            true => self.input.take(),
            false => self.input.as_ref().and_then(|input| duplicate(input).ok()),
        }
    }

    /// Somebody wanted it to end.
    pub fn was_stopped(&self) -> bool {
        self.stopped
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
            self.move_output(&ready.streams, subject);
            let line = subject.is_some_and(|subject| event::serve(subject.networks, &ready.lines));
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
            if line {
                return Ok(Event::Line);
            }
            let due = due.is_some_and(|due| due <= Instant::now()).then_some(Event::Due);
            if let Some(event) = ready.checked.then_some(Event::Checked).or(due) {
                return Ok(event);
            }
            // Last: a payload that never stops talking holds nothing up.
            if let (Some(listener), true) = (&self.listener, ready.noticed) {
                return Ok(Event::Notice(listener.hear()));
            }
        }
    }

    /// After the end: what readers have not taken yet, until they have or are gone.
    pub fn flush(mut self) {
        // Whoever comes now is told by the container's files, and who has all is not kept waiting.
        drop(self.door);
        self.streams.retain_mut(Stream::flush);
        while !self.streams.is_empty() {
            self.clients.all.retain(|client| self.streams.iter().any(|stream| stream.serves(client.id)));
            let waits: Vec<_> = self.streams.iter().flat_map(Stream::waits_for).collect();
            let outputs = waits.iter().filter(|(_, flags)| *flags == PollFlags::OUT);
            let mut fds: Vec<_> = outputs.map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
            let outputs = fds.len();
            fds.extend(self.clients.all.iter().map(|client| PollFd::new(&client.channel, PollFlags::IN)));
            let due = self.streams.iter().filter_map(Stream::last_due).min();
            if outputs == 0 || poll(&mut fds, due.map(remaining).as_ref()).is_err() {
                return;
            }
            let lines = self.clients.all.iter().zip(&fds[outputs..]);
            let gone = lines.filter(|(_, line)| line.revents().contains(PollFlags::HUP));
            let gone: Vec<u64> = gone.map(|(client, _)| client.id).collect();
            drop(fds);
            for id in gone {
                self.clients.dismiss(id, &mut self.streams);
            }
            self.streams.retain_mut(Stream::flush);
        }
    }

    fn wait(&self, subject: Option<Subject<'_>>, due: Option<Instant>) -> Result<Ready> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.door, PollFlags::IN)];
        fds.extend(self.clients.all.iter().map(|client| PollFd::new(&client.channel, PollFlags::IN)));
        fds.extend(subject.iter().map(|s| PollFd::from_borrowed_fd(s.pidfd, PollFlags::IN)));
        let check = subject.and_then(|subject| subject.check);
        fds.extend(check.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let listener = fds.len();
        fds.extend(self.listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        let lines = fds.len();
        let watched =
            subject.into_iter().flat_map(|subject| subject.networks).filter_map(Membership::watched);
        fds.extend(watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let first = fds.len();
        let waits: Vec<Vec<_>> = self.streams.iter().map(|stream| stream.waits_for().collect()).collect();
        fds.extend(waits.iter().flatten().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
        let next = self.kill_at.filter(|_| subject.is_some()).into_iter().chain(due);
        match poll(&mut fds, next.min().map(remaining).as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(errno) => return Err(errno).context("poll"),
        }
        let ready = |at: usize| !fds[at].revents().is_empty();
        let (clients, mut each) = (2 + self.clients.all.len(), (first..fds.len()).map(ready));
        Ok(Ready {
            signals: ready(0),
            door: ready(1),
            clients: (2..clients).map(ready).collect(),
            ended: subject.is_some() && ready(clients),
            checked: check.is_some() && ready(clients + 1),
            noticed: self.listener.is_some() && ready(listener),
            lines: (lines..first).map(ready).collect(),
            streams: waits
                .iter()
                .map(|of| each.by_ref().take(of.len()).filter(|ready| *ready).count() > 0)
                .collect(),
        })
    }

    fn take_signals(&mut self, subject: Option<Subject<'_>>) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo != KNOCK as u32 {
                self.begin_stop(subject, None, None);
            } else if let Ok(door) = open_second_door(&self.dir) {
                self.door = door;
            }
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
            // A paused one could not obey.
            let _ = pause::resume(&self.dir);
        }
    }

    fn hear(&mut self, ready: &[bool], subject: Option<Subject<'_>>) -> Option<Event> {
        let mut event = None;
        for at in (0..ready.len()).rev().filter(|at| ready[*at]) {
            let Client { id, foreground, .. } = self.clients.all[at];
            match self.clients.all[at].channel.hear::<Ask>() {
                Ok(Some((ask, descriptors))) => {
                    event = self.answer(at, ask, descriptors, subject).or(event);
                }
                // Closed, or it talks nonsense.
                _ => {
                    self.clients.dismiss(id, &mut self.streams);
                    if foreground {
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
        let client = &mut self.clients.all[at];
        let id = client.id;
        match ask {
            Ask::Attach { input } => {
                if let Ok(streams) = <[OwnedFd; 2]>::try_from(descriptors) {
                    client.watches = true;
                    self.attach(id, streams.map(Some), input);
                    let input = self.input(id);
                    self.tell(id, &Tell::Attached, &input.iter().map(AsFd::as_fd).collect::<Vec<_>>());
                }
            }
            Ask::Detach => {
                if client.foreground {
                    super::pump::leave_streams();
                }
                self.clients.dismiss(id, &mut self.streams);
            }
            Ask::Stop { signal, milliseconds } => {
                client.watches = true;
                self.begin_stop(subject, signal, milliseconds.map(Duration::from_millis));
            }
            Ask::Signal(number) => {
                // What the user killed is not started again (podman-run(1), `--restart`). Unlike Podman we don't take
                // every signal for a wish to end: one that it survives, a SIGUSR1 or SIGHUP, changes nothing.
                self.stopped |= ENDING.contains(&number) || number == self.stop.0;
                self.sent = Some(number);
                if let Some(subject) = subject {
                    let _ = crate::sys::signal::send(subject.pidfd, number);
                    if ENDING.contains(&number) {
                        // A paused one could not obey.
                        let _ = pause::resume(&self.dir);
                    }
                }
                self.tell(id, &Tell::Done, &[]);
            }
            Ask::Watch => {
                client.watches = true;
                let said = self.ended.clone().unwrap_or(Tell::Done);
                self.tell(id, &said, &[]);
            }
            Ask::Go { foreground } => {
                (client.watches, client.foreground) = (true, foreground);
                return Some(Event::Go);
            }
            Ask::Reload => {
                self.tell(id, &Tell::Done, &[]);
                return Some(Event::Reload);
            }
            Ask::Networks if subject.is_some() => return Some(Event::Networks(id)),
            // The next start reads the record.
            Ask::Networks => {
                self.tell(id, &Tell::Done, &[]);
                return Some(Event::Reload);
            }
        }
        None
    }
}
