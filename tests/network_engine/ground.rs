//! Containers as threads in network namespaces of their own, the outside as another one.

use ctr::{
    network::{
        process::{self, Line},
        wire::{Member, Net4, Net6, Published, Settings},
    },
    sys::{interface, tap},
};
use rustix::thread::UnshareFlags;
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    path::PathBuf,
    process::Command,
    sync::mpsc::{Sender, channel},
    thread::{self, JoinHandle},
};

/// This thread goes to the outside: 192.0.2.1 and 2001:db8::1 are its own, and everything else is nowhere.
/// False: only root can go there.
pub fn outside() -> bool {
    if !rustix::process::getuid().is_root() {
        return false;
    }
    unshare();
    run("mount --make-rprivate /");
    run("ip addr add 192.0.2.1/32 dev lo");
    run("ip addr add 2001:db8::1/128 dev lo nodad");
    run("ip route add default dev lo src 192.0.2.1");
    true
}

#[expect(deprecated, reason = "files are not unshared")]
pub fn unshare() {
    rustix::thread::unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS)
        .expect("a network namespace; these tests are root's");
    interface::loopback_up().expect("lo");
}

pub fn run(command: &str) {
    let mut words = command.split_whitespace();
    let done = Command::new(words.next().expect("a command")).args(words).output().expect("run ip");
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

pub type Work = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own.
pub struct Container {
    work: Sender<Work>,
    _thread: JoinHandle<()>,
}

impl Container {
    /// With the device that is to be joined with `member`.
    pub fn new(member: &Member, gateways: &[&str], mtu: u16) -> (Container, OwnedFd) {
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
    pub fn does<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (say, hear) = channel();
        self.work.send(Box::new(move || drop(say.send(work())))).expect("a living container");
        hear.recv().expect("an answer")
    }
}

pub fn settings() -> Settings {
    Settings {
        name: "private".into(),
        v4: Some(Net4 {
            subnet: Ipv4Addr::new(10, 0, 2, 0),
            prefix: 24,
            gateway: Ipv4Addr::new(10, 0, 2, 2),
            dns: Ipv4Addr::new(10, 0, 2, 3),
        }),
        v6: Some(Net6 {
            subnet: "fd00::".parse().expect("an address"),
            prefix: 64,
            gateway: "fd00::2".parse().expect("an address"),
            dns: "fd00::3".parse().expect("an address"),
        }),
        internal: false,
        dns: true,
        host_loopback: false,
        host_alias: Some(Ipv4Addr::new(169, 254, 1, 2)),
        mtu: 65520,
    }
}

pub fn member(number: u8, names: &[&str]) -> Member {
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
pub fn alone(settings: &Settings, published: Vec<(Published, OwnedFd)>) -> (Container, Line) {
    let line = process::private(settings).expect("a network");
    let (published, sockets) = published.into_iter().unzip();
    let member = Member { published, ..member(100, &["alone"]) };
    let (container, tap) = Container::new(&member, &["10.0.2.2", "fd00::2"], settings.mtu);
    line.join(&member, tap, sockets).expect("to join");
    (container, line)
}

pub const SERVERS: [&str; 2] = ["192.0.2.1:0", "[2001:db8::1]:0"];

/// Bytes that no shift and no loss leaves as they are.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// Two containers of one network, and its directory.
pub fn couple(settings: &Settings) -> ([(Container, Line); 2], tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let both = [(7, "seven"), (8, "eight")].map(|(number, name)| {
        let line = process::of_network(settings, dir.path()).expect("a network");
        let member = member(number, &[name, "alias"]);
        let (container, tap) = Container::new(&member, &["10.0.2.2", "fd00::2"], settings.mtu);
        line.join(&member, tap, vec![]).expect("to join");
        (container, line)
    });
    (both, dir)
}

/// The process of the network that this process made.
pub fn process_of(line: &Line) -> PathBuf {
    line.members().expect("it lives");
    let ours = |path: &PathBuf| {
        std::fs::read_to_string(path.join("stat")).is_ok_and(|stat| {
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            let parent = rest.split_whitespace().nth(1);
            stat.contains("(ctr-network)") && parent == Some(&std::process::id().to_string())
        })
    };
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
    {
        let mut processes = processes;
        processes.find(ours).expect("a process")
    }
}

/// How many descriptors it has.
pub fn descriptors(line: &Line) -> usize {
    std::fs::read_dir(process_of(line).join("fd")).expect("its descriptors").count()
}

/// KiB of a field of its /proc/PID/smaps_rollup.
pub fn memory(line: &Line, field: &str) -> u64 {
    let text = std::fs::read_to_string(process_of(line).join("smaps_rollup")).expect("its memory");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    line.split_whitespace().next().expect("a number").parse().expect("a number")
}

/// Many times more of it in the nightly run.
pub fn nightly(often: u32, then: u32) -> u32 {
    if std::env::var_os("CTR_TEST_NIGHTLY").is_some() { then } else { often }
}
