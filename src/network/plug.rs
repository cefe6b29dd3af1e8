//! An interface in the network namespace of a container that runs: made, brought back, taken away.

use super::device::{self, Interface};
use crate::{
    namespaces::{Mapping, start_in},
    sys::{channel::Channel, fork::Child},
};
use anyhow::{Context, Result};
use rustix::{io::Errno, thread::ThreadNameSpaceType};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread::sleep,
    time::{Duration, Instant},
};

/// Whose network namespace.
#[derive(Clone, Copy, Debug)]
pub struct Inside<'a> {
    /// The pidfd of a process in it.
    pub process: BorrowedFd<'a>,
    /// Root of that process's user namespace, unless we are root in the same.
    pub user: Option<(u32, u32)>,
}

impl Inside<'_> {
    /// That of `child`, whose ids map so.
    pub fn of<'child>(child: &'child Child, ids: &Mapping) -> Inside<'child> {
        Inside { process: child.pidfd.as_fd(), user: ids.is_rootless().then(|| ids.builder()) }
    }

    /// Let `interface` be there, as it was made, and its other end be ours.
    ///
    /// # Errors
    /// The process has ended; there is an interface of that name that is not ours; the user's rights don't suffice.
    pub fn plug(self, interface: &Interface) -> Result<OwnedFd> {
        let (ours, theirs) = Channel::pair()?;
        let doing = || format!("make the network interface {}", interface.name);
        self.work(move || {
            let tap = patiently(|| interface.mend())?;
            theirs.say(&(), &[tap.as_fd()])
        })
        .with_context(doing)?;
        let (_, descriptors) = ours.hear::<()>()?.context("nobody handed it over").with_context(doing)?;
        descriptors.into_iter().next().context("no device came along").with_context(doing)
    }

    /// Give `interface`, which is there, what it lacks of its addresses and routes.
    ///
    /// # Errors
    /// As of [`Inside::plug`].
    pub fn settle(self, interface: &Interface) -> Result<()> {
        self.work(|| Ok(interface.settle()?))
            .with_context(|| format!("set up the network interface {}", interface.name))
    }

    /// Take the interface `name` away, if it is there.
    ///
    /// # Errors
    /// As of [`Inside::plug`].
    pub fn unplug(self, name: &str) -> Result<()> {
        self.work(|| match device::remove(name) {
            Ok(()) | Err(Errno::NODEV) => Ok(()),
            Err(errno) => Err(errno.into()),
        })
        .with_context(|| format!("remove the network interface {name}"))
    }

    fn work(self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        // In there: in the container's network namespace, with every capability of its user namespace; in the mount namespace
        // of ours, whose /dev/net/tun it is.
        start_in(self.process, ThreadNameSpaceType::NETWORK, self.user, |_| work())?.wait()
    }
}

/// Who had its other end may not have closed it yet. There is an event for that (the carrier's loss, rtnetlink(7)), but the kernel
/// holds it back for up to a second (net/core/link_watch.c).
fn patiently(make: impl Fn() -> rustix::io::Result<OwnedFd>) -> rustix::io::Result<OwnedFd> {
    let begin = Instant::now();
    loop {
        match make() {
            Err(Errno::BUSY) if begin.elapsed() < PATIENCE => sleep(PATIENCE / 1000),
            made => return made,
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(2);
