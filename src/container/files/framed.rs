//! A stream over a pipe that says where it ends: one that breaks off is not taken for a short one.

use anyhow::{Context, Result, bail};
use std::{
    fs::File,
    io::{self, Read, Write},
};

/// The writing end. Only [`Framed::finish`] ends the stream.
pub struct Framed {
    pipe: File,
    buffer: Vec<u8>,
}

const BUFFER: usize = 256 << 10;

impl Framed {
    /// Over `pipe`.
    pub fn new(pipe: File) -> Framed {
        Framed { pipe, buffer: Vec::with_capacity(BUFFER) }
    }

    /// There is no more.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.pipe.write_all(&0u32.to_le_bytes())
    }
}

impl Write for Framed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == BUFFER {
            self.flush()?;
        }
        let length = bytes.len().min(BUFFER - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(self.buffer.len()).map_err(io::Error::other)?;
        self.pipe.write_all(&length.to_le_bytes())?;
        self.pipe.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Hand `each` what comes from the other end, up to its end. Nothing is taken from it on trust but zeros and bytes.
///
/// # Errors
/// It broke off; or what `each` says.
pub fn read_frames(mut pipe: File, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut length = [0; 4];
        pipe.read_exact(&mut length).context("the files could not be read to their end")?;
        let length = u32::from_le_bytes(length) as usize;
        match buffer.get_mut(..length) {
            Some([]) => return Ok(()),
            None => bail!("a frame has {length} bytes"),
            Some(frame) => {
                pipe.read_exact(frame).context("the files could not be read to their end")?;
                each(frame)?;
            }
        }
    }
}
