//! UDP and ICMP echo: a connected socket of the host for each flow, so that answers and errors of nobody else come in. A flow
//! through a published port goes out by that port's socket.

use super::{
    emit::{self, HEADERS, Unreachable},
    frame::{self, Packet, UDP},
    outside,
    reach::Reach,
    world::{Source, World},
};
use crate::sys::pktinfo::{self, Own};
use rustix::{
    event::epoll::EventFlags,
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send,
        socket_with,
    },
};
use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    rc::Rc,
    time::{Duration, Instant},
};

/// Flows by number and by what they connect.
#[derive(Debug, Default)]
pub struct Datagrams {
    flows: HashMap<u64, Flow>,
    by_key: HashMap<Key, u64>,
    of_member: HashMap<u64, Share>,
}

/// Those of a member.
#[derive(Debug, Default)]
struct Share {
    flows: usize,
    /// In the order of their birth, or of the last time that they were found to be in use: for when there are too many.
    order: VecDeque<(u64, Instant)>,
}

/// Which flow: the container's port, or its echo identifier, and the other end as the container sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    member: u64,
    echo: bool,
    port: u16,
    remote: SocketAddr,
}

#[derive(Debug)]
struct Flow {
    key: Key,
    outlet: Outlet,
    used: Instant,
    answered: bool,
}

/// Where a flow goes.
#[derive(Debug)]
enum Outlet {
    Own(OwnedFd),
    /// A client, and the address of the host's that it knows.
    Published(Rc<OwnedFd>, SocketAddr, Option<Own>),
}

impl Datagrams {
    /// A datagram, or an echo request, of `member`'s to the outside.
    pub fn outwards(&mut self, world: &mut World, member: u64, packet: Packet<'_>, reach: Reach) {
        let echo = packet.protocol != UDP;
        let field = |at: usize| Some(u16::from_be_bytes([*packet.body.get(at)?, *packet.body.get(at + 1)?]));
        let ports = if echo { field(4).map(|id| (id, 0)) } else { frame::ports(packet.body) };
        let Some((port, to)) = ports else { return };
        let payload = if echo { Some(packet.body) } else { frame::udp_payload(packet.body) };
        let Some(payload) = payload else { return };
        let key = Key { member, echo, port, remote: SocketAddr::new(packet.destination, to) };
        let number = match self.by_key.get(&key) {
            Some(number) => *number,
            None => match self.open(world, key, reach) {
                Ok(number) => number,
                Err(errno) => return fail(world, member, &packet, errno),
            },
        };
        let Some(flow) = self.flows.get_mut(&number) else { return };
        flow.used = world.now;
        let sent = match &flow.outlet {
            // What was refused before is told once more, and not to this datagram's sender's loss.
            Outlet::Own(socket) => match send(socket, payload, SendFlags::NOSIGNAL) {
                Err(Errno::CONNREFUSED) => {
                    let _ = send(socket, payload, SendFlags::NOSIGNAL);
                    Err(Errno::CONNREFUSED)
                }
                sent => sent,
            },
            Outlet::Published(socket, client, own) => pktinfo::send(&**socket, payload, *client, *own),
        };
        if let Err(errno) = sent {
            fail(world, member, &packet, errno);
        }
    }

    /// The `length` bytes at [`emit::payload_at`] of `inside` came from `client` to a published port of `member`'s; gives what
    /// they are to be delivered as.
    pub fn inwards(
        &mut self,
        world: &mut World,
        member: u64,
        port: u16,
        socket: &Rc<OwnedFd>,
        (client, own, seen): (SocketAddr, Option<Own>, SocketAddr),
    ) -> bool {
        let key = Key { member, echo: false, port, remote: seen };
        if let Some(flow) = self.by_key.get(&key).and_then(|number| self.flows.get_mut(number)) {
            (flow.used, flow.answered) = (world.now, true);
            // Another client that looks the same from inside has to wait until this one is done.
            return match &mut flow.outlet {
                Outlet::Published(_, of, at) if *of == client => {
                    *at = own;
                    true
                }
                _ => false,
            };
        }
        self.make_room(world, member) && {
            let number = world.number();
            self.insert(world, number, key, Outlet::Published(socket.clone(), client, own));
            true
        }
    }

