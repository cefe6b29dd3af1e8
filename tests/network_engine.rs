//! The process of a network: containers are threads in network namespaces of their own, the outside is another one, so nothing
//! leaves this test.

use ctr::{
    network::{
        process::{self, Line},
        wire::{Member, Net4, Net6, Protocol, Published, Settings},
    },
    sys::{interface, tap},
};
use rustix::thread::UnshareFlags;
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::Command,
    sync::mpsc::{Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

/// This thread goes to the outside: 192.0.2.1 and 2001:db8::1 are its own, and everything else is nowhere.
fn outside() {
    unshare();
    run("ip addr add 192.0.2.1/32 dev lo");
    run("ip addr add 2001:db8::1/128 dev lo nodad");
    run("ip route add default dev lo src 192.0.2.1");
}

#[expect(deprecated, reason = "files are not unshared")]
fn unshare() {
    rustix::thread::unshare(UnshareFlags::NEWNET).expect("a network namespace; these tests are root's");
    interface::loopback_up().expect("lo");
}

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let done = Command::new(words.next().expect("a command")).args(words).output().expect("run ip");
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

type Work = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own.
struct Container {
    work: Sender<Work>,
    _thread: JoinHandle<()>,
}

impl Container {
    /// With the device that is to be joined with `member`.
    fn new(member: &Member, gateways: &[&str], mtu: u16) -> (Container, OwnedFd) {
        let (work, todo) = channel::<Work>();
        let thread = thread::spawn(move || {
            unshare();
            todo.into_iter().for_each(|work| work());
        });
        let container = Container { work, _thread: thread };
        let (member, gateways) = (member.clone(), gateways.join(" "));
        let tap = container.does(move || {
            let tap = tap::create("eth0").expect("a device");
            let mac = member.mac.map(|byte| format!("{byte:02x}")).join(":");
            run(&format!("ip link set eth0 address {mac} mtu {mtu}"));
            if let Some(v4) = member.v4 {
                run(&format!("ip addr add {v4}/24 dev eth0"));
            }
            if let Some(v6) = member.v6 {
                run(&format!("ip addr add {v6}/64 dev eth0 nodad"));
            }
            run("ip link set eth0 up");
            for gateway in gateways.split_whitespace() {
                run(&format!("ip route add default via {gateway}"));
            }
            tap
        });
        (container, tap)
    }

    /// Run `work` inside.
    fn does<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (say, hear) = channel();
        self.work.send(Box::new(move || drop(say.send(work())))).expect("a living container");
        hear.recv().expect("an answer")
    }
}

fn settings() -> Settings {
    Settings {
        name: "private".into(),
        v4: Some(Net4 {
            subnet: Ipv4Addr::new(10, 0, 2, 0),
            prefix: 24,
            gateway: Ipv4Addr::new(10, 0, 2, 2),
            dns: Ipv4Addr::new(10, 0, 2, 3),
        }),
        v6: Some(Net6 {
            subnet: "fd00::".parse().unwrap(),
            prefix: 64,
            gateway: "fd00::2".parse().unwrap(),
            dns: "fd00::3".parse().unwrap(),
        }),
        internal: false,
        dns: true,
        host_loopback: false,
        host_alias: Some(Ipv4Addr::new(169, 254, 1, 2)),
        mtu: 65520,
    }
}

fn member(number: u8, names: &[&str]) -> Member {
    Member {
        id: format!("{number}"),
        mac: [2, 0, 0, 0, 0, number],
        v4: Some(Ipv4Addr::new(10, 0, 2, number)),
        v6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into())),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        published: vec![],
    }
}

/// A container alone in its network, seen from the outside.
fn alone(settings: &Settings, published: Vec<(Published, OwnedFd)>) -> (Container, Line) {
    let line = process::private(settings).expect("a network");
    let (published, sockets) = published.into_iter().unzip();
    let member = Member { published, ..member(100, &["alone"]) };
    let (container, tap) = Container::new(&member, &["10.0.2.2", "fd00::2"], settings.mtu);
    line.join(&member, tap, sockets).expect("to join");
    (container, line)
}

