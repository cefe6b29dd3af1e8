//! Subnets (RFC 4632, RFC 4291): which addresses they have, which of those are free, and subnets that nobody has. Pure.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

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
    /// Its first address.
    pub(super) address: IpAddr,
    /// Bits that all its addresses have in common.
    pub(super) length: u8,
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

    /// The address that was `wished` for, else the first that is none of `taken`.
    pub fn choose(&self, wished: Option<IpAddr>, taken: &BTreeSet<IpAddr>) -> Result<IpAddr> {
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
}
