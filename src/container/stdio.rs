//! A payload's descriptors 0 to 2, as its process connects them inside the container.

use super::{link::Identity, plan::Stdio};
use crate::namespaces::{mount, target::open_in_root};
use rustix::{
    fs::{CWD, FileType, Gid, OFlags, ResolveFlags, Uid, fchown, fstat},
    io::{Errno, Result},
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};
use std::os::fd::OwnedFd;

/// A new pair of the container's own devpts below `root`: master and user side.
pub(super) fn open_terminal(root: &OwnedFd) -> Result<(OwnedFd, OwnedFd)> {
    let master =
        open_in_root(root, c"dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY, ResolveFlags::NO_SYMLINKS)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    Ok((master, slave))
}

/// Connect descriptors 0 to 2. They belong to the payload's user from here on.
pub(super) fn connect(stdio: &Stdio, terminal: Option<OwnedFd>, identity: &Identity) -> Result<()> {
    let null;
    let sources = match (&terminal, stdio) {
        (Some(slave), _) => {
            rustix::process::ioctl_tiocsctty(slave)?;
            [slave, slave, slave]
        }
        (None, Stdio::Pipes { stdin: Some(stdin), stdout, stderr }) => [stdin, stdout, stderr],
        (None, Stdio::Pipes { stdin: None, stdout, stderr }) => {
            null = mount::null_device(CWD, OFlags::RDONLY)?;
            [&null, stdout, stderr]
        }
        (None, Stdio::Nothing) => {
            null = mount::null_device(CWD, OFlags::RDWR)?;
            [&null, &null, &null]
        }
        (None, Stdio::Terminal) => return Err(Errno::NOTTY),
    };
    for source in sources {
        // So that a payload that is not root may open /dev/stdout.
        let kind = FileType::from_raw_mode(fstat(source)?.st_mode);
        if kind == FileType::Fifo || terminal.is_some() {
            let group = (kind == FileType::Fifo).then(|| Gid::from_raw(identity.gid));
            let _ = fchown(source, Some(Uid::from_raw(identity.uid)), group);
        }
    }
    let [stdin, stdout, stderr] = sources;
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)
}
