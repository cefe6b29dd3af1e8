//! Rows 23 and 25: sockets and keys of the host are out of reach.

use crate::{
    Running, WAIT, nightly,
    support::{Ctr, User},
};
use std::{
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};

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

/// Each has a keyring, and a user may have few: who is over the quota goes without, and starts.
#[test]
fn many_containers_at_once() {
    let count = if nightly() { 300 } else { 24 };
    let c = Running::new(Ctr::with_box(User::Rootless), "box", &[], WAIT);
    for _ in 1..count {
        c.0.run(["run", "-d", "--network=none", "box", "sleep", "1000"]).exits(0);
    }
    assert_eq!(c.0.run(["ps", "-q"]).ok().lines().count(), count);
}

/// Some files of a process are everybody's to read: while another one joins a container, they must not be the host's.
#[test]
fn who_joins_shows_nothing_of_the_host() {
    let canary = format!("ctr-canary-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&canary).expect("an abstract address");
    let _abstract = UnixListener::bind_addr(&address).expect("listen");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    let mount = mounts.split(' ').take(5).collect::<Vec<_>>().join(" ");
    for &user in User::all() {
        let peek = format!("exec probe peek {canary} '{mount}' SECRET >/tmp/seen");
        let check = ["--health-cmd=true", "--health-interval=1s"];
        let c = Running::new(Ctr::with_probe(user), "probe", &check, &peek);
        while c.script(&[], "cat /tmp/seen; :").is_empty() {}
        for _ in 0..10 {
            c.exec(&["-e", "SECRET=1"], &["true"]).exits(0);
            c.0.run(["healthcheck", "run", "c"]).exits(0);
        }
        assert_eq!(c.script(&[], "sort /tmp/seen | uniq -c"), "      1 up", "as {user:?}");
    }
}
