//! Which system calls change what others can see: the points of a crash.

use libc::{O_CREAT, O_TRUNC};
use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::{
        ffi::OsStringExt,
        fs::{FileExt, MetadataExt},
    },
};
use syscalls::Sysno;

/// Whether `call` of `pid` changes a file, a directory, a mount, or what of them is on disk. Of plain writes those
/// to regular files of the file system `device` count.
pub fn changes(pid: i32, call: Sysno, arguments: &[u64; 6], device: u64) -> bool {
    let creates = |flags: u64| flags & (O_CREAT | O_TRUNC) as u64 != 0;
    match call {
        Sysno::open => creates(arguments[1]),
        Sysno::openat => creates(arguments[2]),
        Sysno::openat2 => creates(word(pid, arguments[2])),
        Sysno::write
        | Sysno::pwrite64
        | Sysno::writev
        | Sysno::pwritev
        | Sysno::pwritev2
        | Sysno::sendfile => is_file(pid, arguments[0], device),
        Sysno::copy_file_range | Sysno::splice => is_file(pid, arguments[2], device),
        _ => CHANGING.contains(&call),
    }
}

/// `renameat2(… "/a/b" … "/c")`: the call with the paths among its arguments, for messages.
pub fn describe(pid: i32, call: Sysno, arguments: &[u64; 6]) -> String {
    let fd = matches!(
        call,
        Sysno::write | Sysno::pwrite64 | Sysno::fsync | Sysno::ftruncate | Sysno::fchmod | Sysno::fchown
    );
    let words: Vec<String> = match fd {
        true => fs::read_link(format!("/proc/{pid}/fd/{}", arguments[0]))
            .map(|path| path.display().to_string())
            .into_iter()
            .collect(),
        false => arguments[..4].iter().filter_map(|&word| path(pid, word)).collect(),
    };
    format!("{call}({})", words.join(", "))
}

const CHANGING: [Sysno; 56] = [
    Sysno::creat,
    Sysno::rename,
    Sysno::renameat,
    Sysno::renameat2,
    Sysno::link,
    Sysno::linkat,
    Sysno::symlink,
    Sysno::symlinkat,
    Sysno::mkdir,
    Sysno::mkdirat,
    Sysno::mknod,
    Sysno::mknodat,
    Sysno::unlink,
    Sysno::unlinkat,
    Sysno::rmdir,
    Sysno::truncate,
    Sysno::ftruncate,
    Sysno::fallocate,
    Sysno::chmod,
    Sysno::fchmod,
    Sysno::fchmodat,
    Sysno::fchmodat2,
    Sysno::chown,
    Sysno::fchown,
    Sysno::lchown,
    Sysno::fchownat,
    Sysno::setxattr,
    Sysno::lsetxattr,
    Sysno::fsetxattr,
    Sysno::removexattr,
    Sysno::lremovexattr,
    Sysno::fremovexattr,
    Sysno::utimensat,
    Sysno::sync,
    Sysno::syncfs,
    Sysno::fsync,
    Sysno::fdatasync,
    Sysno::sync_file_range,
    Sysno::mount,
    Sysno::umount2,
    Sysno::fsopen,
    Sysno::fsconfig,
    Sysno::fsmount,
    Sysno::move_mount,
    Sysno::open_tree,
    Sysno::mount_setattr,
    Sysno::pivot_root,
    // A socket's name is a file.
    Sysno::bind,
    // Whoever dies here leaves somebody waiting.
    Sysno::unshare,
    Sysno::setns,
    Sysno::clone3,
    Sysno::clone,
    Sysno::fork,
    Sysno::vfork,
    Sysno::sethostname,
    Sysno::seccomp,
];

fn is_file(pid: i32, fd: u64, device: u64) -> bool {
    // A magic link: it leads to the file itself, in whichever namespace that lies.
    fs::metadata(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|meta| meta.is_file() && meta.dev() == device)
}

fn word(pid: i32, address: u64) -> u64 {
    let mut bytes = [0; 8];
    let memory = File::open(format!("/proc/{pid}/mem"));
    let _ = memory.and_then(|memory| memory.read_exact_at(&mut bytes, address));
    u64::from_ne_bytes(bytes)
}

fn path(pid: i32, address: u64) -> Option<String> {
    let mut bytes = vec![0; 200];
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let length = memory.read_at(&mut bytes, address).ok()?;
    bytes.truncate(bytes[..length].iter().position(|&byte| byte == 0)?);
    let text = OsString::from_vec(bytes).into_string().ok()?;
    (text.len() > 1 && text.chars().all(|c| !c.is_control())).then_some(text)
}
