//! What a container prints: read once, kept in the log, passed on to everybody who is attached.
//!
//! The one who started the container in the foreground is waited for: while it takes nothing, the container's pipe fills
//! up, as in any pipeline. Others are waited for as long as they take something: one that is behind by [`BEHIND`] bytes and
//! has taken nothing for [`PATIENCE`] is let go.

use super::{log::Log, log_line::Kind};
use anyhow::Error;
use rustix::{
    event::PollFlags,
    fs::{CWD, FileType, Mode, OFlags, fstat, openat},
    io::{Errno, read, write},
    net::{SendFlags, send},
};
use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

/// Bytes that one reader may be behind before it is waited for.
const BEHIND: usize = 1 << 20;
/// How long for one that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that a pipe may hold after its writers' end (fcntl(2), F_SETPIPE_SZ, for users).
const MOST_LEFT: usize = 2 << 20;
/// Bytes read at once.
const CHUNK: usize = 128 << 10;
/// What a pipe that polls as writable takes at least without blocking (pipe(7), PIPE_BUF).
const SURE: usize = 4096;

/// One stream of a container.
#[derive(Debug)]
pub struct Stream {
    /// Which.
    pub kind: Kind,
    from: OwnedFd,
    /// Nothing more comes; readers may still be behind.
    ended: bool,
    sinks: Vec<Sink>,
}

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Flow {
    /// More may come.
    Open,
    /// All has been read and passed on.
    Closed,
    /// The foreground reader is gone: nobody is to print into the void.
    Lost,
    /// The foreground reader takes no more, for this reason.
    Failed(Errno),
}

impl Flow {
    /// Why the reader takes no more.
    pub fn failure(&self) -> Option<Errno> {
        match self {
            Flow::Failed(errno) => Some(*errno),
            _ => None,
        }
    }
}

impl Stream {
    /// What comes from `from`, which never blocks.
    pub fn new(kind: Kind, from: OwnedFd) -> Stream {
        Stream { kind, from, ended: false, sinks: Vec::new() }
    }

    /// Pass on to `to`, for client `client`; `foreground`: wait for it.
    pub fn attach(&mut self, client: u64, to: OwnedFd, foreground: bool) {
        self.sinks.push(Sink::new(client, to, foreground));
    }

    /// Client `client` gets no more.
    pub fn detach(&mut self, client: u64) {
        self.sinks.retain(|sink| sink.client != client);
    }

    /// What to wait for before the next [`Stream::step`]: the stream itself, and readers that are behind.
    pub fn waits_for(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let held = self.sinks.iter().any(Sink::holds);
        let own = (!held && !self.ended).then_some((self.from.as_fd(), PollFlags::IN));
        let behind = self.sinks.iter().filter(|sink| !sink.queue.is_empty());
        own.into_iter().chain(behind.map(|sink| (sink.to.as_fd(), PollFlags::OUT)))
    }

    /// When a reader that takes nothing is let go.
    pub fn due(&self) -> Option<Instant> {
        self.sinks.iter().filter(|sink| sink.holds()).filter_map(Sink::due).min()
    }

    /// The same after the end, when all that are behind are waited for.
    pub fn last_due(&self) -> Option<Instant> {
        self.sinks.iter().filter_map(Sink::due).min()
    }

