//! Wires that lose, repeat and swap frames; ends that come in the middle; very many connections.

use crate::ground::{
    Container, SERVERS, alone, descriptors, member, memory, nightly, noise, outside, settings,
};
use ctr::network::{
    process::{self, Line},
    wire::{Protocol, Published, Settings},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    time::Timespec,
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    sync::{Arc, mpsc::channel},
    thread,
    time::Duration,
};

/// [`alone`], with frames lost (4 of 128), repeated (2) and overtaken by later ones (6) on their way, in both directions.
fn alone_on_a_bad_wire(settings: &Settings) -> (Container, Line) {
    let line = process::private(settings).expect("a network");
    let member = member(100, &["alone"]);
    let (container, tap) = Container::new(&member, &["10.0.2.2", "fd00::2"], settings.mtu);
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.expect("a pair of sockets");
    line.join(&member, theirs, vec![]).expect("to join");
    let (tap, ours) = (Arc::new(tap), Arc::new(ours));
    for (from, to, seed) in [(tap.clone(), ours.clone(), 1), (ours, tap, 2)] {
        thread::spawn(move || relay(&from, &to, seed));
    }
    (container, line)
}

fn relay(from: &OwnedFd, to: &OwnedFd, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut frame = vec![0; 70_000];
    let mut held: Vec<Vec<u8>> = Vec::new();
    let give = |frame: &[u8]| {
        let _ = rustix::io::write(to, frame);
    };
    loop {
        let wait = Timespec { tv_sec: if held.is_empty() { 3600 } else { 0 }, tv_nsec: 3_000_000 };
        let mut ready = [PollFd::new(from, PollFlags::IN)];
        if poll(&mut ready, Some(&wait)) == Ok(0) {
            held.drain(..).for_each(|frame| give(&frame));
            continue;
        }
        let length = match rustix::io::read(from, &mut frame[..]) {
            Ok(length @ 1..) => length,
            Err(rustix::io::Errno::AGAIN) => continue,
            _ => return,
        };
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 128 {
            0..4 => {}
            4..6 => (0..2).for_each(|_| give(&frame[..length])),
            6..12 => held.push(frame[..length].to_vec()),
            _ => {
                give(&frame[..length]);
                if held.len() > 2 {
                    held.drain(..).for_each(|frame| give(&frame));
                }
            }
        }
    }
}

