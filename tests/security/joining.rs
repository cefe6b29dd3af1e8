//! Rows 1, 2 and 23: a container that joins the namespaces of another, or a pod, isn't open to who lives there.

use crate::{
    Running, WAIT,
    support::{Ctr, User},
};
use std::{
    fs,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};

/// While it is set up the first process has the host's files: whoever may trace it has them, too.
#[test]
fn who_lives_in_a_pid_namespace_opens_nothing_of_who_joins() {
    for &user in User::all().iter().filter(|user| **user != User::Root) {
        let c = Running::new(Ctr::with_box(user), "box", &["--cap-add=SYS_PTRACE"], WAIT);
        c.0.file("canary", "CANARY-OF-THE-HOST");
        let canary = c.0.home().join("canary").display().to_string();
        let create = ["create", "--name=d", "--hostname=mine", "--network=none", "--pid=container:c"];
        c.0.run([&create[..], &["box", "sleep", "1000"]].concat()).ok();
        // It waits for `start` with everything set up but its root.
        c.0.run(["init", "d"]).ok();
        let steal = format!(
            "cd /proc; for p in [0-9]*; do case $(cat $p/comm) in ctr*)
                echo a process; cat $p/root{canary} $p/cwd{canary} 2>/dev/null; ls $p/fd/ 2>/dev/null;;
            esac; done"
        );
        assert_eq!(c.script(&[], &steal), "a process", "as {user:?}");
        c.0.run(["start", "d"]).ok();
        // It has all that others have.
        let script = "hostname; ip -o link show lo | grep -o LOOPBACK,UP";
        let said = c.0.run(["exec", "d", "sh", "-c", script]).ok();
        assert_eq!(said, "mine\nLOOPBACK,UP", "as {user:?}");
    }
}

/// Nothing can be hidden from root's own tracers: nobody joins them.
#[test]
fn nobody_joins_a_tracer_of_roots() {
    if !User::all().contains(&User::Root) {
        return;
    }
    let c = Running::new(Ctr::with_box(User::Root), "box", &["--cap-add=SYS_PTRACE"], WAIT);
    let join = |name: &str| ["run", "-d", "--network=none", name, "box", "sleep", "1000"].map(str::to_owned);
    c.0.run(join("--pid=container:c")).exits(125).fails("may trace processes").hints("--userns");
    // Nor those who have joined one another.
    c.0.run(["rm", "-f", "c"]).ok();
    c.0.run(["run", "-d", "--name=c", "--network=none", "box", "sleep", "1000"]).ok();
    let line = ["run", "-d", "--name=d", "--network=none", "--pid=container:c"];
    c.0.run([&line[..], &["--cap-add=ALL", "box", "sleep", "1000"]].concat()).ok();
    c.0.run(join("--pid=container:d")).exits(125).fails("may trace processes");
    c.0.run(join("--pid=container:c")).exits(125).fails("may trace processes");
    c.0.run(join("--ipc=container:c")).ok();
}

/// Some files of a process are everybody's to read: they are never those of the host's network or of our caller.
#[test]
fn who_joins_a_pid_namespace_shows_no_network_of_the_host() {
    let canary = format!("ctr-canary-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&canary).expect("an abstract address");
    let _abstract = UnixListener::bind_addr(&address).expect("listen");
    for &user in User::all() {
        let peek = format!("exec probe peek {canary} SECRET >/tmp/seen");
        let c = Running::new(Ctr::with_probe(user), "probe", &[], &peek);
        while c.script(&[], "cat /tmp/seen; :").is_empty() {}
        for _ in 0..5 {
            let run =
                ["run", "--rm", "--network=none", "--pid=container:c", "-e", "SECRET=1", "probe", "true"];
            c.0.run(run).ok();
        }
        assert_eq!(c.script(&[], "sort /tmp/seen | uniq -c"), "      1 up", "as {user:?}");
    }
}

/// Where no control group holds it together, either.
#[test]
fn who_is_removed_leaves_nothing_in_a_pid_namespace_of_others() {
    for &user in User::all() {
        let c = Running::new(Ctr::with_box(user), "box", &[], WAIT);
        for (at, pid) in ["--pid=container:c", "--pid=host"].into_iter().enumerate() {
            let mark = format!("{}{at}", 1_000_000 + std::process::id());
            let script = format!("sleep {mark} & exec sleep 1000");
            c.0.run(["run", "-d", "--name=d", "--network=none", pid, "box", "sh", "-c", &script]).ok();
            let lives = || {
                let mut processes = fs::read_dir("/proc").expect("list /proc").flatten();
                let line = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("cmdline"));
                processes.any(|entry| line(entry).is_ok_and(|line| line == format!("sleep\0{mark}\0")))
            };
            while !lives() {}
            c.0.run(["rm", "-f", "-t0", "d"]).ok();
            assert!(!lives(), "{pid} as {user:?}");
        }
    }
}
