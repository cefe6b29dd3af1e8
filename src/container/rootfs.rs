//! The root file system of a container over the layers of its image: native overlay, or fuse-overlayfs where the kernel
//! refuses it.

use super::plan::path_c_string;
use crate::{
    error::Explain,
    namespaces::root::Root,
    sys::{
        fork::{self, Child},
        signal,
    },
};
use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    fs::{Mode, OFlags, open},
    process::{Gid, Uid, WaitOptions, waitpid},
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces, set_thread_res_gid, set_thread_res_uid},
};
use std::{
    env,
    ffi::{CString, OsString},
    io::Read,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The directories that make a root.
#[derive(Clone, Debug)]
pub struct Layers {
    /// Read-only, topmost first.
    pub lower: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// overlay's own.
    pub work: PathBuf,
    /// Where all of it is seen together.
    pub merged: PathBuf,
    /// Changes are thrown away at the end, so nothing has to reach the disk.
    pub ephemeral: bool,
}

impl Layers {
    /// As a native overlay. The directories are held open and named by descriptor: a name in the options could be too
    /// long (127 layers have to fit in a page) or hold a comma.
    pub fn overlay(&self, rootless: bool) -> Result<Root> {
        let hold = |dir: &PathBuf| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let held = open(dir, flags, Mode::empty()).with_context(|| format!("open {}", dir.display()))?;
            Ok((path_c_string(dir)?, held))
        };
        let lower: Vec<(CString, OwnedFd)> = self.lower.iter().map(hold).collect::<Result<_>>()?;
        let (upper, work) = (hold(&self.upper)?, hold(&self.work)?);
        let name = |(_, fd): &(CString, OwnedFd)| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let mut options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.iter().map(name).collect::<Vec<_>>().join(":"),
            name(&upper),
            name(&work)
        );
        if rootless {
            options.push_str(",userxattr");
        }
        // Not otherwise: it would make an fsync of a database inside mean nothing.
        if self.ephemeral {
            options.push_str(",volatile");
        }
        let directories = lower.into_iter().chain([upper, work]).collect();
        Ok(Root::Overlay { options: CString::new(options).context("overlay options")?, directories })
    }

    /// Let fuse-overlayfs mount them in the namespaces of `child`. Returns once it is mounted; the process that serves it
    /// ends with the container's mount namespace.
    ///
    /// # Errors
    /// What fuse-overlayfs says.
    pub fn mount_with_fuse(&self, program: &Path, child: &Child, rootless: bool) -> Result<()> {
        let (said, say) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("make a pipe")?;
        let helper = fork::fork(|| {
            // Who am I: a copy of the caller, single-threaded, on the way into the container's user and mount namespaces
            // (not its pid namespace, where it would be seen), to execute a program of the host there. The caller blocks
            // signals, which that program wants to hear.
            signal::reset();
            let error = match enter(child, rootless) {
                Ok(()) => self.fuse_command(program, say).exec(),
                Err(errno) => errno.into(),
            };
            error.raw_os_error().unwrap_or(1)
        });
        let helper = helper.context("fork fuse-overlayfs")?;
        let status = waitpid(Some(helper), WaitOptions::empty()).context("wait for fuse-overlayfs")?;
        if status.is_some_and(|(_, status)| status.exit_status() == Some(0)) {
            return Ok(());
        }
        let mut words = String::new();
        let _ = std::fs::File::from(said).take(4096).read_to_string(&mut words);
        Err(anyhow!("mount the root file system with {}: {}", program.display(), words.trim()))
            .hint("`sudo modprobe fuse && sudo chmod 0666 /dev/fuse`")
    }

    fn fuse_command(&self, program: &Path, say: OwnedFd) -> Command {
        let lower = self.lower.iter().map(|dir| escaped(dir)).collect::<Vec<_>>().join(":".as_ref());
        let mut options = OsString::from("lowerdir=");
        options.push(lower);
        for (key, dir) in [(",upperdir=", &self.upper), (",workdir=", &self.work)] {
            options.push(key);
            options.push(escaped(dir));
        }
        let mut command = Command::new(program);
        command.arg("-o").arg(options).arg(&self.merged);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(say);
        command
    }
}

/// Where fuse-overlayfs is installed.
pub fn find_fuse_overlayfs() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/bin", "/usr/local/bin"].map(PathBuf::from));
    places.map(|dir| dir.join("fuse-overlayfs")).find(|file| file.is_file())
}

/// A directory as the root, without layers (`--rootfs DIR`).
pub fn directory(path: &Path) -> Result<Root> {
    if !path.is_dir() {
        bail!("{} is no directory", path.display());
    }
    Ok(Root::Directory(path_c_string(path)?))
}

fn enter(child: &Child, rootless: bool) -> rustix::io::Result<()> {
    let mut namespaces = ThreadNameSpaceType::MOUNT;
    namespaces.set(ThreadNameSpaceType::USER, rootless);
    move_into_thread_name_spaces(child.pidfd.as_fd(), namespaces)?;
    if rootless {
        set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
        set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    }
    Ok(())
}

/// fuse-overlayfs splits at commas and colons that have no backslash before them.
fn escaped(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut out = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b',' | b':' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    OsString::from_vec(out)
}
