//! User networks (podman-network(1)): containers find each other by name, and have the addresses that they asked for.

mod support;

use std::io::{Read, Write};
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
        // One may be in both, and finds the members of both.
        server(&ctr, "third", &["--network=other", "--network-alias", "far"]);
        let both = ["--network=web", "--network=other"];
        for (name, who) in [("first", "first"), ("cache", "second"), ("third", "third"), ("far", "third")] {
            assert_eq!(ask(&ctr, &both, name), who, "{name}, {user:?}");
        }
        ctr.run(["rm", "-f", "-t0", "first", "second", "third"]).ok();
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
fn names_of_internal_networks_are_found_too() {
    let ctr = Ctr::with_box(User::Rootless);
    for net in ["one", "two"] {
        ctr.run(["network", "create", "--internal", net]).ok();
        server(&ctr, &format!("in-{net}"), &["--network", net]);
    }
    let both = ["--network=one", "--network=two"];
    assert_eq!((ask(&ctr, &both, "in-one"), ask(&ctr, &both, "in-two")), ("in-one".into(), "in-two".into()));
    let alone = ["run", "--rm", "--network=one", "box", "sh", "-c", &ask_by_stream(&["in-one", "nobody"])];
    let said = ctr.run(alone).ok();
    assert!(said.contains("0707") && said.len() > 80, "an address, and that there is none: {said}");
    // Who is in both asks both, over a stream and for the names of addresses, too.
    let address = |net: &str| {
        let format = format!("{{{{.NetworkSettings.Networks.{net}.IPAddress}}}}");
        ctr.run(["inspect", "--format", &format, &format!("in-{net}")]).ok()
    };
    let addresses = ["one", "two"].map(address);
    let in_both =
        |script: &str| ctr.run([&["run", "--rm"], &both[..], &["box", "sh", "-c", script]].concat()).ok();
    let said = in_both(&ask_by_stream(&["in-one", "nobody", "in-two"]));
    for (net, address) in ["one", "two"].iter().zip(&addresses) {
        let octets = address.split('.').map(|octet| octet.parse::<u8>().expect("a number"));
        let digits: String = octets.map(|octet| format!("{octet:02x}")).collect();
        assert!(said.contains(&digits), "{address} in {said}");
        assert!(in_both(&format!("nslookup {address}")).contains(&format!("name = in-{net}")), "{address}");
    }
    // One that runs is told of what it joins, and of what it leaves.
    ctr.run(["network", "connect", "two", "in-one"]).ok();
    let script = "nslookup in-two 2>&1 | grep -c 'Address.*10[.]'";
    assert_eq!(ctr.run(["exec", "in-one", "sh", "-c", script]).ok(), "2");
    ctr.run(["network", "disconnect", "two", "in-one"]).ok();
    assert_eq!(ctr.run(["exec", "in-one", "sh", "-c", &format!("{script}; true")]).ok(), "1");
    ctr.run(["rm", "-fa", "-t0"]).ok();
}

/// A nameserver that knows one address for all names, until the test ends.
fn nameserver(address: &str) {
    let socket = std::net::UdpSocket::bind(address).expect("a socket");
    let listener = std::net::TcpListener::bind(address).expect("a socket");
    // One answer, for the name of the question: an A record of 192.0.2.7 (RFC 1035, 4.1).
    let answer = |message: &[u8]| {
        let end = 12 + message[12..].iter().position(|b| *b == 0).expect("a name") + 5;
        let mut reply = message[..end].to_vec();
        reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
        reply
    };
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut message) {
            let _ = socket.send_to(&answer(&message[..length]), from);
        }
    });
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut message = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut message).expect("a question");
                let reply = answer(&message);
                stream.write_all(&[&[0, reply.len() as u8], &reply[..]].concat()).expect("say it");
            }
        }
    });
}

/// A script that asks for `names` over one TCP connection with the nameserver, and prints what it says in hexadecimal digits.
fn ask_by_stream(names: &[&str]) -> String {
    let mut bytes = Vec::new();
    for name in names {
        let mut message = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        bytes.extend([0, message.len() as u8]);
        bytes.extend(message);
    }
    let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let server = "$(grep nameserver /etc/resolv.conf | cut -d' ' -f2)";
    format!("printf '{octal}' | nc -w 10 {server} 53 | hexdump -v -e '1/1 \"%02x\"'")
}

