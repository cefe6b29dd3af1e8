//! Networks of containers that run: joined, left, and brought back when their process was killed.

mod support;

use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};
use support::{Ctr, User};

/// A container that answers `name` to who connects to port 80.
fn server(ctr: &Ctr, name: &str, options: &[&str]) {
    let serve = format!("nc -ll -p 80 -e echo {name}");
    ctr.run([&["run", "-d", "--name", name], options, &["box", "sh", "-c", &serve]].concat()).ok();
    let listens = "until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";
    ctr.run(["exec", name, "sh", "-c", listens]).ok();
}

/// What the server called `name` answers to container `who`.
fn ask(ctr: &Ctr, who: &str, name: &str) -> String {
    let script = format!(
        "address=$(nslookup {name} 2>/dev/null | grep -A9 '^Name' | grep -m1 -o '10\\.[0-9.]*$'); nc $address 80 </dev/null"
    );
    ctr.run(["exec", who, "sh", "-c", &script]).ok()
}

/// What a published port answers.
fn outside(address: SocketAddr) -> String {
    let mut answer = String::new();
    let mut stream = TcpStream::connect(address).expect("a published port");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    stream.read_to_string(&mut answer).expect("an answer");
    answer.trim_end().to_owned()
}

fn published(ctr: &Ctr, name: &str) -> SocketAddr {
    ctr.run(["port", name, "80"]).ok().lines().next().expect("a port").parse().expect("an address")
}

/// Kill the network process with this title, a child of `parent` if that is given.
fn kill(title: &str, parent: Option<&str>) {
    let processes = fs::read_dir("/proc").expect("proc").flatten();
    let fits = |path: &std::path::Path| {
        let text = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
        let parent_fits =
            parent.is_none_or(|parent| text("status").lines().any(|line| line == format!("PPid:\t{parent}")));
        text("cmdline").trim_end_matches('\0') == title && parent_fits
    };
    let found: Vec<i32> = processes
        .filter(|entry| fits(&entry.path()))
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .collect();
    let [pid] = found[..] else { panic!("{title}: {found:?}") };
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill it");
}

/// Wait until the link of `name` is up (1) or down (0).
fn link(ctr: &Ctr, name: &str, state: &str) {
    let begin = Instant::now();
    while ctr.run(["exec", name, "cat", "/sys/class/net/eth0/carrier"]).ok() != state {
        assert!(begin.elapsed() < Duration::from_secs(20), "the link of {name} is not {state}");
    }
}

#[test]
fn a_killed_network_is_brought_back() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let net = format!("killed{}", std::process::id());
        ctr.run(["network", "create", &net]).ok();
        server(&ctr, "first", &["--network", &net, "-p", "127.0.0.1::80"]);
        server(&ctr, "second", &["--network", &net]);
        let address = published(&ctr, "first");
        let before = ctr.run(["exec", "first", "ip", "-o", "address", "show", "eth0"]).ok();
        let title = format!("ctr-network {net}");
        kill(&title, None);
        link(&ctr, "first", "0");
        link(&ctr, "second", "0");
        assert!(TcpStream::connect(address).is_err(), "nobody is there, {user:?}");
        assert_eq!(ctr.run(["network", "reload", &net]).ok().lines().count(), 2, "{user:?}");
        link(&ctr, "first", "1");
        assert_eq!(ctr.run(["exec", "first", "ip", "-o", "address", "show", "eth0"]).ok(), before);
        assert_eq!(
            (ask(&ctr, "second", "first"), outside(address)),
            ("first".into(), "first".into()),
            "{user:?}"
        );
        // So does the next start, for all that are there.
        kill(&title, None);
        link(&ctr, "first", "0");
        ctr.run(["run", "--rm", "--network", &net, "box", "true"]).ok();
        link(&ctr, "first", "1");
        link(&ctr, "second", "1");
        assert_eq!(
            (ask(&ctr, "first", "second"), outside(address)),
            ("second".into(), "first".into()),
            "{user:?}"
        );
        ctr.run(["rm", "-fa", "-t0"]).ok();
    }
}

