//! gzip on all processors: blocks of one length, each a member of its own (RFC 1952, section 2.2), so that the same input is
//! the same bytes whatever the machine.

use flate2::{Compression, write::GzEncoder};
use std::{
    collections::VecDeque,
    io::{Error, Result, Write},
    mem::{replace, take},
    thread::{self, JoinHandle},
};

/// 1 MiB: a dictionary that begins anew so seldom costs less than a hundredth of the size.
const BLOCK: usize = 1 << 20;

/// Blocks at a time, 2 MiB of memory each at most.
const MOST: usize = 8;

/// A writer whose bytes arrive compressed at `to`. For processes that may have threads.
#[derive(Debug)]
pub struct Gzip<W: Write> {
    to: W,
    level: Compression,
    block: Vec<u8>,
    begun: bool,
    ahead: usize,
    pending: VecDeque<JoinHandle<Result<Vec<u8>>>>,
}

impl<W: Write> Gzip<W> {
    /// `level`: from 0 to 9, or the usual one.
    pub fn new(to: W, level: Option<u32>) -> Gzip<W> {
        Gzip {
            to,
            level: level.map_or(Compression::default(), Compression::new),
            block: Vec::new(),
            begun: false,
            ahead: thread::available_parallelism().map_or(1, usize::from).min(MOST),
            pending: VecDeque::new(),
        }
    }

    /// No more is to come.
    ///
    /// # Errors
    /// What `to` says of the rest.
    pub fn finish(mut self) -> Result<W> {
        // Nothing is a member, too.
        if !self.block.is_empty() || !self.begun {
            self.begin()?;
        }
        while !self.pending.is_empty() {
            self.collect()?;
        }
        Ok(self.to)
    }

    fn begin(&mut self) -> Result<()> {
        while self.pending.len() >= self.ahead {
            self.collect()?;
        }
        let (block, level) = (replace(&mut self.block, Vec::with_capacity(BLOCK)), self.level);
        self.begun = true;
        self.pending.push_back(thread::Builder::new().spawn(move || {
            let mut encoder = GzEncoder::new(Vec::with_capacity(BLOCK / 2), level);
            encoder.write_all(&block)?;
            encoder.finish()
        })?);
        Ok(())
    }

    fn collect(&mut self) -> Result<()> {
        let Some(oldest) = self.pending.pop_front() else { return Ok(()) };
        let member = oldest.join().map_err(|_| Error::other("a compressor's thread ended early"))??;
        self.to.write_all(&member)
    }
}

impl Gzip<Vec<u8>> {
    /// What has been compressed since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        take(&mut self.to)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let fits = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..fits]);
        if self.block.len() == BLOCK {
            self.begin()?;
        }
        Ok(fits)
    }

    fn flush(&mut self) -> Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_goes_in_comes_out() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 9 * BLOCK + 5] {
            let plain: Vec<u8> = (0..length).map(|n| (n / 7 % 251) as u8).collect();
            let mut gzip = Gzip::new(Vec::new(), Some(1));
            gzip.write_all(&plain).unwrap();
            let (mut packed, mut again) = (gzip.take(), Vec::new());
            packed.extend(gzip.finish().unwrap());
            flate2::read::MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut again).unwrap();
            assert!(again == plain, "{length}");
        }
    }
}
