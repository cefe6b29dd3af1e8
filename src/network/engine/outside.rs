//! From addresses as a container sees them to the host's, and back.

use super::{
    reach::{self, Reach},
    world::World,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, getsockname, socket_with};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where on the host a connection to `remote` leads; `None`: nowhere.
pub fn target(world: &World, remote: SocketAddr, reach: Reach) -> Option<SocketAddr> {
    let settings = &world.network.settings;
    let address = match reach {
        Reach::Outside(address) => address,
        Reach::Alias => own_address(remote.is_ipv4())?,
        Reach::Gateway if settings.host_loopback => match remote.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        },
        Reach::Gateway | Reach::Nowhere => return None,
    };
    Some(SocketAddr::new(address, remote.port()))
}

/// Which address of `member` a client of the host reaches, and what it looks like to it: itself, or the gateway if the member
/// has no other way of answering it.
pub fn seen_from_inside(world: &World, member: u64, client: SocketAddr) -> Option<(IpAddr, SocketAddr)> {
    let settings = &world.network.settings;
    let member = world.network.members.get(&member)?;
    let address = client.ip().to_canonical();
    let v4 = || Some((IpAddr::V4(member.v4?), IpAddr::V4(settings.v4?.gateway)));
    let v6 = || Some((IpAddr::V6(member.v6?), IpAddr::V6(settings.v6?.gateway)));
    let of_family = if address.is_ipv4() { v4() } else { v6() };
    let is_itself = reach::is_reachable(address) && !reach::is_within(settings, address);
    let (inside, seen) = match of_family {
        Some((inside, _)) if is_itself => (inside, address),
        Some(pair) => pair,
        None => v4().or_else(v6)?,
    };
    Some((inside, SocketAddr::new(seen, client.port())))
}

/// The address of `member` in that family.
pub fn own_of(world: &World, member: u64, v4: bool) -> Option<IpAddr> {
    let member = world.network.members.get(&member)?;
    if v4 { member.v4.map(IpAddr::V4) } else { member.v6.map(IpAddr::V6) }
}

/// The address that the host uses towards the world now. Nothing is sent for that.
fn own_address(v4: bool) -> Option<IpAddr> {
    let (family, far): (_, IpAddr) = match v4 {
        // Documentation's addresses (RFC 5737, RFC 3849), which lie where everything lies that is no neighbour.
        true => (AddressFamily::INET, Ipv4Addr::new(203, 0, 113, 1).into()),
        false => (AddressFamily::INET6, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    connect(&socket, &SocketAddr::new(far, 9)).ok()?;
    let own = SocketAddr::try_from(getsockname(&socket).ok()?).ok()?.ip();
    reach::is_reachable(own).then_some(own)
}
