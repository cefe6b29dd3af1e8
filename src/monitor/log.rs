//! What a container prints, kept in a file. Lines as conmon writes them for Kubernetes: time, stream, F for a whole line or
//! P for a part of one, text.

use crate::{
    container::record::{LogConfig, LogDriver},
    storage::ContainerDir,
};
use anyhow::{Context, Result};
use jiff::{Timestamp, tz::TimeZone};
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::{Errno, write},
};
use std::{
    fmt::Write as _,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// stdout, and all of a terminal.
    Stdout,
    /// stderr.
    Stderr,
}

impl Kind {
    /// As logs spell it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Stdout => "stdout",
            Kind::Stderr => "stderr",
        }
    }
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    driver: LogDriver,
    path: PathBuf,
    file: Option<OwnedFd>,
    max_size: u64,
    size: u64,
    zone: TimeZone,
    /// Reused; given back to the system after a long line.
    line: Vec<u8>,
}

/// Where the log of the container in `dir` lies.
pub fn path(dir: &ContainerDir, config: &LogConfig) -> PathBuf {
    config.path.clone().unwrap_or_else(|| dir.path().join("ctr.log"))
}

impl Log {
    /// Go on with the log that `config` describes. The file itself is opened with the first output.
    pub fn open(dir: &ContainerDir, config: &LogConfig) -> Log {
        Log {
            driver: config.driver,
            path: path(dir, config),
            file: None,
            max_size: config.max_size,
            size: 0,
            zone: TimeZone::system(),
            line: Vec::new(),
        }
    }

    /// Keep what `kind` printed just now.
    ///
    /// # Errors
    /// The disk takes no more: the rest of it is not kept.
    pub fn keep(&mut self, kind: Kind, text: &[u8]) -> Result<()> {
        if matches!(self.driver, LogDriver::None | LogDriver::Passthrough) || text.is_empty() {
            return Ok(());
        }
        let now = Timestamp::now();
        self.line.clear();
        let head = head(now, &self.zone, kind);
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(head.as_bytes());
            let whole = line.ends_with(b"\n");
            self.line.extend_from_slice(if whole { b"F " } else { b"P " });
            self.line.extend_from_slice(line);
            if !whole {
                self.line.push(b'\n');
            }
        }
        self.append().with_context(|| format!("write {}", self.path.display()))?;
        self.line.shrink_to(64 << 10);
        Ok(())
    }

    fn append(&mut self) -> Result<()> {
        if self.max_size > 0 && self.size + self.line.len() as u64 > self.max_size && self.size > 0 {
            self.file = None;
            std::fs::rename(&self.path, self.path.with_added_extension("1"))?;
        }
        if self.file.is_none() {
            let file = create(&self.path)?;
            self.size = rustix::fs::fstat(&file)?.st_size.try_into().unwrap_or(0);
            self.file = Some(file);
        }
        let Some(file) = &self.file else { return Ok(()) };
        let mut rest = &self.line[..];
        while !rest.is_empty() {
            match write(file, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.size += self.line.len() as u64;
        Ok(())
    }
}

/// A log that somebody replaced by a link is not followed (CVE-2026-53489).
fn create(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)
}

fn head(now: Timestamp, zone: &TimeZone, kind: Kind) -> String {
    let mut head = String::with_capacity(48);
    let time = now.to_zoned(zone.clone());
    let _ = write!(head, "{} {} ", time.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z"), kind.word());
    head
}
