//! User networks (podman-network(1)): containers find each other by name, and have the addresses that they asked for.

mod support;

use support::{Ctr, User};

const LISTENS: &str = "until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";

/// A container that answers `name` to who connects to port 80.
fn server(ctr: &Ctr, name: &str, options: &[&str]) {
    let serve = format!("nc -ll -p 80 -e echo {name}");
    ctr.run([&["run", "-d", "--name", name], options, &["box", "sh", "-c", &serve]].concat()).ok();
    ctr.run(["exec", name, "sh", "-c", LISTENS]).ok();
}

/// busybox's own resolver needs no libraries; nc here is linked statically and would.
fn ask(ctr: &Ctr, options: &[&str], name: &str) -> String {
    let script = format!(
        "address=$(nslookup {name} 2>/dev/null | grep -A9 '^Name' | grep -m1 -o '10\\.[0-9.]*$'); nc $address 80 </dev/null"
    );
    ctr.run([&["run", "--rm"], options, &["box", "sh", "-c", &script]].concat()).ok()
}

#[test]
fn members_find_each_other_by_name() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        assert_eq!(ctr.run(["network", "create", "web"]).ok(), "web");
        server(&ctr, "first", &["--network", "web", "--network-alias", "db"]);
        server(&ctr, "second", &["--network", "web:alias=cache"]);
        let id = ctr.run(["inspect", "--format", "{{.Id}}", "first"]).ok();
        for (name, who) in [
            ("first", "first"),
            ("db", "first"),
            (&id[..12], "first"),
            ("second", "second"),
            ("cache", "second"),
        ] {
            assert_eq!(ask(&ctr, &["--network=web"], name), who, "{name}, {user:?}");
        }
        // Others are not reached: neither by name nor by address.
        ctr.run(["network", "create", "other"]).ok();
        let address =
            ctr.run(["inspect", "--format", "{{.NetworkSettings.Networks.web.IPAddress}}", "first"]).ok();
        let script = format!("nc -w 2 {address} 80 </dev/null; echo $?");
        let said = ctr.run(["run", "--rm", "--network=other", "box", "sh", "-c", &script]).ok();
        assert!(!said.contains("first"), "{said}, {user:?}");
        // One may be in both; names are those of the first.
        assert_eq!(ask(&ctr, &["--network=web", "--network=other"], "first"), "first", "{user:?}");
        ctr.run(["rm", "-f", "-t0", "first", "second"]).ok();
        ctr.run(["network", "rm", "web", "other"]).ok();
    }
}

#[test]
fn addresses_are_chosen_and_shown() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run([
        "network",
        "create",
        "--subnet",
        "10.77.0.0/24",
        "--gateway",
        "10.77.0.9",
        "--label",
        "a=b",
        "--opt",
        "mtu=1500",
        "net",
    ])
    .ok();
    let script = "ip -o -4 addr show eth0 | awk '{print $4}'; ip route | head -n1 | sed 's/ *$//'; cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu; cat /etc/resolv.conf";
    let run = ctr.run([
        "run",
        "--rm",
        "--network",
        "net",
        "--ip",
        "10.77.0.50",
        "--mac-address",
        "92:d0:c6:0a:29:33",
        "box",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(
        run.ok(),
        "10.77.0.50/24\ndefault via 10.77.0.9 dev eth0\n92:d0:c6:0a:29:33\n1500\nnameserver 10.77.0.9"
    );
    // Each has its own, and the next one gets what the last one gave back.
    for number in 1..=3 {
        let name = format!("c{number}");
        ctr.run(["run", "-d", "--network=net", "--name", &name, "box", "sleep", "1000"]).ok();
        let address =
            ctr.run(["inspect", "--format", "{{.NetworkSettings.Networks.net.IPAddress}}", &name]).ok();
        assert_eq!(address, format!("10.77.0.{number}"));
    }
    ctr.run(["rm", "-f", "-t0", "c2"]).ok();
    ctr.run(["run", "-d", "--network=net", "--name", "c2", "box", "sleep", "1000"]).ok();
    let members = ctr.run([
        "network",
        "inspect",
        "--format",
        "{{len .containers}} {{.dns_enabled}} {{(index .subnets 0).subnet}}",
        "net",
    ]);
    assert_eq!(members.ok(), "3 true 10.77.0.0/24");
    assert_eq!(ctr.run(["network", "ls", "-q"]).ok(), "net\npodman");
    assert_eq!(
        ctr.run(["network", "ls", "--filter", "label=a=b", "--format", "{{.Name}} {{.Driver}}"]).ok(),
        "net bridge"
    );
    let again = ctr.run(["run", "--rm", "--network=net:ip=10.77.0.1", "box", "true"]);
    again.exits(125).fails("another container's");
    assert_eq!(ctr.run(["network", "rm", "net"]).code(), 2, "it is used");
    ctr.run(["network", "rm", "-f", "-t0", "net"]).ok();
    assert_eq!(ctr.run(["ps", "-aq"]).ok(), "");
    assert_eq!(ctr.run(["network", "exists", "net"]).code(), 1);
}

#[test]
fn an_internal_network_leads_nowhere() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["network", "create", "--internal", "inner"]).ok();
    let said = ctr.run([
        "run",
        "--rm",
        "--network=inner",
        "box",
        "sh",
        "-c",
        "ip route | grep -c default; cat /etc/hosts | grep -c host.containers.internal; true",
    ]);
    assert_eq!(said.ok(), "0\n0");
    let deleted = ctr.run(["system", "prune", "-f"]).ok();
    assert!(deleted.starts_with("Deleted Networks\ninner"), "{deleted}");
    ctr.run(["network", "create", "left"]).ok();
    assert_eq!(ctr.run(["network", "prune", "-f"]).ok(), "left");
    assert_eq!(ctr.run(["network", "ls", "-q"]).ok(), "podman");
}

