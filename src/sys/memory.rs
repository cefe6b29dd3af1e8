//! How this process's allocator treats large blocks (mallopt(3)).

/// Every block of 64 KiB or more is a mapping of its own from now on: pages of it that nobody touches never exist, and all are
/// given back at once. By itself glibc takes such blocks from its heap as soon as one was freed, and then clears them whole.
pub fn map_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets parameters of the allocator; the process is single-threaded.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10);
    }
}
