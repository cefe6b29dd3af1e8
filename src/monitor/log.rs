//! What a container prints, kept: in a file, in the journal, or not at all.

use super::{
    journal::Journal,
    log_line::{Clock, Format, Kind, lines},
};
use crate::{
    container::record::{LogConfig, LogDriver, Record},
    storage::ContainerDir,
    weakened,
};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fstat, ftruncate, openat},
    io::{Errno, pread, write},
};
use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// An open log.
#[derive(Debug)]
pub enum Log {
    /// Nothing is kept.
    Nowhere,
    /// Lines of a file.
    File(File),
    /// Entries of the journal.
    Journal(Journal),
}

/// Where the log of the container in `dir` lies.
pub fn path(dir: &ContainerDir, config: &LogConfig) -> PathBuf {
    config.path.clone().unwrap_or_else(|| dir.path().join("ctr.log"))
}

/// Where its older part lies once it has been rotated.
pub fn older(path: &Path) -> PathBuf {
    path.with_added_extension("1")
}

impl Log {
    /// Go on with the log of the container in `dir`. The file itself is opened with the first output.
    pub fn open(dir: &ContainerDir, record: &Record) -> Log {
        let file = |format| Log::File(File::new(format, path(dir, &record.log), record.log.max_size));
        match record.log.driver {
            LogDriver::None | LogDriver::Passthrough => Log::Nowhere,
            LogDriver::K8sFile => file(Format::Kubernetes),
            LogDriver::JsonFile => file(Format::Docker),
            LogDriver::Journald => Log::Journal(Journal::of(record)),
        }
    }

    /// Keep what `kind` printed just now.
    ///
    /// # Errors
    /// The disk takes no more: the rest of it is not kept.
    pub fn keep(&mut self, kind: Kind, text: &[u8]) -> Result<()> {
        match self {
            Log::Nowhere => Ok(()),
            Log::File(file) => file.keep(kind, text),
            Log::Journal(journal) => journal.keep(kind, text),
        }
    }
}

/// A log file, and the one before it.
#[derive(Debug)]
pub struct File {
    format: Format,
    path: PathBuf,
    file: Option<OwnedFd>,
    /// Bytes at which a new file is begun; 0: never.
    max_size: u64,
    size: u64,
    clock: Clock,
    /// Lines on their way to the file, at most [`AT_ONCE`] and one more.
    draft: Vec<u8>,
    /// The bytes of a character that the next output completes.
    torn: [Vec<u8>; 2],
}

/// Bytes written at once.
const AT_ONCE: usize = 64 << 10;

impl File {
    fn new(format: Format, path: PathBuf, max_size: u64) -> File {
        let clock = Clock::of(format);
        File {
            format,
            path,
            file: None,
            max_size,
            size: 0,
            clock,
            draft: Vec::new(),
            torn: Default::default(),
        }
    }

    fn keep(&mut self, kind: Kind, text: &[u8]) -> Result<()> {
        match self.format {
            Format::Kubernetes => self.add(kind, text),
            Format::Docker => {
                let mut whole = std::mem::take(&mut self.torn[kind as usize]);
                if whole.is_empty() {
                    let (text, torn) = text.split_at(text.len() - torn(text));
                    self.torn[kind as usize].extend_from_slice(torn);
                    return self.add(kind, text);
                }
                whole.extend_from_slice(text);
                self.torn[kind as usize] = whole.split_off(whole.len() - torn(&whole));
                self.add(kind, &whole)
            }
        }
    }

    fn add(&mut self, kind: Kind, text: &[u8]) -> Result<()> {
        self.clock.write(Timestamp::now());
        for line in lines(text) {
            self.format.encode(self.clock.text(), kind, line, &mut self.draft);
            if self.draft.len() >= AT_ONCE {
                self.append()?;
            }
        }
        if !self.draft.is_empty() {
            self.append()?;
        }
        self.draft.shrink_to(2 * AT_ONCE);
        Ok(())
    }

    fn append(&mut self) -> Result<()> {
        let appended = self.rotate().and_then(|()| self.write());
        self.draft.clear();
        appended.with_context(|| format!("write {}", self.path.display()))
    }

    fn rotate(&mut self) -> Result<()> {
        if self.file.is_none() {
            let (file, size) = open(&self.path)?;
            (self.file, self.size) = (Some(file), size);
        }
        if self.max_size > 0 && self.size > 0 && self.size + self.draft.len() as u64 > self.max_size {
            std::fs::rename(&self.path, older(&self.path))?;
            let (file, size) = open(&self.path)?;
            (self.file, self.size) = (Some(file), size);
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut rest = &self.draft[..];
        while !rest.is_empty() {
            match write(file, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(errno) => {
                    // A line that was cut off would take the next one with it.
                    let _ = ftruncate(file, self.size);
                    return Err(errno.into());
                }
            }
        }
        self.size += self.draft.len() as u64;
        Ok(())
    }
}

/// How many bytes at the end of `text` begin a character of UTF-8 and don't complete it.
fn torn(text: &[u8]) -> usize {
    let last = &text[text.len().saturating_sub(3)..];
    let begins = |at: usize| {
        std::str::from_utf8(&last[at..]).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
    };
    (0..last.len()).find(|at| begins(*at)).map_or(0, |at| last.len() - at)
}

/// Open a log for appending; its size. A link in its place is not followed (CVE-2026-53489), and what is no file, a FIFO
/// that nobody reads among them, is not written to.
///
/// # Errors
/// It is no regular file of ours.
pub fn open(path: &Path) -> Result<(OwnedFd, u64)> {
    let follow = if weakened::is("log-link") { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | follow | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::RUSR | Mode::WUSR)?;
    let stat = fstat(&file)?;
    ensure!(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile, "not a regular file");
    let mut size = stat.st_size.try_into().unwrap_or(0);
    let mut last = [b'\n'];
    // The monitor before us was killed in the middle of a line.
    if size > 0 && pread(&file, &mut last, size - 1) == Ok(1) && last != *b"\n" {
        size += write(&file, b"\n")? as u64;
    }
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_in_two() {
        for (text, expected) in [
            (&b""[..], 0),
            (b"abc", 0),
            ("ä".as_bytes(), 0),
            (&"ä".as_bytes()[..1], 1),
            (&"x€".as_bytes()[..3], 2),
            (&"x😀".as_bytes()[..4], 3),
            (b"\xff", 0),
            (b"\x80\x80", 0),
            (b"a\xe2\x82\n", 0),
        ] {
            assert_eq!(torn(text), expected, "{text:?}");
        }
    }
}
