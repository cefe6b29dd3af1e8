//! What a monitor and its clients say to each other: JSON in the packets of a local socket, descriptors alongside. The
//! socket lies in a directory that only its user can enter, and a monitor looks at whose client it is.

use crate::{container::state::Status, error::Explain, storage::ContainerDir, weakened};
use anyhow::{Context, Error, Result, anyhow};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::{
    fs::{Mode, OFlags, open},
    io::{Errno, IoSlice, IoSliceMut},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
        listen, recvmsg, sendmsg, socket_with, socketpair, sockopt::socket_peercred,
    },
    process::geteuid,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// What a client asks of a monitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Output from now on to the two descriptors sent along; answered by [`Tell::Attached`].
    Attach {
        /// The way to the container's stdin is asked for, too, now and after each start.
        input: bool,
    },
    /// The client leaves; the container goes on without it.
    Detach,
    /// Ask the container to end, kill it after so many milliseconds, and don't start it again.
    Stop {
        /// In place of the container's stop signal.
        signal: Option<i32>,
        /// In place of the container's stop timeout.
        milliseconds: Option<u64>,
    },
    /// Send the container's first process this signal.
    Signal(i32),
    /// Tell me of each end and each start ([`Tell::Exited`], [`Tell::Started`]).
    Watch,
    /// What was set up by `init` may go on.
    Go {
        /// It ends with the client that asks.
        foreground: bool,
    },
    /// The record was changed: read it again.
    Reload,
}

/// What a monitor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tell {
    /// The payload runs; its process's pidfd comes along, and the way to its stdin for those who asked for it.
    Started {
        /// Its process id.
        pid: i32,
    },
    /// It could not be started.
    Failed(Told),
    /// The way to the container's stdin comes along, if it was asked for and there is one.
    Attached,
    /// It has been done.
    Done,
    /// You took no output for too long: you get no more.
    LetGo,
    /// It ended, and this time for good unless `restarts`.
    Exited {
        /// Exit status, or 128 + the number of the signal that ended it.
        code: u8,
        /// Why what it printed could not all be passed on to the one who started it: an errno.
        lost: Option<i32>,
        /// It is started again.
        restarts: bool,
    },
    /// Its health changed.
    Health(String),
    /// For the service manager, which believes the one alone who started it.
    Notify(String),
}

/// An error on its way to the one who reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    message: String,
    hint: Option<String>,
    status: u8,
}

impl Told {
    /// Ready for the way.
    pub fn of(failure: &Error) -> Told {
        Told {
            message: clip(format!("{failure:#}")),
            hint: crate::error::hint(failure).map(|hint| clip(hint.to_owned())),
            status: crate::error::status(failure),
        }
    }

    /// Back from the way.
    pub fn into_error(self) -> Error {
        let failure: Result<()> = Err(anyhow!(self.message)).status(self.status);
        let failure = match self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        };
        failure.err().unwrap_or_else(|| anyhow!("no failure"))
    }
}

