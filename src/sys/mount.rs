//! mount_setattr(2), which nix and rustix lack.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Set and clear `MOUNT_ATTR_*` on the mount that `mount` refers to, and on all below it when `recursive`.
pub fn change_attributes(mount: BorrowedFd<'_>, set: u64, clear: u64, recursive: bool) -> io::Result<()> {
    setattr(
        mount,
        libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 },
        recursive,
    )
}

/// Show the ids of that mount's files, and of those below it when `recursive`, as `user_namespace` maps them.
pub fn map_ids(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    let userns_fd = user_namespace.as_raw_fd() as u64;
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    setattr(mount, attributes, recursive)
}

/// Set `MOUNT_ATTR_*` and, unless it is 0, the propagation: one of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`.
pub fn change_attributes_and_propagation(
    mount: BorrowedFd<'_>,
    set: u64,
    propagation: u64,
    recursive: bool,
) -> io::Result<()> {
    setattr(mount, libc::mount_attr { attr_set: set, attr_clr: 0, propagation, userns_fd: 0 }, recursive)
}

fn setattr(mount: BorrowedFd<'_>, attributes: libc::mount_attr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated literal and the size is that of the structure, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
