//! Published ports (podman-run(1), `--publish`): what the user writes, and the sockets of the host that it means.

use super::wire::{Protocol, Published};
use crate::{error::Explain, weakened};
use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with,
        sockopt::{set_ipv6_v6only, set_socket_reuseaddr},
    },
};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};

/// One port of a container, and where the host offers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The host's address; all that it has without one.
    pub host: Option<IpAddr>,
    /// The host's port; 0: any that is free, chosen at the first start.
    pub host_port: u16,
    /// The container's.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
}

/// `[[IP:][HOST]:]PORT[/PROTOCOL]`, both ports alone or as ranges of one length.
pub fn parse(text: &str) -> Result<Vec<Port>> {
    let (ports, protocol) = protocol(text)?;
    let (before, inside) =
        ports.rsplit_once(':').map_or((None, ports), |(before, inside)| (Some(before), inside));
    let inside = range(inside).context("the container's port")?;
    let (address, outside) = match before {
        None => (None, ""),
        Some(before) => match before.rsplit_once(':') {
            Some((address, port)) if !before.ends_with(']') => (Some(address), port),
            _ if before.starts_with('[') => {
                bail!("between an address and the container's port comes the host's, or nothing")
            }
            _ => (None, before),
        },
    };
    let host = address.map(|text| {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        bare.parse::<IpAddr>().with_context(|| format!("{text:?} is no IP address"))
    });
    // 0.0.0.0 means IPv4 alone; no address means both.
    let host = host.transpose()?;
    let outside = if outside.is_empty() { None } else { Some(range(outside).context("the host's port")?) };
    if let Some(outside) = &outside {
        ensure!(
            outside.len() == inside.len(),
            "{} ports of the host for {} of the container",
            outside.len(),
            inside.len()
        );
    }
    let pair = |(at, port): (usize, u16)| Port {
        host,
        host_port: outside.as_ref().map_or(0, |ports| ports[at]),
        port,
        protocol,
    };
    Ok(inside.into_iter().enumerate().map(pair).collect())
}

/// `PORT[-PORT][/PROTOCOL]`: of `--expose`, and of images.
pub fn parse_exposed(text: &str) -> Result<Vec<(u16, Protocol)>> {
    let (ports, protocol) = protocol(text)?;
    Ok(range(ports)?.into_iter().map(|port| (port, protocol)).collect())
}

/// `ports` with one of the host's choice for each of `exposed` that none of them has.
pub fn with_exposed(mut ports: Vec<Port>, exposed: &[(u16, Protocol)]) -> Vec<Port> {
    for &(port, protocol) in exposed {
        if !ports.iter().any(|one| (one.port, one.protocol) == (port, protocol)) {
            ports.push(Port { host: None, host_port: 0, port, protocol });
        }
    }
    ports
}

fn protocol(text: &str) -> Result<(&str, Protocol)> {
    match text.split_once('/') {
        None | Some((_, "tcp")) => Ok((text.split('/').next().unwrap_or_default(), Protocol::Tcp)),
        Some((ports, "udp")) => Ok((ports, Protocol::Udp)),
        Some((_, "sctp")) => bail!("SCTP can't be published: only TCP and UDP can"),
        Some((_, other)) => bail!("there is no protocol {other:?}: tcp and udp can be published"),
    }
}

fn range(text: &str) -> Result<Vec<u16>> {
    let number = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(anyhow!("{text:?} is no port from 1 to 65535")),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    ensure!(first <= last, "the range {text} goes backwards");
    ensure!(last - first < MOST, "more than {MOST} ports");
    Ok((first..=last).collect())
}

/// Ports of one `--publish`.
const MOST: u16 = 1024;

impl Port {
    /// Sockets of the host that lead to it, TCP's listening, and which port that is.
    ///
    /// # Errors
    /// Somebody has it, it is not for this user, or the address is none of this machine's.
    pub fn bind(&self) -> Result<(u16, Vec<OwnedFd>)> {
        let publishing = || format!("publish {self}");
        let Some(host) = self.host else {
            // Any: the one that IPv4 gets has to be free in IPv6, too.
            for last in [false, true] {
                let (port, v4) =
                    self.bind_to(Ipv4Addr::UNSPECIFIED.into(), self.host_port).with_context(publishing)?;
                return match self.bind_to(Ipv6Addr::UNSPECIFIED.into(), port) {
                    Ok((_, v6)) => Ok((port, vec![v4, v6])),
                    // A machine without IPv6.
                    Err(error) if matches!(errno(&error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)) => {
                        Ok((port, vec![v4]))
                    }
                    Err(_) if self.host_port == 0 && !last => continue,
                    Err(error) => Err(error).with_context(publishing),
                };
            }
            bail!("publish {self}: no port is free");
        };
        let (port, socket) = self.bind_to(host, self.host_port).with_context(publishing)?;
        Ok((port, vec![socket]))
    }

