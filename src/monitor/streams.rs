//! What a container prints: read once, kept in the log, passed on to everybody who is attached.
//!
//! The one who started the container in the foreground is waited for: while it takes nothing, the container's pipe fills
//! up, as in any pipeline. Nobody waits for others: one that is behind by [`BEHIND`] bytes is let go.

use super::{
    log::Log,
    log_line::Kind,
    pump::{PIPE, is_pipe},
};
use anyhow::Error;
use rustix::{
    buffer::spare_capacity,
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, FileType, Mode, OFlags, fstat, openat},
    io::{Errno, read, write},
    net::{SendFlags, send},
    pipe::{SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, splice},
};
use std::{
    collections::VecDeque,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

/// Bytes that one reader may be behind before it is let go.
const BEHIND: usize = 8 << 20;
/// How long one that takes nothing is waited for after the end.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that a pipe may hold after its writers' end (fcntl(2), F_SETPIPE_SZ, for users).
const MOST_LEFT: usize = 2 << 20;
/// Bytes read at once.
const CHUNK: usize = 128 << 10;
/// Bytes that a pipe holds unless somebody changed that.
const USUAL: usize = 64 << 10;
/// Bytes moved at once from pipe to pipe: what the largest holds.
const STRAIGHT: usize = 1 << 20;
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
    /// It is a pipe.
    pipe: bool,
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
        let pipe = is_pipe(&from);
        Stream { kind, from, ended: false, pipe, sinks: Vec::new() }
    }

    /// Pass on to `to`, for client `client`; `foreground`: wait for it.
    pub fn attach(&mut self, client: u64, to: OwnedFd, foreground: bool) {
        self.sinks.push(Sink::new(client, to, foreground));
    }

    /// Go on where `before` ended, with its readers.
    pub fn inherit(&mut self, before: Stream) {
        self.sinks = before.sinks;
    }

    /// Client `client` gets no more.
    pub fn detach(&mut self, client: u64) {
        self.sinks.retain(|sink| sink.client != client);
    }

    /// Client `client` has not taken all yet.
    pub fn serves(&self, client: u64) -> bool {
        self.sinks.iter().any(|sink| sink.client == client)
    }

    /// What to wait for before the next [`Stream::step`]: the stream itself, and readers that are behind.
    pub fn waits_for(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let held = self.sinks.iter().any(|sink| sink.holds() || sink.full);
        let own = (!held && !self.ended).then_some((self.from.as_fd(), PollFlags::IN));
        let behind = self.sinks.iter().filter(|sink| sink.full || !sink.queue.is_empty());
        own.into_iter().chain(behind.map(|sink| (sink.to.as_fd(), PollFlags::OUT)))
    }

    /// After the end, when all that are behind are waited for: when one that takes nothing is let go.
    pub fn last_due(&self) -> Option<Instant> {
        self.sinks.iter().filter_map(Sink::due).min()
    }

    /// Move what can be moved now. `buffer` is scratch of any contents; clients that fell behind are added to `lagging`.
    pub fn step(&mut self, log: &mut Log, buffer: &mut Vec<u8>, lagging: &mut Vec<u64>) -> Flow {
        for sink in &mut self.sinks {
            sink.flush();
        }
        if !self.ended && !self.sinks.iter().any(Sink::holds) {
            let moved = match self.straight(log) {
                Some(moved) => moved,
                None => {
                    self.sinks.iter_mut().for_each(|sink| sink.full = false);
                    fill(buffer, &self.from).inspect(|_| self.pass(log, buffer))
                }
            };
            match moved {
                Ok(0) => self.ended = true,
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Flow::Failed(errno),
            }
            lagging.extend(self.sinks.iter().filter(|sink| sink.lags()).map(|sink| sink.client));
            self.sinks.retain(|sink| !sink.lags());
        }
        let behind = self.sinks.iter().any(|sink| !sink.queue.is_empty());
        match self.fate() {
            Some(flow) => flow,
            None if self.ended && !behind => Flow::Closed,
            None => Flow::Open,
        }
    }

    /// From pipe to pipe inside the kernel, when nobody else wants it; `None` when that can't be.
    fn straight(&mut self, log: &Log) -> Option<rustix::io::Result<usize>> {
        let [sink] = &mut self.sinks[..] else { return None };
        if !self.pipe
            || !matches!(log, Log::Nowhere)
            || !sink.pipe
            || !sink.foreground
            || sink.failed.is_some()
        {
            return None;
        }
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = splice(&self.from, None, &sink.to, None, STRAIGHT, flags);
        sink.full = match moved {
            // One that was full before will be again.
            Ok(1..) => sink.full,
            // Which of the two isn't ready it doesn't say.
            Err(Errno::AGAIN) => is_ready(self.from.as_fd(), PollFlags::IN),
            _ => false,
        };
        if sink.full {
            sink.widen();
        }
        match moved {
            // What is left is read and found to be too much for a reader that is gone.
            Err(Errno::PIPE) => None,
            moved => Some(moved),
        }
    }

    /// After every writer is dead: what is left in the pipe is all there is, and no more than a pipe holds. Somebody outside
    /// who has its other end is not waited for.
    pub fn drain(&mut self, log: &mut Log, buffer: &mut Vec<u8>) {
        for _ in 0..MOST_LEFT / CHUNK {
            match fill(buffer, &self.from) {
                Ok(1..) => self.pass(log, buffer),
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Pass on what readers have not taken yet; whether there is still something.
    pub fn flush(&mut self) -> bool {
        self.sinks.iter_mut().for_each(|sink| sink.full = false);
        self.sinks.iter_mut().for_each(Sink::flush);
        let now = Instant::now();
        self.sinks.retain(|sink| !sink.queue.is_empty() && sink.due().is_none_or(|due| due > now));
        !self.sinks.is_empty()
    }

    fn pass(&mut self, log: &mut Log, text: &[u8]) {
        // Many a container prints nothing: no clock, no time zone, no search for the end of a line then.
        if text.is_empty() {
            return;
        }
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
    pipe: bool,
    foreground: bool,
    queue: VecDeque<u8>,
    /// It is a pipe that took no more.
    full: bool,
    widened: bool,
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
        let pipe = kind == Ok(FileType::Fifo);
        let (queue, since) = (VecDeque::new(), Instant::now());
        Sink { client, to, way, pipe, foreground, queue, full: false, widened: false, since, failed: None }
    }

    /// Whether the container has to wait for this reader.
    fn holds(&self) -> bool {
        self.foreground && self.failed.is_none() && !self.queue.is_empty()
    }

    /// Whether it is too far behind.
    fn lags(&self) -> bool {
        !self.foreground && self.queue.len() > BEHIND
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
        self.queue.extend(&text[taken..]);
    }

    fn flush(&mut self) {
        while !self.queue.is_empty() {
            let mut queue = std::mem::take(&mut self.queue);
            let next = queue.as_slices().0;
            let (length, taken) = (next.len(), self.take(next));
            if taken > 0 {
                self.since = Instant::now();
            }
            queue.drain(..taken);
            // What it needed while it was behind is given back.
            if self.failed.is_none() && !queue.is_empty() {
                self.queue = queue;
            }
            if taken < length {
                return;
            }
        }
    }

    /// It took no more: a pipe of the usual size (pipe(7)) becomes as wide as the container's own, so that each side is
    /// woken up less often. One that somebody made another size stays so.
    fn widen(&mut self) {
        if self.pipe && self.foreground && !std::mem::replace(&mut self.widened, true) {
            let usual = fcntl_getpipe_size(&self.to) == Ok(USUAL);
            let _ = usual.then(|| fcntl_setpipe_size(&self.to, PIPE));
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
                Way::Careful if is_ready(self.to.as_fd(), PollFlags::OUT) => {
                    write(&self.to, &rest[..rest.len().min(SURE)])
                }
                Way::Careful => Err(Errno::AGAIN),
            };
            match written {
                Ok(count) => taken += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.widen();
                    break;
                }
                Err(errno) => self.failed = Some(errno),
            }
        }
        taken
    }
}

fn is_ready(fd: BorrowedFd<'_>, what: PollFlags) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(fd, what)], Some(&now)).is_ok_and(|ready| ready > 0)
}
/// Read into `buffer`, whose memory is touched as far as there is something to read and no further.
fn fill(buffer: &mut Vec<u8>, from: &OwnedFd) -> rustix::io::Result<usize> {
    buffer.clear();
    buffer.reserve(CHUNK);
    read(from, spare_capacity(buffer))
}
