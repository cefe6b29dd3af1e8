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
        v6: Some(Net6 { subnet: "fd00::".parse().unwrap(), prefix: 64, gateway: "fd00::2".parse().unwrap(), dns: "fd00::3".parse().unwrap() }),
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
