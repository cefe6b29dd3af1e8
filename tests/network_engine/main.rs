//! The process of a network: containers are threads in network namespaces of their own, the outside is another one, so nothing
//! leaves this test.

mod ground;
mod hostile;
mod names;
mod reliability;

use ctr::network::wire::{Protocol, Published, Settings};
use ground::{SERVERS, alone, couple, noise, outside, process_of, run, settings};
use rustix::net::{AddressFamily, SocketType, ipproto};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

#[test]
fn tcp_to_the_outside() {
    if !outside() {
        return;
    }
    let (container, _line) = alone(&settings(), vec![]);
    for address in SERVERS {
        let server = TcpListener::bind(address).expect("listen");
        let address = server.local_addr().unwrap();
        let served = thread::spawn(move || {
            let (mut client, _) = server.accept().expect("a client");
            let mut text = String::new();
            client.read_to_string(&mut text).expect("a question");
            client.write_all(text.to_uppercase().as_bytes()).expect("an answer");
        });
        let answer = container.does(move || {
            let mut client = TcpStream::connect(address).expect("a connection");
            client.write_all(b"hello").expect("a question");
            client.shutdown(Shutdown::Write).expect("half closed");
            let mut text = String::new();
            client.read_to_string(&mut text).expect("an answer");
            text
        });
        assert_eq!(answer, "HELLO");
        served.join().expect("a server");
    }
}

#[test]
fn much_in_both_directions_at_once() {
    if !outside() {
        return;
    }
    for mtu in [65520, 1500, 1280] {
        let settings = Settings { mtu, ..settings() };
        let (container, _line) = alone(&settings, vec![]);
        let server = TcpListener::bind(SERVERS[0]).expect("listen");
        let address = server.local_addr().unwrap();
        let both = |stream: TcpStream| {
            let mut writer = stream.try_clone().expect("a second handle");
            let sent = thread::spawn(move || {
                writer.write_all(&noise(8_000_000)).expect("to write");
                writer.shutdown(Shutdown::Write).expect("to end");
            });
            let mut got = Vec::new();
            (&stream).read_to_end(&mut got).expect("to read");
            sent.join().expect("to send");
            got == noise(8_000_000)
        };
        let served = thread::spawn(move || both(server.accept().expect("a client").0));
        let same = container.does(move || both(TcpStream::connect(address).expect("a connection")));
        assert!(same && served.join().expect("a server"), "mtu {mtu}");
    }
}

#[test]
fn refused_reset_and_out_of_reach() {
    if !outside() {
        return;
    }
    let (container, _line) = alone(&settings(), vec![]);
    let loopback = TcpListener::bind("127.0.0.1:0").expect("listen");
    let own = loopback.local_addr().unwrap().port();
    let everywhere = TcpListener::bind("[::]:0").expect("listen");
    let port = everywhere.local_addr().unwrap().port();
    let cases = [
        ("192.0.2.1:9".parse().unwrap(), Some(ErrorKind::ConnectionRefused)),
        ("[2001:db8::1]:9".parse().unwrap(), Some(ErrorKind::ConnectionRefused)),
        // The gateway is nobody's port, and 10.0.2.77 nobody's address.
        (SocketAddr::new("10.0.2.2".parse().unwrap(), own), Some(ErrorKind::ConnectionRefused)),
        (SocketAddr::new("10.0.2.2".parse().unwrap(), port), Some(ErrorKind::ConnectionRefused)),
        (SocketAddr::new("10.0.2.77".parse().unwrap(), port), Some(ErrorKind::HostUnreachable)),
        (SocketAddr::new("169.254.169.254".parse().unwrap(), port), Some(ErrorKind::ConnectionRefused)),
        (SocketAddr::new("169.254.1.2".parse().unwrap(), port), None),
        (SocketAddr::new("192.0.2.1".parse().unwrap(), port), None),
        (SocketAddr::new("2001:db8::1".parse().unwrap(), port), None),
    ];
    for (address, expected) in cases {
        let failure = container.does(move || TcpStream::connect(address).err().map(|error| error.kind()));
        assert_eq!(failure, expected, "{address}");
    }
    // A reset goes through, from outside and from inside.
    for from_inside in [false, true] {
        let server = TcpListener::bind(SERVERS[0]).expect("listen");
        let address = server.local_addr().unwrap();
        let reset = |stream: TcpStream| {
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("linger")
        };
        let outcome = |mut stream: TcpStream| stream.read(&mut [0]).map_err(|error| error.kind());
        let client = container.does(move || TcpStream::connect(address).expect("a connection"));
        let (accepted, _) = server.accept().expect("a client");
        let (gone, left) = if from_inside { (client, accepted) } else { (accepted, client) };
        reset(gone);
        assert_eq!(outcome(left), Err(ErrorKind::ConnectionReset), "{from_inside}");
    }
}

