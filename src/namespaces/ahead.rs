//! A user namespace that is mapped while its container is still planned: newuidmap(1) and newgidmap(1) take a quarter of
//! a start, most of it in the dynamic linker, and meanwhile the other processors have nothing to do. Its network, which the
//! kernel makes longer than all the other namespaces, is made beside the birth of the first process.

use super::{
    inside::{Inside, start_here},
    unshare,
    user::{IdMaps, Mapping},
};
use crate::sys::{channel::Channel, fork};
use anyhow::{Context, Result};
use rustix::{
    fs::{Mode, OFlags, open},
    io::{read, retry_on_intr, write},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, waitpid},
    thread::UnshareFlags,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The namespace, seen from the process whose children map it. Dropped, none of them is left.
#[derive(Debug)]
pub struct Ahead {
    maps: IdMaps,
    namespace: OwnedFd,
    /// Who waits for the helpers, so that nobody else does: it is started and forgotten until its word is needed.
    mapper: Inside,
    holder: Holder,
}

impl Ahead {
    /// Begin one for `mapping`. None where no helper has to map it, and where it can't be made: who goes on without it finds
    /// out why.
    pub fn begin(mapping: &Mapping) -> Option<Ahead> {
        if !mapping.has_helpers() {
            return None;
        }
        let holder = Holder::new().ok()?;
        let namespace = format!("/proc/{}/ns/user", holder.pid.as_raw_pid());
        let namespace = open(namespace, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mapper = start_here(|| mapping.write(holder.pid)).ok()?;
        Some(Ahead { maps: mapping.maps(), namespace, mapper, holder })
    }

    /// Whether it is what a container with `mapping` needs.
    pub fn suits(&self, mapping: &Mapping) -> bool {
        self.maps == mapping.maps()
    }

    /// For the process that starts the container, and what tells it that the namespace is mapped. From now on one for the
    /// `network` is made there.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn promise(&self, network: bool) -> Result<(Promised, Told)> {
        let (kept, tell) = Channel::pair()?;
        let namespace = self.namespace.try_clone().context("pass a user namespace on")?;
        if network {
            self.holder.begin_network();
        }
        Ok((Promised { namespace, kept: Some(kept), network }, Told { tell, network }))
    }

    /// Wait for the helpers, and say so to who waits for that.
    ///
    /// # Errors
    /// A helper refuses: its words are in the error. Who waits hears that there is no map.
    pub fn finish(self, told: Told) -> Result<()> {
        self.mapper.wait()?;
        let network = told.network.then(|| self.holder.network()).flatten();
        // Who can't hear it has said why over another line.
        let _ = told.tell.say(&(), network.as_ref().map(AsFd::as_fd).as_slice());
        Ok(())
    }
}

/// Where to say that a namespace is mapped.
#[derive(Debug)]
pub struct Told {
    tell: Channel,
    network: bool,
}

/// The namespace, seen from the process that starts the container.
#[derive(Debug)]
pub struct Promised {
    namespace: OwnedFd,
    kept: Option<Channel>,
    /// One for the network comes with the word that it is mapped.
    pub network: bool,
}

impl Promised {
    /// It can be joined, but nobody in it has an id before it is mapped.
    pub fn namespace(&self) -> Result<OwnedFd> {
        self.namespace.try_clone().context("pass a user namespace on")
    }

    /// What has to stay open.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [Some(self.namespace.as_fd()), self.kept.as_ref().map(AsFd::as_fd)].into_iter().flatten()
    }

    /// Wait until it is mapped; the network's namespace, if there is one.
    ///
    /// # Errors
    /// It won't be.
    pub fn wait(&mut self) -> Result<Option<OwnedFd>> {
        let Some(kept) = self.kept.take() else { return Ok(None) };
        let heard = kept.hear::<()>().context("hear of the maps of a user namespace")?;
        let ((), descriptors) = heard.context("nobody mapped the user namespace")?;
        Ok(descriptors.into_iter().next())
    }
}

/// Who lives in the namespace meanwhile, because helpers know it by a process of it.
#[derive(Debug)]
struct Holder {
    pid: Pid,
    /// Closed, it ends.
    orders: Option<OwnedFd>,
    answers: OwnedFd,
}

impl Holder {
    fn new() -> Result<Holder> {
        let (heard, orders) = pipe_with(PipeFlags::CLOEXEC)?;
        let (answers, answer) = pipe_with(PipeFlags::CLOEXEC)?;
        let Some(child) = fork::clone_into(UnshareFlags::NEWUSER.bits().into(), None)? else {
            // Who am I: a copy of the client, in the new namespace, where I hold every capability, for as long as the client
            // wants it, and idle.
            drop((orders, answers));
            while let Ok(1) = retry_on_intr(|| read(&heard, &mut [0; 1])) {
                let made = unshare(UnshareFlags::NEWNET).is_ok();
                let _ = write(&answer, &[made.into()]);
            }
            fork::exit_now(0)
        };
        Ok(Holder { pid: child.pid, orders: Some(orders), answers })
    }

    fn begin_network(&self) {
        let _ = self.orders.as_ref().map(|orders| write(orders, &[1]));
    }

    /// None where it can't be made: who goes on without it finds out why.
    fn network(&self) -> Option<OwnedFd> {
        let mut made = [0; 1];
        retry_on_intr(|| read(&self.answers, &mut made)).ok()?;
        let namespace = format!("/proc/{}/ns/net", self.pid.as_raw_pid());
        (made == [1]).then(|| open(namespace, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok())?
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}
