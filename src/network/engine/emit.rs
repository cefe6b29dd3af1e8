//! Writing what a member's TAP device takes: whole frames, each with its virtio-net header. Pure but for the buffer.

use super::frame::{ETHERNET, ICMP, ICMPV6, Mac, Packet, TCP, UDP, VNET};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address of gateway, nameserver and of all that lies behind them: locally administered, the same in every network.
pub const OURS: Mac = [0x02, b'c', b't', b'r', 0, 1];

/// Bytes in front of an IP packet.
pub const HEADERS: usize = VNET + ETHERNET;

/// Fill in the headers in front of the IP packet at `HEADERS`: to the member, from us. Its TCP or UDP checksum is left to
/// the kernel, which never computes it for a packet that stays on this machine (VIRTIO_NET_HDR_F_NEEDS_CSUM).
pub fn envelope(frame: &mut [u8], to: Mac) {
    frame[..VNET].fill(0);
    frame[VNET..VNET + 6].copy_from_slice(&to);
    frame[VNET + 6..VNET + 12].copy_from_slice(&OURS);
    let (ethertype, header, protocol) = match frame[HEADERS] >> 4 {
        4 => (0x0800u16, usize::from(frame[HEADERS] & 15) * 4, frame[HEADERS + 9]),
        _ => (0x86dd, 40, frame[HEADERS + 6]),
    };
    frame[VNET + 12..HEADERS].copy_from_slice(&ethertype.to_be_bytes());
    let offset: u16 = match protocol {
        TCP => 16,
        UDP => 6,
        _ => return,
    };
    let length = frame.len() - HEADERS - header;
    let addresses = if header == 40 { 8..40 } else { 12..20 };
    let pseudo = sum(&frame[HEADERS..][addresses]) + u32::from(protocol) + length as u32;
    let at = HEADERS + header + usize::from(offset);
    frame[at..at + 2].copy_from_slice(&fold(pseudo).to_be_bytes());
    frame[0] = 1;
    frame[6..8].copy_from_slice(&((ETHERNET + header) as u16).to_ne_bytes());
    frame[8..10].copy_from_slice(&offset.to_ne_bytes());
}

/// Write the header of an IP packet with `length` bytes behind it to `packet`, and give how long it is.
pub fn ip_header(
    packet: &mut [u8],
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
) -> usize {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = &mut packet[..20];
            header.copy_from_slice(&[
                0x45, 0, 0, 0, 0, 0, 0x40, 0, HOPS, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ]);
            header[2..4].copy_from_slice(&((20 + length) as u16).to_be_bytes());
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&destination.octets());
            let checksum = !fold(sum(header));
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            20
        }
        (source, destination) => {
            let header = &mut packet[..40];
            header.fill(0);
            (header[0], header[6], header[7]) = (0x60, protocol, HOPS);
            header[4..6].copy_from_slice(&(length as u16).to_be_bytes());
            header[8..24].copy_from_slice(&v6(source).octets());
            header[24..40].copy_from_slice(&v6(destination).octets());
            40
        }
    }
}

/// A UDP datagram from `source` to `destination` around the `length` bytes of payload that already stand at
/// [`payload_at`]; gives the length of the frame.
pub fn udp(
    frame: &mut [u8],
    to: Mac,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    length: usize,
) -> usize {
    let body = 8 + length;
    let header = ip_header(&mut frame[HEADERS..], source.0, destination.0, UDP, body);
    let udp = &mut frame[HEADERS + header..][..8];
    udp[..2].copy_from_slice(&source.1.to_be_bytes());
    udp[2..4].copy_from_slice(&destination.1.to_be_bytes());
    udp[4..6].copy_from_slice(&(body as u16).to_be_bytes());
    let end = HEADERS + header + body;
    envelope(&mut frame[..end], to);
    end
}

/// Where in a frame the payload of a datagram stands, behind IP and 8 bytes of UDP or ICMP echo.
pub fn payload_at(v4: bool) -> usize {
    HEADERS + 8 + if v4 { 20 } else { 40 }
}

/// An ICMP message whose `length` bytes, the checksum zero, already stand behind the headers; gives the frame's length.
pub fn icmp(frame: &mut [u8], to: Mac, source: IpAddr, destination: IpAddr, length: usize) -> usize {
    let protocol = if destination.is_ipv4() { ICMP } else { ICMPV6 };
    let header = ip_header(&mut frame[HEADERS..], source, destination, protocol, length);
    let at = HEADERS + header;
    let end = at + length;
    let pseudo = match destination {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => sum(&frame[HEADERS + 8..HEADERS + 40]) + u32::from(ICMPV6) + length as u32,
    };
    let checksum = !fold(sum(&frame[at..end]) + pseudo);
    frame[at + 2..at + 4].copy_from_slice(&checksum.to_be_bytes());
    envelope(&mut frame[..end], to);
    end
}

/// Why something can't be reached, as ICMP says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// No way there.
    Network,
    /// Nobody there.
    Host,
    /// Nobody listens.
    Port,
    /// Forbidden.
    Prohibited,
}

