//! What a container sends that no kernel would, and members that mean each other ill.

use crate::ground::{
    Container, SERVERS, alone, couple, descriptors, memory, nightly, noise, outside, run, settings,
};
use ctr::network::wire::{Protocol, Published, Settings};
use rustix::{
    net::{AddressFamily, SocketType, ipproto},
    process::{Resource, Rlimit, setrlimit},
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

fn few_descriptors() {
    setrlimit(Resource::Nofile, Rlimit { current: Some(1024), maximum: Some(1024) }).expect("a limit");
}

/// Datagrams to `to`, each a flow of its own.
fn flows(container: &Container, count: u32, to: SocketAddr) {
    container.does(move || {
        for number in 0..count {
            // Any of 60,000 ports, so that none is used twice in a row.
            let port = 2000 + (number % 60_000) as u16;
            let from = if to.is_ipv4() { "0.0.0.0" } else { "::" };
            if let Ok(socket) = UdpSocket::bind((from, port)) {
                let _ = socket.send_to(b"x", to);
            }
        }
    });
}

#[test]
fn a_member_takes_its_own_room_alone() {
    if !outside() {
        return;
    }
    few_descriptors();
    let ([(greedy, _line), (honest, _second)], _dir) = couple(&settings());
    let server = UdpSocket::bind(SERVERS[0]).expect("bind");
    let address = server.local_addr().unwrap();
    let client = honest.does(move || {
        let socket = UdpSocket::bind("0.0.0.0:1000").expect("bind");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("patience");
        socket.send_to(b"hello", address).expect("send");
        socket
    });
    let (_, flow) = server.recv_from(&mut [0; 9]).expect("a datagram");
    flows(&greedy, 400, "192.0.2.1:9".parse().unwrap());
    // Its flow is still there, and new ones find room.
    server.send_to(b"late", flow).expect("send");
    assert_eq!(client.recv(&mut [0; 9]).expect("an answer"), 4);
    let listener = TcpListener::bind(SERVERS[0]).expect("listen");
    let to = listener.local_addr().unwrap();
    honest.does(move || drop(TcpStream::connect_timeout(&to, Duration::from_secs(5)).expect("room")));
}

#[test]
fn flows_that_come_and_go_leave_no_memory() {
    if !outside() {
        return;
    }
    few_descriptors();
    let (container, line) = alone(&settings(), vec![]);
    flows(&container, 1000, "192.0.2.1:9".parse().unwrap());
    let before = memory(&line, "Anonymous:");
    flows(&container, nightly(40_000, 1_000_000), "192.0.2.1:9".parse().unwrap());
    let after = memory(&line, "Anonymous:");
    assert!(after < before + 512, "{before} KiB, then {after}");
}

/// IPv4 packets as they are.
fn send_raw(container: &Container, packets: Vec<(Vec<u8>, SocketAddr)>) {
    container.does(move || {
        let v4 = packets[0].1.is_ipv4();
        let family = if v4 { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::RAW, Some(ipproto::RAW)).expect("root");
        for (packet, to) in packets {
            let sent = rustix::net::sendto(&socket, &packet, rustix::net::SendFlags::empty(), &to);
            assert_eq!(sent.expect("to send"), packet.len());
        }
    });
}

fn sum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn ipv4(destination: [u8; 4], protocol: u8, body: &[u8]) -> Vec<u8> {
    let length = (20 + body.len()) as u16;
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 2, 100];
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&destination);
    packet.extend_from_slice(body);
    packet
}

