//! All TCP connections of a network with the outside.

use super::{
    emit::{self, Unreachable},
    flow::{Flow, Key, Pumped},
    frame::{self, Packet},
    outside,
    reach::{self, Reach},
    world::{Source, World},
};
use rustix::{
    event::epoll::EventFlags,
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, connect, socket_with, socketpair,
        sockopt::{set_socket_keepalive, set_socket_linger, set_tcp_nodelay, socket_error},
    },
};
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    os::fd::OwnedFd,
    time::Duration,
};

/// Connections by number and by what they connect.
#[derive(Debug, Default)]
pub struct Connections {
    flows: HashMap<u64, Flow>,
    by_key: HashMap<Key, u64>,
    /// Those to pump.
    touched: VecDeque<u64>,
}

impl Connections {
    /// A segment of `member`'s to the outside.
    pub fn segment(&mut self, world: &mut World, member: u64, packet: Packet<'_>, reach: Reach) {
        let Some((port, to)) = frame::ports(packet.body) else { return };
        let key = Key { member, port, remote: SocketAddr::new(packet.destination, to) };
        let known = self.by_key.get(&key).copied();
        if let Some((number, flow)) = known.and_then(|number| Some((number, self.flows.get_mut(&number)?))) {
            if flow.syn().is_some() {
                if frame::resets(packet.body) {
                    self.remove(world, number);
                }
                return;
            }
            flow.segment(packet.whole, world);
            self.touch(number);
        } else if !frame::opens(packet.body) {
            refuse(world, member, &packet);
        } else if let Err(errno) = self.open(world, key, &packet, reach) {
            fail(world, member, &packet, errno);
        }
    }

    /// A connection that `socket` accepted, for `port` of `member`.
    pub fn accepted(
        &mut self,
        world: &mut World,
        member: u64,
        port: u16,
        socket: OwnedFd,
        client: SocketAddr,
    ) {
        let Some((inside, client)) = outside::seen_from_inside(world, member, client) else { return };
        let key = Key { member, port, remote: client };
        // Dropped without a word it would look like an empty answer.
        let _ = set_socket_linger(&socket, Some(Duration::ZERO));
        if self.flows.len() >= MOST || self.by_key.contains_key(&key) || !world.take_room(member) {
            return;
        }
        let _ = set_socket_linger(&socket, None);
        prepare(&socket);
        let number = world.number();
        let flow = Flow::inwards(key, socket, SocketAddr::new(inside, port), self.buffer(), world);
        match flow {
            Some(flow) if world.watch(flow.socket(), Source::Tcp(number), ALL).is_ok() => {
                self.by_key.insert(key, number);
                self.flows.insert(number, flow);
                self.touch(number);
            }
            _ => world.give_room(member),
        }
    }

    /// Something happened to the host's half of `number`.
    pub fn event(&mut self, world: &mut World, number: u64, flags: EventFlags) {
        let buffer = self.buffer();
        let Some(flow) = self.flows.get_mut(&number) else { return };
        if let Some(syn) = flow.syn() {
            match socket_error(flow.socket()) {
                Ok(Ok(())) if flags.intersects(EventFlags::OUT) => {
                    prepare(flow.socket());
                    flow.connected(buffer, world);
                }
                Ok(Ok(())) => return,
                Ok(Err(errno)) | Err(errno) => {
                    if let Some(packet) = frame::ip(syn) {
                        fail(world, flow.key.member, &packet, errno);
                    }
                    return self.remove(world, number);
                }
            }
        }
        flow.event(flags);
        self.touch(number);
    }

    /// The time that `number` wanted to be woken at has come.
    pub fn due(&mut self, number: u64) {
        if let Some(flow) = self.flows.get_mut(&number) {
            flow.woken();
            self.touch(number);
        }
    }

    /// Pump all that something happened to; whether there is more to do at once.
    pub fn pump(&mut self, world: &mut World) -> bool {
        for _ in 0..self.touched.len() {
            let Some(number) = self.touched.pop_front() else { break };
            let Some(flow) = self.flows.get_mut(&number) else { continue };
            flow.touched = false;
            match flow.pump(world) {
                Pumped::Over => self.remove(world, number),
                more => {
                    if let Some(time) = flow.due(world) {
                        world.timers.set(time, Source::Tcp(number));
                    }
                    if more == Pumped::More {
                        self.touch(number);
                    }
                }
            }
        }
        !self.touched.is_empty()
    }

