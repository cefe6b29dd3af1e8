//! Reading a log file while its monitor writes and rotates it: forwards, from the start or from the last lines; in bounded
//! memory whatever the file holds.

use super::{
    log,
    log_line::{EDGE, Entry, Format},
};
use anyhow::{Context, Result};
use memchr::{memchr, memrchr};
use rustix::{
    fs::{CWD, Mode, OFlags, fstat, openat, statat},
    io::{Errno, pread, retry_on_intr},
};
use std::{os::fd::OwnedFd, path::PathBuf};

/// A place in a log.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    format: Format,
    file: Option<Part>,
    buffer: Vec<u8>,
    /// What of `buffer` has been handed out.
    taken: usize,
    /// What of `buffer` is known to hold no line feed.
    searched: usize,
    /// The rest of a line that is too long to be one of ours.
    skipping: bool,
}

/// The file or the one before it, and how far it has been read.
#[derive(Debug)]
struct Part {
    file: OwnedFd,
    inode: u64,
    offset: u64,
}

/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// Bytes of a line that a monitor writes at most: what it reads at once, six characters of JSON for each byte.
const LONGEST: usize = 1 << 20;

impl LogReader {
    /// The log at `path` from its start; with `tail`, from so many lines before its end.
    pub fn open(path: PathBuf, format: Format, tail: Option<u64>) -> Result<LogReader> {
        let mut reader = LogReader {
            path,
            format,
            file: None,
            buffer: Vec::new(),
            taken: 0,
            searched: 0,
            skipping: false,
        };
        match tail {
            None => reader.file = reader.first()?,
            Some(count) => reader.file = reader.last(count)?,
        }
        Ok(reader)
    }