impl Unreachable {
    /// Type and code for IPv4 (RFC 792, RFC 1812) or IPv6 (RFC 4443).
    fn code(self, v4: bool) -> [u8; 2] {
        match (self, v4) {
            (Unreachable::Network, true) => [3, 0],
            (Unreachable::Host, true) => [3, 1],
            (Unreachable::Port, true) => [3, 3],
            (Unreachable::Prohibited, true) => [3, 13],
            (Unreachable::Network, false) => [1, 0],
            (Unreachable::Host, false) => [1, 3],
            (Unreachable::Port, false) => [1, 4],
            (Unreachable::Prohibited, false) => [1, 1],
        }
    }
}

/// "`packet` can't go where it wants", said by where it wanted to go; gives the frame's length.
pub fn unreachable(frame: &mut [u8], to: Mac, packet: &Packet<'_>, why: Unreachable) -> usize {
    let (source, destination) = (packet.destination, packet.source);
    let v4 = destination.is_ipv4();
    let at = HEADERS + if v4 { 20 } else { 40 };
    // The headers, and as much of what follows as the sender needs to find its socket.
    let quoted = packet.whole.len().min(128);
    frame[at..at + 8].fill(0);
    frame[at..at + 2].copy_from_slice(&why.code(v4));
    frame[at + 8..at + 8 + quoted].copy_from_slice(&packet.whole[..quoted]);
    icmp(frame, to, source, destination, 8 + quoted)
}

/// An echo request sent back; gives the frame's length.
pub fn echo_reply(frame: &mut [u8], to: Mac, request: &Packet<'_>) -> usize {
    let v4 = request.source.is_ipv4();
    let at = HEADERS + if v4 { 20 } else { 40 };
    let length = request.body.len();
    frame[at..at + length].copy_from_slice(request.body);
    frame[at] = if v4 { 0 } else { 129 };
    frame[at + 2..at + 4].fill(0);
    icmp(frame, to, request.destination, request.source, length)
}

/// "`target` is at `mac`" (RFC 826) for `to` with `asker`; gives the frame's length.
pub fn arp_reply(frame: &mut [u8], to: Mac, asker: Ipv4Addr, target: Ipv4Addr, mac: Mac) -> usize {
    frame[..VNET].fill(0);
    let ethernet = &mut frame[VNET..VNET + 42];
    ethernet[..6].copy_from_slice(&to);
    ethernet[6..12].copy_from_slice(&OURS);
    ethernet[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    ethernet[22..28].copy_from_slice(&mac);
    ethernet[28..32].copy_from_slice(&target.octets());
    ethernet[32..38].copy_from_slice(&to);
    ethernet[38..42].copy_from_slice(&asker.octets());
    VNET + 42
}

/// "`target` is at `mac`" (RFC 4861, neighbour advertisement) for `to` with `asker`; gives the frame's length.
pub fn neighbour(frame: &mut [u8], to: Mac, asker: Ipv6Addr, target: Ipv6Addr, mac: Mac) -> usize {
    let message = &mut frame[HEADERS + 40..][..32];
    // Solicited, override.
    message[..8].copy_from_slice(&[136, 0, 0, 0, 0x60, 0, 0, 0]);
    message[8..24].copy_from_slice(&target.octets());
    message[24..26].copy_from_slice(&[2, 1]);
    message[26..32].copy_from_slice(&mac);
    let end = icmp(frame, to, IpAddr::V6(target), IpAddr::V6(asker), 32);
    // Neighbours take it from no farther than this link.
    frame[HEADERS + 7] = 255;
    end
}

/// "There is no such connection" (RFC 9293, 3.10.7.1), the answer to a segment that is no reset; gives the frame's length.
pub fn reset(frame: &mut [u8], to: Mac, packet: &Packet<'_>) -> Option<usize> {
    let segment = packet.body.first_chunk::<20>()?;
    let flags = segment[13];
    let data = packet.body.len().checked_sub(usize::from(segment[12] >> 4) * 4)? as u32;
    let word =
        |at: usize| u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]]);
    let (sequence, acknowledged, kind) = match flags & 0x10 {
        0 => (0, word(4).wrapping_add(data + u32::from(flags & 2 != 0) + u32::from(flags & 1)), 0x14),
        _ => (word(8), 0, 0x04),
    };
    let header = ip_header(&mut frame[HEADERS..], packet.destination, packet.source, TCP, 20);
    let end = HEADERS + header + 20;
    let answer = &mut frame[HEADERS + header..end];
    answer.fill(0);
    answer[..2].copy_from_slice(&segment[2..4]);
    answer[2..4].copy_from_slice(&segment[..2]);
    answer[4..8].copy_from_slice(&sequence.to_be_bytes());
    answer[8..12].copy_from_slice(&acknowledged.to_be_bytes());
    (answer[12], answer[13]) = (5 << 4, kind);
    envelope(&mut frame[..end], to);
    Some(end)
}

const HOPS: u8 = 64;

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// The one's complement sum of RFC 1071, before it is folded.
fn sum(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let pairs = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum::<u32>();
    pairs + rest.first().map_or(0, |&last| u32::from(last) << 8)
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}
