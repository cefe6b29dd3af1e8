//! Extended attributes of a layer's files: which of them an image may set.

use rustix::{
    fs::{XattrFlags, fsetxattr},
    io::Errno,
};
use std::os::fd::BorrowedFd;

/// Set those of `xattrs` that an image may set. What the kernel or the file system refuses is left out, as a file
/// capability in a namespace that may give none.
pub fn apply(file: BorrowedFd<'_>, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Errno> {
    for (name, value) in xattrs.iter().filter(|(name, _)| may_set(name)) {
        set(file, name, value)?;
    }
    Ok(())
}

/// Set one, unless the kernel or the file system has no such thing.
pub fn set(file: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    match fsetxattr(file, name, value, XattrFlags::empty()) {
        Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::INVAL | Errno::RANGE | Errno::TOOBIG) => {
            Ok(())
        }
        done => done,
    }
}

/// `user.*` and file capabilities. Names that overlay file systems read would let an image forge whiteouts, redirects and
/// owners; labels (`security.selinux`) and ACLs belong to the host.
pub fn may_set(name: &[u8]) -> bool {
    const RESERVED: [&[u8]; 3] = [b"user.overlay.", b"user.containers.", b"user.fuseoverlayfs."];
    name == b"security.capability"
        || name.starts_with(b"user.")
            && !name.contains(&0)
            && !RESERVED.iter().any(|reserved| name.starts_with(reserved))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_may_set() {
        for (name, may) in [
            ("user.comment", true),
            ("user.overlayed", true),
            ("security.capability", true),
            ("user.overlay.opaque", false),
            ("user.overlay.overlay.opaque", false),
            ("user.containers.override_stat", false),
            ("user.fuseoverlayfs.opaque", false),
            ("trusted.overlay.opaque", false),
            ("security.selinux", false),
            ("system.posix_acl_access", false),
            ("user.a\0b", false),
            ("", false),
        ] {
            assert_eq!(may_set(name.as_bytes()), may, "{name}");
        }
    }
}
