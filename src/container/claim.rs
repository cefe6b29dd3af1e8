//! The claim on a container that has ended, for whoever wants to start or remove it.

use super::state::Status;
use crate::{
    error::Explain,
    storage::{ContainerDir, Lock},
};
use anyhow::{Result, anyhow};
use std::{
    thread::{sleep, yield_now},
    time::{Duration, Instant},
};

/// What became of the wish to act on a container that has ended.
#[derive(Debug)]
pub enum Claim {
    /// It is ours.
    Ours(Lock),
    /// It was removed.
    Gone,
    /// Somebody was faster: this is what it is doing.
    Alive(Status),
}

/// Longer than a monitor needs to end.
const SOON: Duration = Duration::from_millis(5);
/// As long as a copy waits for a start.
const PATIENCE: Duration = Duration::from_secs(10);

impl Claim {
    /// Claim container `dir`, which has ended or is about to say so: its monitor lets go at any moment, and a copy of its
    /// files does when it is done. Never waits for the life of one that somebody else starts meanwhile.
    ///
    /// # Errors
    /// A copy takes long.
    pub fn of(dir: &ContainerDir) -> Result<Claim> {
        let begin = Instant::now();
        loop {
            if let Some(lock) = dir.try_lock()? {
                return Ok(Claim::Ours(lock));
            }
            if !dir.path().exists() {
                return Ok(Claim::Gone);
            }
            match Status::of(dir)? {
                Status::Exited(_) | Status::Created if begin.elapsed() > PATIENCE => {
                    return Err(anyhow!("container {}: its files are being copied", dir.id().short()))
                        .hint("try again once `ctr cp` or `ctr export` has ended");
                }
                Status::Exited(_) | Status::Created if begin.elapsed() > SOON => sleep(SOON),
                Status::Exited(_) | Status::Created => yield_now(),
                alive => return Ok(Claim::Alive(alive)),
            }
        }
    }
}
