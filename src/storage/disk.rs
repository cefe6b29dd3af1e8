//! What a disk that takes nothing needs said beside the kernel's word for it.

use crate::error::Explain;
use anyhow::{Error, Result};
use rustix::io::Errno;
use std::io;

/// Adds the hint that mends it to an error of writing.
pub trait ByErrno<T> {
    /// With that hint, if there is one.
    fn hint_by_errno(self) -> Result<T>;
}

/// Errno, and what to do.
const HINTS: [(Errno, &str); 4] = [
    (Errno::NOSPC, "free space or inodes (`df -h`, `df -i`), for example by `ctr rmi` of an image"),
    (Errno::DQUOT, "free some of your quota (`quota -s`), for example by `ctr rmi` of an image"),
    (Errno::ROFS, "name a place that can be written with --root, or `mount -o remount,rw` this one"),
    (Errno::FBIG, "lift the limit of a file's size: `ulimit -f unlimited`"),
];

impl<T> ByErrno<T> for Result<T> {
    fn hint_by_errno(self) -> Result<T> {
        let Err(error) = self else { return self };
        match HINTS.iter().find(|(errno, _)| is(&error, *errno)) {
            Some((_, hint)) => Err(error).hint(*hint),
            None => Err(error),
        }
    }
}

fn is(error: &Error, errno: Errno) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<Errno>() == Some(&errno)
            || cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error)
                == Some(errno.raw_os_error())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::hint;
    use anyhow::Context;

    #[test]
    fn what_mends_it() {
        let fails = |errno: Errno| Err::<(), _>(io::Error::from(errno)).context("write x").hint_by_errno();
        for (errno, command) in [
            (Errno::NOSPC, Some("df -h")),
            (Errno::DQUOT, Some("quota -s")),
            (Errno::ROFS, Some("--root")),
            (Errno::FBIG, Some("ulimit -f")),
            (Errno::IO, None),
        ] {
            let failure = fails(errno).unwrap_err();
            assert_eq!(command.is_some(), hint(&failure).is_some(), "{errno}");
            assert!(command.is_none_or(|command| hint(&failure).is_some_and(|hint| hint.contains(command))));
        }
    }
}