const SERVERS: [&str; 2] = ["192.0.2.1:0", "[2001:db8::1]:0"];

/// Bytes that no shift and no loss leaves as they are.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

#[test]
fn tcp_to_the_outside() {
    outside();
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
    outside();
    for mtu in [65520, 1500, 1280] {
        let settings = Settings { mtu, ..settings() };
        let (container, _line) = alone(&settings, vec![]);
        let server = TcpListener::bind(SERVERS[0]).expect("listen");
        let address = server.local_addr().unwrap();
        let both = |stream: TcpStream| {
            let mut writer = stream.try_clone().expect("a second handle");
            let sent = thread::spawn(move || {
                writer.write_all(&noise(20_000_000)).expect("to write");
                writer.shutdown(Shutdown::Write).expect("to end");
            });
            let mut got = Vec::new();
            (&stream).read_to_end(&mut got).expect("to read");
            sent.join().expect("to send");
            got == noise(20_000_000)
        };
        let served = thread::spawn(move || both(server.accept().expect("a client").0));
        let same = container.does(move || both(TcpStream::connect(address).expect("a connection")));
        assert!(same && served.join().expect("a server"), "mtu {mtu}");
    }
}

#[test]
fn refused_reset_and_out_of_reach() {
    outside();
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
    outside();
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

/// The process of a network, and how many descriptors it has.
fn descriptors(line: &Line) -> usize {
    line.members().expect("it lives");
    let mut found = vec![];
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let path = entry.path();
        let of_us = std::fs::read_to_string(path.join("stat")).is_ok_and(|stat| {
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            stat.contains("(ctr-network)")
                && rest.split_whitespace().nth(1) == Some(&std::process::id().to_string())
        });
        if of_us {
            found.push(std::fs::read_dir(path.join("fd")).expect("its descriptors").count());
        }
    }
    assert_eq!(found.len(), 1, "one process");
    found[0]
}

#[test]
fn short_connections_leave_nothing() {
    outside();
    let server = TcpListener::bind(SERVERS[0]).expect("listen");
    let listener = TcpListener::bind("192.0.2.1:0").expect("listen");
    let (address, published) = (server.local_addr().unwrap(), listener.local_addr().unwrap());
    let port = Published { protocol: Protocol::Tcp, port: 80 };
    let (container, line) = alone(&settings(), vec![(port, listener.into())]);
    let before = descriptors(&line);
    thread::spawn(move || {
        for client in server.incoming() {
            let mut client = client.expect("a client");
            let mut byte = [0];
            client.read_exact(&mut byte).expect("a byte");
            client.write_all(&byte).expect("a byte");
        }
    });
    let ask = move |address: SocketAddr, number: u32| {
        let mut client = TcpStream::connect(address).expect("a connection");
        let byte = number as u8;
        client.write_all(&[byte]).expect("a byte");
        let mut answer = vec![];
        client.read_to_end(&mut answer).expect("a byte");
        assert_eq!(answer, [byte]);
    };
    container.does(move || (0..500).for_each(|number| ask(address, number)));
    // The same inwards: the container serves, and sees who comes.
    let (say, seen) = channel();
    container.does(move || {
        let server = TcpListener::bind("10.0.2.100:80").expect("listen");
        thread::spawn(move || {
            for client in server.incoming() {
                let mut client = client.expect("a client");
                let mut byte = [0];
                client.read_exact(&mut byte).expect("a byte");
                client.write_all(&byte).expect("a byte");
                say.send(client.peer_addr().expect("a peer").ip()).expect("a listener");
            }
        });
    });
    (0..500).for_each(|number| ask(published, number));
    assert!(seen.iter().take(500).all(|peer| peer == IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
    let mut after = descriptors(&line);
    for _ in 0..100 {
        if after == before {
            break;
        }
        thread::sleep(Duration::from_millis(20));
        after = descriptors(&line);
    }
    assert_eq!(after, before, "descriptors of the network's process");
}
