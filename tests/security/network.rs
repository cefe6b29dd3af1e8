//! Row 23: what a container sends is its own and reaches nothing that is the host's alone; who carries it has nothing to lose.

use crate::{
    Running, WAIT, fields, sets,
    support::{Ctr, User},
};
use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    net::{IpAddr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Whether networks of our own can be made here.
fn has_tun() -> bool {
    fs::File::options().read(true).write(true).open("/dev/net/tun").is_ok()
}

/// Frames to 127.0.0.1 and ::1 leave the container once it has no loopback of its own.
const NO_LOOPBACK: &str = "for v in 4 6; do ip -$v addr flush dev lo; done 2>/dev/null
    ip route add 127.0.0.1 via $(ip route | awk '/^default/ {print $3}')
    ip -6 route add ::1 dev eth0 2>/dev/null;";

#[test]
fn the_hosts_loopback_is_reached_by_no_address() {
    if !has_tun() {
        return;
    }
    let listeners: Vec<TcpListener> = ["127.0.0.1:0", "[::1]:0"]
        .iter()
        .filter_map(|address| TcpListener::bind(address).ok())
        .inspect(|listener| listener.set_nonblocking(true).expect("not to wait"))
        .collect();
    for &user in User::all() {
        let ctr = Ctr::with_probe(user);
        ctr.run(["network", "create", "n"]).ok();
        for network in ["--network=private", "--network=n"] {
            for listener in &listeners {
                let port = listener.local_addr().expect("an address").port();
                let gateway = "$(ip route | awk '/^default/ {print $3}')";
                let near = format!(
                    "127.0.0.1 {gateway} 10.0.2.3 0.0.0.0 ::ffff:127.0.0.1 ::1 fd00::2 fd00::3 169.254.1.3"
                );
                let script = format!("{NO_LOOPBACK} for a in {near}; do probe connect $a {port}; done; :");
                let run =
                    ["run", "--rm", network, "--cap-add=NET_ADMIN,NET_RAW", "probe", "sh", "-c", &script];
                let said = ctr.run(run).ok();
                assert!(
                    said.starts_with("127.0.0.1 ") && !said.contains("OK"),
                    "{said}, {network} as {user:?}"
                );
                // Its answers might be lost: nobody has come at all.
                let came = listener.accept().map(drop).expect_err("somebody came").kind();
                assert_eq!(came, ErrorKind::WouldBlock, "{network} as {user:?}");
            }
        }
    }
}

#[test]
fn nobody_sends_from_an_address_of_others() {
    if !has_tun() {
        return;
    }
    for &user in User::all() {
        let ctr = Ctr::with_probe(user);
        ctr.run(["network", "create", "n"]).ok();
        let receive = ["run", "-d", "--name=c", "--network=n", "probe", "probe", "receive", "9"];
        ctr.run(receive).ok();
        while ctr.run(["logs", "c"]).ok() != "up" {}
        let address = ["inspect", "--format", "{{.NetworkSettings.Networks.n.IPAddress}}", "c"];
        let server = ctr.run(address).ok();
        let network = &server[..server.rfind('.').expect("an address")];
        let script = format!(
            "own=$(ip -o -4 addr show eth0 | awk '{{split($4, a, \"/\"); print a[1]}}')
            probe send {server} 8 hello $own
            until ip neigh show {server} | grep -q lladdr; do :; done
            for other in {network}.77 192.0.2.77; do
                ip addr add $other/32 dev eth0; probe send {server} 9 forged $other
            done
            probe send {server} 9 own $own"
        );
        let run = ["run", "--rm", "--network=n", "--cap-add=NET_ADMIN", "probe", "sh", "-c", &script];
        assert_eq!(ctr.run(run).ok(), "send OK\nsend OK\nsend OK\nsend OK", "as {user:?}");
        ctr.run(["wait", "c"]).ok();
        assert_eq!(ctr.run(["logs", "c"]).ok(), "up\nown OK", "as {user:?}");
        ctr.run(["rm", "-f", "c"]).ok();
    }
}

/// The process of the network that container `c` alone is in.
fn process(ctr: &Ctr) -> PathBuf {
    let monitor = ctr.run(["inspect", "--format", "{{.State.ConmonPid}}", "c"]).ok();
    let ours = |path: &PathBuf| {
        fs::read_to_string(path.join("stat")).is_ok_and(|stat| {
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            stat.contains("(ctr-network)") && rest.split_whitespace().nth(1) == Some(&monitor)
        })
    };
    let mut processes = fs::read_dir("/proc").expect("list /proc").flatten().map(|entry| entry.path());
    processes.find(ours).expect("the network's process")
}

fn status(process: &Path) -> BTreeMap<String, String> {
    fields(&fs::read_to_string(process.join("status")).expect("read its status"))
}

#[test]
fn a_networks_process_has_nothing_to_lose() {
    if !has_tun() {
        return;
    }
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.run(["run", "-d", "--name=c", "--network=private", "box", "sh", "-c", WAIT]).ok();
        let c = Running::of(ctr);
        let process = process(&c.0);
        let status = status(&process);
        let [inherited, permitted, effective, _, ambient] = sets(&status);
        assert_eq!([inherited, permitted, effective, ambient], [0; 4], "as {user:?}");
        assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"), "as {user:?}");
        let uid = if user == User::Root { "65534".to_owned() } else { status["Uid"].clone() };
        assert!(status["Uid"].starts_with(&uid) && !status["Uid"].starts_with("0\t"), "as {user:?}");
        // Its memory belongs to nobody but the host's root (proc(5), "/proc/PID").
        assert_eq!(fs::metadata(process.join("mem")).expect("look").uid(), 0, "as {user:?}");
        if !rustix::process::getuid().is_root() {
            continue;
        }
        assert_eq!(fs::read_dir(process.join("root")).expect("list its root").count(), 0, "as {user:?}");
        let mounts = fs::read_to_string(process.join("mountinfo")).expect("read its mounts");
        assert!(mounts.lines().count() == 1 && mounts.contains(" ro,"), "{mounts} as {user:?}");
        for descriptor in fs::read_dir(process.join("fd")).expect("list descriptors").flatten() {
            let target = fs::read_link(descriptor.path()).unwrap_or_default().to_string_lossy().into_owned();
            let known = ["/dev/null", "/net/tun", "/dev/net/tun", "socket:[", "anon_inode:[eventpoll]"];
            assert!(known.iter().any(|start| target.starts_with(start)), "{target} as {user:?}");
        }
    }
}