    fn bind_to(&self, address: IpAddr, port: u16) -> Result<(u16, OwnedFd)> {
        let address = match address {
            IpAddr::V4(_) if weakened::is("published-address") => Ipv4Addr::UNSPECIFIED.into(),
            address => address,
        };
        let bound = || -> rustix::io::Result<OwnedFd> {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let kind = match self.protocol {
                Protocol::Tcp => SocketType::STREAM,
                Protocol::Udp => SocketType::DGRAM,
            };
            let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
            if address.is_ipv6() {
                set_ipv6_v6only(&socket, true)?;
            }
            if self.protocol == Protocol::Tcp {
                set_socket_reuseaddr(&socket, true)?;
            }
            bind(&socket, &SocketAddr::new(address, port))?;
            if self.protocol == Protocol::Tcp {
                listen(&socket, BACKLOG)?;
            }
            Ok(socket)
        };
        let socket = bound().map_err(|errno| hinted(errno, port))?;
        let own = getsockname(&socket).context("ask which port it is")?;
        let own = SocketAddr::try_from(own).context("ask which port it is")?;
        Ok((own.port(), socket))
    }

    /// What the network's process is told of it.
    pub fn published(&self) -> Published {
        Published { protocol: self.protocol, port: self.port }
    }

    /// Where the host offers it, as Podman writes it.
    pub fn host_ip(&self) -> IpAddr {
        self.host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// `80/tcp`.
    pub fn inside(&self) -> String {
        format!("{}/{}", self.port, self.protocol)
    }

    /// `0.0.0.0:8080`.
    pub fn outside(&self) -> String {
        SocketAddr::new(self.host_ip(), self.host_port).to_string()
    }
}

/// `0.0.0.0:8080->80/tcp`.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}", self.outside(), self.inside())
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// All of them, neighbours as ranges: `0.0.0.0:8000-8002->80-82/tcp`.
pub fn shown(ports: &[Port]) -> String {
    let mut ports = ports.to_vec();
    ports.sort_by_key(|port| (port.host, port.protocol.to_string(), port.port, port.host_port));
    let mut runs: Vec<(Port, u16)> = Vec::new();
    for port in ports {
        match runs.last_mut() {
            Some((first, length))
                if (first.host, first.protocol) == (port.host, port.protocol)
                    && first.port.checked_add(*length) == Some(port.port)
                    && first.host_port.checked_add(*length) == Some(port.host_port) =>
            {
                *length += 1;
            }
            _ => runs.push((port, 1)),
        }
    }
    let shown = |(first, length): &(Port, u16)| match length {
        1 => first.to_string(),
        _ => {
            let (host, inside) = (first.host_port + (length - 1), first.port + (length - 1));
            format!("{}-{host}->{}-{inside}/{}", first.outside(), first.port, first.protocol)
        }
    };
    runs.iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn hinted(errno: Errno, port: u16) -> Error {
    let error = Error::new(errno);
    let hint = match errno {
        Errno::ADDRINUSE => {
            format!("`ss -lnptu 'sport = :{port}'` shows who has it; -p HOST:CONTAINER takes another")
        }
        Errno::ACCESS => format!(
            "`sudo sysctl net.ipv4.ip_unprivileged_port_start={port}` allows it to every user; or choose a port from 1024 on"
        ),
        Errno::ADDRNOTAVAIL => "`ip -brief address` lists the addresses of this machine".to_owned(),
        _ => return error,
    };
    match Err::<(), _>(error).hint(hint) {
        Err(error) => error,
        Ok(()) => anyhow!("bind"),
    }
}

fn errno(error: &Error) -> Option<Errno> {
    crate::error::causes(error).find_map(|cause| cause.downcast_ref::<Errno>().copied())
}

/// Connections that wait to be taken.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published() {
        for (text, expected) in [
            ("80", "0.0.0.0:0->80/tcp"),
            ("8080:80", "0.0.0.0:8080->80/tcp"),
            ("8080:80/udp", "0.0.0.0:8080->80/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080->80/tcp"),
            ("127.0.0.1::80", "127.0.0.1:0->80/tcp"),
            ("[::1]:8080:80", "[::1]:8080->80/tcp"),
            ("::1:8080:80", "[::1]:8080->80/tcp"),
            ("8000-8002:80-82", "0.0.0.0:8000-8002->80-82/tcp"),
            (":80", "0.0.0.0:0->80/tcp"),
        ] {
            assert_eq!(shown(&parse(text).unwrap()), expected, "{text}");
        }
        assert_eq!(parse("[::]:1:1").unwrap()[0].host, Some(Ipv6Addr::UNSPECIFIED.into()));
        for bad in [
            "",
            "0",
            "65536",
            "80/sctp",
            "80/",
            "x",
            "80:",
            "8000-8001:80",
            "82-80",
            "1.2.3:1:1",
            "[::1]:80",
            "+80",
            "1-65535",
            "a:80:80",
            "80/tcp/udp",
            "8080:80-",
            "-1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_exposed() {
        assert_eq!(parse_exposed("80-81/udp").unwrap(), [(80, Protocol::Udp), (81, Protocol::Udp)]);
        let ports = with_exposed(parse("8080:80").unwrap(), &[(80, Protocol::Tcp), (53, Protocol::Udp)]);
        assert_eq!(shown(&ports), "0.0.0.0:8080->80/tcp, 0.0.0.0:0->53/udp");
    }
}
