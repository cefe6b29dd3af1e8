//! A container's network interface, seen from inside: a TAP device with its addresses and routes, set up by the container's first
//! process over rtnetlink(7), while it still has every capability in its namespaces.

use crate::sys::tap;
use rustix::{
    io::{Errno, Result},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice::name_to_index, recv, send,
        socket_with,
    },
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
};

/// An interface to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// At most 15 bytes.
    pub name: String,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// Address, bits of its subnet, and where the default route leads.
    pub v4: Option<(Ipv4Addr, u8, Option<Ipv4Addr>)>,
    /// The same of IPv6.
    pub v6: Option<(Ipv6Addr, u8, Option<Ipv6Addr>)>,
}

impl Interface {
    /// Make it in the network namespace that this process is in; it is there as long as the descriptor, through which its frames
    /// come and go (as [`tap::create`] says).
    ///
    /// # Errors
    /// /dev/net/tun can't be opened; EPERM without CAP_NET_ADMIN; EEXIST when there is one of that name.
    pub fn make(&self) -> Result<OwnedFd> {
        let tap = self.tap()?;
        let socket = rtnetlink()?;
        let index = name_to_index(&socket, &self.name)?;
        for message in self.messages(index) {
            message.send(&socket)?;
        }
        Ok(tap)
    }

    /// The same where it may be there already, without anybody at its other end: what is missing of it.
    ///
    /// # Errors
    /// As of [`Interface::make`]; EBUSY while somebody is at its other end.
    pub fn mend(&self) -> Result<OwnedFd> {
        let tap = self.tap()?;
        self.settle()?;
        Ok(tap)
    }

    /// Give it what it lacks of its addresses and routes.
    ///
    /// # Errors
    /// There is no such interface; EPERM without CAP_NET_ADMIN.
    pub fn settle(&self) -> Result<()> {
        let socket = rtnetlink()?;
        let index = name_to_index(&socket, &self.name)?;
        for message in self.messages(index) {
            match message.send(&socket) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn tap(&self) -> Result<OwnedFd> {
        tap::create(&self.name).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
    }

    fn messages(&self, index: u32) -> Vec<Message> {
        // No address of IPv6 but the ones that are given: nobody answers to a search for routers.
        let mut messages = vec![
            Message::link(index)
                .attribute(IFLA_ADDRESS, &self.mac)
                .attribute(IFLA_MTU, &u32::from(self.mtu).to_ne_bytes()),
        ];
        let v4 =
            self.v4.map(|(address, prefix, gateway)| (address.into(), prefix, gateway.map(IpAddr::from)));
        let v6 =
            self.v6.map(|(address, prefix, gateway)| (address.into(), prefix, gateway.map(IpAddr::from)));
        for (address, prefix, gateway) in v4.into_iter().chain(v6) {
            messages.push(Message::address(index, address, prefix));
            messages.extend(gateway.map(|gateway| Message::default_route(index, gateway)));
        }
        messages
    }
}

/// Take the interface `name` away.
///
/// # Errors
/// ENODEV: there is none; EPERM without CAP_NET_ADMIN.
pub fn remove(name: &str) -> Result<()> {
    let socket = rtnetlink()?;
    let index = name_to_index(&socket, name)?;
    Message::removal(index).send(&socket)
}

/// Protocol 0 is NETLINK_ROUTE.
fn rtnetlink() -> Result<OwnedFd> {
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
}

/// A request of rtnetlink(7) that the kernel is to acknowledge.
#[derive(Debug)]
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Message {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        bytes.extend_from_slice(body);
        Message(bytes)
    }

    /// struct ifinfomsg: up.
    fn link(index: u32) -> Message {
        let mut body = [0; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        body[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
        Message::new(RTM_NEWLINK, 0, &body)
    }

    /// struct ifinfomsg.
    fn removal(index: u32) -> Message {
        let mut body = [0; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        Message::new(RTM_DELLINK, 0, &body)
    }

    /// struct ifaddrmsg. There is nobody to ask whether the address is taken.
    fn address(index: u32, address: IpAddr, prefix: u8) -> Message {
        let mut body = [family(address), prefix, IFA_F_NODAD, 0, 0, 0, 0, 0];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        let message = Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body);
        message.ip(IFA_LOCAL, address).ip(IFA_ADDRESS, address)
    }

    /// struct rtmsg.
    fn default_route(index: u32, gateway: IpAddr) -> Message {
        let body = [
            family(gateway),
            0,
            0,
            0,
            RT_TABLE_MAIN,
            RTPROT_BOOT,
            RT_SCOPE_UNIVERSE,
            RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        let message = Message::new(RTM_NEWROUTE, NLM_F_CREATE, &body);
        message.ip(RTA_GATEWAY, gateway).attribute(RTA_OIF, &index.to_ne_bytes())
    }

    fn ip(self, kind: u16, address: IpAddr) -> Message {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    /// struct rtattr.
    fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        let length = (4 + value.len()) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn send(mut self, socket: &OwnedFd) -> Result<()> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        send(socket, &self.0, SendFlags::empty())?;
        let mut answer = [0; 512];
        let (length, _) = recv(socket, &mut answer[..], RecvFlags::empty())?;
        // struct nlmsgerr behind the header: zero, or an errno's negative.
        let error = answer.get(HEADER..HEADER + 4).filter(|_| length >= HEADER + 4);
        match error.and_then(|bytes| Some(i32::from_ne_bytes(bytes.try_into().ok()?))) {
            Some(0) => Ok(()),
            Some(errno) => Err(Errno::from_raw_os_error(-errno)),
            None => Err(Errno::PROTO),
        }
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

/// Bytes of struct nlmsghdr (netlink(7)).
const HEADER: usize = 16;
// linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_the_kernel_reads_them() {
        let interface = Interface {
            name: "eth0".into(),
            mac: [2, 1, 2, 3, 4, 5],
            mtu: 1500,
            v4: Some((Ipv4Addr::new(10, 0, 2, 100), 24, Some(Ipv4Addr::new(10, 0, 2, 2)))),
            v6: Some((Ipv6Addr::LOCALHOST, 64, None)),
        };
        let messages = interface.messages(7);
        let kinds: Vec<u16> = messages.iter().map(|m| u16::from_ne_bytes([m.0[4], m.0[5]])).collect();
        assert_eq!(kinds, [RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWADDR]);
        let lengths: Vec<usize> = messages.iter().map(|message| message.0.len()).collect();
        assert_eq!(lengths, [16 + 16 + 12 + 8, 16 + 8 + 8 + 8, 16 + 12 + 8 + 8, 16 + 8 + 20 + 20]);
        assert_eq!(messages[1].0[HEADER..HEADER + 2], [libc::AF_INET as u8, 24]);
        assert_eq!(messages[2].0[messages[2].0.len() - 4..], 7u32.to_ne_bytes());
    }
}
