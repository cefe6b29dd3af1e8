//! The loop of a network's process: one thread, one epoll, every descriptor non-blocking. Frames come from members' devices,
//! and go to other members, to sockets of the host, or are answered here.

mod datagram;
pub mod dns;
mod emit;
mod flow;
pub mod fragments;
pub mod frame;
mod name_stream;
mod nameserver;
mod outside;
mod published;
pub mod reach;
pub mod stack;
pub mod switch;
mod tcp;
mod timers;
mod world;

use super::wire::{Ask, Member, Published, Settings, Tell};
use crate::sys::channel::{Channel, Door};
use anyhow::{Context, Result};
use datagram::Datagrams;
use fragments::Fragments;
use frame::{LONGEST, Packet, VNET};
use name_stream::NameStreams;
use nameserver::Nameserver;
use published::Ports;
use reach::Reach;
use rustix::{
    event::epoll::{Event, EventFlags},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{Errno, read},
};
use std::{collections::HashMap, os::fd::OwnedFd};
use switch::{Network, Verdict};
use tcp::Connections;
use world::{Source, World};

/// A network at work.
#[derive(Debug)]
pub struct Engine {
    world: World,
    door: Option<Door>,
    lines: HashMap<u64, Line>,
    connections: Connections,
    datagrams: Datagrams,
    fragments: Fragments,
    nameserver: Nameserver,
    name_streams: NameStreams,
    ports: Ports,
    /// Where frames are read to.
    frame: Vec<u8>,
}

/// A monitor, whose container is a member once it has joined; both have the same number.
#[derive(Debug)]
struct Line {
    channel: Channel,
    /// Ports that came ahead of their member.
    ports: Vec<(Published, OwnedFd)>,
}

impl Engine {
    /// For the network that `settings` describe, with so many sockets. `line` leads to whoever started it; more come in
    /// by `door`.
    pub fn new(mut settings: Settings, sockets: usize, line: Channel, door: Option<Door>) -> Result<Engine> {
        settings.mtu = settings.mtu.clamp(SMALLEST_MTU, LARGEST_MTU);
        let mut engine = Engine {
            world: World::new(Network::new(settings), sockets, door.is_some())
                .context("watch descriptors")?,
            door: None,
            lines: HashMap::new(),
            connections: Connections::default(),
            datagrams: Datagrams::default(),
            fragments: Fragments::default(),
            nameserver: Nameserver::default(),
            name_streams: NameStreams::default(),
            ports: Ports::default(),
            frame: vec![0; LONGEST],
        };
        if let Some(door) = &door {
            engine.world.watch(door, Source::Door, EventFlags::IN).context("watch the door")?;
        }
        engine.door = door;
        engine.come_in(line)?;
        Ok(engine)
    }

    /// Work until the last line is closed.
    pub fn run(mut self) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let mut at_once = false;
        while !self.lines.is_empty() {
            self.world.wait(&mut events, at_once).context("wait for events")?;
            for event in &events {
                self.event(event);
            }
            while let Some(source) = self.world.timers.due(self.world.now) {
                self.due(source);
            }
            for (member, socket) in std::mem::take(&mut self.world.name_streams) {
                self.name_streams.admit(&mut self.world, member, socket);
            }
            for (number, message, reply) in std::mem::take(&mut self.world.stream_replies) {
                let Engine { world, nameserver, name_streams, .. } = &mut self;
                name_streams.settle(world, nameserver, number, &message, reply);
            }
            at_once = self.connections.pump(&mut self.world);
            self.ask_for_resolvers();
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) {
        let Engine { world, connections, datagrams, nameserver, ports, .. } = self;
        match Source::of(event) {
            Source::Tap(member) => {
                self.frames(member);
            }
            Source::Tcp(number) => connections.event(world, number, event.flags),
            Source::Datagram(number) => datagrams.event(world, number),
            Source::Published(number) => ports.event(world, connections, datagrams, number),
            Source::Query(number) => nameserver.event(world, number),
            Source::Stream(number) => self.name_streams.event(world, nameserver, number, event.flags),
            Source::Line(number) => self.line(number),
            Source::Pieces => {}
            Source::Door => {
                if let Some(channel) = self.door.as_ref().and_then(Door::next) {
                    // Who can't be watched is hung up on, and tries again.
                    let _ = self.come_in(channel);
                }
            }
        }
    }

