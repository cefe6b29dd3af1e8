//! One layer in one pass on three threads: the first hashes the blob and writes it down, the second decompresses it, the
//! third hashes the plain archive and unpacks it. Buffers go round, so the memory of a layer is fixed.

use super::{
    Digest,
    decompress::decoder,
    layers::Expected,
    unpack::{self, Policy, Unpacked},
};
use crate::{sys::writeback, weakened};
use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest as _, Sha256};
use std::{
    cell::Cell,
    fs::File,
    io::{self, BufRead, Read, Write},
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread,
};

/// Buffers between the two threads.
const BUFFERS: usize = 6;
const BUFFER_SIZE: usize = 256 << 10;
/// The kernel is asked to write the blob down each time that so many bytes have come.
const WRITTEN_AT_ONCE: u64 = 8 << 20;
/// A layer may unpack to this many bytes and to so many times its compressed size: beyond is a decompression bomb. Real
/// layers expand 2 to 10 times.
const FREE_SIZE: u64 = 1 << 30;
const MAX_RATIO: u64 = 100;

/// Unpack the blob that comes from `chunks`, until they end, into the directory `root`; what that made, and its diff id.
///
/// # Errors
/// Whatever went wrong first; the diff id is not what was `expected`.
pub fn ingest(
    expected: &Expected,
    chunks: Receiver<Vec<u8>>,
    root: OwnedFd,
    policy: &Policy,
) -> Result<(Unpacked, Digest)> {
    thread::scope(|scope| {
        let (full, filled) = sync_channel(BUFFERS);
        let (spare, empty) = channel();
        for _ in 0..BUFFERS {
            spare.send(vec![0; BUFFER_SIZE]).context("fill the pool of buffers")?;
        }
        let unpacking = thread::Builder::new()
            .name("unpack".into())
            .spawn_scoped(scope, move || unpack(expected, filled, spare, root, policy))
            .context("start a thread")?;
        let mut chunks = Chunks { queue: chunks, chunk: Vec::new(), at: 0, taken: Rc::default() };
        let decompressed = decompress(expected, &mut chunks, full, empty);
        let unpacked = unpacking.join().unwrap_or_else(|_| bail!("the unpacking thread panicked"));
        if decompressed.is_err() {
            // Taken to the end: if the blob is not what it should be, its receiver is to find that as the cause.
            chunks.skip();
        }
        // An archive that is cut short by a failing transfer fails as well, but only because of it.
        decompressed.and(unpacked)
    })
}

/// Ends early without an error when nobody reads `full` any more.
fn decompress(
    expected: &Expected,
    chunks: &mut Chunks,
    full: SyncSender<(Vec<u8>, usize)>,
    empty: Receiver<Vec<u8>>,
) -> Result<()> {
    let decompress = || format!("decompress {expected}");
    let taken = chunks.taken.clone();
    let mut decoder = decoder(expected.compression, &mut *chunks).with_context(decompress)?;
    let mut total = 0;
    while let Ok(mut buffer) = empty.recv() {
        let mut length = 0;
        while length < buffer.len() {
            match decoder.read(&mut buffer[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e).with_context(decompress),
            }
        }
        if length == 0 {
            drop(decoder);
            chunks.skip();
            return Ok(());
        }
        total += length as u64;
        let size = expected.size.unwrap_or_else(|| taken.get());
        if expected.bounded && total > expanded(size) && !weakened::is("unpacked-size") {
            bail!("{expected} of {size} bytes unpacks to more than {} bytes", expanded(size));
        }
        if full.send((buffer, length)).is_err() {
            break;
        }
    }
    Ok(())
}

/// So many bytes may come of `size` compressed ones.
pub fn expanded(size: u64) -> u64 {
    size.saturating_mul(MAX_RATIO).saturating_add(FREE_SIZE)
}

/// A blob on its way to disk, hashed as it comes.
pub struct Blob {
    expected: Expected,
    file: File,
    hasher: Sha256,
    length: u64,
}

impl Blob {
    /// A blob to be written to `file`, behind what is there.
    pub fn new(expected: Expected, file: File) -> Blob {
        Blob { expected, file, hasher: Sha256::new(), length: 0 }
    }