/// A segment from `port` to port 9 with `flags`, options and data.
fn tcp(port: u16, flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let mut segment = port.to_be_bytes().to_vec();
    segment.extend_from_slice(&[0, 9, 0, 0, 0, 1, 0, 0, 0, 0]);
    segment.extend_from_slice(&[((20 + options.len()) << 2) as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend_from_slice(options);
    segment.extend_from_slice(data);
    segment
}

#[test]
fn connections_that_are_begun_cost_no_memory() {
    if !outside() {
        return;
    }
    let (container, line) = alone(&settings(), vec![]);
    let before = memory(&line, "Anonymous:");
    // Nobody is there who could refuse.
    let to: SocketAddr = "198.51.100.7:9".parse().unwrap();
    run("ip route add 198.51.100.0/24 dev lo");
    run("ip neigh add 198.51.100.7 lladdr 02:00:00:00:00:99 dev lo");
    let data = noise(60_000);
    let syns: Vec<_> =
        (0..500).map(|n| (ipv4([198, 51, 100, 7], 6, &tcp(2000 + n, 2, &[], &data)), to)).collect();
    // Until most of them are on their way: a link whose other end has no time loses some.
    while descriptors(&line) < 400 {
        send_raw(&container, syns.clone());
        let begin = Instant::now();
        while descriptors(&line) < 400 && begin.elapsed() < Duration::from_secs(5) {
            thread::yield_now();
        }
    }
    let after = memory(&line, "Anonymous:");
    assert!(after < before + 2048, "{before} KiB, then {after}");
}

#[test]
fn neighbours_hear_no_lies() {
    if !outside() {
        return;
    }
    let ([(honest, _line), (liar, _second)], _dir) = couple(&settings());
    let server = TcpListener::bind("[2001:db8::1]:0").expect("listen");
    let address = server.local_addr().unwrap();
    honest.does(move || drop(TcpStream::connect(address).expect("a connection")));
    let [from, to, gateway]: [Ipv6Addr; 3] = ["fd00::8", "fd00::7", "fd00::2"].map(|a| a.parse().unwrap());
    // "The gateway is at 02:66:66:66:66:66", behind a routing header that leads nowhere, behind too many options, and plainly.
    let mut said = [136, 0, 0, 0, 0x60, 0, 0, 0].to_vec();
    said.extend_from_slice(&gateway.octets());
    said.extend_from_slice(&[2, 1, 2, 0x66, 0x66, 0x66, 0x66, 0x66]);
    let checksum = sum(&[&from.octets(), &to.octets(), &[0, 32, 0, 58], &said]);
    said[2..4].copy_from_slice(&checksum);
    let headers: [&[u8]; 3] = [
        &[58, 0, 4, 0, 0, 0, 0, 0],
        &[[60, 0, 1, 4, 0, 0, 0, 0].repeat(5), vec![58, 0, 1, 4, 0, 0, 0, 0]].concat(),
        &[],
    ];
    let packets = headers.iter().zip([43, 60, 58]).map(|(headers, next)| {
        let mut packet = vec![0x60, 0, 0, 0, 0, (headers.len() + said.len()) as u8, next, 255];
        for part in [&from.octets()[..], &to.octets(), headers, &said] {
            packet.extend_from_slice(part);
        }
        (packet, SocketAddr::new(to.into(), 0))
    });
    send_raw(&liar, packets.collect());
    // Behind them in the same queue.
    let neighbour = honest.does(|| TcpListener::bind("[fd00::7]:80").expect("listen"));
    liar.does(|| drop(TcpStream::connect("[fd00::7]:80").expect("a connection")));
    drop(neighbour);
    let known = honest.does(|| {
        let said = std::process::Command::new("ip").args(["-6", "neigh"]).output().expect("run ip");
        String::from_utf8_lossy(&said.stdout).into_owned()
    });
    assert!(known.contains("fd00::2 dev eth0 lladdr 02:63:74:72:00:01"), "{known}");
}

/// Absurd segments, options and lengths: the process stays, and others notice nothing.
#[test]
fn absurd_frames_are_nobodys_harm() {
    if !outside() {
        return;
    }
    let listener = TcpListener::bind("192.0.2.1:9").expect("listen");
    let (container, line) = alone(&settings(), vec![]);
    let to: SocketAddr = "192.0.2.1:9".parse().unwrap();
    let mut packets = Vec::new();
    let mut add = |packet: Vec<u8>| packets.push((packet, to));
    let at = [192, 0, 2, 1];
    // A largest segment of one byte, and of none; a window shift of 255; options that end behind the header; no window.
    for (port, options) in [
        (3000, &[2, 4, 0, 1][..]),
        (3001, &[2, 4, 0, 0]),
        (3002, &[3, 3, 255, 0]),
        (3003, &[5, 200, 1, 1]),
        (3004, &[8, 10, 0, 0]),
    ] {
        add(ipv4(at, 6, &tcp(port, 2, options, &[])));
        for flags in [0x10, 0x01, 0x3f, 0x00, 0x12, 0x02] {
            let mut segment = tcp(port, flags, &[], &[7; 99]);
            (segment[4], segment[8], segment[14]) = (0x80, 0x90, 0);
            add(ipv4(at, 6, &segment));
        }
    }
    // Pieces that overlap, that end behind the largest packet, and that never end.
    for (offset, more, id) in
        [(0u16, 0x20, 1u8), (1, 0x20, 1), (0x1fff, 0, 1), (0x1fff, 0x20, 2), (0, 0x20, 3)]
    {
        for protocol in [6, 17, 1] {
            let mut packet = ipv4(at, protocol, &[9; 64]);
            (packet[5], packet[6], packet[7]) = (id, more | (offset >> 8) as u8, offset as u8);
            add(packet);
        }
    }
    // A datagram longer than its packet, one of less than nothing, and a question of ten thousand names.
    for length in [9000u16, 0, 7] {
        let mut datagram = vec![0x20, 0, 0, 9, 0, 0, 0, 0, 1, 2];
        datagram[4..6].copy_from_slice(&length.to_be_bytes());
        add(ipv4(at, 17, &datagram));
    }
    let mut names = vec![0x20, 0, 0, 53, 0, 0, 0, 0, 0, 1, 1, 0, 0x27, 0x10, 0, 0, 0, 0, 0, 0];
    names.extend([1, b'a', 0, 0, 1, 0, 1].repeat(8000));
    let length = (names.len() as u16).to_be_bytes();
    names[4..6].copy_from_slice(&length);
    for _ in 0..50 {
        packets.push((ipv4([10, 0, 2, 3], 17, &names), "10.0.2.3:53".parse().unwrap()));
    }
    let before = memory(&line, "Anonymous:");
    send_raw(&container, packets);
    let after = memory(&line, "Anonymous:");
    assert!(after < before + 4096, "{before} KiB, then {after}");
    // An honest client is still served.
    listener.set_nonblocking(false).expect("to wait");
    let client = container.does(move || {
        let mut client = TcpStream::connect(to).expect("a connection");
        client.write_all(b"honest").expect("to write");
        client.local_addr().expect("an address")
    });
    assert_eq!(client.ip().to_string(), "10.0.2.100");
    loop {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.set_read_timeout(Some(Duration::from_millis(500))).expect("patience");
        let mut bytes = [0; 6];
        if stream.read_exact(&mut bytes).is_ok() && bytes == *b"honest" {
            break;
        }
    }
}

#[test]
fn members_that_flood_do_not_silence_others() {
    if !outside() {
        return;
    }
    let ([(loud, _line), (other, _second)], _dir) = couple(&Settings { mtu: 1500, ..settings() });
    let server = TcpListener::bind(SERVERS[0]).expect("listen");
    let address = server.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in server.incoming().flatten() {
            thread::spawn(move || {
                let mut byte = [0];
                while client.read_exact(&mut byte).is_ok() && client.write_all(&byte).is_ok() {}
            });
        }
    });
    loud.does(|| {
        thread::spawn(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
            loop {
                let sent = socket.send_to(&[0; 1000], "192.0.2.1:9");
                if sent.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                    break;
                }
            }
        });
    });
    other.does(move || {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("patience");
        for number in 0..200u8 {
            stream.write_all(&[number]).expect("to write");
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer in time");
            assert_eq!(byte, [number]);
        }
    });
}

