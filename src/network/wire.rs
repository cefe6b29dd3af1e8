//! What a container's monitor and the process of its network say to each other over a [`crate::sys::channel::Channel`].

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network, as its process is told at its birth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// For messages and for the process's title.
    pub name: String,
    /// IPv4, if the network has it.
    pub v4: Option<Net4>,
    /// IPv6, if the network has it.
    pub v6: Option<Net6>,
    /// Nothing leads out: members reach each other alone.
    pub internal: bool,
    /// Answer names, at the addresses that [`Net4::dns`] and [`Net6::dns`] say.
    pub dns: bool,
    /// The gateway's address leads to the host's 127.0.0.1 and ::1.
    pub host_loopback: bool,
    /// An address that leads to the host's own one (`host.containers.internal`), whatever that is at the time.
    pub host_alias: Option<Ipv4Addr>,
    /// Bytes of the largest IP packet, at most 65520; segments may be larger.
    pub mtu: u16,
}

/// Addresses of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Net4 {
    /// The first address of the subnet.
    pub subnet: Ipv4Addr,
    /// Bits of the subnet.
    pub prefix: u8,
    /// Where members send what leaves the subnet.
    pub gateway: Ipv4Addr,
    /// Where names are answered; may be the gateway.
    pub dns: Ipv4Addr,
}

/// Addresses of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Net6 {
    /// The first address of the subnet.
    pub subnet: Ipv6Addr,
    /// Bits of the subnet.
    pub prefix: u8,
    /// Where members send what leaves the subnet.
    pub gateway: Ipv6Addr,
    /// Where names are answered; may be the gateway.
    pub dns: Ipv6Addr,
}

/// A container's place in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The container's id.
    pub id: String,
    /// Of its interface; the only one it can send from.
    pub mac: [u8; 6],
    /// Its address; the only one it can send from.
    pub v4: Option<Ipv4Addr>,
    /// Its address, beside the link-local one of its MAC.
    pub v6: Option<Ipv6Addr>,
    /// What other members call it: name, aliases, short id, in lower case.
    pub names: Vec<String>,
    /// Its ports that the outside reaches.
    pub published: Vec<Published>,
}

/// A port of a container that a socket of the host leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The kind of the socket.
    pub protocol: Protocol,
    /// In the container.
    pub port: u16,
}

/// What a published port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A socket that listens.
    Tcp,
    /// A socket that is bound.
    Udp,
}

/// Whom to ask for what the network doesn't know itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Questions {
    /// These nameservers in place of the host's.
    pub resolvers: Vec<IpAddr>,
    /// Its monitor first: the member is in other networks, too.
    pub elsewhere: bool,
}

/// What a monitor says. The line that carries [`Ask::Join`] stands for the membership: closed, the member has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// The container comes in; its TAP device comes along, then a socket for each of `published`. Answered by
    /// [`Tell::Joined`].
    Join(Member),
    /// More ports than one packet takes, before [`Ask::Join`]: a socket comes along for each.
    Publish(Vec<Published>),
    /// The host's nameservers as they are now, in order.
    Resolvers(Vec<IpAddr>),
    /// How many are in the network; answered by [`Tell::Members`].
    Members,
    /// How the member of this line asks for names, from now on.
    Questions(Questions),
    /// What the member of this line is called, from now on.
    Names(Vec<String>),
    /// A question about a name, which a member of another network has; answered by [`Tell::Found`].
    Find {
        /// Which question.
        number: u64,
        /// A DNS message.
        question: Vec<u8>,
    },
    /// The answer to [`Tell::NeedName`].
    Name {
        /// Which question.
        number: u64,
        /// A DNS message; empty if no network of the member's knows.
        reply: Vec<u8>,
    },
}

/// What the process of a network says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tell {
    /// The container is in.
    Joined,
    /// What was asked can't be done.
    Failed(String),
    /// The host's nameservers are wanted, now: [`Ask::Resolvers`].
    NeedResolvers,
    /// Another network of the member's may know: [`Ask::Name`].
    NeedName {
        /// Which question.
        number: u64,
        /// A DNS message.
        question: Vec<u8>,
    },
    /// What was asked by [`Ask::Find`].
    Found {
        /// Which question.
        number: u64,
        /// A DNS message; empty if nobody here is called so.
        reply: Vec<u8>,
    },
    /// So many are in.
    Members(usize),
}