#[test]
fn a_bad_wire_changes_no_byte() {
    // Each loss costs the time until it is noticed.
    if nightly(0, 1) == 0 || !outside() {
        return;
    }
    for (mtu, length) in [(1500, 200_000), (65520, 1_000_000)] {
        let (container, line) = alone_on_a_bad_wire(&Settings { mtu, ..settings() });
        let server = TcpListener::bind(SERVERS[0]).expect("listen");
        let address = server.local_addr().unwrap();
        let both = move |stream: TcpStream| {
            let mut writer = stream.try_clone().expect("a second handle");
            let sent = thread::spawn(move || {
                writer.write_all(&noise(length)).expect("to write");
                writer.shutdown(Shutdown::Write).expect("to end");
            });
            let mut got = Vec::new();
            (&stream).read_to_end(&mut got).expect("to read");
            sent.join().expect("to send");
            got == noise(length)
        };
        let before = descriptors(&line);
        let served = thread::spawn(move || both(server.accept().expect("a client").0));
        let same = container.does(move || both(TcpStream::connect(address).expect("a connection")));
        assert!(same && served.join().expect("a server"), "mtu {mtu}");
        // Whatever was lost at the end is sent again, until both sides know.
        while descriptors(&line) > before {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn large_datagrams_are_whole_however_small_the_link() {
    if !outside() {
        return;
    }
    let (container, _line) = alone(&Settings { mtu: 1280, ..settings() }, vec![]);
    for address in SERVERS {
        let server = UdpSocket::bind(address).expect("bind");
        server.set_read_timeout(Some(Duration::from_secs(5))).expect("patience");
        let address = server.local_addr().unwrap();
        let client = container.does(move || {
            let client =
                UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("bind");
            client.set_read_timeout(Some(Duration::from_secs(5))).expect("patience");
            client.send_to(b"x", address).expect("send");
            client
        });
        let (_, from) = server.recv_from(&mut [0]).expect("a datagram");
        for length in [1252, 1253, 20_000, 65_507] {
            server.send_to(&noise(length), from).expect("to answer");
            let mut bytes = vec![0; 70_000];
            let got = client.recv(&mut bytes).expect("an answer");
            assert!(bytes[..got] == noise(length), "{got} of {length} bytes");
            // Out it goes in pieces.
            let client = client.try_clone().expect("a second handle");
            container.does(move || client.send_to(&noise(length), address).expect("send"));
            let (got, _) = server.recv_from(&mut bytes).expect("a datagram");
            assert!(bytes[..got] == noise(length), "{got} of {length} bytes");
        }
    }
}

#[test]
fn last_words_are_heard() {
    if !outside() {
        return;
    }
    for round in 0..20 {
        let (container, line) = alone(&settings(), vec![]);
        let server = TcpListener::bind(SERVERS[0]).expect("listen");
        let log = UdpSocket::bind(SERVERS[0]).expect("bind");
        log.set_read_timeout(Some(Duration::from_secs(5))).expect("patience");
        let (address, logs) = (server.local_addr().unwrap(), log.local_addr().unwrap());
        let client = container.does(move || TcpStream::connect(address).expect("a connection"));
        let mut stream = server.accept().expect("a client").0;
        container.does(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
            for number in 0..100u8 {
                socket.send_to(&[number], logs).expect("send");
            }
            (&client).write_all(&noise(60_000)).expect("to write");
        });
        // The container is over.
        drop(line);
        let mut got = Vec::new();
        // The end itself may look like a cut: the container's kernel may not have come to say it.
        let _ = stream.read_to_end(&mut got);
        assert!(got == noise(60_000), "{round}: {} bytes", got.len());
        for number in 0..100u8 {
            let mut byte = [0];
            log.recv(&mut byte).unwrap_or_else(|error| panic!("{round}: datagram {number}: {error}"));
            assert_eq!(byte, [number]);
        }
    }
}

#[test]
fn a_connection_that_is_cut_looks_cut() {
    if !outside() {
        return;
    }
    let (container, line) = alone(&settings(), vec![]);
    let server = TcpListener::bind(SERVERS[0]).expect("listen");
    let address = server.local_addr().unwrap();
    let client = container.does(move || TcpStream::connect(address).expect("a connection"));
    let mut stream = server.accept().expect("a client").0;
    drop(line);
    assert_eq!(stream.read(&mut [0]).expect_err("no end").kind(), ErrorKind::ConnectionReset);
    drop(client);
}

#[test]
fn short_connections_leave_nothing() {
    if !outside() {
        return;
    }
    let count = nightly(1000, 500_000);
    let server = TcpListener::bind(SERVERS[0]).expect("listen");
    let listener = TcpListener::bind("192.0.2.1:0").expect("listen");
    let (address, published) = (server.local_addr().unwrap(), listener.local_addr().unwrap());
    let port = Published { protocol: Protocol::Tcp, port: 80 };
    let (container, line) = alone(&settings(), vec![(port, listener.into())]);
    let answer = |client: &mut TcpStream| {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a byte");
        client.write_all(&byte).expect("a byte");
    };
    let ask = move |address: SocketAddr, number: u32| {
        let mut client = TcpStream::connect(address).expect("a connection");
        let byte = number as u8;
        client.write_all(&[byte]).expect("a byte");
        let mut answer = vec![];
        client.read_to_end(&mut answer).expect("a byte");
        assert_eq!(answer, [byte]);
    };
    thread::spawn(move || server.incoming().flatten().for_each(|mut client| answer(&mut client)));
    // The same inwards: the container serves, and sees who comes.
    let (say, seen) = channel();
    container.does(move || {
        let server = TcpListener::bind("10.0.2.100:80").expect("listen");
        thread::spawn(move || {
            for mut client in server.incoming().flatten() {
                say.send(client.peer_addr().expect("a peer").ip()).expect("a listener");
                answer(&mut client);
            }
        });
    });
    let before = descriptors(&line);
    let some = count / 10;
    container.does(move || (0..some).for_each(|number| ask(address, number)));
    (0..some).for_each(|number| ask(published, number));
    let memory_before = memory(&line, "Anonymous:");
    container.does(move || (some..count).for_each(|number| ask(address, number)));
    (some..count).for_each(|number| ask(published, number));
    let many = seen.iter().take(count as usize);
    assert!(many.into_iter().all(|peer| peer == IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
    let mut after = descriptors(&line);
    for _ in 0..100 {
        if after == before {
            break;
        }
        thread::sleep(Duration::from_millis(20));
        after = descriptors(&line);
    }
    assert_eq!(after, before, "descriptors of the network's process");
    let memory_after = memory(&line, "Anonymous:");
    assert!(memory_after < memory_before + 512, "{memory_before} KiB, then {memory_after}");
}

#[test]
fn ten_thousand_flows_have_their_time() {
    if !outside() {
        return;
    }
    let (container, line) = alone(&settings(), vec![]);
    let server = UdpSocket::bind(SERVERS[0]).expect("bind");
    let address = server.local_addr().unwrap();
    let count = 10_000u16;
    let before = descriptors(&line);
    let memory_before = memory(&line, "Anonymous:");
    let next = || {
        let (length, from) = server.recv_from(&mut [0; 9]).expect("a datagram");
        assert_eq!(length, 2);
        from
    };
    let mut flows = Vec::new();
    for first in (0..count).step_by(50) {
        container.does(move || {
            for number in first..first + 50 {
                let socket = UdpSocket::bind(("0.0.0.0", 2000 + number)).expect("bind");
                socket.send_to(&number.to_be_bytes(), address).expect("send");
            }
        });
        flows.extend((0..50).map(|_| next()));
    }
    flows.sort();
    flows.dedup();
    assert_eq!(flows.len(), usize::from(count), "each has a port of its own");
    assert_eq!(descriptors(&line) - before, usize::from(count));
    let memory_after = memory(&line, "Anonymous:");
    assert!(memory_after < memory_before + (16 << 10), "{memory_before} KiB, then {memory_after}");
    // One more takes the place of the one that was silent for longest.
    container.does(move || {
        let socket = UdpSocket::bind("0.0.0.0:1999").expect("bind");
        socket.send_to(b"xx", address).expect("send");
    });
    next();
    assert_eq!(descriptors(&line) - before, usize::from(count));
    if nightly(0, 1) == 1 {
        // A minute for those that nobody answers.
        thread::sleep(Duration::from_secs(62));
        assert_eq!(descriptors(&line), before);
    }
}

/// A client's port is used again while the container still remembers the connection that it closed itself.
#[test]
fn the_same_port_again_is_no_matter() {
    if !outside() {
        return;
    }
    let listener = TcpListener::bind("192.0.2.1:0").expect("listen");
    let published = listener.local_addr().unwrap();
    let port = Published { protocol: Protocol::Tcp, port: 80 };
    let (container, line) = alone(&settings(), vec![(port, listener.into())]);
    container.does(|| {
        let server = TcpListener::bind("10.0.2.100:80").expect("listen");
        thread::spawn(move || server.incoming().flatten().for_each(drop));
    });
    let before = descriptors(&line);
    for round in 0..12 {
        // std's listener sets SO_REUSEADDR, std's stream can't be bound.
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true).expect("to share a port");
        rustix::net::bind(&socket, &"192.0.2.1:999".parse::<SocketAddr>().unwrap()).expect("bind");
        rustix::net::connect(&socket, &published).expect("a connection");
        let mut client = TcpStream::from(socket);
        // Sooner than a lost SYN is sent again.
        client.set_read_timeout(Some(Duration::from_millis(600))).expect("patience");
        assert_eq!(client.read(&mut [0]).unwrap_or_else(|error| panic!("{round}: {error}")), 0);
        drop(client);
        while descriptors(&line) > before {
            thread::yield_now();
        }
    }
}
