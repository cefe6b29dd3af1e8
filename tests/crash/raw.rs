//! ptrace(2), waitpid(2) for tracers and the ioctl that cuts the power: the calls that no safe library has. The only
//! `unsafe` of the tests.
#![allow(unsafe_code, reason = "no safe crate has PTRACE_GET_SYSCALL_INFO or FS_IOC_SHUTDOWN")]

use rustix::io::{Errno, Result};
use std::os::fd::{AsRawFd, BorrowedFd};
use syscalls::Sysno;

/// What a traced thread stands before or behind (ptrace(2), PTRACE_GET_SYSCALL_INFO).
#[derive(Clone, Copy, Debug)]
pub enum At {
    /// This call with these arguments has not happened yet.
    Entry(Sysno, [u64; 6]),
    /// A call has happened, and its result is not seen yet.
    Exit,
    /// Something else.
    Nothing,
}

/// What waitpid(2) tells of a traced thread.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// It is gone, with this raw status.
    Gone(i32),
    /// It stands at a system call.
    Call,
    /// Its group was stopped by a signal and wants to stay so.
    GroupStop,
    /// It stands because of ptrace itself: attached, forked, executed.
    Event,
    /// This signal is about to be delivered to it.
    Signal(i32),
}

/// Attach to `pid`, whom nobody traces, with all that it will ever fork; they die with this thread.
pub fn seize(pid: i32) -> Result<()> {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    request(libc::PTRACE_SEIZE, pid, 0, options as u64)
}

/// Have `pid` stop, wherever it is.
pub fn interrupt(pid: i32) -> Result<()> {
    request(libc::PTRACE_INTERRUPT, pid, 0, 0)
}

/// Let `pid` go on to its next system call's entry or exit, with `signal` delivered.
pub fn go_on(pid: i32, signal: i32) -> Result<()> {
    request(libc::PTRACE_SYSCALL, pid, 0, signal as u64)
}

/// Leave `pid` in its group stop, and hear when it ends.
pub fn listen(pid: i32) -> Result<()> {
    request(libc::PTRACE_LISTEN, pid, 0, 0)
}

/// Where `pid`, which stands at a system call, is.
pub fn at(pid: i32) -> Result<At> {
    // struct ptrace_syscall_info: op, arch, two addresses, then number and arguments.
    let mut info = [0_u64; 11];
    request(libc::PTRACE_GET_SYSCALL_INFO, pid, size_of_val(&info) as u64, info.as_mut_ptr() as u64)?;
    Ok(match info[0] as u8 {
        libc::PTRACE_SYSCALL_INFO_ENTRY => match Sysno::new(info[3] as usize) {
            Some(call) => At::Entry(call, [info[4], info[5], info[6], info[7], info[8], info[9]]),
            None => At::Nothing,
        },
        libc::PTRACE_SYSCALL_INFO_EXIT => At::Exit,
        _ => At::Nothing,
    })
}

/// `pid` stands at the entry of a call: it will not happen.
pub fn skip(pid: i32) -> Result<()> {
    // offsetof(struct user, regs.orig_rax), as the word that it is.
    poke(pid, 15, -1)
}

/// `pid` stands at the exit of a call: it sees `value`.
pub fn answer(pid: i32, value: i64) -> Result<()> {
    poke(pid, 10, value)
}

/// The next change of any process that this very thread traces or has forked; `None` when there are no more.
pub fn wait() -> Option<(i32, Change)> {
    let mut status = 0;
    let pid = loop {
        // SAFETY: `status` outlives the call, which writes it and nothing else.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        match pid {
            -1 if Errno::from_io_error(&std::io::Error::last_os_error()) == Some(Errno::INTR) => {}
            -1 => return None,
            pid => break pid,
        }
    };
    let change = if libc::WIFSTOPPED(status) {
        match (libc::WSTOPSIG(status), status >> 16) {
            (signal, 0) if signal == libc::SIGTRAP | 0x80 => Change::Call,
            (signal, libc::PTRACE_EVENT_STOP) if signal != libc::SIGTRAP => Change::GroupStop,
            (signal, 0) => Change::Signal(signal),
            _ => Change::Event,
        }
    } else {
        Change::Gone(status)
    };
    Some((pid, change))
}

/// Cut the power of the file system that `file` lies on: nothing that has not reached its device ever will. `flushed`: its
/// journal reaches it once more, without the data of files that nobody has written down.
pub fn cut_power(file: BorrowedFd<'_>, flushed: bool) -> Result<()> {
    // FS_IOC_SHUTDOWN with FS_SHUTDOWN_FLAGS_LOGFLUSH or FS_SHUTDOWN_FLAGS_NOLOGFLUSH (linux/fs.h).
    let flags: u32 = if flushed { 1 } else { 2 };
    // SAFETY: the descriptor is borrowed, so it is open; the kernel reads four bytes at `flags`, which outlives the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), 0x8004_587d, &raw const flags) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

fn poke(pid: i32, word: u64, value: i64) -> Result<()> {
    request(libc::PTRACE_POKEUSER, pid, word * 8, value as u64)
}

fn request(request: libc::c_uint, pid: i32, address: u64, data: u64) -> Result<()> {
    // SAFETY: only PTRACE_GET_SYSCALL_INFO writes to our memory: to `data`, as many bytes as `address` says, which is
    // the array that its one caller, `at`, lends. All others take numbers, and change the traced process alone.
    match unsafe { libc::ptrace(request, pid, address, data) } {
        -1 => Err(last()),
        _ => Ok(()),
    }
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