    /// `member` has left, and its connections with it.
    pub fn leave(&mut self, world: &mut World, member: u64) {
        let of_member = |flow: &&Flow| flow.key.member == member;
        let numbers: Vec<u64> =
            self.flows.iter().filter(|(_, flow)| of_member(flow)).map(|(number, _)| *number).collect();
        for number in numbers {
            // Who said all that it wanted to say is still heard; any other connection is cut.
            if let Some(flow) = self.flows.get_mut(&number)
                && !flow.has_said_all()
            {
                let _ = set_socket_linger(flow.socket(), Some(Duration::ZERO));
            }
            self.remove(world, number);
        }
    }

    fn open(&mut self, world: &mut World, key: Key, packet: &Packet<'_>, reach: Reach) -> Result<(), Errno> {
        let asks = reach::is_nameserver(&world.network.settings, key.remote.ip()) && key.remote.port() == 53;
        if asks && world.resolvers.is_empty() && !world.network.settings.internal {
            // When it asks again they are known.
            world.wants_resolvers = Some(key.member);
            return Ok(());
        }
        let target = if asks { None } else { outside::target(world, key.remote, reach) };
        if !asks && target.is_none() {
            return Err(Errno::CONNREFUSED);
        }
        // What one carries is sent again; kept, it would fill the memory. Options that fill a packet are nobody's.
        let Some(syn) = frame::without_data(packet) else { return Ok(()) };
        if self.flows.len() >= MOST || !world.take_room(key.member) {
            return Err(Errno::CONNREFUSED);
        }
        let number = world.number();
        let socket = match target {
            Some(target) => start(world, target, number),
            None => to_nameserver(world, key.member, number),
        };
        let socket = socket.inspect_err(|_| world.give_room(key.member))?;
        self.by_key.insert(key, number);
        self.flows.insert(number, Flow::waiting(key, socket, syn));
        Ok(())
    }

    fn touch(&mut self, number: u64) {
        if let Some(flow) = self.flows.get_mut(&number)
            && !std::mem::replace(&mut flow.touched, true)
        {
            self.touched.push_back(number);
        }
    }

    fn remove(&mut self, world: &mut World, number: u64) {
        if let Some(flow) = self.flows.remove(&number) {
            self.by_key.remove(&flow.key);
            world.timers.forget(Source::Tcp(number));
            world.give_room(flow.key.member);
        }
    }

    /// Bytes of a new connection's buffers, in each direction: few can be fast, many can't eat the memory.
    fn buffer(&self) -> usize {
        match self.flows.len() {
            0..128 => 512 << 10,
            128..1024 => 128 << 10,
            1024..4096 => 32 << 10,
            _ => 8 << 10,
        }
    }
}

/// Connections of a network.
const MOST: usize = 16 << 10;

const ALL: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// A socket on its way to `target`.
fn start(world: &World, target: SocketAddr, number: u64) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno),
    }
    world.watch(&socket, Source::Tcp(number), ALL)?;
    Ok(socket)
}

/// The other end of it asks for names.
fn to_nameserver(world: &mut World, member: u64, number: u64) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (socket, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    world.watch(&socket, Source::Tcp(number), ALL)?;
    world.name_streams.push((member, other));
    Ok(socket)
}

/// What is passed on waits for nothing, and a peer that vanished is noticed here, since the container's own probes end here.
fn prepare(socket: &OwnedFd) {
    let _ = set_tcp_nodelay(socket, true);
    let _ = set_socket_keepalive(socket, true);
}

/// There is no such connection.
fn refuse(world: &mut World, member: u64, packet: &Packet<'_>) {
    if frame::resets(packet.body) {
        return;
    }
    if let Some(mac) = world.mac(member)
        && let Some(length) = emit::reset(&mut world.out, mac, packet)
    {
        world.deliver(member, length);
    }
}

/// There can't be such a connection.
fn fail(world: &mut World, member: u64, packet: &Packet<'_>, errno: Errno) {
    let why = match errno {
        Errno::NETUNREACH | Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL => Unreachable::Network,
        Errno::HOSTUNREACH | Errno::HOSTDOWN => Unreachable::Host,
        Errno::ACCESS | Errno::PERM => Unreachable::Prohibited,
        // Its own patience decides.
        Errno::TIMEDOUT => return,
        _ => return refuse(world, member, packet),
    };
    if let Some(mac) = world.mac(member) {
        let length = emit::unreachable(&mut world.out, mac, packet, why);
        world.deliver(member, length);
    }
}
