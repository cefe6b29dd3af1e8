//! fuse-overlayfs(1): the root file system where the kernel's overlay is refused. A process beside the container that
//! serves the container's root.

use super::{rootfs::Layers, users};
use crate::{
    error::Explain,
    sys::{
        fork::{self, Child},
        path, signal,
    },
};
use anyhow::{Context, Result, anyhow};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{MemfdFlags, memfd_create},
    pipe::{PipeFlags, pipe_with},
    process::{
        Gid, Pid, PidfdFlags, Signal, Uid, WaitOptions, pidfd_open, pidfd_send_signal,
        set_parent_process_death_signal, waitpid,
    },
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces, set_thread_res_gid, set_thread_res_uid},
};
use std::{
    ffi::OsString,
    fs::File,
    io::{Read, Seek},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A running fuse-overlayfs. Dropped, it ends.
#[derive(Debug)]
pub struct FuseOverlay {
    pid: Pid,
    pidfd: OwnedFd,
}

impl FuseOverlay {
    /// Let fuse-overlayfs mount them in the namespaces of `child`. Returns once it is mounted.
    ///
    /// # Errors
    /// What fuse-overlayfs says.
    pub fn mount(program: &Path, layers: &Layers, child: &Child, rootless: bool) -> Result<FuseOverlay> {
        // It splits its options at these, and escapes don't reach all of them (seen with 1.10).
        let dirs = layers.lower.iter().chain([&layers.upper, &layers.work]);
        if let Some(dir) = dirs.into_iter().find(|dir| dir.to_string_lossy().contains([',', ':', '\\'])) {
            return Err(anyhow!(
                "fuse-overlayfs can't take a path with a comma, colon or backslash: {}",
                dir.display()
            ))
            .hint("name another place for images and containers with --root");
        }
        let mounts = PathBuf::from(format!("/proc/{}/mountinfo", child.pid.as_raw_pid()));
        let doing = || format!("wait for {} at {}", program.display(), mounts.display());
        let mut table = File::open(&mounts).with_context(doing)?;
        let words: File = memfd_create(c"fuse-overlayfs", MemfdFlags::CLOEXEC).with_context(doing)?.into();
        let say = words.try_clone().with_context(doing)?;
        let helper = fork::fork(|| {
            // Who am I: a copy of the caller, single-threaded, on the way into the container's user and mount namespaces
            // (not its pid namespace, where it would be seen), to execute a program of the host there. The caller blocks
            // signals, which that program wants to hear.
            signal::reset();
            let error = match enter(child, rootless) {
                Ok(()) => command(program, layers, say).exec(),
                Err(errno) => errno.into(),
            };
            error.raw_os_error().unwrap_or(1)
        });
        let helper = FuseOverlay::new(helper.context("fork fuse-overlayfs")?)?;
        loop {
            let mut text = String::new();
            table.rewind().and_then(|()| table.read_to_string(&mut text)).with_context(doing)?;
            if text.lines().any(|line| shows(line, &layers.merged)) {
                return Ok(helper);
            }
            // proc_pid_mountinfo(5): the file polls as an exception when a mount has come or gone.
            let mut fds = [PollFd::new(&table, PollFlags::PRI), PollFd::new(&helper.pidfd, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut fds, None)).with_context(doing)?;
            if !fds[1].revents().is_empty() {
                return Err(refusal(program, words))
                    .hint("`sudo modprobe fuse && sudo chmod 0666 /dev/fuse`");
            }
        }
    }

    fn new(pid: Pid) -> Result<FuseOverlay> {
        Ok(FuseOverlay { pid, pidfd: pidfd_open(pid, PidfdFlags::empty()).context("watch fuse-overlayfs")? })
    }
}

impl Drop for FuseOverlay {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// Whether a line of proc_pid_mountinfo(5) is of fuse-overlayfs at `place`: the host may have others, at other places.
fn shows(line: &str, place: &Path) -> bool {
    let escaped = place.as_os_str().as_bytes().iter().fold(Vec::new(), |mut escaped, byte| {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").bytes()),
            byte => escaped.push(*byte),
        }
        escaped
    });
    line.contains(" - fuse.fuse-overlayfs ")
        && line.split(' ').nth(4).is_some_and(|at| at.as_bytes() == escaped)
}

/// /etc/passwd and /etc/group below `root`, the root of `child`. What is its owner's alone is read in the user namespace of
/// `child`, as is a file system that was mounted there: to anybody else it says EACCES (fuse(8), `allow_other`).
pub fn read_users(child: &Child, root: BorrowedFd<'_>, rootless: bool) -> Result<(String, String)> {
    match users::read(root) {
        Err(failure) if rootless => look_inside(child, || users::read(root)).map_err(|_| failure),
        texts => texts,
    }
}

fn look_inside(child: &Child, look: impl FnOnce() -> Result<(String, String)>) -> Result<(String, String)> {
    let doing = "look at the container's users";
    let (found, tell) = pipe_with(PipeFlags::CLOEXEC).context(doing)?;
    let looker = fork::fork(move || {
        // Who am I: a copy of the caller, single-threaded, root of the container's user namespace for this one look.
        let texts = enter(child, true).map_err(Into::into).and_then(|()| look());
        let told = texts.is_ok_and(|texts| serde_json::to_writer(File::from(tell), &texts).is_ok());
        i32::from(!told)
    });
    let looker = looker.context(doing)?;
    let mut texts = Vec::new();
    let read = File::from(found).read_to_end(&mut texts);
    waitpid(Some(looker), WaitOptions::empty()).context(doing)?;
    read.context(doing)?;
    serde_json::from_slice(&texts).context(doing)
}

/// Whether it can serve anything here.
///
/// # Errors
/// It is not installed, or there is no /dev/fuse for this user.
pub fn probe() -> Result<PathBuf> {
    let program =
        find().context("fuse-overlayfs is not installed").hint("sudo apt install fuse-overlayfs")?;
    let device = File::options().read(true).write(true).open("/dev/fuse").context("open /dev/fuse");
    device.hint("sudo modprobe fuse && sudo chmod 0666 /dev/fuse; in a container: --device /dev/fuse")?;
    Ok(program)
}

/// Where fuse-overlayfs is installed.
pub fn find() -> Option<PathBuf> {
    path::find("fuse-overlayfs")
}

fn command(program: &Path, layers: &Layers, say: File) -> Command {
    let lower = layers.lower.iter().map(|dir| dir.as_os_str()).collect::<Vec<_>>().join(":".as_ref());
    let mut options = OsString::from("lowerdir=");
    options.push(lower);
    for (key, dir) in [(",upperdir=", &layers.upper), (",workdir=", &layers.work)] {
        options.push(key);
        options.push(dir);
    }
    let mut command = Command::new(program);
    // In the foreground it is our child: it ends with us and with the container.
    command.arg("-f").arg("-o").arg(options).arg(&layers.merged);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(say);
    command
}

fn refusal(program: &Path, mut words: File) -> anyhow::Error {
    let mut said = String::new();
    let _ = words.rewind().and_then(|()| words.take(4096).read_to_string(&mut said));
    anyhow!("mount the root file system with {}: {}", program.display(), said.trim())
}

fn enter(child: &Child, rootless: bool) -> rustix::io::Result<()> {
    let mut namespaces = ThreadNameSpaceType::MOUNT;
    namespaces.set(ThreadNameSpaceType::USER, rootless);
    move_into_thread_name_spaces(child.pidfd.as_fd(), namespaces)?;
    if rootless {
        set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
        set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    }
    set_parent_process_death_signal(Some(Signal::KILL))
}