#[test]
fn many_at_once_get_addresses_of_their_own() {
    let ctr = Ctr::with_box(User::Rootless);
    let starts: Vec<_> = (0..8)
        .map(|number| {
            let name = format!("c{number}");
            let mut command =
                ctr.command(["run", "-d", "--network=bridge", "--name", &name, "box", "sleep", "1000"]);
            command.stdout(std::process::Stdio::null()).spawn().expect("ctr")
        })
        .collect();
    for mut start in starts {
        assert!(start.wait().expect("its end").success());
    }
    let all = ctr.run(["network", "inspect", "--format", "{{len .containers}}", "podman"]).ok();
    assert_eq!(all, "8");
    let addresses = ctr
        .run([
            "inspect",
            "--format",
            "{{.NetworkSettings.Networks.podman.IPAddress}}",
            "c0",
            "c1",
            "c2",
            "c3",
            "c4",
            "c5",
            "c6",
            "c7",
        ])
        .ok();
    let mut addresses: Vec<&str> = addresses.lines().collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 8, "{addresses:?}");
    ctr.run(["rm", "-fa", "-t0"]).ok();
}

#[test]
fn what_cannot_be() {
    let ctr = Ctr::with_box(User::Rootless);
    for (arguments, about) in [
        (&["create", "../x"][..], "../x"),
        (&["create", "host"], "mode"),
        (&["create", "--driver", "macvlan", "x"], "--driver"),
        (&["create", "--subnet", "10.88.1.0/24", "x"], "10.88.0.0/16"),
        (&["create", "--subnet", "10.77.0.0/24", "--gateway", "10.78.0.1", "x"], "gateway"),
        (&["create", "--subnet", "10.77.0.0/31", "x"], "room"),
        (&["create", "--opt", "mtu=1", "x"], "mtu"),
    ] {
        ctr.run([&["network"], arguments].concat()).exits(125).fails(about);
    }
    ctr.run(["network", "create", "x"]).ok();
    ctr.run(["network", "create", "x"]).exits(125).fails("already exists").hints("ctr network rm x");
    ctr.run(["network", "create", "--ignore", "x"]).ok();
    ctr.run(["run", "--rm", "--network=nothing", "box", "true"])
        .exits(125)
        .fails("nothing")
        .hints("ctr network ls");
    ctr.run(["run", "--rm", "--network=x", "--network=x", "box", "true"]).exits(125).fails("twice");
    ctr.run(["run", "--rm", "--ip=10.0.0.1", "box", "true"]).exits(125).fails("--ip");
    ctr.run(["run", "--rm", "--network=x:ip=1.2.3.4", "box", "true"]).exits(125).fails("1.2.3.4");
    ctr.run(["run", "--rm", "--network=slirp4netns", "box", "true"]).exits(125).fails("slirp4netns");
    assert_eq!(ctr.run(["network", "rm", "nothing"]).code(), 1);
    ctr.run(["network", "rm", "-f", "nothing"]).ok();
    assert_eq!(ctr.run(["ps", "-aq"]).ok(), "");
}