#[test]
fn a_port_is_published_at_its_address_alone() {
    if !has_tun() {
        return;
    }
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let serve = "nc -ll -p 80 -e cat /proc/net/tcp /proc/net/tcp6";
        ctr.run(["run", "-d", "--name=c", "-p", "127.0.0.1::80", "box", "sh", "-c", serve]).ok();
        let c = Running::of(ctr);
        c.script(&[], "until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done");
        let port = c.0.run(["port", "c", "80"]).ok().rsplit_once(':').expect("a port").1.parse::<u16>();
        let port = port.expect("a port");
        let to = |address: &str| TcpStream::connect((address.parse::<IpAddr>().expect("an address"), port));
        let seen = std::io::read_to_string(to("127.0.0.1").expect("it is published")).expect("its table");
        for other in ["127.0.0.2", "::1"] {
            assert!(to(other).is_err(), "{other} as {user:?}");
        }
        // Services trust who comes from their own 127.0.0.1 (CVE-2021-20199): nobody from outside does.
        let peer = seen.lines().find(|line| line.contains(":0050 ") && line.contains(" 01 ")).expect("us");
        let peer = peer.split_whitespace().nth(2).expect("its address");
        assert!(!peer.contains("0100007F:"), "{seen} as {user:?}");
    }
}

#[test]
fn without_a_network_nobody_answers_names() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        assert_eq!(ctr.script(&[], "grep -c nameserver /etc/resolv.conf; :"), "0", "as {user:?}");
    }
}