#[test]
fn a_port_of_all_addresses_answers_from_the_one_that_was_asked() {
    if !outside() {
        return;
    }
    run("ip addr add 192.0.2.2/32 dev lo");
    run("ip addr add 2001:db8::2/128 dev lo nodad");
    let sockets = ["0.0.0.0:0", "[::]:0"].map(|address| UdpSocket::bind(address).expect("bind"));
    let ports = sockets.each_ref().map(|socket| socket.local_addr().unwrap().port());
    let published = sockets.map(|s| (Published { protocol: Protocol::Udp, port: 99 }, s.into())).into();
    let (container, _line) = alone(&settings(), published);
    let servers = container
        .does(|| ["10.0.2.100:99", "[fd00::64]:99"].map(|address| UdpSocket::bind(address).expect("bind")));
    let cases = [("192.0.2.1:0", "192.0.2.2", 0), ("[2001:db8::1]:0", "2001:db8::2", 1)];
    for (client, address, number) in cases {
        for length in [3usize, 65_507] {
            let client = UdpSocket::bind(client).expect("bind");
            client.set_read_timeout(Some(Duration::from_secs(5))).expect("patience");
            // It takes answers from there alone.
            client.connect((address, ports[number])).expect("connect");
            client.send(&noise(length)).expect("send");
            let mut bytes = vec![0; 70_000];
            let (got, from) = servers[number].recv_from(&mut bytes).expect("a datagram");
            assert!(bytes[..got] == noise(length), "{got} of {length} bytes");
            servers[number].send_to(b"answer", from).expect("to answer");
            assert_eq!(client.recv(&mut bytes).unwrap_or_else(|error| panic!("{address}: {error}")), 6);
        }
    }
}