#[test]
fn a_killed_network_of_ones_own_is_brought_back() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let pidfile = ctr.home().join("run/monitor");
        server(&ctr, "own", &["-p", "127.0.0.1::80", "--conmon-pidfile", &pidfile.display().to_string()]);
        let (address, monitor) = (published(&ctr, "own"), fs::read_to_string(pidfile).expect("the monitor"));
        kill("ctr-network private", Some(&monitor));
        link(&ctr, "own", "0");
        assert_eq!(ctr.run(["network", "reload", "--all"]).ok().lines().count(), 1, "{user:?}");
        link(&ctr, "own", "1");
        assert_eq!(outside(address), "own", "{user:?}");
        assert_eq!(ctr.run(["network", "reload", "own", "nothing"]).code(), 125);
        ctr.run(["stop", "-t0", "own"]).ok();
        ctr.run(["network", "reload", "own"]).exits(125).fails("not running").hints("ctr start own");
        ctr.run(["rm", "own"]).ok();
    }
}

#[test]
fn a_container_joins_and_leaves() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        for net in ["a", "b"] {
            ctr.run(["network", "create", net]).ok();
        }
        server(&ctr, "first", &["--network=a", "-p", "127.0.0.1::80"]);
        server(&ctr, "second", &["--network=b"]);
        let address = published(&ctr, "first");
        let mac = "92:d0:c6:0a:29:33";
        ctr.run(["network", "connect", "--alias", "db", "--mac-address", mac, "b", "first"]).ok();
        ctr.run(["network", "connect", "b", "first"]).exits(125).fails("already connected");
        let own = ctr.run(["inspect", "--format", "{{.NetworkSettings.Networks.b.IPAddress}}", "first"]).ok();
        let said = ctr.run(["exec", "first", "sh", "-c", "cat /sys/class/net/eth1/address /etc/hosts"]).ok();
        assert!(said.starts_with(mac) && said.contains(&format!("{own}\t")), "{said}, {user:?}");
        assert_eq!(ask(&ctr, "second", "db"), "first", "{user:?}");
        // It leaves the one that has its ports and its way out: the other one takes them.
        ctr.run(["network", "disconnect", "a", "first"]).ok();
        ctr.run(["network", "disconnect", "a", "first"]).exits(125).fails("not connected");
        let said = ctr.run(["exec", "first", "sh", "-c", "ls /sys/class/net; ip route; cat /etc/hosts"]).ok();
        assert!(!said.contains("eth0") && said.contains("default via"), "{said}, {user:?}");
        assert_eq!(outside(address), "first", "{user:?}");
        assert_eq!(
            (ask(&ctr, "second", "db"), ask(&ctr, "first", "second")),
            ("first".into(), "second".into())
        );
        // What was changed holds at the next start.
        ctr.run(["stop", "-t0", "first"]).ok();
        ctr.run(["network", "connect", "a", "first"]).ok();
        ctr.run(["start", "first"]).ok();
        ctr.run(["network", "disconnect", "b", "first"]).ok();
        ctr.run(["network", "disconnect", "--force", "a", "first"]).ok();
        let script = "ls /sys/class/net; cat /etc/resolv.conf; getent hosts $(hostname) | cut -d' ' -f1";
        let said = ctr.run(["exec", "first", "sh", "-c", script]).ok();
        assert!(!said.contains("eth") && !said.contains("nameserver"), "{said}, {user:?}");
        ctr.run(["network", "connect", "--ip", "1.2.3.4", "a", "first"]).exits(125).fails("1.2.3.4");
        ctr.run(["run", "-d", "--name=own", "box", "sleep", "1000"]).ok();
        ctr.run(["network", "connect", "a", "own"]).exits(125).fails("private").hints("--network NAME");
        ctr.run(["rm", "-fa", "-t0"]).ok();
    }
}

