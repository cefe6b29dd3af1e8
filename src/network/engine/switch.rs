//! What becomes of a frame: pure, so that any frame can be tried. A member can send from its own addresses alone, and learns
//! of others' from nobody but us.

use super::{
    emit::{self, OURS, Unreachable},
    frame::{self, Content, Frame, ICMP, ICMPV6, Mac, Packet, TCP, UDP},
    reach::{self, Reach},
};
use crate::{
    network::wire::{Member, Settings},
    weakened,
};
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
    /// A piece of what does.
    Piece(Packet<'a>),
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

    /// `number` is called so now.
    pub fn rename(&mut self, number: u64, names: Vec<String>) {
        if let Some(member) = self.members.get_mut(&number) {
            member.names = names;
        }
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
            return Verdict::Piece(packet);
        }
        self.outwards(from, packet, answer)
    }

    /// What becomes of `packet`, which `number` has sent in pieces.
    pub fn judge_whole<'a>(&self, number: u64, packet: Packet<'a>, answer: &mut [u8]) -> Verdict<'a> {
        match self.members.get(&number) {
            Some(from) if !packet.fragment && owns(from, packet.source) => {
                self.outwards(from, packet, answer)
            }
            _ => Verdict::Drop,
        }
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
            (TCP, Reach::Nowhere) => {
                let reset = (!frame::resets(packet.body)).then(|| emit::reset(answer, from.mac, &packet));
                reset.flatten().map_or(Verdict::Drop, Verdict::Answer)
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
    if weakened::is("own-address") {
        return true;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::wire::{Net4, Net6};
    use proptest::prelude::*;

    const MAC: [Mac; 2] = [[2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 8]];

    fn v6(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
    }

    fn network() -> Network {
        let v4 = |last: u8| std::net::Ipv4Addr::new(10, 0, 2, last);
        let settings = Settings {
            name: "n".into(),
            v4: Some(Net4 { subnet: v4(0), prefix: 24, gateway: v4(2), dns: v4(3) }),
            v6: Some(Net6 { subnet: v6(0), prefix: 64, gateway: v6(2), dns: v6(3) }),
            internal: false,
            dns: true,
            host_loopback: false,
            host_alias: None,
            mtu: 65520,
        };
        let mut network = Network::new(settings);
        for (number, mac) in [7u8, 8].into_iter().zip(MAC) {
            let member = Member {
                id: number.to_string(),
                mac,
                v4: Some(v4(number)),
                v6: Some(v6(number.into())),
                names: vec![],
                published: vec![],
            };
            network.add(number.into(), member).unwrap();
        }
        network
    }

    /// From 7 to `to` with Ethernet type `kind`.
    fn frame(to: Mac, kind: u16, content: &[u8]) -> Vec<u8> {
        [&to[..], &MAC[0], &kind.to_be_bytes(), content].concat()
    }

    fn datagram(source: &str, destination: &str, protocol: u8, body: &[u8]) -> Vec<u8> {
        let (source, destination): (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
        let mut packet = vec![0; 40];
        let header = emit::ip_header(&mut packet, source, destination, protocol, body.len());
        packet.truncate(header);
        packet.extend_from_slice(body);
        frame(OURS, if source.is_ipv4() { 0x0800 } else { 0x86dd }, &packet)
    }

    #[test]
    fn whom_a_packet_reaches() {
        let network = network();
        let body = [0, 99, 0, 99, 0, 8, 0, 0];
        let cases = [
            ("10.0.2.7", "10.0.2.8", "forward"),
            ("10.0.2.9", "10.0.2.8", "drop"),
            ("10.0.2.8", "10.0.2.7", "drop"),
            ("10.0.2.8", "192.0.2.1", "drop"),
            ("0.0.0.0", "192.0.2.1", "drop"),
            ("10.0.2.7", "10.0.2.7", "drop"),
            ("10.0.2.7", "192.0.2.1", "outside"),
            ("10.0.2.7", "10.0.2.2", "gateway"),
            ("10.0.2.7", "10.0.2.9", "answer"),
            ("10.0.2.7", "127.0.0.1", "answer"),
            ("10.0.2.7", "169.254.169.254", "answer"),
            ("fd00::7", "fd00::8", "forward"),
            ("fd00::8", "2001:db8::1", "drop"),
            ("fe80::ff:fe00:7", "fd00::8", "drop"),
            ("fe80::ff:fe00:7", "2001:db8::1", "drop"),
            ("fd00::7", "::1", "answer"),
            ("fd00::7", "::ffff:127.0.0.1", "answer"),
            ("fd00::7", "fe80::1", "answer"),
        ];
        let mut answer = vec![0; frame::LONGEST];
        for (source, destination, expected) in cases {
            let sent = datagram(source, destination, UDP, &body);
            let verdict = match network.judge(7, &sent, &mut answer) {
                Verdict::Drop => "drop",
                Verdict::Forward(8, mac) if mac == MAC[1] => "forward",
                Verdict::Udp(_, Reach::Outside(_)) => "outside",
                Verdict::Udp(_, Reach::Gateway) => "gateway",
                Verdict::Answer(_) => "answer",
                _ => "other",
            };
            assert_eq!(verdict, expected, "{source} {destination}");
        }
        // With another's hardware address, or by a member that has left.
        let mut sent = datagram("10.0.2.7", "10.0.2.8", UDP, &body);
        assert_eq!(network.judge(9, &sent, &mut answer), Verdict::Drop);
        sent[6..12].copy_from_slice(&MAC[1]);
        assert_eq!(network.judge(7, &sent, &mut answer), Verdict::Drop);
    }

    #[test]
    fn a_reset_to_nowhere_is_nobodys() {
        let mut reset = [0; 20];
        (reset[1], reset[3], reset[12], reset[13]) = (99, 99, 0x50, 0b100);
        for destination in ["238.1.1.1", "127.0.0.1", "240.0.0.1"] {
            let sent = datagram("10.0.2.7", destination, TCP, &reset);
            let verdict = network().judge(7, &sent, &mut vec![0; frame::LONGEST]);
            assert_eq!(verdict, Verdict::Drop, "{destination}");
        }
    }

    #[test]
    fn who_is_where() {
        let network = network();
        let mut answer = vec![0; frame::LONGEST];
        let mut ask = |sender: u8, target: u8| {
            let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1];
            request.extend_from_slice(&MAC[0]);
            request.extend_from_slice(&[10, 0, 2, sender, 0, 0, 0, 0, 0, 0, 10, 0, 2, target]);
            match network.judge(7, &frame([0xff; 6], 0x0806, &request), &mut answer) {
                Verdict::Answer(length) => Some(answer[frame::VNET + 22..length][..6].to_vec()),
                _ => None,
            }
        };
        let cases = [(2, Some(OURS)), (3, Some(OURS)), (8, Some(MAC[1])), (7, None), (9, None)];
        for (target, expected) in cases {
            assert_eq!(ask(7, target), expected.map(|mac| mac.to_vec()), "{target}");
        }
        assert_eq!(ask(8, 2), None);
        for (asker, target, expected) in
            [("fd00::7", 8, true), ("fe80::ff:fe00:7", 2, true), ("fd00::8", 2, false), ("::", 7, false)]
        {
            let mut body = [135, 0, 0, 0, 0, 0, 0, 0].to_vec();
            body.extend_from_slice(&v6(target).octets());
            let mut sent = datagram(asker, "ff02::1:ff00:8", ICMPV6, &body);
            assert_eq!(network.judge(7, &sent, &mut answer), Verdict::Drop, "from afar");
            sent[ETHERNET_HOPS] = 255;
            let answered = matches!(network.judge(7, &sent, &mut answer), Verdict::Answer(_));
            assert_eq!(answered, expected, "{asker} {target}");
        }
    }

    /// Where a frame has the hop limit of IPv6.
    const ETHERNET_HOPS: usize = frame::ETHERNET + 7;

    proptest! {
        /// The short way of fuzz/fuzz_targets/frame.rs: what is nearly right, cut anywhere and damaged in two places.
        #[test]
        fn no_frame_is_too_much(
            body in proptest::collection::vec(any::<u8>(), 0..90),
            protocol in prop_oneof![Just(TCP), Just(UDP), Just(ICMP), Just(ICMPV6), Just(0), Just(44), Just(60)],
            destination in prop_oneof![Just("192.0.2.1"), Just("10.0.2.2"), Just("10.0.2.9"), Just("2001:db8::1"), Just("fd00::2")],
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            length in any::<prop::sample::Index>(),
        ) {
            let network = network();
            let source = if destination.contains(':') { "fd00::7" } else { "10.0.2.7" };
            let mut sent = datagram(source, destination, protocol, &body);
            for (at, byte) in damage {
                let at = at.index(sent.len());
                sent[at] = byte;
            }
            let mut answer = vec![0; frame::LONGEST];
            for length in [sent.len(), length.index(sent.len())] {
                if let Verdict::Answer(length) = network.judge(7, &sent[..length], &mut answer) {
                    prop_assert!(length <= answer.len());
                }
            }
        }
    }
}
