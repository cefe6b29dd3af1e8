//! User networks (podman-network-create(1)): what one is, and which addresses are free in it. Pure.

use super::{
    private,
    wire::{Net4, Net6, Settings},
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A network that containers join by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Metadata for listings.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// IPv4.
    pub v4: Subnet,
    /// IPv6.
    #[serde(default)]
    pub v6: Option<Subnet>,
    /// Nothing leads out.
    #[serde(default)]
    pub internal: bool,
    /// Members find each other by name.
    pub dns: bool,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
}

/// Addresses of one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// All of them.
    pub net: Prefix,
    /// Where members send what leaves it, and where names are answered.
    pub gateway: IpAddr,
    /// Only these are given away.
    #[serde(default)]
    pub range: Option<Prefix>,
}

/// `10.89.0.0/24`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Where a container is in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The interface in the container.
    pub interface: String,
    /// Of the interface.
    pub mac: [u8; 6],
    /// Its address.
    pub v4: Ipv4Addr,
    /// Its address.
    #[serde(default)]
    pub v6: Option<Ipv6Addr>,
    /// What others find it by, beside its name and its short id.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// What a user asks of one network: `NAME[:ip=…,ip6=…,mac=…,alias=…,interface_name=…]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The network's name.
    pub network: String,
    /// This address.
    pub v4: Option<Ipv4Addr>,
    /// This address.
    pub v6: Option<Ipv6Addr>,
    /// This Ethernet address.
    pub mac: Option<[u8; 6]>,
    /// More names.
    pub aliases: Vec<String>,
    /// The interface's name.
    pub interface: Option<String>,
}

impl FromStr for Wish {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Wish> {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let mut wish = Wish { network: name.to_owned(), ..Wish::default() };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let (key, value) =
                option.split_once('=').with_context(|| format!("{option:?} is not KEY=VALUE"))?;
            let address = || format!("{value:?} is no such address");
            match key {
                "ip" => wish.v4 = Some(value.parse().with_context(address)?),
                "ip6" => wish.v6 = Some(value.parse().with_context(address)?),
                "mac" => wish.mac = Some(parse_mac(value)?),
                "alias" => wish.aliases.push(parse_alias(value)?),
                "interface_name" => wish.interface = Some(parse_interface(value)?),
                _ => bail!("a network has no option {key:?}; it has ip, ip6, mac, alias and interface_name"),
            }
        }
        Ok(wish)
    }
}

/// `92:d0:c6:0a:29:33`, an address of one interface.
pub fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split([':', '-'])
        .map(|part| if part.len() == 2 { u8::from_str_radix(part, 16).ok() } else { None })
        .collect::<Option<_>>()
        .with_context(|| format!("{text:?} is no Ethernet address"))?;
    let mac: [u8; 6] = bytes.try_into().map_err(|_| anyhow!("{text:?} is no Ethernet address"))?;
    ensure!(mac[0] & 1 == 0 && mac != [0; 6], "{text} is the address of a group, not of one interface");
    Ok(mac)
}

/// A name that others find a container by.
pub fn parse_alias(text: &str) -> Result<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    ensure!(!text.is_empty() && text.len() <= 63 && text.bytes().all(plain), "{text:?} is no host name");
    Ok(text.to_lowercase())
}

fn parse_interface(text: &str) -> Result<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let fine = !text.is_empty()
        && text.len() <= 15
        && text.bytes().all(plain)
        && !matches!(text, "." | ".." | "lo" | "all" | "default");
    ensure!(fine, "{text:?} is no name of an interface: up to 15 letters and digits");
    Ok(text.to_owned())
}

/// The network that is there without being made, as Podman's is.
pub const DEFAULT: &str = "podman";

impl Network {
    /// [`DEFAULT`], until somebody makes one of that name.
    pub fn default_one() -> Network {
        let net = Prefix { address: Ipv4Addr::new(10, 88, 0, 0).into(), length: 16 };
        Network {
            id: "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9".to_owned(),
            name: DEFAULT.to_owned(),
            created: Timestamp::UNIX_EPOCH,
            labels: BTreeMap::new(),
            v4: Subnet { net, gateway: net.first(), range: None },
            v6: None,
            internal: false,
            dns: true,
            mtu: private::MTU,
        }
    }

