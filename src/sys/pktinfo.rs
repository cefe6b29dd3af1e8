//! Datagrams with the address of ours that each has come to: an answer goes out from there, and not from whichever the route would choose
//! (ip(7), IP_PKTINFO; ipv6(7), IPV6_PKTINFO).

use nix::{
    cmsg_space,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
        sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo},
    },
};
use rustix::io::{Errno, Result};
use std::{
    io::{IoSlice, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsFd, AsRawFd},
};

/// An address of ours; of IPv6 with the link's index, which is 0 unless the address means nothing without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// IPv4.
    V4(Ipv4Addr),
    /// IPv6.
    V6(Ipv6Addr, u32),
}

/// Let `socket`, a UDP one, say with each datagram where it has come to.
pub fn ask_for(socket: impl AsFd) -> Result<()> {
    let v4 = setsockopt(&socket, Ipv4PacketInfo, &true);
    setsockopt(&socket, Ipv6RecvPacketInfo, &true).or(v4).map_err(errno)
}

/// The next datagram's length, sender and destination, if there is one; what `buffer` has no room for is lost.
///
/// # Errors
/// EAGAIN; an error of an earlier answer (udp(7)).
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, SocketAddr, Option<Own>)> {
    let mut space = cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let socket = socket.as_fd().as_raw_fd();
    let message = recvmsg::<SockaddrStorage>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT)
        .map_err(errno)?;
    let own = message.cmsgs().map_err(errno)?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Own::V4(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            let index = if address.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
            (!address.is_multicast()).then_some(Own::V6(address, index))
        }
        _ => None,
    });
    let address = message.address.ok_or(Errno::INVAL)?;
    let v4 = address.as_sockaddr_in().map(|address| SocketAddrV4::from(*address).into());
    let v6 = || address.as_sockaddr_in6().map(|address| SocketAddrV6::from(*address).into());
    Ok((message.bytes, v4.or_else(v6).ok_or(Errno::INVAL)?, own))
}

/// Send `payload` to `to`, from `own`.
///
/// # Errors
/// EADDRNOTAVAIL: that is no longer ours. Else those of sendmsg(2).
pub fn send(socket: impl AsFd, payload: &[u8], to: SocketAddr, own: Option<Own>) -> Result<usize> {
    let none = libc::in_addr { s_addr: 0 };
    let (v4, v6);
    let control: &[ControlMessage<'_>] = match own {
        Some(Own::V4(from)) => {
            let from = libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
            v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: none };
            &[ControlMessage::Ipv4PacketInfo(&v4)]
        }
        Some(Own::V6(from, index)) => {
            v6 = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
                ipi6_ifindex: index as _,
            };
            &[ControlMessage::Ipv6PacketInfo(&v6)]
        }
        None => &[],
    };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let to = SockaddrStorage::from(to);
    sendmsg(socket.as_fd().as_raw_fd(), &[IoSlice::new(payload)], control, flags, Some(&to)).map_err(errno)
}

fn errno(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}
