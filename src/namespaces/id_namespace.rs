//! User namespaces that stand for a map of ids and in which nobody lives (mount_setattr(2), "ID-mapped mounts").

use crate::sys::fork;
use anyhow::{Context, Result};
use rustix::{
    fs::{Mode, OFlags, open},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, waitpid},
    thread::UnshareFlags,
};
use std::{fs, os::fd::OwnedFd};

/// One whose maps have these lines: the id on the file system, the id that is seen, how many. For root alone. Must be called
/// before any thread exists.
pub fn user_namespace(uids: &[[u32; 3]], gids: &[[u32; 3]]) -> Result<OwnedFd> {
    let doing = "make a user namespace for an id map";
    let (ready, tell_ready) = pipe_with(PipeFlags::CLOEXEC).context(doing)?;
    let (done, tell_done) = pipe_with(PipeFlags::CLOEXEC).context(doing)?;
    let Some(pid) = fork::split().context(doing)? else {
        // Here: the child, in the namespace until that is open and mapped.
        drop((ready, tell_done));
        if super::unshare(UnshareFlags::NEWUSER).is_ok() {
            let _ = rustix::io::write(&tell_ready, &[1]);
            let _ = rustix::io::read(&done, &mut [0; 1]);
        }
        fork::exit_now(0)
    };
    drop((tell_ready, done));
    let made = map(pid, &ready, uids, gids).context(doing);
    drop(tell_done);
    let _ = waitpid(Some(pid), WaitOptions::empty());
    made
}

fn map(pid: Pid, ready: &OwnedFd, uids: &[[u32; 3]], gids: &[[u32; 3]]) -> Result<OwnedFd> {
    anyhow::ensure!(rustix::io::read(ready, &mut [0; 1])? == 1, "user namespaces are refused");
    let proc = format!("/proc/{}", pid.as_raw_pid());
    for (name, ranges) in [("uid_map", uids), ("gid_map", gids)] {
        let lines: String =
            ranges.iter().map(|[file, seen, count]| format!("{file} {seen} {count}\n")).collect();
        fs::write(format!("{proc}/{name}"), lines).with_context(|| format!("write {proc}/{name}"))?;
    }
    Ok(open(format!("{proc}/ns/user"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}
