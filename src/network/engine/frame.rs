//! Reading what a member's TAP device hands out: a virtio-net header, an Ethernet header, and ARP, IPv4 or IPv6 inside. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of `struct virtio_net_hdr` in front of every frame (linux/virtio_net.h; TUNSETVNETHDRSZ's default).
pub const VNET: usize = 10;
/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// The most that one read can bring: an IP packet is at most 65535 bytes.
pub const LONGEST: usize = VNET + ETHERNET + 65535;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// A frame without its virtio-net header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// To whom.
    pub destination: Mac,
    /// From whom, it says.
    pub source: Mac,
    /// What is in it.
    pub content: Content<'a>,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// "Who has `target`?" (RFC 826).
    ArpRequest {
        /// Who asks.
        sender: Ipv4Addr,
        /// Who is looked for.
        target: Ipv4Addr,
    },
    /// An IP packet.
    Ip(Packet<'a>),
    /// Nothing for us.
    Other,
}

/// Where a piece of a larger packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// What the pieces of one packet have in common, beside addresses and protocol.
    pub id: u32,
    /// IANA's number of what is in the whole.
    pub protocol: u8,
    /// Bytes of the whole in front of it.
    pub offset: usize,
    /// More of it follows.
    pub more: bool,
    /// Its part of the whole.
    pub data: &'a [u8],
}

/// An IP packet whose lengths are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// From where, it says.
    pub source: IpAddr,
    /// Where to.
    pub destination: IpAddr,
    /// IANA's number of what is in it, behind IPv6's extension headers.
    pub protocol: u8,
    /// Hops that it may still go.
    pub hops: u8,
    /// It is a piece of a larger one.
    pub fragment: bool,
    /// With its headers, without padding.
    pub whole: &'a [u8],
    /// Behind its headers.
    pub body: &'a [u8],
}

/// The control messages of IPv4.
pub const ICMP: u8 = 1;
/// Connections.
pub const TCP: u8 = 6;
/// Datagrams.
pub const UDP: u8 = 17;
/// The control messages of IPv6.
pub const ICMPV6: u8 = 58;

/// Read a frame that follows its virtio-net header; `None`: it is cut short or malformed.
pub fn parse(frame: &[u8]) -> Option<Frame<'_>> {
    let (header, rest) = frame.split_first_chunk::<ETHERNET>()?;
    let content = match u16::from_be_bytes([header[12], header[13]]) {
        0x0800 => Content::Ip(ipv4(rest)?),
        0x86dd => Content::Ip(ipv6(rest)?),
        0x0806 => arp(rest)?,
        _ => Content::Other,
    };
    Some(Frame { destination: mac(&header[0..6])?, source: mac(&header[6..12])?, content })
}

/// Read an IP packet without a frame around it.
pub fn ip(packet: &[u8]) -> Option<Packet<'_>> {
    if packet.first()? >> 4 == 4 { ipv4(packet) } else { ipv6(packet) }
}

/// Read a packet that is a fragment (RFC 791, 3.2; RFC 8200, 4.5).
pub fn piece<'a>(packet: &Packet<'a>) -> Option<Piece<'a>> {
    let (id, protocol, flags, data) = match packet.source {
        IpAddr::V4(_) => {
            let header = packet.whole.first_chunk::<20>()?;
            let flags = u16::from_be_bytes([header[6], header[7]]);
            let id = u16::from_be_bytes([header[4], header[5]]).into();
            (id, packet.protocol, (flags & 0x1fff) << 3 | flags >> 13 & 1, packet.body)
        }
        IpAddr::V6(_) => {
            let (header, data) = packet.body.split_first_chunk::<8>()?;
            let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            (id, header[0], u16::from_be_bytes([header[2], header[3]]), data)
        }
    };
    let (offset, more) = (usize::from(flags & !7), flags & 1 == 1);
    Some(Piece { id, protocol, offset, more, data })
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok()
}

fn arp(bytes: &[u8]) -> Option<Content<'_>> {
    let bytes = bytes.first_chunk::<28>()?;
    // Ethernet, IPv4, 6 and 4 bytes long, a request.
    if bytes[..8] != [0, 1, 8, 0, 6, 4, 0, 1] {
        return Some(Content::Other);
    }
    let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    Some(Content::ArpRequest { sender: address(14), target: address(24) })
}

fn ipv4(bytes: &[u8]) -> Option<Packet<'_>> {
    let header = bytes.first_chunk::<20>()?;
    let header_length = usize::from(header[0] & 15) * 4;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_length < 20 || length < header_length {
        return None;
    }
    let whole = bytes.get(..length)?;
    let address =
        |at: usize| IpAddr::V4(Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]));
    Some(Packet {
        source: address(12),
        destination: address(16),
        protocol: header[9],
        hops: header[8],
        // More fragments, or an offset (RFC 791).
        fragment: u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0,
        whole,
        body: &whole[header_length..],
    })
}

/// As many extension headers as anything sane has.
const EXTENSIONS: usize = 4;

fn ipv6(bytes: &[u8]) -> Option<Packet<'_>> {
    let header = bytes.first_chunk::<40>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 {
        return None;
    }
    let whole = bytes.get(..40 + length)?;
    let (mut protocol, mut body, mut fragment) = (header[6], &whole[40..], false);
    for _ in 0..EXTENSIONS {
        match protocol {
            // Hop-by-hop and destination options.
            0 | 60 => {
                let extension = usize::from(*body.get(1)?) * 8 + 8;
                (protocol, body) = (*body.first()?, body.get(extension..)?);
            }
            44 => {
                fragment = true;
                break;
            }
            _ => break,
        }
    }
    // What is behind a header that we don't read, a kernel would: routing, mobility and identity, or one more of the others.
    if matches!(protocol, 0 | 43 | 60 | 135 | 139 | 140) {
        return None;
    }
    let address = |at: usize| {
        let octets: Option<[u8; 16]> = header[at..at + 16].try_into().ok();
        octets.map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
    };
    Some(Packet {
        source: address(8)?,
        destination: address(24)?,
        protocol,
        hops: header[7],
        fragment,
        whole,
        body,
    })
}

/// Source and destination port of TCP or UDP, the first four bytes of either.
pub fn ports(body: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *body.first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// The payload of a UDP datagram (RFC 768).
pub fn udp_payload(body: &[u8]) -> Option<&[u8]> {
    let header = body.first_chunk::<8>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    body.get(8..length)
}

/// A TCP segment's headers alone, as a packet; `None`: they are cut short, or longer than any that are meant well.
pub fn without_data(packet: &Packet<'_>) -> Option<Vec<u8>> {
    let header = usize::from(packet.body.get(12)? >> 4) * 4;
    let end = packet.whole.len() - packet.body.len() + header.max(20);
    let mut bare = packet.whole.get(..end).filter(|bare| bare.len() <= LONGEST_HEADERS)?.to_vec();
    let (at, length) = if packet.source.is_ipv4() { (2, end) } else { (4, end - 40) };
    bare[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
    Some(bare)
}

const LONGEST_HEADERS: usize = 256;

/// Whether a TCP segment opens a connection: SYN without ACK or RST (RFC 9293).
pub fn opens(body: &[u8]) -> bool {
    body.get(13).is_some_and(|flags| flags & 0b1_0110 == 0b0_0010)
}

/// Whether a TCP segment is a reset.
pub fn resets(body: &[u8]) -> bool {
    body.get(13).is_some_and(|flags| flags & 0b100 != 0)
}