    fn due(&mut self, source: Source) {
        match source {
            Source::Tcp(number) => self.connections.due(number),
            Source::Datagram(number) => self.datagrams.due(&mut self.world, number),
            Source::Query(number) => self.nameserver.due(&mut self.world, number),
            Source::Pieces => self.fragments.due(&mut self.world),
            _ => {}
        }
    }

    /// Frames of `member`'s, as many as there are, up to what others can wait for; gives how many.
    fn frames(&mut self, member: u64) -> usize {
        for read_so_far in 0..FRAMES {
            let Some(tap) = self.world.tap(member) else { return read_so_far };
            match read(tap, &mut self.frame[..]) {
                Ok(length) => self.frame(member, length),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return read_so_far,
                Err(_) => {
                    // The device is gone with its container, whose monitor will hang up.
                    self.world.set_tap(member, None);
                    return read_so_far;
                }
            }
        }
        FRAMES
    }

    fn frame(&mut self, member: u64, length: usize) {
        let Engine { world, connections, datagrams, fragments, nameserver, frame, .. } = self;
        if length <= VNET {
            return;
        }
        let whole;
        let mut verdict = world.network.judge(member, &frame[VNET..length], &mut world.out);
        if let Verdict::Piece(packet) = verdict {
            whole = fragments.add(world, member, &packet).unwrap_or_default();
            verdict = match frame::ip(&whole) {
                Some(packet) => world.network.judge_whole(member, packet, &mut world.out),
                None => Verdict::Drop,
            };
        }
        match verdict {
            Verdict::Drop | Verdict::Piece(_) => {}
            Verdict::Forward(to, mac) => {
                frame[VNET..VNET + 6].copy_from_slice(&mac);
                world.forward(to, &frame[..length]);
            }
            Verdict::Flood => {
                for to in world.network.members.keys().filter(|to| **to != member) {
                    world.forward(*to, &frame[..length]);
                }
            }
            Verdict::Answer(length) => world.deliver(member, length),
            Verdict::Tcp(packet, reach) => connections.segment(world, member, packet, reach),
            Verdict::Udp(packet, reach) => match question(world, &packet, reach) {
                Some((ports, payload)) => {
                    let (from, to) = ((packet.source, ports.0), (packet.destination, ports.1));
                    nameserver.ask(world, member, from, to, payload);
                }
                None => datagrams.outwards(world, member, packet, reach),
            },
            Verdict::Echo(packet, reach) => datagrams.outwards(world, member, packet, reach),
        }
    }

    fn come_in(&mut self, channel: Channel) -> Result<()> {
        let number = self.world.number();
        self.world.watch(&channel, Source::Line(number), EventFlags::IN).context("watch a line")?;
        self.lines.insert(number, Line { channel, ports: Vec::new() });
        Ok(())
    }

    /// The monitor of `number` says something, or has hung up.
    fn line(&mut self, number: u64) {
        let Some(line) = self.lines.get_mut(&number) else { return };
        let Ok(Some((ask, descriptors))) = line.channel.hear::<Ask>() else { return self.leave(number) };
        let answer = match ask {
            Ask::Publish(ports) => {
                line.ports.extend(ports.into_iter().zip(descriptors));
                return;
            }
            Ask::Resolvers(resolvers) => return self.nameserver.set_resolvers(&mut self.world, resolvers),
            Ask::Join(member) => match self.join(number, member, descriptors) {
                Ok(()) => Tell::Joined,
                Err(failure) => Tell::Failed(format!("{failure:#}")),
            },
            Ask::Questions(ways) => return self.nameserver.set_ways(number, ways),
            Ask::Names(names) => return self.world.network.rename(number, names),
            Ask::Name { number: question, reply } => {
                return self.nameserver.found(&mut self.world, number, question, reply);
            }
            Ask::Find { number, question } => {
                let reply = dns::found(&question, &self.world.network).unwrap_or_default();
                Tell::Found { number, reply }
            }
            Ask::Members => Tell::Members(self.world.network.members.len()),
        };
        if self.lines.get(&number).is_some_and(|line| line.channel.say(&answer, &[]).is_err()) {
            self.leave(number);
        }
    }

