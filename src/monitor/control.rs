//! What a monitor and its clients say to each other: JSON in the packets of a local socket, descriptors alongside. The
//! socket lies in a directory that only its user can enter, and a monitor looks at whose client it is.

pub use crate::sys::channel::{Channel, Door};
use crate::{container::state::Status, error::Explain, storage::ContainerDir};
use anyhow::{Error, Result, anyhow};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use std::{
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
    /// Be in the networks that the record names, and bring back those whose processes are gone; answered by [`Tell::Done`] or
    /// [`Tell::Failed`].
    Networks,
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

/// To the monitor of `dir`; `None` when it has none that listens.
pub fn reach(dir: &ContainerDir) -> Result<Option<Channel>> {
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

/// Where clients of the monitor of `dir` come in; its lock is held by us.
pub(super) fn open_door(dir: &ContainerDir) -> Result<Door> {
    Door::at(&dir.socket_file())
}

/// Where nothing takes it away; the first may be gone with its directory.
pub(super) fn open_second_door(dir: &ContainerDir) -> Result<Door> {
    Door::at(&dir.second_socket_file())
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
