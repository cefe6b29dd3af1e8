//! Between a service manager and a payload: datagrams of sd_notify(3). A payload talks to a socket of ours, and what it says
//! of itself is passed on line by line; what only the host can know (MAINPID) or lead elsewhere (descriptors) is not.

use super::{control::Tell, watch::Watch};
use crate::{
    container::{
        record::Record,
        service::{Notify, Service},
    },
    sys::channel::by_directory,
};
use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use std::{
    fs::{self, Permissions},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The service manager, as far as it listens.
#[derive(Debug)]
pub struct Manager(SocketAddr);

impl Manager {
    /// The one that waits for news of the container of `record`.
    pub fn of(record: &Record) -> Option<Manager> {
        if record.sdnotify == Notify::Ignore {
            return None;
        }
        let name = std::env::var("NOTIFY_SOCKET").ok()?;
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&name),
        };
        address.ok().map(Manager)
    }

    /// Tell it. One that doesn't hear doesn't want to.
    pub fn say(&self, text: &str) {
        let send = || {
            let socket = UnixDatagram::unbound()?;
            // A reload keeps systemd busy for seconds; the container doesn't wait for ever.
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.send_to_addr(text.as_bytes(), &self.0)
        };
        let _ = send();
    }
}

/// The monitor's way to the service manager.
#[derive(Debug)]
pub struct Herald {
    manager: Manager,
    /// The client that it listens to, if that stays.
    teller: Option<u64>,
    ready: Notify,
    /// Its watchdog, where we answer for the container.
    watchdog: Option<Watchdog>,
}

/// A service manager's watchdog (sd_watchdog_enabled(3)).
#[derive(Debug)]
struct Watchdog {
    every: Duration,
    due: Instant,
}

impl Herald {
    /// For the container of `record`; `None` when nobody waits for news.
    pub fn new(record: &Record, service: &Service, teller: Option<u64>) -> Option<Herald> {
        let ready = record.sdnotify;
        let answers = matches!(ready, Notify::Conmon | Notify::Healthy);
        // Twice in its time, as that page has it.
        let watchdog = service.watchdog().filter(|_| answers).map(|time| time / 2);
        let watchdog = watchdog.map(|every| Watchdog { every, due: Instant::now() + every });
        Some(Herald { manager: Manager::of(record)?, teller, ready, watchdog })
    }

    /// When the watchdog wants to be fed.
    pub fn due(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due)
    }

    /// Feed the watchdog if it is time; `well`: as far as health checks know.
    pub fn feed(&mut self, watch: &mut Watch, well: bool) {
        let now = Instant::now();
        let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.due <= now) else { return };
        watchdog.due = now + watchdog.every;
        if well || self.ready != Notify::Healthy {
            self.tell(watch, "WATCHDOG=1");
        }
    }

    /// The container is ready, for those who asked for `when`.
    pub fn ready(&self, watch: &mut Watch, when: Notify) {
        if self.ready == when {
            self.tell(watch, "READY=1");
        }
    }

    /// Tell the manager.
    pub fn tell(&self, watch: &mut Watch, text: &str) {
        match self.teller {
            _ if text.is_empty() => {}
            Some(client) => watch.tell(client, &Tell::Notify(text.to_owned()), &[]),
            None => self.manager.say(text),
        }
    }
}

/// The socket that the payload talks to.
#[derive(Debug)]
pub struct Listener {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Listener {
    /// In the container's directory `dir`, if the payload of `record` is to say that it is ready and somebody waits for that.
    pub fn wanted(dir: &Path, record: &Record) -> Result<Option<Listener>> {
        let wanted = record.sdnotify == Notify::Container && Manager::of(record).is_some();
        wanted.then(|| Listener::open(dir)).transpose()
    }

    fn open(dir: &Path) -> Result<Listener> {
        let path = dir.join("notify");
        // Of an earlier start.
        let _ = fs::remove_file(&path);
        let make = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
            by_directory(&path, |address| bind(&socket, address))?;
            // Whoever the payload becomes; outside, the directory is its user's alone.
            fs::set_permissions(&path, Permissions::from_mode(0o666))?;
            Ok::<_, std::io::Error>(socket.into())
        };
        let socket = make().with_context(|| format!("listen at {}", path.display()))?;
        Ok(Listener { socket, path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the payload said; empty when none of it is for others. Descriptors that came along are closed.
    pub fn hear(&self) -> String {
        let mut bytes = [0; LONGEST];
        let length = self.socket.recv(&mut bytes).unwrap_or(0);
        passed(&String::from_utf8_lossy(&bytes[..length]))
    }
}

impl std::os::fd::AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
/// As many bytes as systemd takes.
const LONGEST: usize = 4096;
const PASSED: [&str; 10] = [
    "READY",
    "RELOADING",
    "STOPPING",
    "STATUS",
    "ERRNO",
    "BUSERROR",
    "WATCHDOG",
    "WATCHDOG_USEC",
    "EXTEND_TIMEOUT_USEC",
    "MONOTONIC_USEC",
];

fn passed(text: &str) -> String {
    let known = |line: &&str| line.split_once('=').is_some_and(|(name, _)| PASSED.contains(&name));
    text.lines().filter(known).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_on() {
        for (said, expected) in [
            ("READY=1", "READY=1"),
            ("READY=1\nSTATUS=up = well\n", "READY=1\nSTATUS=up = well"),
            ("MAINPID=1\nWATCHDOG=1", "WATCHDOG=1"),
            ("FDSTORE=1\nFDNAME=x", ""),
            ("BARRIER=1", ""),
            ("READY", ""),
            ("X_READY=1\nNOTIFYACCESS=all", ""),
            ("", ""),
        ] {
            assert_eq!(passed(said), expected, "{said:?}");
        }
    }
}
