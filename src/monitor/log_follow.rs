//! Waiting for more of containers' logs, until the containers end for good.

use super::control::{Ask, Channel, Tell, reach};
use crate::storage::ContainerDir;
use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::{Errno, read},
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

/// A container whose log is followed.
#[derive(Debug)]
pub struct Follow {
    dir: ContainerDir,
    changes: Option<Changes>,
    line: Option<Channel>,
    ended: bool,
}

impl Follow {
    /// The container in `dir`, whose log is the file `log`, if it is one.
    pub fn begin(dir: ContainerDir, log: Option<&Path>) -> Result<Follow> {
        let changes = log.map(Changes::of).transpose()?;
        let mut follow = Follow { dir, changes, line: None, ended: false };
        follow.connect()?;
        Ok(follow)
    }

    /// Nothing more comes.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The monitor says when it is over. Without one it is over, unless one is just coming.
    fn connect(&mut self) -> Result<()> {
        self.line = reach(&self.dir)?.filter(|line| line.say(&Ask::Watch, &[]).is_ok());
        self.ended = self.line.is_none() && !self.dir.is_alive()?;
        Ok(())
    }

    fn hear(&mut self) -> Result<()> {
        let Some(line) = &self.line else { return self.connect() };
        match line.hear::<Tell>()? {
            Some((Tell::Exited { restarts: false, .. }, _)) => {
                (self.ended, self.line) = (true, None);
                Ok(())
            }
            Some(_) => Ok(()),
            None => self.connect(),
        }
    }
}

/// A file that grows, followed by name.
#[derive(Debug)]
pub struct Changes(OwnedFd);

impl Changes {
    /// Of `file`, which may not exist yet.
    pub fn of(file: &Path) -> Result<Changes> {
        let watching = || format!("watch {}", file.display());
        let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).with_context(watching)?;
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        if let Some(place) = file.parent() {
            inotify::add_watch(&changes, place, flags).with_context(watching)?;
        }
        Ok(Changes(changes))
    }

    /// Until something was written, or it is `due`.
    pub fn wait(&self, due: Option<Instant>) -> Result<()> {
        wait(&mut [], &[self.0.as_fd()], due)?;
        while read(&self.0, &mut [0; 4096]).is_ok() {}
        Ok(())
    }
}

/// Wait until there may be more in one of the logs, in `others`, or until `due`.
pub fn wait(follows: &mut [Follow], others: &[BorrowedFd<'_>], due: Option<Instant>) -> Result<()> {
    let coming = follows.iter().any(|follow| follow.line.is_none() && !follow.ended);
    let next = coming.then(|| Instant::now() + GLANCE).into_iter().chain(due).min();
    let left = next.map(|next| next.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    let watched = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let changes = follows.iter().filter_map(|follow| Some(&follow.changes.as_ref()?.0));
    let mut fds: Vec<_> = changes.map(|changes| watched(changes.as_fd())).collect();
    let watches = fds.len();
    fds.extend(follows.iter().filter_map(|follow| Some(watched(follow.line.as_ref()?.as_fd()))));
    fds.extend(others.iter().map(|fd| watched(*fd)));
    match poll(&mut fds, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno).context("poll"),
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    drop(fds);
    let mut lines = ready[watches..].iter();
    for follow in follows {
        if let Some(Changes(changes)) = &follow.changes {
            while read(changes, &mut [0; 4096]).is_ok() {}
        }
        let speaks = follow.line.is_some() && lines.next() == Some(&true);
        if speaks || (follow.line.is_none() && !follow.ended) {
            follow.hear()?;
        }
    }
    Ok(())
}

/// A container that somebody holds without listening: no event tells when that ends.
const GLANCE: Duration = Duration::from_millis(100);
