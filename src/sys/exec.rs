//! execve(2) from prepared memory: the argument vectors are built before the fork and nothing is allocated after it.

use super::trampoline;
use crate::weakened;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use std::{
    ffi::{CStr, CString, c_char},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
};

/// What the child says, in 12 bytes, when it fails: which step, which item of it, which errno. `step` is
/// [`Failure::EXEC`] when the trampoline itself reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The caller's own numbering of its steps.
    pub step: u32,
    /// Which mount, device, … of the step.
    pub item: u32,
    /// The system's error number.
    pub errno: i32,
}

impl Failure {
    /// The payload itself could not be executed.
    pub const EXEC: u32 = 255;

    /// As it goes over the wire.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.step.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.item.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.errno.to_ne_bytes());
        bytes
    }

    /// The inverse of [`Failure::to_bytes`].
    pub fn from_bytes(bytes: [u8; 12]) -> Failure {
        let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        Failure {
            step: u32::from_ne_bytes(word(0)),
            item: u32::from_ne_bytes(word(4)),
            errno: i32::from_ne_bytes(word(8)),
        }
    }
}

/// A payload ready to be executed: trampoline, arguments and environment, all in memory that the fork copies.
#[derive(Debug)]
pub struct Payload {
    trampoline: OwnedFd,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    home: Option<Box<Home>>,
    preserved: u8,
    _name: CString,
    _strings: Vec<CString>,
}

/// Room for `HOME=…`, which is known only when the child already runs.
#[derive(Debug)]
struct Home([u8; Payload::HOME_MAX + 6]);

impl Payload {
    /// The longest HOME, in bytes.
    pub const HOME_MAX: usize = 1024;

    /// Prepare `arguments` (the payload's argv) and `environment` (`K=V`); `fill_home` leaves a slot for
    /// [`Payload::execute`]'s HOME.
    /// `preserved`: so many descriptors from 3 on are the payload's.
    pub fn new(
        arguments: Vec<CString>,
        environment: Vec<CString>,
        fill_home: bool,
        preserved: u8,
    ) -> io::Result<Payload> {
        let mut home = fill_home.then(|| Box::new(Home([0; Payload::HOME_MAX + 6])));
        let path = ptr::null();
        let count = (preserved > 0).then_some(preserved);
        let name = CString::new(b"ctr-exec".iter().copied().chain(count).collect::<Vec<_>>())?;
        let argv = [name.as_ptr(), path].into_iter();
        let argv = argv.chain(arguments.iter().map(|a| a.as_ptr())).chain([ptr::null()]).collect();
        let slot = home.as_mut().map(|home| home.0.as_mut_ptr().cast_const().cast());
        let env = environment.iter().map(|e| e.as_ptr()).chain(slot).chain([ptr::null()]).collect();
        Ok(Payload {
            trampoline: trampoline::create()?,
            arguments: argv,
            environment: env,
            home,
            preserved,
            _name: name,
            _strings: arguments.into_iter().chain(environment).collect(),
        })
    }

    /// Become the payload at `path`. A copy of `report` is left behind the preserved descriptors, where the trampoline reports
    /// a [`Failure`]; every other descriptor above 2 is closed by the execution. Returns only when the trampoline could not be started.
    pub fn execute(&mut self, path: &CStr, home: &[u8], report: BorrowedFd<'_>) -> Errno {
        if let Some(slot) = &mut self.home {
            let home = &home[..home.len().min(Payload::HOME_MAX)];
            slot.0[..5].copy_from_slice(b"HOME=");
            slot.0[5..5 + home.len()].copy_from_slice(home);
        }
        self.arguments[1] = path.as_ptr();
        let place = 3 + i32::from(self.preserved);
        // SAFETY: whatever sits at `place` is overwritten, and only `report` and the trampoline are used from here on: the
        // first may be there itself and then stays, the second is moved out of the way. Both vectors end with NULL and
        // point into memory that `self` owns or borrows.
        unsafe {
            if weakened::is("trampoline") {
                libc::execve(path.as_ptr(), self.arguments[2..].as_ptr(), self.environment.as_ptr());
            }
            let trampoline = libc::fcntl(self.trampoline.as_raw_fd(), libc::F_DUPFD_CLOEXEC, place + 1);
            if trampoline >= 0
                && (weakened::is("inherited-descriptors")
                    || libc::syscall(libc::SYS_close_range, place + 1, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
                        == 0)
                && report_at(place, report.as_raw_fd())
            {
                libc::syscall(
                    libc::SYS_execveat,
                    trampoline,
                    c"".as_ptr(),
                    self.arguments.as_ptr(),
                    self.environment.as_ptr(),
                    libc::AT_EMPTY_PATH,
                );
            }
        }
        Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
    }
}

fn report_at(place: i32, report: i32) -> bool {
    // SAFETY: the caller argues that `place` is free to be taken; dup2 and fcntl only change descriptors.
    unsafe {
        match report == place {
            true => libc::fcntl(place, libc::F_SETFD, 0) == 0,
            false => libc::dup2(report, place) == place,
        }
    }
}

/// Let `descriptor` survive an execution, for a helper that is told its number.
pub fn inherit(descriptor: impl AsFd) -> io::Result<()> {
    Ok(fcntl_setfd(descriptor, FdFlags::empty())?)
}
