//! The steps from a fork to a payload, as the child reports them: a number, no words.

use crate::sys::exec::Failure;
use rustix::io::{Errno, Result};

/// A step of the start, as its failure is reported. The order is that of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    /// New namespaces besides user and pid.
    Unshare = 16,
    /// Those of a running container.
    Join,
    /// The starter's go-ahead.
    Wait,
    /// Ids of the user namespace.
    BecomeRoot,
    /// Mount propagation.
    Propagation,
    /// The loopback interface.
    Loopback,
    /// A network interface; the item counts in the plan's.
    Interface,
    /// Host name.
    Hostname,
    /// The root file system.
    Root,
    /// A mount, device or link; the item counts in the plan's operations.
    Operation,
    /// The source of a mount; the item counts in the plan's operations.
    Source,
    /// A sysctl; the item counts in the plan's.
    Sysctl,
    /// The terminal.
    Terminal,
    /// Lines of /etc/passwd and /etc/group.
    Entries,
    /// pivot_root.
    Pivot,
    /// stdin, stdout, stderr.
    Stdio,
    /// A resource limit; the item counts in the program's limits.
    Limit,
    /// The working directory.
    WorkingDirectory,
    /// Capabilities, groups, ids.
    Credentials,
    /// The command.
    Find,
    /// The AppArmor profile.
    AppArmor,
    /// The system call filter.
    Seccomp,
    /// The reaper's fork.
    Reaper,
}

impl Step {
    pub(super) fn failed(self, item: usize, errno: Errno) -> Failure {
        Failure { step: self as u32, item: item as u32, errno: errno.raw_os_error() }
    }
}

/// Says at which step a call failed.
pub(super) trait AtStep<T> {
    fn step(self, step: Step) -> std::result::Result<T, Failure>;
}

impl<T> AtStep<T> for Result<T> {
    fn step(self, step: Step) -> std::result::Result<T, Failure> {
        self.map_err(|errno| step.failed(0, errno))
    }
}

pub(super) fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
