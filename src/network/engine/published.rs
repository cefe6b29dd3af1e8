//! Published ports: sockets of the host, bound by a monitor, that lead to a member.

use super::{
    datagram::Datagrams,
    emit, outside,
    tcp::Connections,
    world::{Source, World},
};
use crate::{
    network::wire::{Protocol, Published},
    sys::pktinfo,
};
use rustix::{
    event::epoll::EventFlags,
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{Errno, Result},
    net::{SocketFlags, acceptfrom_with},
};
use std::{collections::HashMap, net::SocketAddr, os::fd::OwnedFd, rc::Rc};

/// All published ports by number.
#[derive(Debug, Default)]
pub struct Ports(HashMap<u64, Port>);

#[derive(Debug)]
struct Port {
    member: u64,
    published: Published,
    socket: Rc<OwnedFd>,
}

impl Ports {
    /// `socket` leads to `published` of `member`.
    pub fn add(
        &mut self,
        world: &mut World,
        member: u64,
        published: Published,
        socket: OwnedFd,
    ) -> Result<()> {
        fcntl_setfl(&socket, fcntl_getfl(&socket)? | OFlags::NONBLOCK)?;
        if published.protocol == Protocol::Udp {
            pktinfo::ask_for(&socket)?;
        }
        let number = world.number();
        world.watch(&socket, Source::Published(number), EventFlags::IN)?;
        world.count(1);
        self.0.insert(number, Port { member, published, socket: Rc::new(socket) });
        Ok(())
    }

    /// `member` has left.
    pub fn leave(&mut self, world: &mut World, member: u64) {
        for (_, port) in self.0.extract_if(|_, port| port.member == member) {
            world.unwatch(&*port.socket);
            world.count(-1);
        }
    }

    /// Somebody came to `number`.
    pub fn event(
        &self,
        world: &mut World,
        connections: &mut Connections,
        datagrams: &mut Datagrams,
        number: u64,
    ) {
        let Some(port) = self.0.get(&number) else { return };
        for _ in 0..BATCH {
            let came = match port.published.protocol {
                Protocol::Tcp => port.connection(world, connections),
                Protocol::Udp => port.datagram(world, datagrams),
            };
            match came {
                Ok(()) | Err(Errno::CONNABORTED | Errno::CONNREFUSED) => {}
                Err(_) => break,
            }
        }
    }
}

/// Clients of one port before others have their turn.
const BATCH: usize = 64;

impl Port {
    fn connection(&self, world: &mut World, connections: &mut Connections) -> Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, client) = acceptfrom_with(&*self.socket, flags)?;
        if let Some(client) = client.and_then(|client| SocketAddr::try_from(client).ok()) {
            connections.accepted(world, self.member, self.published.port, socket, client);
        }
        Ok(())
    }

    fn datagram(&self, world: &mut World, datagrams: &mut Datagrams) -> Result<()> {
        // Where the payload goes depends on the client's family, which is known too late: there is room in front for both.
        let at = emit::payload_at(false);
        let (length, client, own) = pktinfo::receive(&*self.socket, &mut world.out[at..])?;
        let Some((inside, seen)) = outside::seen_from_inside(world, self.member, client) else {
            return Ok(());
        };
        let port = self.published.port;
        if datagrams.inwards(world, self.member, port, &self.socket, (client, own, seen)) {
            let place = emit::payload_at(inside.is_ipv4());
            world.out.copy_within(at..at + length, place);
            world.deliver_udp(self.member, (seen.ip(), seen.port()), (inside, port), length);
        }
        Ok(())
    }
}
