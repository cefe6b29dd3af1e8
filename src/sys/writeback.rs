//! sync_file_range(2), which nix and rustix lack.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Ask the kernel to begin writing what is dirty of `file`, without waiting for it. A hint only: file systems that know
/// no such thing, and errors, which a later syncfs(2) reports, are the same to the caller.
pub fn begin(file: BorrowedFd<'_>) {
    // SAFETY: no memory is passed; the descriptor is borrowed, so it stays open during the call.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
