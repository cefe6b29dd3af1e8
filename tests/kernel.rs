//! What the kernel does for a payload: system calls, keys, sockets; and that a payload ends with its `ctr`.

mod support;

use rustix::process::Signal;
use std::{
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};
use support::{Ctr, Registry, TestImage, User, probe_layer, wait_gone};

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
fn keys_of_the_caller_are_out_of_sight() {
    for &user in User::all() {
        let ctr = Ctr::with_probe(user);
        let probe = ctr.probe_file().display().to_string();
        let holder = [probe.as_str(), "with-key", "ctr-canary"];
        // Its holder finds it; without the filter the container can ask, too, but its keyring is another one.
        let mut direct = ctr.wrapped(&[&holder[..], &[&probe, "key", "ctr-canary"]].concat(), &[]);
        let said = String::from_utf8_lossy(&direct.output().expect("start the probe").stdout).into_owned();
        assert_eq!(said, "key OK\n", "as {user:?}");
        let run = [
            "run",
            "--rm",
            "--network=none",
            "--security-opt=seccomp=unconfined",
            "probe",
            "probe",
            "key",
            "ctr-canary",
        ];
        let output = ctr.wrapped(&holder, &run).output().expect("start ctr");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "key ENOKEY\n", "as {user:?}");
    }
}

#[test]
fn loopback_and_abstract_sockets_of_the_host_are_out_of_reach() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = tcp.local_addr().expect("an address").port().to_string();
    let name = format!("ctr-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("an abstract address");
    let _abstract = UnixListener::bind_addr(&address).expect("listen");
    for &user in User::all() {
        let ctr = Ctr::with_probe(user);
        let says = |network: &str| {
            let script = format!("probe tcp {port}; probe abstract {name}");
            ctr.run(["run", "--rm", network, "probe", "sh", "-c", &script]).ok()
        };
        assert_eq!(says("--network=host"), "tcp OK\nabstract OK", "as {user:?}");
        assert_eq!(says("--network=none"), "tcp ECONNREFUSED\nabstract ECONNREFUSED", "as {user:?}");
        if std::fs::File::options().read(true).write(true).open("/dev/net/tun").is_ok() {
            assert_eq!(says("--network=private"), "tcp ECONNREFUSED\nabstract ECONNREFUSED", "as {user:?}");
        }
    }
}

/// The host's id of the first process of container `name`.
fn first_process(ctr: &Ctr, name: &str) -> i32 {
    let text = ctr.run(["inspect", name]).ok();
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    value[0]["State"]["Pid"].as_i64().expect("a process id") as i32
}

#[test]
fn kill_9_of_ctr_ends_the_container_and_ps_says_so() {
    TestImage::new([probe_layer()]).push(Registry::plain(), "library/probe:latest");
    for &user in User::all() {
        let ctr = Ctr::with_probe(user);
        let switches = if user == User::Single { None } else { Some(&["su", "user", "-c", "cat"][..]) };
        for command in [Some(&["cat"][..]), Some(&["probe", "outlive"]), switches].into_iter().flatten() {
            let mut live =
                ctr.start([&["run", "--network=none", "-i", "--name=x", "probe"], command].concat());
            if command[0] != "probe" {
                live.write("ready\n");
            }
            live.says("ready");
            let pid = first_process(&ctr, "x");
            live.signal(Signal::KILL);
            live.end().exits(137);
            wait_gone(pid);
            let listed = ctr.run(["ps", "-a"]).ok();
            // Its stdin ended as well: cat may have been faster than the signal.
            let ends = if command[0] == "probe" { "Exited (137)" } else { "Exited (" };
            assert!(listed.contains(ends), "as {user:?} {command:?}: {listed}");
            ctr.run(["rm", "x"]).ok();
            assert!(
                ctr.list("containers").is_empty() && ctr.list("names").is_empty(),
                "as {user:?} {command:?}"
            );
        }
    }
}
