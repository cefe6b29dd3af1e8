//! What an address of the outside stands for, and which addresses nobody reaches: the host's loopback above all. Pure.

use crate::{network::wire::Settings, weakened};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a destination leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The gateway or the nameserver itself, and the host's loopback where that is asked for.
    Gateway,
    /// The host's own address, whatever that is.
    Alias,
    /// That address, from the host.
    Outside(IpAddr),
    /// Nothing.
    Nowhere,
}

/// What `destination`, which is no member's, leads to.
pub fn find(settings: &Settings, destination: IpAddr) -> Reach {
    if settings.host_alias.is_some_and(|alias| destination == IpAddr::V4(alias)) && !settings.internal {
        Reach::Alias
    } else if is_ours(settings, destination) {
        Reach::Gateway
    } else if settings.internal
        || is_within(settings, destination)
        || !is_reachable(destination) && !weakened::is("near-host")
    {
        Reach::Nowhere
    } else {
        Reach::Outside(destination)
    }
}

/// Whether `address` is the gateway's or the nameserver's.
pub fn is_ours(settings: &Settings, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => settings.v4.is_some_and(|net| address == net.gateway || address == net.dns),
        IpAddr::V6(address) => settings.v6.is_some_and(|net| address == net.gateway || address == net.dns),
    }
}

/// Whether `address` is where names are answered.
pub fn is_nameserver(settings: &Settings, address: IpAddr) -> bool {
    settings.dns
        && match address {
            IpAddr::V4(address) => settings.v4.is_some_and(|net| address == net.dns),
            IpAddr::V6(address) => settings.v6.is_some_and(|net| address == net.dns),
        }
}

/// Whether `address` is of the network's subnet.
pub fn is_within(settings: &Settings, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => settings.v4.is_some_and(|net| {
            let shift = 32 - u32::from(net.prefix.min(32));
            let head = |address: Ipv4Addr| address.to_bits().checked_shr(shift).unwrap_or(0);
            head(address) == head(net.subnet)
        }),
        IpAddr::V6(address) => settings.v6.is_some_and(|net| {
            let shift = 128 - u32::from(net.prefix.min(128));
            let head = |address: Ipv6Addr| address.to_bits().checked_shr(shift).unwrap_or(0);
            head(address) == head(net.subnet)
        }),
    }
}

/// Whether all members of the network are meant.
pub fn is_for_all(settings: &Settings, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_multicast()
                || address.is_broadcast()
                || settings.v4.is_some_and(|net| {
                    let hosts = u32::MAX.checked_shr(net.prefix.into()).unwrap_or(0);
                    address.to_bits() == net.subnet.to_bits() | hosts
                })
        }
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// Whether a container may reach `address` through the host: nothing that leads to the host itself without being an address of
/// it, and nothing of the links that the host is on.
pub fn is_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !address.is_loopback()
                && !address.is_link_local()
                && !address.is_multicast()
                // "This network", and what is reserved, broadcast included.
                && address.octets()[0] != 0
                && address.octets()[0] < 240
        }
        IpAddr::V6(address) => {
            // ::, ::1, and IPv4 in other words: mapped, compatible, translated (RFC 4291, RFC 2765).
            let head = address.segments();
            let is_v4 = head[..4] == [0; 4] && matches!(head[4..6], [0, 0 | 0xffff] | [0xffff, 0]);
            !is_v4 && !address.is_multicast() && head[0] & 0xffc0 != 0xfe80 && head[0] & 0xffc0 != 0xfec0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::wire::Net4;

    #[test]
    fn what_is_near_the_host_is_not_reached() {
        let no = [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.1.1",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
        ];
        for address in no {
            assert!(!is_reachable(address.parse().unwrap()), "{address}");
        }
        for address in
            ["10.0.0.1", "192.0.2.1", "1.1.1.1", "223.255.255.255", "2001:db8::1", "fd00::1", "::2:0:0:0:1"]
        {
            assert!(is_reachable(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn destinations() {
        let v4 = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let net = Net4 { subnet: v4("10.0.2.0"), prefix: 24, gateway: v4("10.0.2.2"), dns: v4("10.0.2.3") };
        let settings = |internal| Settings {
            name: "n".into(),
            v4: Some(net),
            v6: None,
            internal,
            dns: true,
            host_loopback: false,
            host_alias: Some(v4("169.254.1.2")),
            mtu: 65520,
        };
        let outside = |text: &str| Reach::Outside(text.parse().unwrap());
        let cases = [
            ("10.0.2.2", Reach::Gateway, Reach::Gateway),
            ("10.0.2.3", Reach::Gateway, Reach::Gateway),
            ("10.0.2.9", Reach::Nowhere, Reach::Nowhere),
            ("10.0.2.255", Reach::Nowhere, Reach::Nowhere),
            ("10.0.3.1", outside("10.0.3.1"), Reach::Nowhere),
            ("169.254.1.2", Reach::Alias, Reach::Nowhere),
            ("169.254.1.3", Reach::Nowhere, Reach::Nowhere),
            ("2001:db8::1", outside("2001:db8::1"), Reach::Nowhere),
        ];
        for (address, open, closed) in cases {
            let address = address.parse().unwrap();
            assert_eq!(
                (find(&settings(false), address), find(&settings(true), address)),
                (open, closed),
                "{address}"
            );
        }
        for (address, all) in
            [("10.0.2.255", true), ("10.0.2.254", false), ("224.0.0.251", true), ("ff02::fb", true)]
        {
            assert_eq!(is_for_all(&settings(false), address.parse().unwrap()), all, "{address}");
        }
    }
}
