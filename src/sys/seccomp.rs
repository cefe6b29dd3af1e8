//! seccomp(2): the filter of a container.

use std::io;

/// Filter the system calls of this thread, and of all that it starts, with `program`. Needs CAP_SYS_ADMIN in the user
/// namespace, or no_new_privs.
///
/// # Errors
/// EINVAL: not a valid program (more than 4096 instructions, a jump outside); EACCES: neither of the two needs.
pub fn install(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` points to `length` instructions that live during the call; the kernel only reads them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
