//! The fork fence: processes are copied only while no second thread has ever existed, because a copy of a threaded process
//! may find any lock held for ever. The registry room, which starts threads, calls [`close`] first.

use crate::weakened;
use rustix::process::Pid;
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// From here on this process may have threads, so it never forks again without exec.
pub fn close() {
    CLOSED.store(true, Ordering::SeqCst);
}

/// A process that we started. The pidfd stays ours even when the number is used again.
#[derive(Debug)]
pub struct Child {
    /// Its number in our pid namespace.
    pub pid: Pid,
    /// Becomes readable when it ends (pidfd_open(2)).
    pub pidfd: OwnedFd,
}

/// Copy this process into new namespaces (`CLONE_NEW*` of clone3(2)); both go on from here, the copy with `None`. Signal
/// handlers don't cross; ignored signals do. The copy is born in `cgroup`, a control group's directory.
///
/// # Errors
/// The fence is closed (EDEADLK), or what clone3(2) says.
pub fn clone_into(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Option<Child>> {
    if CLOSED.load(Ordering::SeqCst) {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    let mut pidfd: i32 = -1;
    // SAFETY: clone_args is plain data for which all-zero is the documented default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and with no stack this is fork(2): the copy has its own memory and goes on here. The
    // process is single-threaded (the fence above), so no lock is held by a thread that the copy lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(Child {
            pid: Pid::from_raw(pid as i32).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?,
            // SAFETY: the kernel stored a new descriptor there, and nobody else knows it.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        })),
    }
}

/// Copy this process into new namespaces; the copy is a child of our parent, as we are.
///
/// # Errors
/// As [`clone_into`].
pub fn clone_sibling(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Option<Pid>> {
    if CLOSED.load(Ordering::SeqCst) {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    // SAFETY: clone_args is plain data for which all-zero is the documented default; with CLONE_PARENT the exit signal has to
    // be zero, ours is taken.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | libc::CLONE_PARENT as u64 | CLONE_CLEAR_SIGHAND;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: as in `clone_into`: a fork(2) of a single-threaded process.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid as i32)),
    }
}

/// Copy this process; the copy runs `life` and ends with the status that it gives. For work that goes on to use all of the
/// standard library, threads included: glibc knows of this fork.
///
/// # Errors
/// The fence is closed (EDEADLK), or what fork(2) says.
pub fn fork(life: impl FnOnce() -> i32) -> io::Result<Pid> {
    match split()? {
        Some(pid) => Ok(pid),
        None => exit_now(life()),
    }
}

/// Copy this process; both go on from here. `None` in the copy, the copy's number in the original.
///
/// # Errors
/// The fence is closed (EDEADLK), or what fork(2) says.
pub fn split() -> io::Result<Option<Pid>> {
    if CLOSED.load(Ordering::SeqCst) {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    // SAFETY: the process is single-threaded (the fence above), so the copy may do whatever the original might.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Close every descriptor from `first` on, for a process that keeps none and whose owners of descriptors never run again.
pub fn close_descriptors_from(first: u32) {
    // SAFETY: only a process that goes on to loop and exit calls this; no owner in it uses or drops a descriptor after.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Whether descriptor `number`, which nobody here owns, is open.
pub fn is_open(number: u32) -> bool {
    // SAFETY: F_GETFD only looks at the table of descriptors.
    unsafe { libc::fcntl(number as i32, libc::F_GETFD) >= 0 }
}

/// Let descriptor `number`, which nobody here owns, end at the next execution.
pub fn close_on_exec(number: u32) {
    // SAFETY: F_SETFD changes a flag of the descriptor alone; whether it is open is the kernel's to say.
    unsafe { libc::fcntl(number as i32, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// Descriptors that programs started from here don't inherit until this is dropped.
#[derive(Debug)]
pub struct Concealed(Vec<u32>);

/// Keep the `count` descriptors from 3 on, which nobody here owns, from programs that are started from here.
pub fn conceal(count: u8) -> Concealed {
    // SAFETY: F_GETFD only looks at the table of descriptors.
    let is_passed = |number: &u32| unsafe { libc::fcntl(*number as i32, libc::F_GETFD) } == 0;
    let passed: Vec<u32> = (3..3 + u32::from(count)).filter(is_passed).collect();
    passed.iter().for_each(|number| close_on_exec(*number));
    Concealed(passed)
}

impl Drop for Concealed {
    fn drop(&mut self) {
        for number in &self.0 {
            // SAFETY: as in `close_on_exec`.
            unsafe { libc::fcntl(*number as i32, libc::F_SETFD, 0) };
        }
    }
}

/// Close every descriptor but `kept` and `preserved` ones from 3 on, for a copy of a process whose other owners of
/// descriptors never run again.
pub fn close_descriptors_except(kept: &[BorrowedFd<'_>], preserved: u8) {
    if weakened::is("inherited-descriptors") {
        return;
    }
    let preserved = 3..3 + u32::from(preserved);
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd() as u32).chain(preserved).collect();
    kept.sort_unstable();
    let mut first = 0;
    for fd in kept {
        if first < fd {
            // SAFETY: as above; those in `kept` are borrowed, so their owners live on, and they are left out.
            unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
        }
        first = first.max(fd + 1);
    }
    close_descriptors_from(first);
}

/// End this process at once: no destructors, no buffers flushed.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(status) }
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
