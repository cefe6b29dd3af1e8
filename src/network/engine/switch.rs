//! What becomes of a frame: pure, so that any frame can be tried. A member can send from its own addresses alone, and learns
//! of others' from nobody but us.

use super::{
    emit::{self, OURS, Unreachable},
    frame::{self, Content, Frame, ICMP, ICMPV6, Mac, Packet, TCP, UDP},
    reach::{self, Reach},
};
use crate::network::wire::{Member, Settings};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

/// Who is in a network.
#[derive(Debug)]
pub struct Network {
    /// As it was born.
    pub settings: Settings,
    /// Members by the number that they were given.
    pub members: HashMap<u64, Member>,
    /// The same by address.
    pub by_address: HashMap<IpAddr, u64>,
}

/// What becomes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Nothing.
    Drop,
    /// To another member, whose MAC goes into it.
    Forward(u64, Mac),
    /// To all others.
    Flood,
    /// So many bytes of an answer stand in the buffer.
    Answer(usize),
    /// A segment that goes on to a socket of the host.
    Tcp(Packet<'a>, Reach),
    /// A datagram that does.
    Udp(Packet<'a>, Reach),
    /// An echo request that does.
    Echo(Packet<'a>, Reach),
}

impl Network {
    /// Nobody is in yet.
    pub fn new(settings: Settings) -> Network {
        Network { settings, members: HashMap::new(), by_address: HashMap::new() }
    }

    /// `member` comes in as `number`, unless an address of it is taken.
    pub fn add(&mut self, number: u64, member: Member) -> Result<(), String> {
        let addresses = || addresses(&member);
        let settings = &self.settings;
        let ours = |address: &IpAddr| reach::is_ours(settings, *address);
        if let Some(taken) = addresses().find(|a| self.by_address.contains_key(a) || ours(a)) {
            return Err(format!("{taken} is taken in network {}", settings.name));
        }
        if member.mac == OURS || self.members.values().any(|other| other.mac == member.mac) {
            return Err(format!("the hardware address is taken in network {}", settings.name));
        }
        self.by_address.extend(addresses().map(|address| (address, number)));
        self.members.insert(number, member);
        Ok(())
    }

    /// `number` has left.
    pub fn remove(&mut self, number: u64) {
        self.members.remove(&number);
        self.by_address.retain(|_, member| *member != number);
    }

    /// What becomes of `frame`, which `number` has sent. `answer` is a buffer for [`Verdict::Answer`].
    pub fn judge<'a>(&self, number: u64, frame: &'a [u8], answer: &mut [u8]) -> Verdict<'a> {
        let Some(from) = self.members.get(&number) else { return Verdict::Drop };
        match frame::parse(frame) {
            Some(frame) if frame.source == from.mac => self.of_member(from, frame, answer),
            _ => Verdict::Drop,
        }
    }

    fn of_member<'a>(&self, from: &Member, frame: Frame<'a>, answer: &mut [u8]) -> Verdict<'a> {
        match frame.content {
            Content::ArpRequest { sender, target } if Some(sender) == from.v4 && sender != target => {
                match self.mac_of(IpAddr::V4(target)) {
                    Some(mac) => Verdict::Answer(emit::arp_reply(answer, from.mac, sender, target, mac)),
                    None => Verdict::Drop,
                }
            }
            Content::Ip(packet) => self.packet(from, frame.destination, packet, answer),
            Content::ArpRequest { .. } | Content::Other => Verdict::Drop,
        }
    }

    fn packet<'a>(&self, from: &Member, to: Mac, packet: Packet<'a>, answer: &mut [u8]) -> Verdict<'a> {
        if packet.protocol == ICMPV6
            && let Some(&kind @ 130..=143) = packet.body.first()
        {
            // Who listens to what, who is where: ours to say, and nothing for other members.
            return if kind == 135 { self.solicitation(from, packet, answer) } else { Verdict::Drop };
        }
        if !owns(from, packet.source) {
            return Verdict::Drop;
        }
        if let Some(&member) = self.by_address.get(&packet.destination) {
            return match self.members.get(&member) {
                Some(other) if other.mac != from.mac => Verdict::Forward(member, other.mac),
                _ => Verdict::Drop,
            };
        }
        if to[0] & 1 == 1 {
            return if reach::is_for_all(&self.settings, packet.destination) {
                Verdict::Flood
            } else {
                Verdict::Drop
            };
        }
        if packet.fragment {
            return Verdict::Drop;
        }
        self.outwards(from, packet, answer)
    }

    /// To the gateway, or through it.
    fn outwards<'a>(&self, from: &Member, packet: Packet<'a>, answer: &mut [u8]) -> Verdict<'a> {
        let reach = reach::find(&self.settings, packet.destination);
        let echo = packet.body.len() >= 8 && packet.body[1] == 0;
        match (packet.protocol, &reach) {
            (ICMP, Reach::Gateway | Reach::Alias) if echo && packet.body[0] == 8 => {
                Verdict::Answer(emit::echo_reply(answer, from.mac, &packet))
            }
            (ICMPV6, Reach::Gateway | Reach::Alias) if echo && packet.body[0] == 128 => {
                Verdict::Answer(emit::echo_reply(answer, from.mac, &packet))
            }
            (ICMP | ICMPV6, Reach::Outside(_)) if echo && matches!(packet.body[0], 8 | 128) => {
                Verdict::Echo(packet, reach)
            }
            (TCP, Reach::Nowhere) if !frame::resets(packet.body) => {
                match emit::reset(answer, from.mac, &packet) {
                    Some(length) => Verdict::Answer(length),
                    None => Verdict::Drop,
                }
            }
            (UDP, Reach::Nowhere) => {
                Verdict::Answer(emit::unreachable(answer, from.mac, &packet, Unreachable::Prohibited))
            }
            (TCP, _) if packet.body.len() >= 20 => Verdict::Tcp(packet, reach),
            (UDP, _) if packet.body.len() >= 8 => Verdict::Udp(packet, reach),
            _ => Verdict::Drop,
        }
    }

    /// "Who has that address?" of IPv6 (RFC 4861, 4.3).
    fn solicitation<'a>(&self, from: &Member, packet: Packet<'a>, answer: &mut [u8]) -> Verdict<'a> {
        let (Some(bytes), IpAddr::V6(asker)) = (packet.body.first_chunk::<24>(), packet.source) else {
            return Verdict::Drop;
        };
        let mut target = [0; 16];
        target.copy_from_slice(&bytes[8..]);
        let target = Ipv6Addr::from(target);
        // Who asks from no address wants to know whether its own is free, and it is.
        let from_here = Some(asker) == from.v6 || asker == link_local(from.mac);
        if !from_here || packet.hops != 255 || asker == target {
            return Verdict::Drop;
        }
        match self.mac_of(IpAddr::V6(target)) {
            Some(mac) => Verdict::Answer(emit::neighbour(answer, from.mac, asker, target, mac)),
            None => Verdict::Drop,
        }
    }

    fn mac_of(&self, address: IpAddr) -> Option<Mac> {
        match self.by_address.get(&address) {
            Some(member) => self.members.get(member).map(|member| member.mac),
            None => reach::is_ours(&self.settings, address).then_some(OURS),
        }
    }
}

fn addresses(member: &Member) -> impl Iterator<Item = IpAddr> {
    member.v4.map(IpAddr::V4).into_iter().chain(member.v6.map(IpAddr::V6))
}

fn owns(member: &Member, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => member.v4 == Some(address),
        IpAddr::V6(address) => member.v6 == Some(address),
    }
}

/// The address that a kernel gives an interface by itself (RFC 4291, appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
