//! User networks (podman-network-create(1)): what one is, and which addresses are free in it. Pure.

use super::{
    private,
    subnet::{Prefix, Subnet},
    wire::{Net4, Net6, Settings},
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
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
    /// Whom to ask for names of the world outside, if not whom the host asks.
    #[serde(default)]
    pub nameservers: Vec<IpAddr>,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
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
            nameservers: Vec::new(),
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

#[cfg(test)]
mod tests {
    use super::*;

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
