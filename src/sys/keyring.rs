//! keyctl(2): a session keyring of the container's own, so that the caller's keys are out of its reach.

use std::io;

/// Join a new, anonymous session keyring.
///
/// # Errors
/// EDQUOT when this user has no more keys, ENOSYS where the kernel has none.
pub fn join_new_session() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