    /// What its process is told.
    pub fn settings(&self) -> Settings {
        let v4 = match (self.v4.net.address, self.v4.gateway) {
            (IpAddr::V4(subnet), IpAddr::V4(gateway)) => {
                Some(Net4 { subnet, prefix: self.v4.net.length, gateway, dns: gateway })
            }
            _ => None,
        };
        let v6 = self.v6.as_ref().and_then(|v6| match (v6.net.address, v6.gateway) {
            (IpAddr::V6(subnet), IpAddr::V6(gateway)) => {
                Some(Net6 { subnet, prefix: v6.net.length, gateway, dns: gateway })
            }
            _ => None,
        });
        Settings {
            name: self.name.clone(),
            v4,
            v6,
            internal: self.internal,
            dns: self.dns,
            host_loopback: false,
            host_alias: (!self.internal).then_some(private::HOST),
            mtu: self.mtu,
        }
    }

    /// A place in it for the container `id`, whose interfaces have the names of `interfaces` and whose aliases are its own. `taken`: the places of
    /// others.
    ///
    /// # Errors
    /// What was wished for is another's, or none of the network's; or nothing is free.
    pub fn attach(&self, wish: &Wish, id: &str, number: usize, taken: &[&Attachment]) -> Result<Attachment> {
        let v4: BTreeSet<IpAddr> = taken.iter().map(|one| one.v4.into()).collect();
        let v6: BTreeSet<IpAddr> = taken.iter().filter_map(|one| one.v6).map(IpAddr::from).collect();
        let in_network = || format!("network {}", self.name);
        let IpAddr::V4(v4) = self.v4.choose(wish.v4.map(IpAddr::from), &v4).with_context(in_network)? else {
            bail!("network {} has no IPv4", self.name);
        };
        let v6 = match &self.v6 {
            None if wish.v6.is_some() => bail!("network {} has no IPv6", self.name),
            None => None,
            Some(subnet) => match subnet.choose(wish.v6.map(IpAddr::from), &v6).with_context(in_network)? {
                IpAddr::V6(address) => Some(address),
                IpAddr::V4(_) => None,
            },
        };
        let mut mac = wish.mac.unwrap_or_else(|| private::mac(id));
        if wish.mac.is_none() {
            // One container may be in several networks.
            mac[5] ^= number as u8;
        }
        ensure!(!taken.iter().any(|one| one.mac == mac), "the Ethernet address is another container's");
        Ok(Attachment {
            network: self.name.clone(),
            interface: wish.interface.clone().unwrap_or_else(|| format!("eth{number}")),
            mac,
            v4,
            v6,
            aliases: wish.aliases.clone(),
        })
    }
}

impl Subnet {
    /// With `gateway`, else its first address.
    ///
    /// # Errors
    /// The gateway or the range lies outside.
    pub fn new(net: Prefix, gateway: Option<IpAddr>, range: Option<Prefix>) -> Result<Subnet> {
        ensure!(net.hosts() >= 2, "{net} has no room for a container and a gateway");
        let gateway = gateway.unwrap_or_else(|| net.first());
        ensure!(net.contains(gateway) && gateway != net.address, "the gateway {gateway} is not in {net}");
        if let Some(range) = range {
            ensure!(
                net.contains(range.address) && range.length >= net.length,
                "the range {range} is not in {net}"
            );
        }
        Ok(Subnet { net, gateway, range })
    }

    fn choose(&self, wished: Option<IpAddr>, taken: &BTreeSet<IpAddr>) -> Result<IpAddr> {
        if let Some(address) = wished {
            ensure!(self.net.usable(address), "{address} is not one of its addresses ({})", self.net);
            ensure!(address != self.gateway, "{address} is its gateway");
            ensure!(!taken.contains(&address), "{address} is another container's");
            return Ok(address);
        }
        let range = self.range.unwrap_or(self.net);
        let mut address = range.address;
        // No more are taken than there are containers, so this ends soon.
        for _ in 0..=taken.len() + 3 {
            if self.net.usable(address) && address != self.gateway && !taken.contains(&address) {
                return Ok(address);
            }
            address =
                next(address).filter(|next| range.contains(*next)).context("all its addresses are taken")?;
        }
        bail!("all its addresses are taken")
    }
}

impl Prefix {
    /// The first address that a host may have.
    pub fn first(&self) -> IpAddr {
        next(self.address).unwrap_or(self.address)
    }

    /// Addresses that hosts may have, as far as they can be counted.
    fn hosts(&self) -> u64 {
        let bits = self.bits() - u32::from(self.length);
        if bits >= 63 { u64::MAX } else { (1u64 << bits).saturating_sub(2) }
    }

    fn bits(&self) -> u32 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `address` is one of it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Prefix::masked(address, self.length) == self.address
    }

    /// The same, and a host may have it.
    fn usable(&self, address: IpAddr) -> bool {
        self.contains(address)
            && address != self.address
            && next(address).is_some_and(|next| self.contains(next) || address.is_ipv6())
    }

    /// Whether they have addresses in common.
    pub fn overlaps(&self, other: &Prefix) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    fn masked(address: IpAddr, length: u8) -> IpAddr {
        match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
                Ipv4Addr::from(u32::from(address) & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
                Ipv6Addr::from(u128::from(address) & mask).into()
            }
        }
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => u32::from(address).checked_add(1).map(|next| Ipv4Addr::from(next).into()),
        IpAddr::V6(address) => u128::from(address).checked_add(1).map(|next| Ipv6Addr::from(next).into()),
    }
}

