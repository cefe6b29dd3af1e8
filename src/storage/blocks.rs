//! The stream that a tar archive is: blocks of 512 bytes, headers with their checksum, data with its padding, and the
//! numbers in headers. Every length is bounded before anything is allocated.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, ErrorKind, Read};
use tar::Header;

/// Bytes that the extended headers of one entry may take.
const MAX_EXTENSION: u64 = 1 << 20;
pub const BLOCK: u64 = 512;

/// An archive's blocks, read once from front to back.
pub struct Blocks<R> {
    reader: R,
    /// Of the current entry: data that nobody has read, and the padding behind it.
    data: u64,
    padding: u64,
    /// The mark at the archive's end has been read.
    ended: bool,
}

impl<R: BufRead> Blocks<R> {
    pub fn new(reader: R) -> Blocks<R> {
        Blocks { reader, data: 0, padding: 0, ended: false }
    }

    /// From here on `length` bytes of data follow. Returned by [`Blocks::data_left`] until they are read.
    pub fn begin_data(&mut self, length: u64) {
        self.data = length;
        self.padding = length.wrapping_neg() % BLOCK;
    }

    pub fn data_left(&self) -> u64 {
        self.data
    }

    /// One whole block of the current data.
    pub fn data_block(&mut self) -> Result<Option<[u8; 512]>> {
        let Some(left) = self.data.checked_sub(BLOCK) else { return Ok(None) };
        let mut block = [0; 512];
        self.data = left;
        read_exact(&mut self.reader, &mut block)?;
        Ok(Some(block))
    }

    /// Pass over the data that nobody has read.
    pub fn skip_data(&mut self) -> Result<()> {
        let padding = self.padding;
        let mut left = self.data.checked_add(padding).context("size")?;
        (self.data, self.padding) = (0, 0);
        while left > 0 {
            let available = fill(&mut self.reader)?.len() as u64;
            // umoci(1) writes layers that end with their last byte of data, and Go reads them.
            if available == 0 && left <= padding {
                return Ok(());
            }
            if available == 0 {
                bail!("archive ends within an entry");
            }
            let length = left.min(available);
            self.reader.consume(length as usize);
            left -= length;
        }
        Ok(())
    }

    /// Fill `block`; false at the end of the stream.
    pub fn block(&mut self, block: &mut [u8; 512]) -> Result<bool> {
        if fill(&mut self.reader)?.is_empty() {
            return Ok(false);
        }
        read_exact(&mut self.reader, block)?;
        Ok(true)
    }

    /// The next header block, its checksum verified. Two blocks of zeros are the end of the archive, and so is the end
    /// of the stream between two entries.
    pub fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        if !self.block(header.as_mut_bytes())? {
            return Ok(None);
        }
        if header.as_bytes() == &[0; 512] {
            self.ended = true;
            if self.block(header.as_mut_bytes())? && header.as_bytes() != &[0; 512] {
                bail!("archive goes on after its end");
            }
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum: u64 = bytes.iter().map(|b| u64::from(*b)).sum();
        let own: u64 = bytes[148..156].iter().map(|b| u64::from(*b)).sum();
        if number(&header.as_old().cksum).ok() != Some(sum - own + 8 * u64::from(b' ')) {
            bail!("not a tar archive, or a damaged one: wrong header checksum");
        }
        Ok(Some(header))
    }

    /// The `size` bytes of an extended header.
    pub fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            bail!("extended header of {size} bytes is larger than {MAX_EXTENSION}");
        }
        let mut bytes = vec![0; size as usize];
        read_exact(&mut self.reader, &mut bytes)?;
        let mut padding = [0; BLOCK as usize];
        let padding = &mut padding[..(size.wrapping_neg() % BLOCK) as usize];
        read_exact(&mut self.reader, padding)?;
        // GNU tar and Python read a long name up to its first NUL, Go up to its size.
        if padding.iter().any(|byte| *byte != 0) {
            bail!("extended header goes on after its {size} bytes");
        }
        // GNU names end at the first NUL; PAX records hold none that matters at their end.
        if let [text @ .., 0] = bytes.as_slice() {
            bytes.truncate(text.iter().position(|b| *b == 0).unwrap_or(text.len()));
        }
        Ok(bytes)
    }

    /// Some more data of the current file, or nothing at its end.
    pub fn read_data(&mut self) -> Result<&[u8]> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let available = fill(&mut self.reader)?;
        if available.is_empty() {
            bail!("archive ends within an entry");
        }
        let length = self.data.min(available.len() as u64) as usize;
        Ok(&available[..length])
    }

    /// Have done with `length` bytes of what [`Blocks::read_data`] returned.
    pub fn consume(&mut self, length: usize) {
        self.reader.consume(length);
        self.data -= length as u64;
    }

    /// Whether the archive said that it ends, and not the stream.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Read to the very end of the stream, which is at most `limit` bytes away.
    pub fn drain(mut self, limit: u64) -> Result<()> {
        let mut left = limit;
        loop {
            let length = fill(&mut self.reader)?.len();
            if length == 0 {
                return Ok(());
            }
            left = left.checked_sub(length as u64).context("archive goes on after its end")?;
            self.reader.consume(length);
        }
    }
}

fn fill(reader: &mut impl BufRead) -> Result<&[u8]> {
    // Twice: the borrow checker can't see that an interrupted read returns nothing.
    while let Err(e) = reader.fill_buf() {
        if e.kind() != ErrorKind::Interrupted {
            return Err(e).context("read the archive");
        }
    }
    reader.fill_buf().context("read the archive")
}

fn read_exact(reader: &mut impl Read, bytes: &mut [u8]) -> Result<()> {
    reader.read_exact(bytes).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => anyhow::anyhow!("archive ends within an entry"),
        _ => anyhow::Error::from(e).context("read the archive"),
    })
}

/// A numeric field that can't be negative.
pub fn number(field: &[u8]) -> Result<u64> {
    signed(field)?.try_into().context("negative number in a tar header")
}

/// A numeric field: octal digits among blanks and NULs, or GNU's base 256, two's complement, marked by the first bit.
pub fn signed(field: &[u8]) -> Result<i64> {
    if field.first().is_some_and(|first| first & 0x80 != 0) {
        // The marker takes the first bit, the sign is the second.
        let first = i128::from((field[0] << 1) as i8 >> 1);
        let value = field[1..].iter().fold(first, |value, byte| value << 8 | i128::from(*byte));
        return value.try_into().context("number out of range in a tar header");
    }
    let text = field.trim_ascii_start().split(|b| matches!(b, 0 | b' ')).next().unwrap_or_default();
    let digits = text.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    });
    digits.context("malformed number in a tar header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"00000000", Some(0)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"0000648\0", None),
            (b"-1\0", None),
            (b"0x1\0", None),
        ] {
            assert_eq!(signed(field).ok(), expected, "{field:?}");
        }
        assert!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }
}
