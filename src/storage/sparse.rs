//! Maps of sparse files: where in the file the bytes of the archive belong (GNU tar manual, "Storing Sparse Files"). Pure.

use anyhow::{Context, Result, bail};

/// Segments that one file may have: its map stays within 2 MiB of memory.
pub const MAX_SEGMENTS: usize = 128 << 10;

/// Bytes of one file that come from the archive; the rest are holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// What PAX records say of a sparse file. From version 1.0 on the segments stand in front of its data.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SparseHeader {
    pub major: u64,
    pub minor: u64,
    pub size: Option<u64>,
    pub segments: Vec<Segment>,
}

/// A sparse file: in order, without overlap, within `size`.
#[derive(Debug, PartialEq, Eq)]
pub struct SparseMap {
    pub size: u64,
    pub segments: Vec<Segment>,
}

impl SparseMap {
    /// A map that agrees with itself and with the `stored` bytes that the archive holds of the file.
    pub fn new(size: u64, segments: Vec<Segment>, stored: u64) -> Result<SparseMap> {
        let (mut end, mut total) = (0, 0u64);
        for segment in &segments {
            if segment.offset < end {
                bail!("sparse map is out of order");
            }
            end = segment.offset.checked_add(segment.length).context("sparse map overflows")?;
            total = total.saturating_add(segment.length);
        }
        if end > size || i64::try_from(size).is_err() {
            bail!("sparse map ends beyond the file's size");
        }
        if total != stored {
            bail!("sparse map holds {total} bytes, the archive {stored}");
        }
        Ok(SparseMap { size, segments })
    }
}

/// Reads the map of version 1.0: decimal numbers, one a line; first how many segments there are. Fed block by block.
#[derive(Default)]
pub struct MapReader {
    numbers: Vec<u64>,
    digits: Option<u64>,
}

impl MapReader {
    /// Take one block; the segments once they are complete. What follows them in the block is padding.
    pub fn feed(&mut self, block: &[u8; 512]) -> Result<Option<Vec<Segment>>> {
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let so_far = self.digits.unwrap_or(0).checked_mul(10);
                    let number = so_far.and_then(|n| n.checked_add(u64::from(byte - b'0')));
                    self.digits = Some(number.context("sparse map overflows")?);
                }
                b'\n' => {
                    self.numbers.push(self.digits.take().context("sparse map has an empty line")?);
                    if self.numbers[0] > MAX_SEGMENTS as u64 {
                        bail!("sparse map has {} segments, more than {MAX_SEGMENTS}", self.numbers[0]);
                    }
                    if self.numbers.len() as u64 == 1 + 2 * self.numbers[0] {
                        let pairs = self.numbers[1..].chunks_exact(2);
                        return Ok(Some(pairs.map(|p| Segment { offset: p[0], length: p[1] }).collect()));
                    }
                }
                _ => bail!("sparse map is not made of numbers"),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(pairs: &[(u64, u64)]) -> Vec<Segment> {
        pairs.iter().map(|&(offset, length)| Segment { offset, length }).collect()
    }

    #[test]
    fn maps_agree_with_themselves() {
        for (size, pairs, stored, good) in [
            (0, &[][..], 0, true),
            (10, &[(0, 4), (6, 4)], 8, true),
            (10, &[(0, 4), (4, 0), (10, 0)], 4, true),
            (10, &[(6, 4), (0, 4)], 8, false),
            (10, &[(0, 4), (3, 4)], 8, false),
            (9, &[(0, 4), (6, 4)], 8, false),
            (10, &[(0, 4)], 5, false),
            (10, &[(u64::MAX, 4)], 4, false),
            (u64::MAX, &[], 0, false),
        ] {
            assert_eq!(SparseMap::new(size, segments(pairs), stored).is_ok(), good, "{pairs:?}");
        }
    }

    fn read(text: &str) -> Result<Option<Vec<Segment>>> {
        let mut reader = MapReader::default();
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().div_ceil(512) * 512, 0);
        for block in bytes.as_chunks::<512>().0 {
            if let Some(segments) = reader.feed(block)? {
                return Ok(Some(segments));
            }
        }
        Ok(None)
    }

    #[test]
    fn map_in_front_of_the_data() {
        assert_eq!(read("0\n").unwrap(), Some(vec![]));
        assert_eq!(read("2\n0\n4\n6\n4\n").unwrap(), Some(segments(&[(0, 4), (6, 4)])));
        let long = format!("300\n{}", "1\n0\n".repeat(300));
        assert_eq!(read(&long).unwrap().unwrap().len(), 300);
        for bad in ["\n", "x\n", "-1\n", "1\n2", "999999999\n", "99999999999999999999\n"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
