//! Where a sparse file has data (lseek(2), SEEK_DATA).

use crate::storage::sparse::{MAX_SEGMENTS, Segment};
use rustix::{
    fs::{SeekFrom, Stat, seek},
    io::{Errno, Result},
};
use std::os::fd::BorrowedFd;

/// The data of `file`, which was `stat`: `None` when it has no holes worth mentioning, or too many.
pub fn of(file: BorrowedFd<'_>, stat: &Stat) -> Result<Option<Vec<Segment>>> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) >= size {
        return Ok(None);
    }
    let mut segments = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            // The file system doesn't tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            found => found?.min(size),
        };
        let end = match seek(file, SeekFrom::Hole(start)) {
            // Cut short meanwhile.
            Err(Errno::NXIO) => break,
            found => found?.min(size),
        };
        if segments.len() == MAX_SEGMENTS - 1 {
            return Ok(None);
        }
        if end > start {
            segments.push(Segment { offset: start, length: end - start });
        }
        at = end.max(at + 1);
    }
    if segments == [Segment { offset: 0, length: size }] {
        return Ok(None);
    }
    // GNU tar marks the size that way when a hole ends the file.
    segments.push(Segment { offset: size, length: 0 });
    Ok(Some(segments))
}
