//! Blobs on their way: `blobs/partial/<hex>`, locked by whoever receives it, so that each comes once however many want it. What
//! an interrupted process has received the next one takes up; it is worth nothing before the whole of it is hashed.

use super::{Digest, Store, disk::ByErrno, gc::entries};
use anyhow::{Context, Result};
use rustix::{
    fs::{CWD, FlockOperation, Mode, OFlags, flock, fstat, ftruncate, open, stat, unlinkat},
    io::{Errno, pread, retry_on_intr},
};
use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

const PARTIAL: &str = "blobs/partial";
/// So long a blob waits for somebody who wants the rest of it.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// And so many wait, the newest.
const KEPT: usize = 128;

/// A blob that is ours to receive. Dropped it stays for the next one, unless nothing has come.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    length: u64,
}

/// Who receives a blob.
#[derive(Debug)]
pub enum Claim {
    /// We do.
    Ours(Partial),
    /// Somebody else, who has so many bytes of it.
    Taken(u64),
}

impl Store {
    /// Receive `blob`, unless somebody does.
    pub fn claim_blob(&self, blob: &Digest) -> Result<Claim> {
        let path = self.directory(PARTIAL).join(blob.hex());
        let claim = || -> Result<Claim, Errno> {
            loop {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let file = File::from(open(&path, flags, Mode::RUSR | Mode::WUSR)?);
                let locked = retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive));
                let length = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
                match locked {
                    Err(Errno::WOULDBLOCK) => return Ok(Claim::Taken(length)),
                    locked => locked?,
                }
                // Whoever had it may have published or removed it since it was opened.
                if is_at(&file, &path)? {
                    return Ok(Claim::Ours(Partial { file, path: path.clone(), length }));
                }
            }
        };
        claim().with_context(|| format!("make {}", path.display())).hint_by_errno()
    }

    /// Give back what has come of `blob`, unless somebody is receiving it.
    pub fn forget_partial(&self, blob: &Digest) {
        // What can't be removed now is garbage tomorrow.
        if let Ok(Claim::Ours(partial)) = self.claim_blob(blob) {
            let _ = partial.clear();
        }
    }

    /// Give back what has come of all blobs that nobody is receiving.
    pub fn forget_partials(&self) -> Result<()> {
        for path in entries(&self.directory(PARTIAL))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            match format!("sha256:{name}").parse() {
                Ok(blob) => self.forget_partial(&blob),
                Err(_) => self.discard(&path)?,
            }
        }
        Ok(())
    }

    /// Let blobs that no image needs wait for somebody who wants them again. The caller has the store alone.
    pub(super) fn keep_as_partial<'a>(&self, blobs: impl Iterator<Item = &'a Digest>) -> Result<()> {
        for blob in blobs {
            match fs::rename(self.blob_path(&blob.hex()), self.directory(PARTIAL).join(blob.hex())) {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                renamed => renamed.with_context(|| format!("keep blob {blob}"))?,
            }
        }
        Ok(())
    }

    /// Those for which nobody has come for a day, and the oldest of many. The caller has the store alone, so that none is
    /// being received.
    pub(super) fn stale_partials(&self) -> Result<Vec<PathBuf>> {
        let mut kept = Vec::new();
        let mut stale = Vec::new();
        for path in entries(&self.directory(PARTIAL))? {
            let meta = fs::symlink_metadata(&path);
            let age = meta.as_ref().ok().filter(|meta| meta.is_file() && meta.len() > 0);
            let age = age.and_then(|meta| meta.modified().ok()?.elapsed().ok());
            match age {
                Some(age) if age < KEPT_FOR => kept.push((age, path)),
                _ => stale.push(path),
            }
        }
        kept.sort();
        stale.extend(kept.into_iter().skip(KEPT).map(|(_, path)| path));
        Ok(stale)
    }
}

impl Partial {
    /// Bytes that somebody before us has received.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The first of them, at most four.
    pub fn head(&self) -> Result<Vec<u8>> {
        let mut head = vec![0; 4];
        let read =
            pread(&self.file, &mut head[..], 0).with_context(|| format!("read {}", self.path.display()))?;
        head.truncate(read);
        Ok(head)
    }

    /// Without what has come.
    pub fn clear(mut self) -> Result<Partial> {
        ftruncate(&self.file, 0).with_context(|| format!("empty {}", self.path.display())).hint_by_errno()?;
        self.length = 0;
        Ok(self)
    }

    /// The file, to read what has come and to append the rest.
    pub(super) fn file(&self) -> Result<File> {
        self.file.try_clone().with_context(|| format!("open {} again", self.path.display()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let is_empty = fstat(&self.file).is_ok_and(|stat| stat.st_size == 0);
        if is_empty && is_at(&self.file, &self.path) == Ok(true) {
            let _ = unlinkat(CWD, &self.path, rustix::fs::AtFlags::empty());
        }
    }
}

fn is_at(file: &File, path: &Path) -> Result<bool, Errno> {
    let ours = fstat(file)?;
    match stat(path) {
        Err(Errno::NOENT) => Ok(false),
        there => there.map(|there| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::test_store;
    use super::*;
    use std::{io::Write, time::SystemTime};

    fn ours(store: &Store, blob: &Digest) -> Partial {
        match store.claim_blob(blob).unwrap() {
            Claim::Ours(partial) => partial,
            Claim::Taken(length) => panic!("taken, {length} bytes"),
        }
    }

    fn names(store: &Store) -> usize {
        entries(&store.directory(PARTIAL)).unwrap().len()
    }

    #[test]
    fn one_receives_and_the_next_goes_on() {
        let (_temp, store) = test_store();
        let blob = Digest::of(b"blob");
        let first = ours(&store, &blob);
        first.file().unwrap().write_all(b"abcdef").unwrap();
        assert!(matches!(store.claim_blob(&blob).unwrap(), Claim::Taken(6)));
        store.forget_partials().unwrap();
        drop(first);
        let second = ours(&store, &blob);
        assert_eq!((second.length(), second.head().unwrap()), (6, b"abcd".to_vec()));
        let second = second.clear().unwrap();
        assert_eq!(second.length(), 0);
        drop(second);
        assert_eq!(names(&store), 0, "an empty one is nothing to keep");
    }

    #[test]
    fn what_was_published_meanwhile_is_not_taken_for_ours() {
        let (_temp, store) = test_store();
        let blob = Digest::of(b"blob");
        let first = ours(&store, &blob);
        fs::rename(first.path(), store.blob_path(&blob.hex())).unwrap();
        let second = ours(&store, &blob);
        drop(first);
        assert!(store.has_blob(&blob), "dropping it removes neither the blob");
        assert!(second.path().exists(), "nor what the next one receives");
    }

    #[test]
    fn kept_for_a_day_and_not_too_many() {
        let (_temp, store) = test_store();
        let put = |name: &str, hours: u64, bytes: &[u8]| {
            let partial = ours(&store, &Digest::of(name.as_bytes()));
            partial.file().unwrap().write_all(bytes).unwrap();
            let then = SystemTime::now() - Duration::from_secs(hours * 3600);
            partial.file().unwrap().set_modified(then).unwrap();
        };
        put("old", 25, b"x");
        put("young", 23, b"x");
        store.collect_garbage().unwrap();
        assert_eq!(names(&store), 1);
        for n in 0..KEPT + 8 {
            put(&n.to_string(), 1, b"x");
        }
        store.collect_garbage().unwrap();
        assert_eq!(names(&store), KEPT);
        store.forget_partials().unwrap();
        assert_eq!(names(&store), 0);
    }
}
