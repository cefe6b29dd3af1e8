//! What a failing disk needs said beside the kernel's word for it.

use crate::error::Explain;
use anyhow::{Error, Result};
use rustix::io::Errno;
use std::io;

/// Adds the hint that mends a full disk or an exceeded quota to an error of writing.
pub(super) trait Full<T> {
    fn hint_when_full(self) -> Result<T>;
}

impl<T> Full<T> for Result<T> {
    fn hint_when_full(self) -> Result<T> {
        match self {
            Err(error) if is(&error, Errno::NOSPC) => Err(error)
                .hint("free space or inodes (`df -h`, `df -i`), for example by `ctr rmi` of an image"),
            Err(error) if is(&error, Errno::DQUOT) => {
                Err(error).hint("free some of your quota (`quota -s`), for example by `ctr rmi` of an image")
            }
            other => other,
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
    fn only_a_full_disk_gets_the_hint() {
        let fails = |errno: Errno| Err::<(), _>(io::Error::from(errno)).context("write x").hint_when_full();
        assert!(hint(&fails(Errno::NOSPC).unwrap_err()).unwrap().contains("df -h"));
        assert!(hint(&fails(Errno::DQUOT).unwrap_err()).unwrap().contains("quota"));
        assert!(hint(&fails(Errno::IO).unwrap_err()).is_none());
    }
}