    /// Move what can be moved now. `buffer` is scratch of any contents; clients that fell behind are added to `lagging`.
    pub fn step(&mut self, log: &mut Log, buffer: &mut Vec<u8>, lagging: &mut Vec<u64>) -> Flow {
        for sink in &mut self.sinks {
            sink.flush();
        }
        let stuck = |sink: &Sink| sink.holds() && sink.due().is_some_and(|due| due <= Instant::now());
        lagging.extend(self.sinks.iter().filter(|sink| stuck(sink)).map(|sink| sink.client));
        self.sinks.retain(|sink| !stuck(sink));
        if !self.ended && !self.sinks.iter().any(Sink::holds) {
            buffer.resize(CHUNK, 0);
            match read(&self.from, &mut buffer[..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.pass(log, &buffer[..count]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Flow::Failed(errno),
            }
        }
        let behind = self.sinks.iter().any(|sink| !sink.queue.is_empty());
        match self.fate() {
            Some(flow) => flow,
            None if self.ended && !behind => Flow::Closed,
            None => Flow::Open,
        }
    }

    /// After every writer is dead: what is left in the pipe is all there is, and no more than a pipe holds. Somebody outside
    /// who has its other end is not waited for.
    pub fn drain(&mut self, log: &mut Log, buffer: &mut Vec<u8>) {
        buffer.resize(CHUNK, 0);
        for _ in 0..MOST_LEFT / CHUNK {
            match read(&self.from, &mut buffer[..]) {
                Ok(count @ 1..) => self.pass(log, &buffer[..count]),
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Pass on what readers have not taken yet; whether there is still something.
    pub fn flush(&mut self) -> bool {
        self.sinks.iter_mut().for_each(Sink::flush);
        let now = Instant::now();
        self.sinks.retain(|sink| !sink.queue.is_empty() && sink.due().is_none_or(|due| due > now));
        !self.sinks.is_empty()
    }

    fn pass(&mut self, log: &mut Log, text: &[u8]) {
        // A log that can't be written must not stop the container; `logs` shows what there is.
        let _: Result<(), Error> = log.keep(self.kind, text);
        for sink in &mut self.sinks {
            sink.push(text);
        }
        self.sinks.retain(|sink| sink.foreground || sink.failed.is_none());
    }

    /// What became of the foreground reader, if something did.
    pub fn fate(&self) -> Option<Flow> {
        let failed = self.sinks.iter().filter(|sink| sink.foreground).find_map(|sink| sink.failed)?;
        Some(if failed == Errno::PIPE { Flow::Lost } else { Flow::Failed(failed) })
    }
}

/// One reader of one stream.
#[derive(Debug)]
struct Sink {
    client: u64,
    to: OwnedFd,
    way: Way,
    foreground: bool,
    queue: Vec<u8>,
    /// When it took something last.
    since: Instant,
    failed: Option<Errno>,
}

/// How to write without waiting for a reader. `to` is shared with other processes, so its flags are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// An opening of our own, which never blocks.
    Own,
    /// A socket: each call says so.
    Socket,
    /// A file never keeps anybody waiting.
    File,
    /// Little at a time, when poll(2) says so.
    Careful,
}

impl Sink {
    fn new(client: u64, to: OwnedFd, foreground: bool) -> Sink {
        let kind = fstat(&to).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let (to, way) = match kind {
            Ok(FileType::RegularFile) => (to, Way::File),
            Ok(FileType::Socket) => (to, Way::Socket),
            Ok(FileType::Fifo | FileType::CharacterDevice) => {
                let path = format!("/proc/self/fd/{}", to.as_raw_fd());
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                match openat(CWD, path, flags, Mode::empty()) {
                    Ok(own) => (own, Way::Own),
                    // Another user's, as under sudo.
                    Err(_) => (to, Way::Careful),
                }
            }
            _ => (to, Way::Careful),
        };
        Sink { client, to, way, foreground, queue: Vec::new(), since: Instant::now(), failed: None }
    }

    /// Whether the container has to wait for this reader.
    fn holds(&self) -> bool {
        let most = if self.foreground { 0 } else { BEHIND };
        self.failed.is_none() && self.queue.len() > most
    }

    /// When it is let go unless it takes something.
    fn due(&self) -> Option<Instant> {
        (!self.foreground).then(|| self.since + PATIENCE)
    }

    fn push(&mut self, text: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        let idle = self.queue.is_empty();
        let taken = if idle { self.take(text) } else { 0 };
        if idle {
            self.since = Instant::now();
        }
        self.queue.extend_from_slice(&text[taken..]);
    }

    fn flush(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let queue = std::mem::take(&mut self.queue);
        let taken = self.take(&queue);
        if taken > 0 {
            self.since = Instant::now();
        }
        if self.failed.is_none() {
            self.queue.extend_from_slice(&queue[taken..]);
        }
    }

    /// How much of `text` the reader took.
    fn take(&mut self, text: &[u8]) -> usize {
        let mut taken = 0;
        while taken < text.len() && self.failed.is_none() {
            let rest = &text[taken..];
            let written = match self.way {
                Way::Own | Way::File => write(&self.to, rest),
                Way::Socket => send(&self.to, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
                Way::Careful if is_writable(self.to.as_fd()) => {
                    write(&self.to, &rest[..rest.len().min(SURE)])
                }
                Way::Careful => Err(Errno::AGAIN),
            };
            match written {
                Ok(count) => taken += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => self.failed = Some(errno),
            }
        }
        taken
    }
}

fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}
