//! What a container prints: read once, kept in the log, passed on to everybody who is attached.
//!
//! The one who started the container in the foreground is waited for: while it takes nothing, the container's pipe fills
//! up, as in any pipeline. Nobody else is: a reader that falls behind by [`BEHIND`] bytes is let go.

use super::{log::Log, log_line::Kind};
use anyhow::Error;
use rustix::{
    event::PollFlags,
    fs::{CWD, FileType, Mode, OFlags, fstat, openat},
    io::{Errno, read, write},
    net::{SendFlags, send},
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Bytes that one reader may be behind before it is let go.
const BEHIND: usize = 1 << 20;
/// Bytes that a pipe may hold after its writers' end (fcntl(2), F_SETPIPE_SZ, for users).
const MOST_LEFT: usize = 2 << 20;
/// Bytes read at once: what a pipe holds.
const CHUNK: usize = 64 << 10;
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

    /// Move what can be moved now. `buffer` is scratch of any contents; clients that fell behind are added to `lagging`.
    pub fn step(&mut self, log: &mut Log, buffer: &mut Vec<u8>, lagging: &mut Vec<u64>) -> Flow {
        for sink in &mut self.sinks {
            sink.flush();
        }
        if !self.ended && !self.sinks.iter().any(Sink::holds) {
            buffer.resize(CHUNK, 0);
            match read(&self.from, &mut buffer[..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.pass(log, &buffer[..count], lagging),
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
    pub fn drain(&mut self, log: &mut Log, buffer: &mut Vec<u8>, lagging: &mut Vec<u64>) {
        buffer.resize(CHUNK, 0);
        for _ in 0..MOST_LEFT / CHUNK {
            match read(&self.from, &mut buffer[..]) {
                Ok(count @ 1..) => self.pass(log, &buffer[..count], lagging),
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Pass on what readers have not taken yet; whether there is still something.
    pub fn flush(&mut self) -> bool {
        self.sinks.iter_mut().for_each(Sink::flush);
        self.sinks.retain(|sink| !sink.queue.is_empty());
        !self.sinks.is_empty()
    }

    fn pass(&mut self, log: &mut Log, text: &[u8], lagging: &mut Vec<u64>) {
        // A log that can't be written must not stop the container; `logs` shows what there is.
        let _: Result<(), Error> = log.keep(self.kind, text);
        for sink in &mut self.sinks {
            sink.push(text);
        }
        let behind = self.sinks.iter().filter(|sink| !sink.foreground && sink.queue.len() > BEHIND);
        lagging.extend(behind.map(|sink| sink.client));
        self.sinks.retain(|sink| sink.foreground || (sink.failed.is_none() && sink.queue.len() <= BEHIND));
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
        Sink { client, to, way, foreground, queue: Vec::new(), failed: None }
    }

    /// Whether the container has to wait for this reader.
    fn holds(&self) -> bool {
        self.foreground && self.failed.is_none() && !self.queue.is_empty()
    }

    fn push(&mut self, text: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        let taken = if self.queue.is_empty() { self.take(text) } else { 0 };
        self.queue.extend_from_slice(&text[taken..]);
    }

    fn flush(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let queue = std::mem::take(&mut self.queue);
        let taken = self.take(&queue);
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
