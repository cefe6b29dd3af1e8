//! Rows 21 and 22: what the filter refuses.

use crate::support::{Ctr, TestImage, User, probe_layer};

/// What the filter refuses, and with what; everything else is for the tests of the profile itself.
const REFUSED: &str = "unshare-user EPERM
unshare-mount EPERM
clone-user EPERM
clone3 ENOSYS
setns EPERM
mount EPERM
umount EPERM
fsopen EPERM
open_tree EPERM
move_mount EPERM
pivot_root EPERM
keyctl EPERM
add_key EPERM
request_key EPERM
io_uring_setup EPERM
io_uring_enter EPERM
bpf EPERM
perf_event_open EPERM
userfaultfd EPERM
open_by_handle_at EPERM
init_module EPERM
kexec_load EPERM
swapon EPERM
acct EPERM
personality EPERM
pidfd_getfd EPERM
socket-alg EAFNOSUPPORT
socket-vsock EAFNOSUPPORT
socket-inet OK
tiocsti EPERM
tiocsti-wide EPERM
tioclinux EPERM
i386 signal 31
x32 signal 31";

#[test]
fn the_filter_refuses_by_name_and_kills_foreign_architectures() {
    for &user in User::all() {
        let ctr = Ctr::with_probe(user);
        for options in [&[][..], &["-t"], &["--init"], &["-u", "0:0"], &["--security-opt=no-new-privileges"]]
        {
            let said = ctr.payload_of("probe", options, &["probe", "syscalls"]).ok().replace('\r', "");
            assert_eq!(said, REFUSED, "as {user:?} {options:?}");
        }
        // The kernel itself would have granted these.
        let bare =
            ctr.payload_of("probe", &["--security-opt=seccomp=unconfined"], &["probe", "syscalls"]).ok();
        for granted in [
            "clone3 OK",
            "keyctl OK",
            "add_key OK",
            "request_key ENOKEY",
            "setns EINVAL",
            "io_uring_enter EBADF",
        ] {
            assert!(bare.contains(granted), "{granted} as {user:?} in\n{bare}");
        }
    }
}

#[test]
fn a_terminal_takes_no_keys_from_inside() {
    // The kernel may refuse by itself (dev.tty.legacy_tiocsti); with the filter the call never gets there.
    let ctr = Ctr::with_probe(User::Rootless);
    let said = ctr.payload_of("probe", &["-t"], &["probe", "syscalls"]).ok();
    assert!(said.contains("tiocsti EPERM") && said.contains("tioclinux EPERM"), "{said}");
}

#[test]
fn probes_are_what_they_seem() {
    // The same questions to a container without defences: the tests above can fail.
    let ctr = Ctr::new(User::Rootless).with_hub().with_image("bare", TestImage::new([probe_layer()]));
    let bare = ctr.payload_of("bare", &["--privileged"], &["probe", "syscalls"]).ok();
    assert!(bare.contains("unshare-user OK") && bare.contains("mount OK"), "{bare}");
}