    fn join(&mut self, number: u64, mut member: Member, descriptors: Vec<OwnedFd>) -> Result<()> {
        let published = std::mem::take(&mut member.published);
        anyhow::ensure!(descriptors.len() == published.len() + 1, "descriptors were lost on the way");
        anyhow::ensure!(self.world.tap(number).is_none(), "it is a member already");
        let mut descriptors = descriptors.into_iter();
        let tap = descriptors.next().context("no device came along")?;
        fcntl_setfl(&tap, fcntl_getfl(&tap)? | OFlags::NONBLOCK).context("set up the device")?;
        let ahead =
            self.lines.get_mut(&number).map(|line| std::mem::take(&mut line.ports)).unwrap_or_default();
        self.world.network.add(number, member).map_err(anyhow::Error::msg)?;
        let result = self.world.watch(&tap, Source::Tap(number), EventFlags::IN).context("watch the device");
        self.world.set_tap(number, Some(tap));
        let sockets = ahead.into_iter().chain(published.into_iter().zip(descriptors));
        let result = result.and_then(|()| {
            for (published, socket) in sockets {
                self.ports
                    .add(&mut self.world, number, published, socket)
                    .context("watch a published port")?;
            }
            Ok(())
        });
        if result.is_err() {
            self.forget(number);
            self.world.set_tap(number, None);
        }
        result
    }

    fn leave(&mut self, number: u64) {
        // What the container sent last still lies in its device, and its kernel sends on as we acknowledge.
        let mut turns = 0..LAST_TURNS;
        while turns.next().is_some() && self.frames(number) > 0 {
            self.connections.pump(&mut self.world);
        }
        self.forget(number);
        // Its monitor waits for this: what is published is free now.
        self.lines.remove(&number);
        self.world.set_tap(number, None);
    }

    /// Whatever there is of member `number`, but its device.
    fn forget(&mut self, number: u64) {
        self.ports.leave(&mut self.world, number);
        self.connections.leave(&mut self.world, number);
        self.datagrams.leave(&mut self.world, number);
        self.fragments.leave(number);
        self.nameserver.leave(&mut self.world, number);
        self.name_streams.leave(&mut self.world, number);
        self.world.network.remove(number);
    }

    fn ask_for_resolvers(&mut self) {
        for (member, number, question) in std::mem::take(&mut self.world.wants_names) {
            if let Some(line) = self.lines.get(&member) {
                let _ = line.channel.say(&Tell::NeedName { number, question }, &[]);
            }
        }
        let Some(member) = self.world.wants_resolvers.take() else { return };
        if let Some(line) = self.lines.get(&member) {
            // One that doesn't listen will be noticed by its line.
            let _ = line.channel.say(&Tell::NeedResolvers, &[]);
        }
    }
}

/// What every IPv4 host takes (RFC 791), and the most that leaves room for Ethernet in 64 KiB.
const SMALLEST_MTU: u16 = 576;
const LARGEST_MTU: u16 = 65520;
/// Events of one turn.
const EVENTS: usize = 64;
/// Frames of one member in one turn.
const FRAMES: usize = 64;
/// Turns of a member that leaves: more frames than a device holds (`txqueuelen`).
const LAST_TURNS: usize = 32;

/// The ports and the payload of a datagram that asks for a name.
fn question<'a>(world: &World, packet: &Packet<'a>, reach: Reach) -> Option<((u16, u16), &'a [u8])> {
    let ports = frame::ports(packet.body).filter(|(_, to)| *to == 53)?;
    let asked = reach == Reach::Gateway && reach::is_nameserver(&world.network.settings, packet.destination);
    Some((ports, frame::udp_payload(packet.body).filter(|_| asked)?))
}
