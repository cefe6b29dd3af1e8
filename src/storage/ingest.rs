//! One layer in one pass, on two cores: one thread hashes the blob, writes it down and decompresses it; another hashes the
//! plain archive and unpacks it. Buffers go round, so the memory of a layer is fixed.

use super::{
    Digest, LayerSource,
    decompress::decoder,
    unpack::{self, Policy, Unpacked},
};
use anyhow::{Context, Error, Result, anyhow, bail};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, BufRead, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread,
};

/// Buffers between the two threads.
const BUFFERS: usize = 6;
const BUFFER_SIZE: usize = 256 << 10;
/// A layer may unpack to this many bytes and to so many times its compressed size: beyond is a decompression bomb. Real
/// layers expand 2 to 10 times.
const FREE_SIZE: u64 = 1 << 30;
const MAX_RATIO: u64 = 100;

/// Take the blob of `source` from `chunks` until they end: into `blob` as it is, into the directory `root` unpacked.
///
/// # Errors
/// Whatever went wrong first; the blob's size or digest or the diff id are not what `source` says.
pub fn ingest(
    source: &LayerSource,
    chunks: Receiver<Vec<u8>>,
    blob: File,
    root: OwnedFd,
    policy: &Policy,
) -> Result<Unpacked> {
    thread::scope(|scope| {
        let (full, filled) = sync_channel(BUFFERS);
        let (spare, empty) = channel();
        for _ in 0..BUFFERS {
            spare.send(vec![0; BUFFER_SIZE]).context("fill the pool of buffers")?;
        }
        let unpacking = thread::Builder::new()
            .name("unpack".into())
            .spawn_scoped(scope, move || unpack(source, filled, spare, root, policy))
            .context("start a thread")?;
        let received = receive(source, chunks, blob, full, empty);
        let unpacked = unpacking.join().unwrap_or_else(|_| bail!("the unpacking thread panicked"));
        // An archive that is cut short by a failing transfer fails as well, but only because of it.
        received.and(unpacked)
    })
}

/// Blob to disk, and decompressed to `full`. Ends early without an error when nobody reads there any more.
fn receive(
    source: &LayerSource,
    chunks: Receiver<Vec<u8>>,
    file: File,
    full: SyncSender<(Vec<u8>, usize)>,
    empty: Receiver<Vec<u8>>,
) -> Result<()> {
    let mut blob = Blob {
        source,
        chunks,
        file,
        chunk: Vec::new(),
        at: 0,
        hasher: Sha256::new(),
        length: 0,
        failure: None,
    };
    let decompressed = decompress(source, &mut blob, full, empty);
    let all = match decompressed {
        Ok(All::Read) => Ok(()),
        Ok(All::Unwanted) => return Ok(()),
        // Read on: if the blob is not what it should be, that is the cause.
        Err(error) => Err(error),
    };
    while blob.failure.is_none() && !blob.fill_buf().is_ok_and(<[u8]>::is_empty) {
        blob.at = blob.chunk.len();
    }
    blob.verify()?;
    all
}

enum All {
    Read,
    Unwanted,
}

fn decompress(
    source: &LayerSource,
    blob: &mut Blob<'_>,
    full: SyncSender<(Vec<u8>, usize)>,
    empty: Receiver<Vec<u8>>,
) -> Result<All> {
    let decompress = || format!("decompress layer {}", source.blob);
    let limit = source.size.saturating_mul(MAX_RATIO).saturating_add(FREE_SIZE);
    let mut decoder = decoder(source.compression, blob).with_context(decompress)?;
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
            return Ok(All::Read);
        }
        total += length as u64;
        if total > limit {
            bail!("layer {} of {} bytes unpacks to more than {limit} bytes", source.blob, source.size);
        }
        if full.send((buffer, length)).is_err() {
            break;
        }
    }
    Ok(All::Unwanted)
}

/// The chunks as one stream; each is hashed and written to the file as it comes.
struct Blob<'a> {
    source: &'a LayerSource,
    chunks: Receiver<Vec<u8>>,
    file: File,
    chunk: Vec<u8>,
    at: usize,
    hasher: Sha256,
    length: u64,
    /// Kept apart, because a decoder may reshape an error that it passes on.
    failure: Option<Error>,
}

impl Blob<'_> {
    fn take(&mut self, chunk: Vec<u8>) -> Result<()> {
        self.length += chunk.len() as u64;
        if self.length > self.source.size {
            bail!("blob {} is larger than the {} bytes it should have", self.source.blob, self.source.size);
        }
        self.hasher.update(&chunk);
        self.file.write_all(&chunk).with_context(|| format!("write blob {}", self.source.blob))?;
        (self.chunk, self.at) = (chunk, 0);
        Ok(())
    }

    fn verify(self) -> Result<()> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let LayerSource { blob, size, .. } = self.source;
        if self.length != *size {
            bail!("blob {blob} ended after {} of {size} bytes", self.length);
        }
        let found = Digest::from(<[u8; 32]>::from(self.hasher.finalize()));
        if found != *blob {
            bail!("blob {blob} is damaged: its contents are {found}");
        }
        Ok(())
    }
}

impl BufRead for Blob<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.chunk.len() {
            let Ok(chunk) = self.chunks.recv() else { return Ok(&[]) };
            if let Err(failure) = self.take(chunk) {
                self.failure = Some(failure);
                return Err(io::Error::other("the blob could not be taken"));
            }
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

fn unpack(
    source: &LayerSource,
    filled: Receiver<(Vec<u8>, usize)>,
    spare: Sender<Vec<u8>>,
    root: OwnedFd,
    policy: &Policy,
) -> Result<Unpacked> {
    let mut plain = Plain { filled, spare, buffer: Vec::new(), length: 0, at: 0, hasher: Sha256::new() };
    let unpacked = unpack::unpack(&mut plain, root.as_fd(), policy)
        .with_context(|| format!("unpack layer {}", source.diff_id))?;
    let found = Digest::from(<[u8; 32]>::from(plain.hasher.finalize()));
    if found != source.diff_id {
        return Err(anyhow!(
            "layer {} unpacks to {found}, not to its diff id {}",
            source.blob,
            source.diff_id
        ));
    }
    Ok(unpacked)
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