    /// The next of those bytes that the file had already; none at their end.
    pub fn received(&mut self) -> Result<Vec<u8>> {
        let mut chunk = Vec::with_capacity(BUFFER_SIZE);
        let read = (&self.file).take(BUFFER_SIZE as u64).read_to_end(&mut chunk);
        read.with_context(|| format!("read {}", self.name()))?;
        self.hasher.update(&chunk);
        self.length += chunk.len() as u64;
        Ok(chunk)
    }

    /// Its next bytes.
    pub fn take(&mut self, chunk: &[u8]) -> Result<()> {
        let before = self.length;
        self.length += chunk.len() as u64;
        if let Some(size) = self.expected.size.filter(|size| self.length > *size) {
            bail!("{} is larger than the {size} bytes it should have", self.name());
        }
        self.hasher.update(chunk);
        self.file.write_all(chunk).with_context(|| format!("write {}", self.name()))?;
        if before / WRITTEN_AT_ONCE != self.length / WRITTEN_AT_ONCE {
            writeback::begin(self.file.as_fd());
        }
        Ok(())
    }

    /// Its digest and its size, if what came is all of it, and nothing else.
    pub fn verify(&self) -> Result<(Digest, u64)> {
        if let Some(size) = self.expected.size.filter(|size| self.length != *size) {
            bail!("{} ended after {} of {size} bytes", self.name(), self.length);
        }
        let found = Digest::from(<[u8; 32]>::from(self.hasher.clone().finalize()));
        if self.expected.blob.is_some_and(|expected| found != expected) && !weakened::is("digests") {
            bail!("{} is damaged: its contents are {found}", self.name());
        }
        Ok((self.expected.blob.unwrap_or(found), self.length))
    }

    fn name(&self) -> String {
        self.expected.blob.map_or_else(|| "the blob".to_owned(), |blob| format!("blob {blob}"))
    }
}

/// The chunks as one stream.
struct Chunks {
    queue: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    /// Bytes that have come.
    taken: Rc<Cell<u64>>,
}

impl Chunks {
    /// Up to the end.
    fn skip(&mut self) {
        while self.queue.recv().is_ok() {}
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.chunk.len() {
            let Ok(chunk) = self.queue.recv() else { return Ok(&[]) };
            self.taken.set(self.taken.get() + chunk.len() as u64);
            (self.chunk, self.at) = (chunk, 0);
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

fn unpack(
    expected: &Expected,
    filled: Receiver<(Vec<u8>, usize)>,
    spare: Sender<Vec<u8>>,
    root: OwnedFd,
    policy: &Policy,
) -> Result<(Unpacked, Digest)> {
    let mut plain = Plain { filled, spare, buffer: Vec::new(), length: 0, at: 0, hasher: Sha256::new() };
    let unpacked = unpack::unpack(&mut plain, root.as_fd(), policy).with_context(|| {
        expected.diff_id.map_or("unpack the layer".into(), |id| format!("unpack layer {id}"))
    })?;
    let found = Digest::from(<[u8; 32]>::from(plain.hasher.finalize()));
    let diff_id = expected.diff_id.unwrap_or(found);
    if found != diff_id && !weakened::is("digests") {
        return Err(anyhow!("{expected} unpacks to {found}, not to its diff id {diff_id}"));
    }
    Ok((unpacked, diff_id))
}

/// The plain archive, hashed as it comes. Buffers go back once they are read.
struct Plain {
    filled: Receiver<(Vec<u8>, usize)>,
    spare: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    length: usize,
    at: usize,
    hasher: Sha256,
}

impl BufRead for Plain {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.length {
            let read = std::mem::take(&mut self.buffer);
            if !read.is_empty() {
                // Nobody takes it any more at the end.
                let _ = self.spare.send(read);
            }
            (self.buffer, self.length) = self.filled.recv().unwrap_or_default();
            self.at = 0;
            self.hasher.update(&self.buffer[..self.length]);
        }
        Ok(&self.buffer[self.at..self.length])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Plain {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}
