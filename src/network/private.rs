//! The network of one container alone: which addresses it has. They are those of slirp4netns(1).

use super::{
    device::Interface,
    wire::{Member, Net4, Net6, Settings},
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Its addresses, where somebody has to know them.
pub const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// Names are answered here.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// What leads to the host's own address (`host.containers.internal`).
pub const HOST: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);

/// As large as an IP packet may be, in whole pages of memory and Ethernet frames; no segment has to be split.
pub const MTU: u16 = 65520;

/// The network; with `host_loopback` its gateway leads to the host's loopback.
pub fn settings(host_loopback: bool) -> Settings {
    Settings {
        name: "private".to_owned(),
        v4: Some(Net4 { subnet: Ipv4Addr::new(10, 0, 2, 0), prefix: 24, gateway: GATEWAY, dns: DNS }),
        v6: Some(Net6 { subnet: v6(0), prefix: 64, gateway: v6(2), dns: v6(3) }),
        internal: false,
        dns: true,
        host_loopback,
        host_alias: Some(HOST),
        mtu: MTU,
    }
}

/// Its only member.
pub fn member(id: &str, names: Vec<String>) -> Member {
    Member {
        id: id.to_owned(),
        mac: mac(id),
        v4: Some(OWN),
        v6: Some(v6(0x100)),
        names,
        published: Vec::new(),
    }
}

/// What its only member has as eth0.
pub fn interface(id: &str) -> Interface {
    Interface {
        name: "eth0".to_owned(),
        mac: mac(id),
        mtu: MTU,
        v4: Some((OWN, 24, Some(GATEWAY))),
        // A host without IPv6 would have its container wait for answers that never come.
        v6: Some((v6(0x100), 64, host_has_v6().then_some(v6(2)))),
    }
}

/// A locally administered address that says whose it is.
pub fn mac(id: &str) -> [u8; 6] {
    let mut mac = [2; 6];
    for (byte, digits) in mac[1..].iter_mut().zip(id.as_bytes().chunks(2)) {
        *byte = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .unwrap_or(0);
    }
    mac
}

fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

/// proc_net(5), if_inet6: an address of global scope.
fn host_has_v6() -> bool {
    let text = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    text.lines().any(|line| {
        line.split_whitespace().nth(3) == Some("00") && !line.starts_with("00000000000000000000000000000001")
    })
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