#[test]
fn who_does_not_read_is_waited_for() {
    if !outside() {
        return;
    }
    let (container, line) = alone(&settings(), vec![]);
    for inside_reads in [true, false] {
        let server = TcpListener::bind(SERVERS[0]).expect("listen");
        let address = server.local_addr().unwrap();
        let client = container.does(move || TcpStream::connect(address).expect("a connection"));
        let (accepted, _) = server.accept().expect("a client");
        let (mut writer, mut reader) = if inside_reads { (accepted, client) } else { (client, accepted) };
        writer.set_nonblocking(true).expect("not to wait");
        // Until nothing more fits anywhere, and for longer than a window probe takes.
        let data = noise(1 << 20);
        let (mut sent, mut idle) = (0, 0);
        while idle < 20 {
            match writer.write(&data[sent % data.len()..]) {
                Ok(written) => (sent, idle) = (sent + written, 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    idle += 1;
                    thread::sleep(Duration::from_millis(20));
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(sent < 64 << 20, "{sent} bytes went to nobody");
        drop(writer);
        let mut got = Vec::new();
        reader.read_to_end(&mut got).expect("to read");
        assert_eq!(got.len(), sent);
        assert!(got.chunks(data.len()).all(|chunk| *chunk == data[..chunk.len()]));
    }
    drop(line);
}

#[test]
fn members_reach_each_other() {
    if !outside() {
        return;
    }
    let ([(one, line), (other, second)], _dir) = couple(&settings());
    assert_eq!(line.members().expect("members"), 2);
    for address in ["10.0.2.7:80", "[fd00::7]:80"] {
        let address: SocketAddr = address.parse().unwrap();
        let server = one.does(move || TcpListener::bind(address).expect("listen"));
        let sent = other.does(move || {
            let client = TcpStream::connect(address).expect("a connection");
            thread::spawn(move || (&client).write_all(&noise(8_000_000)).expect("to write"))
        });
        let (mut stream, peer) = server.accept().expect("a client");
        assert_eq!(peer.ip().to_string(), address.ip().to_string().replace('7', "8"));
        let mut got = vec![];
        stream.read_to_end(&mut got).expect("to read");
        assert!(got == noise(8_000_000), "{address}");
        sent.join().expect("to send");
    }
    // Who made the process leaves; the other one stays, and gets no more answers from there.
    drop(line);
    while second.members().expect("members") == 2 {}
}

#[test]
fn nobody_sends_from_an_address_of_others() {
    if !outside() {
        return;
    }
    let ([(one, _line), (other, _second)], _dir) = couple(&settings());
    let server = UdpSocket::bind("192.0.2.1:0").expect("bind");
    let neighbour = one.does(|| UdpSocket::bind("10.0.2.7:9").expect("bind"));
    let outside = server.local_addr().unwrap();
    let send = |from: &'static str| {
        other.does(move || {
            let socket = UdpSocket::bind(from).expect("bind");
            for to in [outside, "10.0.2.7:9".parse().unwrap()] {
                let _ = socket.send_to(from.as_bytes(), to);
            }
        });
    };
    let called = |mac: &'static str| {
        other.does(move || {
            run("ip link set eth0 down");
            run(&format!("ip link set eth0 address {mac}"));
            run("ip link set eth0 up");
            run("ip route add default via 10.0.2.2");
        });
    };
    let next = || {
        [&server, &neighbour].map(|socket| {
            let mut bytes = [0; 64];
            let (length, _) = socket.recv_from(&mut bytes).expect("a datagram");
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        })
    };
    send("10.0.2.8:1000");
    assert_eq!(next(), ["10.0.2.8:1000"; 2]);
    other.does(|| run("ip addr add 10.0.2.9/24 dev eth0"));
    send("10.0.2.9:1001");
    called("02:00:00:00:00:77");
    send("10.0.2.8:1002");
    called("02:00:00:00:00:08");
    send("10.0.2.8:1003");
    assert_eq!(next(), ["10.0.2.8:1003"; 2]);
}

#[test]
fn datagrams_and_echo() {
    if !outside() {
        return;
    }
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").expect("to allow echo");
    let published = UdpSocket::bind("192.0.2.1:0").expect("bind");
    let public = published.local_addr().unwrap();
    let port = Published { protocol: Protocol::Udp, port: 99 };
    let (container, _line) = alone(&settings(), vec![(port, published.into())]);
    for address in SERVERS {
        let server = UdpSocket::bind(address).expect("bind");
        let address = server.local_addr().unwrap();
        thread::spawn(move || {
            let mut bytes = vec![0; 65536];
            while let Ok((length, from)) = server.recv_from(&mut bytes) {
                server.send_to(&bytes[..length], from).expect("to answer");
            }
        });
        container.does(move || {
            let socket =
                UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("bind");
            socket.connect(address).expect("connect");
            for length in [0, 1, 1400, 20_001, 65_000] {
                socket.send(&noise(length)).expect("send");
                let mut answer = vec![0; 65536];
                let length_back = socket.recv(&mut answer).expect("an answer");
                assert!(answer[..length_back] == noise(length), "{length}");
            }
            let refused =
                UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("bind");
            refused.connect(SocketAddr::new(address.ip(), 9)).expect("connect");
            refused.send(b"x").expect("send");
            assert_eq!(refused.recv(&mut [0]).expect_err("nobody").kind(), ErrorKind::ConnectionRefused);
        });
    }
    // Inwards: with the client's own address, and back from the published one.
    let server = container.does(|| UdpSocket::bind("10.0.2.100:99").expect("bind"));
    let client = UdpSocket::bind("192.0.2.1:0").expect("bind");
    client.send_to(b"in", public).expect("send");
    let (length, from) = server.recv_from(&mut [0; 9]).expect("a datagram");
    assert_eq!((length, from), (2, client.local_addr().unwrap()));
    server.send_to(b"out", from).expect("answer");
    assert_eq!(client.recv_from(&mut [0; 9]).expect("an answer"), (3, public));
    for address in ["192.0.2.1:0", "10.0.2.2:0", "169.254.1.2:0", "[2001:db8::1]:0", "[fd00::2]:0"] {
        let address: SocketAddr = address.parse().unwrap();
        container.does(move || echo(address));
    }
}

/// An echo request, answered (icmp(7)).
fn echo(address: SocketAddr) {
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").expect("to allow echo");
    let (family, protocol, request, reply) = match address {
        SocketAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        SocketAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let socket = rustix::net::socket(family, SocketType::DGRAM, Some(protocol)).expect("a socket");
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("patience");
    socket.connect(address).expect("connect");
    let mut message = noise(3000);
    message[..8].copy_from_slice(&[request, 0, 0, 0, 0, 0, 0, 1]);
    socket.send(&message).expect("send");
    let mut answer = vec![0; 4000];
    let length = socket.recv(&mut answer).expect("an answer");
    assert_eq!((answer[0], length), (reply, 3000), "{address}");
    assert!(answer[6..length] == message[6..], "{address}");
}

#[test]
fn its_process_has_nothing_and_sleeps() {
    if !outside() {
        return;
    }
    let (container, line) = alone(&settings(), vec![]);
    let server = TcpListener::bind(SERVERS[0]).expect("listen");
    let address = server.local_addr().unwrap();
    let client = container.does(move || TcpStream::connect(address).expect("a connection"));
    let process = process_of(&line);
    let status = || std::fs::read_to_string(process.join("status")).expect("its status");
    let field = |name: &str| {
        let text = status();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("a field");
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let nobody = "65534 65534 65534 65534";
    let expected = [
        ("Uid", nobody),
        ("Gid", nobody),
        ("Groups", ""),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Threads", "1"),
    ];
    for (name, value) in expected {
        assert_eq!(field(name), value, "{name}");
    }
    assert_eq!(std::fs::read_dir(process.join("root")).expect("its root").count(), 0);
    let mounts = std::fs::read_to_string(process.join("mountinfo")).expect("its mounts");
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    for descriptor in std::fs::read_dir(process.join("fd")).expect("its descriptors").flatten() {
        let target = std::fs::read_link(descriptor.path()).expect("a link").to_string_lossy().into_owned();
        let known = ["/dev/null", "/dev/net/tun", "socket:[", "anon_inode:[eventpoll]"];
        assert!(known.iter().any(|start| target.starts_with(start)), "{target}");
    }
    // An open connection is nothing to wake up for, once the last segment's timer has run out.
    let mut woken = field("voluntary_ctxt_switches");
    let quiet = (0..20).any(|_| {
        thread::sleep(Duration::from_millis(500));
        std::mem::replace(&mut woken, field("voluntary_ctxt_switches")) == woken
    });
    assert!(quiet, "it wakes up by itself");
    drop(client);
}
