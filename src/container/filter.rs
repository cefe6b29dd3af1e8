//! The system call filters of a container, for each process that starts in it.

use super::{
    create::PROFILE,
    record::{Record, Seccomp},
};
use crate::{
    namespaces::user::IdRange,
    security::{CapSet, seccomp},
    storage::ContainerDir,
    weakened,
};
use anyhow::{Context, Result};

/// What the container in `dir` was made with, in the order in which they are installed. With one user and one group a second
/// program answers for others; whoever asks for no filter at all gets the kernel's own answers.
pub fn of(dir: &ContainerDir, record: &Record) -> Result<Vec<Vec<libc::sock_filter>>> {
    let mut programs = Vec::new();
    let unconfined = record.seccomp == Seccomp::Unconfined && !record.privileged;
    if record.mapping == "single" && !unconfined {
        let of = |map: &[IdRange]| map.first().map_or(0, |range| range.inside);
        let inside = record.ids.as_ref().map_or((0, 0), |maps| (of(&maps.uids), of(&maps.gids)));
        programs.push(assemble(&seccomp::single_id_filter(inside.0, inside.1)?));
    }
    let bounding = record.capabilities.iter().filter_map(|name| CapSet::named(name));
    let capabilities = bounding.fold(CapSet::EMPTY, CapSet::union);
    match record.seccomp {
        Seccomp::Unconfined => {}
        Seccomp::Default if weakened::is("seccomp") => {}
        Seccomp::Default => programs.push(assemble(&seccomp::default_filter(capabilities))),
        Seccomp::File => {
            let json = dir.read(PROFILE)?.unwrap_or_default();
            let program = seccomp::from_profile(&json, capabilities).context("read the seccomp profile")?;
            programs.push(assemble(&program));
        }
    }
    Ok(programs)
}

fn assemble(program: &[seccomp::Instruction]) -> Vec<libc::sock_filter> {
    program.iter().map(|i| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect()
}
