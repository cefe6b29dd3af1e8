//! A user namespace that is mapped while its container is still planned: newuidmap(1) and newgidmap(1) take a quarter of
//! a start, most of it in the dynamic linker, and meanwhile the other processors have nothing to do.

use super::{
    inside::{Inside, start_here},
    user::{IdMaps, Mapping},
};
use crate::sys::fork;
use anyhow::{Context, Result, ensure};
use rustix::{
    fs::{Mode, OFlags, open},
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
    _holder: Holder,
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
        Some(Ahead { maps: mapping.maps(), namespace, mapper, _holder: holder })
    }

    /// Whether it is what a container with `mapping` needs.
    pub fn suits(&self, mapping: &Mapping) -> bool {
        self.maps == mapping.maps()
    }

    /// For the process that starts the container, and what tells it that the namespace is mapped.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn promise(&self) -> Result<(Promised, Told)> {
        let (kept, tell) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
        let namespace = self.namespace.try_clone().context("pass a user namespace on")?;
        Ok((Promised { namespace, kept: Some(kept) }, Told(tell)))
    }

    /// Wait for the helpers, and say so to who waits for that.
    ///
    /// # Errors
    /// A helper refuses: its words are in the error. Who waits hears that there is no map.
    pub fn finish(self, tell: Told) -> Result<()> {
        self.mapper.wait()?;
        // Who can't hear it has said why over another line.
        let _ = rustix::io::write(&tell.0, &[1]);
        Ok(())
    }
}

/// Where to say that a namespace is mapped.
#[derive(Debug)]
pub struct Told(OwnedFd);

/// The namespace, seen from the process that starts the container.
#[derive(Debug)]
pub struct Promised {
    namespace: OwnedFd,
    kept: Option<OwnedFd>,
}

impl Promised {
    /// It can be joined, but nobody in it has an id before it is mapped.
    pub fn namespace(&self) -> Result<OwnedFd> {
        self.namespace.try_clone().context("pass a user namespace on")
    }

    /// What has to stay open.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [Some(&self.namespace), self.kept.as_ref()].into_iter().flatten().map(AsFd::as_fd)
    }

    /// Wait until it is mapped.
    ///
    /// # Errors
    /// It won't be.
    pub fn wait(&mut self) -> Result<()> {
        if let Some(kept) = self.kept.take() {
            let heard =
                rustix::io::read(&kept, &mut [0; 1]).context("hear of the maps of a user namespace")?;
            ensure!(heard == 1, "nobody mapped the user namespace");
        }
        Ok(())
    }
}

/// Who lives in the namespace meanwhile, because helpers know it by a process of it.
#[derive(Debug)]
struct Holder {
    pid: Pid,
    release: Option<OwnedFd>,
}

impl Holder {
    fn new() -> Result<Holder> {
        let (held, release) = pipe_with(PipeFlags::CLOEXEC)?;
        let Some(child) = fork::clone_into(UnshareFlags::NEWUSER.bits().into(), None)? else {
            // Who am I: a copy of the client, in the new namespace for as long as the client wants it, and idle.
            drop(release);
            let _ = rustix::io::read(&held, &mut [0; 1]);
            fork::exit_now(0)
        };
        Ok(Holder { pid: child.pid, release: Some(release) })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.release.take());
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}