#[test]
fn one_that_waits_for_its_start_joins_and_leaves() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        for net in ["a", "b", "c"] {
            ctr.run(["network", "create", net]).ok();
        }
        server(&ctr, "second", &["--network=b"]);
        let serve =
            ["--name=first", "-p", "127.0.0.1::80", "box", "nc", "-ll", "-p", "80", "-e", "echo", "first"];
        ctr.run([&["create", "--restart=always", "--network=a"], &serve[..]].concat()).ok();
        ctr.run(["init", "first"]).ok();
        ctr.run(["network", "connect", "b", "first"]).ok();
        ctr.run(["network", "connect", "c", "first"]).ok();
        ctr.run(["network", "disconnect", "a", "first"]).ok();
        ctr.run(["start", "first"]).ok();
        let both = |when: &str| {
            ctr.run([
                "exec",
                "first",
                "sh",
                "-c",
                "until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done",
            ])
            .ok();
            assert_eq!(
                (ask(&ctr, "first", "second"), ask(&ctr, "second", "first")),
                ("second".into(), "first".into()),
                "{when}, {user:?}"
            );
            assert_eq!(outside(published(&ctr, "first")), "first", "{when}, {user:?}");
        };
        both("started");
        ctr.run(["restart", "-t0", "first"]).ok();
        both("started again");
        ctr.run(["rm", "-fa", "-t0"]).ok();
    }
}

#[test]
fn names_change_and_files_follow() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        for net in ["a", "b"] {
            ctr.run(["network", "create", net]).ok();
        }
        server(&ctr, "first", &["--network=a"]);
        server(&ctr, "second", &["--network=a"]);
        ctr.run(["rename", "first", "other"]).ok();
        assert_eq!(ask(&ctr, "second", "other"), "first", "{user:?}");
        let gone =
            ctr.run(["exec", "second", "sh", "-c", "nslookup first | grep -c 'Address.*10[.]'; true"]).ok();
        assert_eq!(gone, "1", "only who was asked has an address, {user:?}");
        // Who shares its network sees the same in its files.
        for (name, whose) in [("third", "container:other"), ("fourth", "container:third")] {
            ctr.run(["run", "-d", "--name", name, "--network", whose, "box", "sleep", "1000"]).ok();
        }
        ctr.run(["network", "connect", "b", "other"]).ok();
        let own = ctr.run(["inspect", "--format", "{{.NetworkSettings.Networks.b.IPAddress}}", "other"]).ok();
        let hosts = |name: &str| ctr.run(["exec", name, "cat", "/etc/hosts"]).ok().matches(&own).count();
        assert_eq!(["other", "third", "fourth", "second"].map(hosts), [1, 1, 1, 0], "{user:?}");
        ctr.run(["network", "disconnect", "b", "other"]).ok();
        assert_eq!(["other", "third", "fourth"].map(hosts), [0; 3], "{user:?}");
        ctr.run(["pod", "create", "--name=pod", "--network=b"]).ok();
        ctr.run(["run", "-d", "--pod=pod", "--name=fifth", "box", "sleep", "1000"]).ok();
        let listed = |filter: &str| {
            let said = ctr.run(["ps", "--format", "{{.Names}}", "--filter", filter]).ok();
            let mut names: Vec<_> = said.lines().map(str::to_owned).collect();
            names.sort();
            names.join(" ")
        };
        let id = ctr.run(["network", "inspect", "--format", "{{.id}}", "a"]).ok();
        for (filter, expected) in [
            ("network=a", "other second"),
            (&format!("network={id}"), "other second"),
            ("network=nothing", ""),
            ("pod=pod", "fifth pod"),
            ("pod=nothing", ""),
        ] {
            assert_eq!(listed(filter), expected, "{filter}, {user:?}");
        }
        ctr.run(["rm", "-fa", "-t0"]).ok();
        ctr.run(["pod", "rm", "-fa", "-t0"]).ok();
    }
}

#[test]
fn what_pasta_connects_is_left_alone_while_pasta_lives() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["run", "-d", "--name=one", "--network=pasta", "box", "sleep", "1000"]).ok();
    assert_eq!(ctr.run(["network", "reload", "--all"]).ok().lines().count(), 1);
    ctr.run(["rm", "-fa", "-t0"]).ok();
}