/// One end of a conversation.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub fn pair() -> Result<(Channel, Channel)> {
        let ends = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (one, other) = ends.context("make a pair of sockets")?;
        Ok((Channel(one), Channel(other)))
    }

    /// To the monitor of `dir`; `None` when it has none that listens.
    pub fn to(dir: &ContainerDir) -> Result<Option<Channel>> {
        if let Some(channel) = Channel::through(&dir.socket_file())? {
            return Ok(Some(channel));
        }
        let second = dir.second_socket_file();
        let begin = Instant::now();
        while dir.is_alive()? && begin.elapsed() < PATIENCE {
            if let Some(channel) = Channel::through(&second)? {
                return Ok(Some(channel));
            }
            if !knock(Status::of(dir)?.monitor()) {
                break;
            }
            sleep(PATIENCE / 1000);
        }
        Ok(None)
    }

    fn through(file: &Path) -> Result<Option<Channel>> {
        let socket = make()?;
        match by_directory(file, |address| connect(&socket, address)) {
            Ok(()) => Ok(Some(Channel(socket))),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            Err(errno) => Err(errno).with_context(|| format!("connect to {}", file.display())),
        }
    }

    /// Say `message`, with `descriptors`. Never waits: who doesn't listen is as good as gone.
    pub fn say(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let bytes = serde_json::to_vec(message).context("encode a message")?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, flags).context("send a message")?;
        Ok(())
    }

    /// The next message and the descriptors that came along; `None` when the other end is closed. Waits for it.
    pub fn hear<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = loop {
            let flags = RecvFlags::CMSG_CLOEXEC;
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
                Ok(message) => break message.bytes,
                // The other end was closed with messages of ours unread; what it said before is still to be heard.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(errno) => return Err(errno).context("receive a message"),
            }
        };
        if length == 0 {
            return Ok(None);
        }
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors = descriptors.flatten().collect();
        let message = serde_json::from_slice(&bytes[..length]).context("understand a message")?;
        Ok(Some((message, descriptors)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where clients of a monitor come in.
#[derive(Debug)]
pub struct Door(OwnedFd);

impl Door {
    /// For the container in `dir`, whose lock we hold: what is there is of a dead monitor.
    pub fn open(dir: &ContainerDir) -> Result<Door> {
        Door::at(&dir.socket_file())
    }

    /// Where nothing takes it away; the first may be gone with its directory.
    pub fn reopen(dir: &ContainerDir) -> Result<Door> {
        Door::at(&dir.second_socket_file())
    }

    fn at(file: &Path) -> Result<Door> {
        let socket = make()?;
        let _ = std::fs::remove_file(file);
        by_directory(file, |address| bind(&socket, address))
            .and_then(|()| listen(&socket, 64))
            .with_context(|| format!("listen at {}", file.display()))?;
        Ok(Door(socket))
    }

    /// The next who came in, if it is still there.
    pub fn next(&self) -> Option<Channel> {
        let client = accept_with(&self.0, SocketFlags::CLOEXEC).ok()?;
        // The directory keeps others out; should somebody open it, they still have no orders to give.
        let uid = socket_peercred(&client).ok()?.uid;
        (uid == geteuid() || uid.is_root() || weakened::is("peer-uid")).then_some(Channel(client))
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// As long as a monitor may take to open its second door.
const PATIENCE: Duration = Duration::from_secs(1);
/// What it hears.
pub(super) const KNOCK: Signal = Signal::SIGUSR1;

/// Ask the monitor of this process id for its second door; whether there is one to ask.
fn knock(monitor: i32) -> bool {
    // By then the number may be another's, who would not know the signal.
    let name = std::fs::read_to_string(format!("/proc/{monitor}/comm")).unwrap_or_default();
    name.trim_end() == "ctr-monitor" && kill(Pid::from_raw(monitor), KNOCK).is_ok()
}

/// Bytes of a message.
const LONGEST: usize = 16 << 10;
/// Bytes of an error or a hint, which may name what an image says; JSON takes up to six for one.
const WORDS: usize = 1 << 10;

/// Without its middle: the operation is at the front, the cause at the end.
fn clip(words: String) -> String {
    if words.len() <= WORDS {
        return words;
    }
    let (head, tail) =
        (words.floor_char_boundary(WORDS / 2), words.ceil_char_boundary(words.len() - WORDS / 2));
    format!("{}…{}", &words[..head], &words[tail..])
}

/// Descriptors of a message.
const DESCRIPTORS: usize = 4;

fn make() -> Result<OwnedFd> {
    let made = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    made.context("make a socket")
}

/// A socket's address holds 107 bytes; by the descriptor of its directory it is always short enough.
pub(super) fn by_directory(
    file: &Path,
    act: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let (Some(parent), Some(name)) = (file.parent(), file.file_name()) else { return Err(Errno::INVAL) };
    let parent = open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{}", parent.as_raw_fd(), name.to_string_lossy());
    act(&SocketAddrUnix::new(path)?)
}