#[test]
fn other_nameservers_are_asked() {
    let ctr = Ctr::with_box(User::Root);
    if !rustix::process::getuid().is_root() {
        return;
    }
    // Only root may have port 53; loopback, so that nothing leaves the machine.
    nameserver("127.53.0.9:53");
    ctr.run(["network", "create", "--subnet", "10.89.0.0/24", "--dns", "127.53.0.9", "asks"]).ok();
    ctr.run(["network", "create", "plain"]).ok();
    let look = "cat /etc/resolv.conf | grep -c 127.53; nslookup somewhere.example | grep -m1 -c 192.0.2.7; nslookup me | grep -c Name";
    for options in [&["--network=asks"][..], &["--network=plain", "--dns=127.53.0.9"]] {
        let run =
            ctr.run([&["run", "--rm", "--network-alias=me"], options, &["box", "sh", "-c", look]].concat());
        assert_eq!(run.ok(), "0\n1\n1", "{options:?}");
    }
    // Over TCP, too: each question on one connection goes to whom it concerns.
    let script = ask_by_stream(&["somewhere.example", "me", "elsewhere.example"]);
    let run =
        ["run", "--rm", "--network-alias=me", "--network=asks:ip=10.89.0.77", "box", "sh", "-c", &script];
    let said = ctr.run(run).ok();
    assert_eq!((said.matches("c0000207").count(), said.matches("0a59004d").count()), (2, 1), "{said}");
    let shown = ctr.run(["network", "inspect", "--format", "{{index .network_dns_servers 0}}", "asks"]);
    assert_eq!(shown.ok(), "127.53.0.9");
    ctr.run(["network", "create", "--dns", "1.1.1.1", "--disable-dns", "x"]).exits(125).fails("--dns");
}

#[test]
fn what_files_say() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let say = |options: &[&str], script: &str| {
            ctr.run([&["run", "--rm"], options, &["box", "sh", "-c", script]].concat()).ok()
        };
        let search = ["--dns-search=a.example", "--dns-search=b", "--dns-option=ndots:2"];
        let said = say(&search, "grep -e search -e options /etc/resolv.conf");
        assert_eq!(said, "search a.example b\noptions ndots:2", "{user:?}");
        let host = "grep -e gate -e host.docker.internal /etc/hosts";
        let expected = "169.254.1.2\tgate\n169.254.1.2\thost.containers.internal host.docker.internal";
        for network in ["private", "bridge"] {
            let network = format!("--network={network}");
            assert_eq!(say(&[&network, "--add-host=gate:host-gateway"], host), expected, "{user:?}");
        }
        let said = say(&["--network=host", "--add-host=gate:host-gateway"], host);
        assert!(said.starts_with("127.0.0.1\tgate"), "{said}");
        ctr.run(["run", "--rm", "--network=none", "--add-host=gate:host-gateway", "box", "true"])
            .exits(125)
            .fails("gate:host-gateway");
        let said = say(&["--no-hosts", "--no-hostname"], "grep -c . /etc/hosts /etc/hostname; true");
        assert!(!said.contains(":1") && !said.contains(":3"), "{said}, {user:?}");
        // Whoever shares a network has its names.
        ctr.run(["run", "-d", "--name=owner", "box", "sleep", "1000"]).ok();
        let said = say(&["--network=container:owner"], "cat /etc/resolv.conf /etc/hosts");
        assert!(said.contains("nameserver 10.0.2.3") && said.contains("169.254.1.2"), "{said}");
        ctr.run(["rm", "-fa", "-t0"]).ok();
    }
}

#[test]
fn pasta_gets_its_options() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["run", "--rm", "--network=pasta:--pid,/tmp/x", "box", "true"]).exits(125).fails("--pid");
    let script = "cat /sys/class/net/net7/mtu";
    let run =
        ctr.run(["run", "--rm", "--network=pasta:--ns-ifname,net7,--mtu,1400", "box", "sh", "-c", script]);
    // It is not installed everywhere.
    if run.stderr().contains("not installed") {
        return;
    }
    assert_eq!(run.ok(), "1400");
}

#[test]
fn the_hosts_loopback_is_reached_when_that_is_asked_for() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.and_then(|mut stream| stream.write_all(b"reached"));
            }
        });
        let script = format!("nc -w 5 10.0.2.2 {port} </dev/null; true");
        let run =
            |network: &str| ctr.run(["run", "--rm", "--network", network, "box", "sh", "-c", &script]).ok();
        assert_eq!((run("private:host-loopback"), run("private")), ("reached".into(), "".into()), "{user:?}");
        ctr.run(["run", "--rm", "--network=private:x", "box", "true"]).exits(125).fails("host-loopback");
    }
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
