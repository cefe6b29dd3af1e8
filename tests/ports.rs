//! Published ports (podman-run(1), `--publish`): what comes to a port of the host arrives in the container, and who asks is told
//! which port that is.

mod support;

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};
use support::{Ctr, User};

/// A container that answers each connection to port 80 with a word and its client's address.
fn server(ctr: &Ctr, name: &str, options: &[&str]) {
    let serve = "nc -ll -p 80 -e sh -c 'read line; echo got $line; env | grep NC_'";
    ctr.run([&["run", "-d", "--name", name], options, &["box", "sh", "-c", serve]].concat()).ok();
    // It listens once the kernel says so.
    let listens = "until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";
    ctr.run(["exec", name, "sh", "-c", listens]).ok();
}

fn ask(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a published port");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    stream.write_all(format!("{text}\n").as_bytes()).expect("write");
    stream.shutdown(Shutdown::Write).expect("half-close");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn port(ctr: &Ctr, name: &str, inside: &str) -> SocketAddr {
    let said = ctr.run(["port", name, inside]).ok();
    let address: SocketAddr = said.lines().next().expect("a line").parse().expect("an address");
    SocketAddr::new(
        if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() },
        address.port(),
    )
}

fn has_v6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[test]
fn what_comes_to_a_port_arrives() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        server(&ctr, "web", &["-p", "80"]);
        let address = port(&ctr, "web", "80");
        assert!(ask(address, "hello").starts_with("got hello\n"), "{user:?}");
        if has_v6() {
            assert!(
                ask((Ipv6Addr::LOCALHOST, address.port()).into(), "six").starts_with("got six\n"),
                "{user:?}"
            );
        }
        let shown = format!("0.0.0.0:{}->80/tcp", address.port());
        assert_eq!(ctr.run(["ps", "--format", "{{.Ports}}"]).ok(), shown);
        assert_eq!(ctr.run(["port", "web"]).ok(), format!("80/tcp -> 0.0.0.0:{}", address.port()));
        let bindings = "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}";
        assert_eq!(ctr.run(["inspect", "--format", bindings, "web"]).ok(), address.port().to_string());
        // The same port after a restart, and free after the end.
        ctr.run(["restart", "-t0", "web"]).ok();
        let listens = "until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";
        ctr.run(["exec", "web", "sh", "-c", listens]).ok();
        assert_eq!(port(&ctr, "web", "80/tcp"), address);
        assert!(ask(address, "again").starts_with("got again\n"));
        ctr.run(["rm", "-f", "-t0", "web"]).ok();
        TcpListener::bind(address).expect("the port is free");
    }
}

#[test]
fn exactly_the_address_that_was_asked_for() {
    let ctr = Ctr::with_box(User::Rootless);
    server(&ctr, "web", &["-p", "127.0.0.1::80"]);
    let address = port(&ctr, "web", "80");
    assert_eq!(address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert!(ask(address, "x").starts_with("got x\n"));
    // Another loopback address is another address.
    assert!(TcpStream::connect(("127.0.0.2", address.port())).is_err());
    ctr.run(["rm", "-f", "-t0", "web"]).ok();
}

#[test]
fn what_cannot_be_published() {
    let ctr = Ctr::with_box(User::Rootless);
    let before = ctr.store();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let number = taken.local_addr().expect("an address").port();
    let run = |publish: &str| ctr.run(["run", "--rm", "-p", publish, "box", "true"]);
    run(&format!("127.0.0.1:{number}:80")).exits(125).fails("address").hints("ss -lnptu");
    run("192.0.2.7:8080:80").exits(125).fails("192.0.2.7:8080").hints("ip -brief address");
    for bad in ["80/sctp", "x", "0:80", "8000-8001:80", "1.2.3:80:80", "65536"] {
        run(bad).exits(125).fails("--publish").hints("--publish 8080:80");
    }
    let privileged =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if privileged.trim() != "0" && ctr.user().ids().is_some_and(|(uid, _)| uid != 0) {
        run("127.0.0.1:81:80").exits(125).fails("127.0.0.1:81").hints("ip_unprivileged_port_start=81");
    }
    assert_eq!(ctr.store(), before, "nothing was made");
    // Without a network of its own there is nothing to publish.
    let said = ctr.run(["run", "--rm", "--network=none", "-p", "8080:80", "box", "true"]);
    assert!(said.stderr().contains("ports can't be published"), "{}", said.stderr());
    assert_eq!(said.code(), 0);
}