impl FromStr for Prefix {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Prefix> {
        let (address, length) =
            text.split_once('/').with_context(|| format!("{text:?} is not ADDRESS/BITS"))?;
        let address: IpAddr = address.parse().with_context(|| format!("{address:?} is no IP address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.parse().ok().filter(|length| (1..=most).contains(length));
        let length = length.with_context(|| format!("{text:?} has no number of bits from 1 to {most}"))?;
        Ok(Prefix { address: Prefix::masked(address, length), length })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Prefix, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The first subnet of Podman's that none of `taken` has a part of: 10.89.0.0/24 and what follows, or an fdXX:… for `number`.
///
/// # Errors
/// All are taken.
pub fn free_subnet(taken: &[Prefix]) -> Result<Prefix> {
    let all =
        (89..=255u8).flat_map(|second| (0..=255u8).map(move |third| Ipv4Addr::new(10, second, third, 0)));
    let mut all = all.map(|address| Prefix { address: address.into(), length: 24 });
    all.find(|prefix| !taken.iter().any(|other| other.overlaps(prefix)))
        .context("every subnet from 10.89.0.0/24 on is taken")
}

/// A subnet of IPv6 of this network's own: random, as RFC 4193 wants it.
pub fn own_subnet(random: [u8; 7]) -> Prefix {
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    bytes[1..8].copy_from_slice(&random);
    Prefix { address: Ipv6Addr::from(bytes).into(), length: 64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes() {
        assert_eq!(prefix("10.89.3.7/24").to_string(), "10.89.3.0/24");
        assert_eq!(prefix("fd00::1/64").to_string(), "fd00::/64");
        assert!(prefix("10.0.0.0/8").overlaps(&prefix("10.89.0.0/24")));
        assert!(!prefix("10.88.0.0/16").overlaps(&prefix("10.89.0.0/24")));
        assert_eq!(free_subnet(&[prefix("10.89.0.0/23")]).unwrap(), prefix("10.89.2.0/24"));
        for bad in ["", "10.0.0.0", "10.0.0.0/0", "10.0.0.0/33", "x/24", "10.0.0/24", "fd00::/129"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        let net = Subnet::new(prefix("10.0.0.0/29"), None, None).unwrap();
        let mut taken = BTreeSet::new();
        let mut given = Vec::new();
        while let Ok(address) = net.choose(None, &taken) {
            given.push(address.to_string());
            taken.insert(address);
        }
        assert_eq!(given, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        for bad in ["10.0.0.1", "10.0.0.0", "10.0.0.7", "10.0.1.1", "10.0.0.3", "fd00::1"] {
            assert!(net.choose(Some(bad.parse().unwrap()), &taken).is_err(), "{bad}");
        }
        let narrow = Subnet::new(prefix("10.0.0.0/24"), None, Some(prefix("10.0.0.128/30"))).unwrap();
        assert_eq!(narrow.choose(None, &BTreeSet::new()).unwrap().to_string(), "10.0.0.128");
        assert!(Subnet::new(prefix("10.0.0.0/31"), None, None).is_err());
        assert!(Subnet::new(prefix("10.0.0.0/24"), Some("10.0.1.1".parse().unwrap()), None).is_err());
        assert!(Subnet::new(prefix("10.0.0.0/24"), None, Some(prefix("10.0.0.0/16"))).is_err());
    }

    #[test]
    fn wishes() {
        let wish: Wish =
            "web:ip=10.89.0.5,mac=92:d0:c6:0a:29:33,alias=A,alias=b,interface_name=net0".parse().unwrap();
        assert_eq!(
            (wish.network.as_str(), wish.v4, wish.aliases.join(" ").as_str()),
            ("web", Some(Ipv4Addr::new(10, 89, 0, 5)), "a b")
        );
        assert_eq!(
            (wish.mac, wish.interface.as_deref()),
            (Some([0x92, 0xd0, 0xc6, 0x0a, 0x29, 0x33]), Some("net0"))
        );
        for bad in [
            "n:ip=x",
            "n:ip",
            "n:mac=1:2",
            "n:mac=01:00:00:00:00:00",
            "n:alias=a b",
            "n:interface_name=lo",
            "n:interface_name=../x",
            "n:what=1",
        ] {
            assert!(bad.parse::<Wish>().is_err(), "{bad}");
        }
    }
}
