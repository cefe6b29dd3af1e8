//! The system call filter of a container, for each process that starts in it.

use super::{
    create::PROFILE,
    record::{Record, Seccomp},
};
use crate::{
    security::{CapSet, seccomp},
    storage::ContainerDir,
    weakened,
};
use anyhow::{Context, Result};

/// What the container in `dir` was made with; `None`: no filter.
pub fn of(dir: &ContainerDir, record: &Record) -> Result<Option<Vec<libc::sock_filter>>> {
    let bounding = record.capabilities.iter().filter_map(|name| CapSet::named(name));
    let capabilities = bounding.fold(CapSet::EMPTY, CapSet::union);
    let program = match record.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default if weakened::is("seccomp") => return Ok(None),
        Seccomp::Default => seccomp::default_filter(capabilities),
        Seccomp::File => {
            let json = dir.read(PROFILE)?.unwrap_or_default();
            seccomp::from_profile(&json, capabilities).context("read the seccomp profile")?.into()
        }
    };
    let instruction =
        |i: &seccomp::Instruction| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
    Ok(Some(program.iter().map(instruction).collect()))
}