    /// The host's socket of `number` has something to say.
    pub fn event(&mut self, world: &mut World, number: u64) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        let (Outlet::Own(socket), Key { member, port, remote, .. }) = (&flow.outlet, flow.key) else {
            return;
        };
        let Some(inside) = outside::own_of(world, member, remote.is_ipv4()) else { return };
        for _ in 0..BATCH {
            let at = if flow.key.echo { 8 } else { 0 };
            let at = emit::payload_at(remote.is_ipv4()) - at;
            match recv(socket, &mut world.out[at..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    (flow.used, flow.answered) = (world.now, true);
                    if flow.key.echo {
                        echoed(world, member, (remote.ip(), inside, port), at, length);
                    } else {
                        world.deliver_udp(member, (remote.ip(), remote.port()), (inside, port), length);
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(errno) => {
                    if !flow.key.echo {
                        refused(world, member, (inside, port), remote, errno);
                    }
                    break;
                }
            }
        }
    }

    /// The time that was set for `number` has come.
    pub fn due(&mut self, world: &mut World, number: u64) {
        let Some(flow) = self.flows.get(&number) else { return };
        let ends = flow.used + flow.patience();
        if ends <= world.now {
            self.remove(world, number);
        } else {
            world.timers.set(ends, Source::Datagram(number));
        }
    }

    /// `member` has left, and its flows with it.
    pub fn leave(&mut self, world: &mut World, member: u64) {
        let of_member = |(number, flow): (&u64, &Flow)| (flow.key.member == member).then_some(*number);
        for number in self.flows.iter().filter_map(of_member).collect::<Vec<_>>() {
            self.remove(world, number);
        }
    }

    fn open(&mut self, world: &mut World, key: Key, reach: Reach) -> Result<u64, Errno> {
        let target = outside::target(world, key.remote, reach).ok_or(Errno::CONNREFUSED)?;
        if !self.make_room(world, key.member) {
            return Err(Errno::NOBUFS);
        }
        let number = world.number();
        let socket = start(world, key.echo, target, number).inspect_err(|_| world.give_room(key.member))?;
        self.insert(world, number, key, Outlet::Own(socket));
        Ok(number)
    }

    fn insert(&mut self, world: &mut World, number: u64, key: Key, outlet: Outlet) {
        let flow = Flow { key, outlet, used: world.now, answered: false };
        world.timers.set(world.now + flow.patience(), Source::Datagram(number));
        let share = self.of_member.entry(key.member).or_default();
        share.flows += 1;
        share.order.push_back((number, world.now));
        self.by_key.insert(key, number);
        self.flows.insert(number, flow);
    }

    /// Room for one more flow: the one that was not used for longest makes it, of the member's own if it has its share, else of
    /// whoever has most.
    fn make_room(&mut self, world: &mut World, member: u64) -> bool {
        if self.flows.len() < MOST && world.take_room(member) {
            return true;
        }
        let most = self.of_member.iter().max_by_key(|(_, share)| share.flows).map(|(member, _)| *member);
        let from = if world.has_its_share(member) { Some(member) } else { most };
        if let Some(oldest) = from.and_then(|from| self.oldest(from)) {
            self.remove(world, oldest);
        }
        self.flows.len() < MOST && world.take_room(member)
    }

    fn oldest(&mut self, member: u64) -> Option<u64> {
        let order = &mut self.of_member.get_mut(&member)?.order;
        while let Some((number, since)) = order.pop_front() {
            match self.flows.get(&number) {
                Some(flow) if flow.used > since => order.push_back((number, flow.used)),
                Some(_) => return Some(number),
                None => {}
            }
        }
        None
    }

    fn remove(&mut self, world: &mut World, number: u64) {
        if let Some(flow) = self.flows.remove(&number) {
            let member = flow.key.member;
            self.by_key.remove(&flow.key);
            world.timers.forget(Source::Datagram(number));
            world.give_room(member);
            if let Some(share) = self.of_member.get_mut(&member) {
                share.flows -= 1;
                if share.order.len() > 2 * share.flows + 64 {
                    share.order.retain(|(number, _)| self.flows.contains_key(number));
                }
                if share.flows == 0 {
                    self.of_member.remove(&member);
                }
            }
        }
    }
}

impl Flow {
    /// As long as it may be silent (RFC 4787: two minutes at least for one that is answered; questions are short).
    fn patience(&self) -> Duration {
        Duration::from_secs(match (self.key.remote.port(), self.answered) {
            (53, _) => 10,
            (_, false) => 60,
            (_, true) => 180,
        })
    }
}

/// Flows of a network.
const MOST: usize = 10_000;
/// Datagrams of one flow before others have their turn.
const BATCH: usize = 64;

fn start(world: &World, echo: bool, target: SocketAddr, number: u64) -> Result<OwnedFd, Errno> {
    let v4 = target.is_ipv4();
    let family = if v4 { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol: Option<Protocol> = match (echo, v4) {
        (false, _) => None,
        // Refused unless net.ipv4.ping_group_range has our group (icmp(7)): then nobody answers.
        (true, true) => Some(ipproto::ICMP),
        (true, false) => Some(ipproto::ICMPV6),
    };
    let socket =
        socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, protocol)?;
    connect(&socket, &target)?;
    world.watch(&socket, Source::Datagram(number), EventFlags::IN)?;
    Ok(socket)
}

/// An echo reply of `length` bytes at `at`, under the identifier of the host's socket.
fn echoed(
    world: &mut World,
    member: u64,
    (remote, inside, id): (IpAddr, IpAddr, u16),
    at: usize,
    length: usize,
) {
    let Some(mac) = world.mac(member) else { return };
    if length < 8 || at - HEADERS + length > 65535 {
        return;
    }
    world.out[at + 2..at + 4].fill(0);
    world.out[at + 4..at + 6].copy_from_slice(&id.to_be_bytes());
    let length = emit::icmp(&mut world.out, mac, remote, inside, length);
    world.deliver(member, length);
}

/// What was sent can't have arrived: the container hears of it by the headers that it sent.
fn refused(world: &mut World, member: u64, inside: (IpAddr, u16), remote: SocketAddr, errno: Errno) {
    let mut packet = [0; 48];
    let header = emit::ip_header(&mut packet, inside.0, remote.ip(), UDP, 8);
    packet[header..header + 2].copy_from_slice(&inside.1.to_be_bytes());
    packet[header + 2..header + 4].copy_from_slice(&remote.port().to_be_bytes());
    packet[header + 4..header + 6].copy_from_slice(&8u16.to_be_bytes());
    if let Some(packet) = frame::ip(&packet[..header + 8]) {
        fail(world, member, &packet, errno);
    }
}

fn fail(world: &mut World, member: u64, packet: &Packet<'_>, errno: Errno) {
    let why = match errno {
        Errno::CONNREFUSED => Unreachable::Port,
        Errno::HOSTUNREACH | Errno::HOSTDOWN => Unreachable::Host,
        Errno::NETUNREACH | Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL => Unreachable::Network,
        Errno::ACCESS | Errno::PERM if packet.protocol == UDP => Unreachable::Prohibited,
        _ => return,
    };
    if let Some(mac) = world.mac(member) {
        let length = emit::unreachable(&mut world.out, mac, packet, why);
        world.deliver(member, length);
    }
}