    /// The next line, or part of one, into `entry`; false when there is no more just now.
    pub fn next(&mut self, entry: &mut Entry) -> Result<bool> {
        let format = self.format;
        while let Some(raw) = self.line()? {
            // What a crash left is no reason to keep the rest back.
            if format.decode(raw, entry) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next line of the file, without its line feed; None when there is no more just now.
    pub fn line(&mut self) -> Result<Option<&[u8]>> {
        loop {
            let fresh = &self.buffer[self.searched..];
            if let Some(at) = memchr(b'\n', fresh) {
                let end = self.searched + at;
                let start = std::mem::replace(&mut self.taken, end + 1);
                self.searched = end + 1;
                if std::mem::take(&mut self.skipping) {
                    continue;
                }
                return Ok(Some(&self.buffer[start..end]));
            }
            self.searched = self.buffer.len();
            if self.searched - self.taken > LONGEST {
                self.skipping = true;
                self.taken = self.searched;
            }
            if !self.fill()? && !self.advance()? {
                return Ok(None);
            }
        }
    }

    /// What a monitor that was killed left of its last line, when no monitor goes on writing.
    pub fn rest(&mut self, entry: &mut Entry) -> bool {
        let raw = &self.buffer[self.taken..];
        let good = !raw.is_empty() && !self.skipping && self.format.decode(raw, entry);
        entry.whole = false;
        (self.taken, self.searched) = (self.buffer.len(), self.buffer.len());
        good
    }

    /// More of the same file; false at its end.
    fn fill(&mut self) -> Result<bool> {
        let Some(part) = &mut self.file else { return Ok(false) };
        self.buffer.drain(..self.taken);
        (self.searched, self.taken) = (self.searched - self.taken, 0);
        let before = self.buffer.len();
        self.buffer.resize(before + CHUNK, 0);
        let count = retry_on_intr(|| pread(&part.file, &mut self.buffer[before..], part.offset));
        let count = count.with_context(|| format!("read {}", self.path.display()))?;
        self.buffer.truncate(before + count);
        part.offset += count as u64;
        Ok(count > 0)
    }

    /// To the next file, once this one has ended; false while there is none.
    fn advance(&mut self) -> Result<bool> {
        let Some(current) = &self.file else {
            self.file = self.first()?;
            return Ok(self.file.is_some());
        };
        let inode = current.inode;
        // The newer first: a rotation in between makes it the older one, which is not missed then.
        let Some(newer) = self.part(false)? else { return Ok(false) };
        if newer.inode == inode {
            return Ok(false);
        }
        let older = statat(CWD, log::older(&self.path), rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        let next = match older.is_ok_and(|older| older.st_ino == inode) {
            true => Some(newer),
            false => self.first()?,
        };
        // Written before it was rotated, after we looked.
        if self.fill()? {
            return Ok(true);
        }
        self.buffer.clear();
        (self.taken, self.searched, self.skipping) = (0, 0, false);
        self.file = next;
        Ok(self.file.is_some())
    }

    fn first(&self) -> Result<Option<Part>> {
        Ok(match self.part(true)? {
            None => self.part(false)?,
            older => older,
        })
    }

    fn part(&self, older: bool) -> Result<Option<Part>> {
        let path = if older { log::older(&self.path) } else { self.path.clone() };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = openat(CWD, &path, flags, Mode::empty());
        let opening = || format!("open {}", path.display());
        match opened {
            Ok(file) => {
                let inode = fstat(&file).with_context(opening)?.st_ino;
                Ok(Some(Part { file, inode, offset: 0 }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno).with_context(opening),
        }
    }

    /// Where the last `count` lines begin.
    fn last(&self, count: u64) -> Result<Option<Part>> {
        let mut wanted = Wanted { format: self.format, left: count, any: false };
        let Some(mut part) = self.part(false)? else {
            return Ok(None);
        };
        if wanted.seek(&mut part).with_context(|| format!("read {}", self.path.display()))? {
            return Ok(Some(part));
        }
        match self.part(true)? {
            Some(mut older) if older.inode != part.inode => {
                wanted.seek(&mut older)?;
                Ok(Some(older))
            }
            _ => Ok(Some(part)),
        }
    }
}

/// Lines that are still to be found, from the end backwards.
struct Wanted {
    format: Format,
    left: u64,
    /// One has been found: the last counts even if it is not whole.
    any: bool,
}

impl Wanted {
    /// Set `part` to where they begin; false when it begins with some of them and there may be more before.
    fn seek(&mut self, part: &mut Part) -> rustix::io::Result<bool> {
        let size: u64 = fstat(&part.file)?.st_size.try_into().unwrap_or(0);
        let mut chunk = vec![0; CHUNK];
        // `end` is where the line ends that is being looked at, its line feed left out.
        let (mut end, mut at) = (None, size);
        while at > 0 {
            let length = at.min(CHUNK as u64) as usize;
            at -= length as u64;
            let chunk = &mut chunk[..length];
            read_at(part, chunk, at)?;
            let mut searched = length;
            while let Some(found) = memrchr(b'\n', &chunk[..searched]) {
                searched = found;
                let feed = at + found as u64;
                if let Some(end) = end.replace(feed)
                    && self.counts(part, feed + 1, end)?
                {
                    part.offset = end + 1;
                    return Ok(true);
                }
            }
        }
        match end {
            Some(end) if self.counts(part, 0, end)? => {
                part.offset = end + 1;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whether the line of the file from `start` to `end` belongs to the first that is not wanted any more.
    fn counts(&mut self, part: &Part, start: u64, end: u64) -> rustix::io::Result<bool> {
        let length = (end - start).min(EDGE as u64);
        let (mut head, mut tail) = ([0; EDGE], [0; EDGE]);
        let (head, tail) = (&mut head[..length as usize], &mut tail[..length as usize]);
        read_at(part, head, start)?;
        read_at(part, tail, end - length)?;
        if self.format.is_whole(head, tail) || !std::mem::replace(&mut self.any, true) {
            self.any = true;
            if self.left == 0 {
                return Ok(true);
            }
            self.left -= 1;
        }
        Ok(false)
    }
}

fn read_at(part: &Part, mut into: &mut [u8], mut at: u64) -> rustix::io::Result<()> {
    while !into.is_empty() {
        match pread(&part.file, &mut *into, at) {
            Ok(0) => return Ok(()),
            Ok(count) => (into, at) = (&mut into[count..], at + count as u64),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    fn all(reader: &mut LogReader) -> String {
        let (mut text, mut entry) = (String::new(), Entry::default());
        while reader.next(&mut entry).unwrap() {
            text.push_str(std::str::from_utf8(&entry.text).unwrap());
            text.push_str(if entry.whole { "|" } else { "" });
        }
        text
    }

    fn put(path: &Path, words: &[&str]) {
        let line = |word: &&str| format!("T stdout {word}\n");
        fs::write(path, words.iter().map(line).collect::<String>()).unwrap();
    }

    #[test]
    fn from_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let open = |tail| LogReader::open(path.clone(), Format::Kubernetes, tail).unwrap();
        assert_eq!(all(&mut open(None)) + &all(&mut open(Some(3))), "");
        put(&log::older(&path), &["F a", "F b"]);
        put(&path, &["P c", "F d", "F e", "P f"]);
        for (tail, expected) in
            [(None, "a|b|cd|e|f"), (Some(0), ""), (Some(1), "f"), (Some(2), "e|f"), (Some(3), "cd|e|f")]
        {
            assert_eq!(all(&mut open(tail)), expected, "{tail:?}");
        }
        for (tail, expected) in [(4, "b|cd|e|f"), (5, "a|b|cd|e|f"), (600, "a|b|cd|e|f")] {
            assert_eq!(all(&mut open(Some(tail))), expected, "{tail:?}: from the older file on");
        }
    }

    #[test]
    fn rotations_while_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        put(&path, &["F a"]);
        let mut reader = LogReader::open(path.clone(), Format::Kubernetes, None).unwrap();
        assert_eq!(all(&mut reader), "a|");
        fs::rename(&path, log::older(&path)).unwrap();
        assert_eq!(all(&mut reader), "");
        put(&path, &["F b"]);
        assert_eq!(all(&mut reader), "b|");
        // Twice before it looks again.
        fs::rename(&path, log::older(&path)).unwrap();
        put(&path, &["F c"]);
        fs::rename(&path, log::older(&path)).unwrap();
        put(&path, &["F d"]);
        assert_eq!(all(&mut reader), "c|d|");
    }

    #[test]
    fn damage_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut text = b"T stdout F a\n\0\0\0\ngarbage\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', 3 << 20));
        text.extend(b"\nT stderr F b\nT stdout F torn");
        fs::write(&path, text).unwrap();
        let mut reader = LogReader::open(path, Format::Kubernetes, None).unwrap();
        assert_eq!(all(&mut reader), "a|b|");
        assert!(reader.buffer.capacity() < 3 << 20);
        let mut entry = Entry::default();
        assert!(reader.rest(&mut entry) && entry.text == b"torn" && !reader.rest(&mut entry));
    }
}
