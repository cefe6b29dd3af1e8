//! Signal dispositions for a process that is about to become somebody else's program.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering},
};

/// Send signal `number`, real-time ones included, to the process of `pidfd` (pidfd_send_signal(2)).
///
/// # Errors
/// ESRCH: it has ended; EINVAL: no such signal.
pub fn send(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks for the ordinary one; the descriptor is open while it is borrowed.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, info, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether signal `number` is ignored, as nohup(1) leaves SIGHUP.
pub fn is_ignored(number: i32) -> bool {
    // SAFETY: all zero is a valid sigaction; without a new one the call only writes to the old one.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

/// Every signal back to its default and none blocked: Rust ignores SIGPIPE, and a caller may have ignored more.
pub fn reset() {
    // The kernel's struct sigaction (rt_sigaction(2)): all zero is SIG_DFL without flags.
    let default = [0u64; 4];
    for signal in 1..=64 {
        let old = std::ptr::null_mut::<u64>();
        // SAFETY: SIG_DFL runs no code of ours; the kernel only reads the structure, which is as long as any of its
        // architectures has it. Not by glibc, which refuses its own two; SIGKILL and SIGSTOP are refused, harmlessly.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, 8) };
    }
    // SAFETY: an empty set on the stack; sigprocmask only reads it.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// A write beyond the limit of a file's size (setrlimit(2), RLIMIT_FSIZE) fails with EFBIG instead of ending this process.
pub fn survive_the_file_size_limit() {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// A peer that hangs up is an error and ends nobody: not every write to a socket says MSG_NOSIGNAL.
pub fn survive_broken_pipes() {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Nobody reads what is printed: end as [`die_on_broken_pipe`] wanted, if it was called.
pub fn broken_output() {
    if DIES_ON_BROKEN_PIPE.load(Ordering::Relaxed) {
        die_on_broken_pipe();
        // SAFETY: no memory is passed; the signal's default ends this process.
        unsafe { libc::raise(libc::SIGPIPE) };
    }
}

static DIES_ON_BROKEN_PIPE: AtomicBool = AtomicBool::new(false);

/// SIGPIPE ends this process again, as it does any program that prints (Rust ignores it at start).
pub fn die_on_broken_pipe() {
    DIES_ON_BROKEN_PIPE.store(true, Ordering::Relaxed);
    // SAFETY: SIG_DFL runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
