//! The files that a container finds in place of its image's: /etc/hosts, /etc/hostname, /etc/resolv.conf,
//! /etc/localtime and /run/.containerenv. [`contents`] is pure; [`host_resolv_conf`] is its one input from the host.

use super::{
    network_files::NAMES_OF_HOST,
    request::{NetworkMode, Request, Source},
};
use anyhow::{Context, Result, bail, ensure};
use std::{fmt::Write, fs::File, io::Read, net::IpAddr};

/// One `--add-host`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddHost {
    /// Host names.
    pub names: Vec<String>,
    /// Their address; `None`: the host's, as the container reaches it.
    pub address: Option<IpAddr>,
}

/// Name servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dns {
    /// Those of the host, as far as they are within reach.
    Host,
    /// These instead.
    Servers(Vec<IpAddr>),
    /// The image's /etc/resolv.conf stays.
    Image,
}

/// What the files say of a container's network, as far as it is known.
#[derive(Clone, Default, Debug)]
pub struct Addresses {
    /// The container's own.
    pub own: Option<IpAddr>,
    /// The host's, as the container reaches it.
    pub host: Option<IpAddr>,
    /// Who answers its questions for names, and asks the host's name servers as they are then.
    pub dns: Option<IpAddr>,
    /// It asks the name servers that were chosen.
    pub asks: bool,
}

/// A file to write into the container's directory as `name`, and to bind over `target`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EtcFile {
    /// File name.
    pub name: &'static str,
    /// What is in it.
    pub contents: Vec<u8>,
}

/// Name and place of each file that a container of `request` gets.
pub fn places(request: &Request) -> impl Iterator<Item = (&'static str, &'static str)> {
    let resolv_conf = request.dns != Dns::Image;
    let localtime = request.timezone.is_some();
    [
        (!request.no_hosts, ("hosts", "/etc/hosts")),
        (!request.no_hostname, ("hostname", "/etc/hostname")),
        (resolv_conf, ("resolv.conf", "/etc/resolv.conf")),
        (localtime, ("localtime", "/etc/localtime")),
        (true, ("containerenv", "/run/.containerenv")),
    ]
    .into_iter()
    .filter_map(|(wanted, place)| wanted.then_some(place))
}

/// The files of [`places`] for the container `name` (its hostname being `hostname`), where the host's resolv.conf reads
/// `host_resolv_conf`; /etc/hosts begins with `base_hosts`.
pub fn contents(
    request: &Request,
    id: &str,
    name: &str,
    hostname: &str,
    addresses: &Addresses,
    host_resolv_conf: &str,
    base_hosts: &str,
) -> Vec<EtcFile> {
    places(request)
        .map(|(file, _)| EtcFile {
            name: file,
            contents: match file {
                "hosts" => hosts(request, name, hostname, addresses, base_hosts).into_bytes(),
                "hostname" => format!("{hostname}\n").into_bytes(),
                "resolv.conf" => resolv_conf(request, addresses, host_resolv_conf).into_bytes(),
                "localtime" => request.timezone.as_ref().map(|zone| zone.0.clone()).unwrap_or_default(),
                _ => containerenv(request, id, name).into_bytes(),
            },
        })
        .collect()
}

/// The host's /etc/resolv.conf; where that is systemd-resolved's stub, on loopback, the list of the servers behind it.
/// Empty without one, and when it isn't needed.
pub fn host_resolv_conf(request: &Request) -> String {
    if request.network == NetworkMode::None || request.dns == Dns::Image {
        return String::new();
    }
    let text = read("/etc/resolv.conf");
    let stub = nameservers(&text).all(|server| server.to_string() == "127.0.0.53");
    if request.own_network() && stub && nameservers(&text).next().is_some() {
        return read("/run/systemd/resolve/resolv.conf");
    }
    text
}

/// Bytes of `--hosts-file`.
pub const HOSTS_LIMIT: u64 = 1 << 20;

/// `NAME[;NAME…]:IP`.
pub fn parse_add_host(text: &str) -> Result<AddHost> {
    let (names, address) = text.split_once(':').context("no `:` between name and address")?;
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let address = match address {
        "host-gateway" => None,
        _ => Some(bare.parse().with_context(|| format!("{bare:?} is no IP address"))?),
    };
    let name = |name: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
            bail!("{name:?} is no host name");
        }
        Ok(name.to_owned())
    };
    Ok(AddHost { names: names.split(';').map(name).collect::<Result<_>>()?, address })
}

/// One `--dns-search`; an empty one is Podman's other word for `.`.
pub fn parse_search(text: &str) -> Result<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    ensure!(text.len() <= 253 && text.bytes().all(plain), "{text:?} is no domain");
    Ok(if text.is_empty() { "." } else { text }.to_owned())
}

/// One `--dns-option`.
pub fn parse_option(text: &str) -> Result<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':');
    ensure!(!text.is_empty() && text.len() <= 64 && text.bytes().all(plain), "{text:?} is no option");
    Ok(text.to_owned())
}

/// The values of `--dns`: addresses, or `none` alone.
pub fn parse_dns(values: &[String]) -> Result<Dns> {
    match values {
        [] => Ok(Dns::Host),
        [none] if none == "none" => Ok(Dns::Image),
        _ => {
            let server = |text: &String| text.parse().with_context(|| format!("{text:?} is no IP address"));
            Ok(Dns::Servers(values.iter().map(server).collect::<Result<_>>()?))
        }
    }
}

fn hosts(request: &Request, name: &str, hostname: &str, addresses: &Addresses, base: &str) -> String {
    let mut text = base.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let known = |host: &AddHost| host.address.or(addresses.host).map(|address| (host.names.clone(), address));
    for (names, address) in request.add_hosts.iter().filter_map(known) {
        let _ = writeln!(text, "{address}\t{}", names.join(" "));
    }
    text.push_str("127.0.0.1\tlocalhost localhost.localdomain\n::1\tlocalhost localhost.localdomain ip6-localhost ip6-loopback\n");
    if let Some(host) = addresses.host {
        let _ = writeln!(text, "{host}\t{NAMES_OF_HOST}");
    }
    let own = addresses.own.unwrap_or(IpAddr::from([127, 0, 1, 1]));
    let separate = if name == hostname { "" } else { name };
    let _ = writeln!(text, "{}", format!("{own}\t{hostname} {separate}").trim_end());
    text
}

fn resolv_conf(request: &Request, addresses: &Addresses, host: &str) -> String {
    if request.network == NetworkMode::None {
        return "# no network\n".to_owned();
    }
    let mut text = String::new();
    let stays = |line: &&str| match directive(line) {
        Some("nameserver") => false,
        Some("search" | "domain") => request.dns_search.is_empty(),
        Some("options") => request.dns_options.is_empty(),
        _ => true,
    };
    for line in host.lines().filter(stays) {
        let _ = writeln!(text, "{line}");
    }
    if !request.dns_search.is_empty() && request.dns_search != ["."] {
        let _ = writeln!(text, "search {}", request.dns_search.join(" "));
    }
    if !request.dns_options.is_empty() {
        let _ = writeln!(text, "options {}", request.dns_options.join(" "));
    }
    let servers = match &request.dns {
        // Who answers for its networks asks these.
        Dns::Servers(servers) if !addresses.asks => servers.clone(),
        _ if addresses.dns.is_some() => addresses.dns.into_iter().collect(),
        // The host's loopback is out of reach from a network of the container's own.
        _ => nameservers(host).filter(|server| !request.own_network() || !server.is_loopback()).collect(),
    };
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    text
}

/// Empty for all but privileged containers, as Podman writes it: programs look for the file, and it should tell no more.
fn containerenv(request: &Request, id: &str, name: &str) -> String {
    if !request.privileged {
        return String::new();
    }
    let image = match &request.source {
        Source::Image { name, .. } => name.as_str(),
        Source::Rootfs(_) | Source::Nothing => "",
    };
    let engine = concat!("ctr-", env!("CARGO_PKG_VERSION"));
    format!("engine={engine:?}\nname={name:?}\nid={id:?}\nimage={image:?}\n")
}

fn nameservers(resolv_conf: &str) -> impl Iterator<Item = IpAddr> {
    let server = |line: &str| {
        let address = line.split_whitespace().nth(1)?;
        // A link-local server names its interface, which is not the container's.
        (directive(line) == Some("nameserver")).then(|| address.parse().ok()).flatten()
    };
    resolv_conf.lines().filter_map(server)
}

/// The first word of a line.
pub(super) fn directive(line: &str) -> Option<&str> {
    line.split_whitespace().next()
}

fn read(path: &str) -> String {
    let mut text = Vec::new();
    let _ = File::open(path).and_then(|file| file.take(64 << 10).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::request::tests::request;

    const HOST: &str = "# by hand\nsearch example.org\nnameserver 127.0.0.1\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\n\
        nameserver ::1\nnameserver 2001:db8::1\noptions edns0\n";

    fn file(request: &Request, addresses: &Addresses, name: &str) -> String {
        let files = contents(request, "0123456789ab", "web", "box", addresses, HOST, "");
        let file = files.into_iter().find(|file| file.name == name).unwrap();
        String::from_utf8(file.contents).unwrap()
    }

    #[test]
    fn resolv_conf_by_network() {
        let mut request = request();
        let none = Addresses::default();
        let reachable =
            "# by hand\nsearch example.org\noptions edns0\nnameserver 10.0.0.1\nnameserver 2001:db8::1\n";
        assert_eq!(file(&request, &none, "resolv.conf"), reachable);
        request.dns = parse_dns(&["9.9.9.9".into()]).unwrap();
        let given = "# by hand\nsearch example.org\noptions edns0\nnameserver 9.9.9.9\n";
        assert_eq!(file(&request, &none, "resolv.conf"), given);
        request.dns = Dns::Host;
        request.network = NetworkMode::Host;
        assert!(file(&request, &none, "resolv.conf").contains("nameserver 127.0.0.1\n"));
        request.network = NetworkMode::None;
        assert!(!file(&request, &none, "resolv.conf").contains("nameserver"));
        request.dns = Dns::Image;
        assert!(places(&request).all(|(name, _)| name != "resolv.conf"));
        let fallback = Addresses { dns: Some([169, 254, 1, 1].into()), ..none };
        request = super::super::request::tests::request();
        assert_eq!(resolv_conf(&request, &fallback, "nameserver 127.0.0.1\n"), "nameserver 169.254.1.1\n");
        assert_eq!(
            resolv_conf(&request, &fallback, "search a\nnameserver 10.0.0.1\n"),
            "search a\nnameserver 169.254.1.1\n"
        );
        request.dns = parse_dns(&["9.9.9.9".into()]).unwrap();
        assert_eq!(resolv_conf(&request, &fallback, ""), "nameserver 9.9.9.9\n");
    }

    #[test]
    fn what_is_searched() {
        let mut request = request();
        request.dns_search = vec![parse_search("a.example").unwrap(), parse_search("b").unwrap()];
        request.dns_options = vec![parse_option("ndots:2").unwrap()];
        let reachable = Addresses { dns: Some([10, 0, 0, 1].into()), ..Addresses::default() };
        let expected = "# by hand\nsearch a.example b\noptions ndots:2\nnameserver 10.0.0.1\n";
        assert_eq!(file(&request, &reachable, "resolv.conf"), expected);
        request.dns_search = vec![parse_search("").unwrap()];
        request.dns = parse_dns(&["9.9.9.9".into()]).unwrap();
        let expected = "# by hand\noptions ndots:2\nnameserver 10.0.0.1\n";
        assert_eq!(file(&request, &Addresses { asks: true, ..reachable }, "resolv.conf"), expected);
        (request.no_hosts, request.no_hostname) = (true, true);
        assert!(places(&request).all(|(name, _)| !name.starts_with("host")));
        assert!(parse_search("a\nb").is_err() && parse_option("a b").is_err() && parse_option("").is_err());
    }

    #[test]
    fn hosts_and_hostname() {
        let mut request = request();
        request.add_hosts = vec![
            parse_add_host("a;b:10.1.1.1").unwrap(),
            parse_add_host("c:fd00::1").unwrap(),
            parse_add_host("d:host-gateway").unwrap(),
        ];
        let addresses = Addresses {
            own: Some([10, 0, 2, 100].into()),
            host: Some([10, 0, 2, 2].into()),
            ..Addresses::default()
        };
        let expected = "10.1.1.1\ta b\nfd00::1\tc\n10.0.2.2\td\n127.0.0.1\tlocalhost localhost.localdomain\n\
            ::1\tlocalhost localhost.localdomain ip6-localhost ip6-loopback\n\
            10.0.2.2\thost.containers.internal host.docker.internal\n10.0.2.100\tbox web\n";
        assert_eq!(file(&request, &addresses, "hosts"), expected);
        assert_eq!(file(&request, &addresses, "hostname"), "box\n");
        assert_eq!(file(&request, &addresses, "containerenv"), "");
        let with_base = hosts(&request, "box", "box", &Addresses::default(), "1.1.1.1 x");
        assert!(with_base.starts_with("1.1.1.1 x\n10.1.1.1") && with_base.ends_with("127.0.1.1\tbox\n"));
        request.privileged = true;
        assert!(
            file(&request, &addresses, "containerenv").contains("id=\"0123456789ab\"\nimage=\"ubuntu\"\n")
        );
    }

    #[test]
    fn add_host_and_dns() {
        assert_eq!(parse_add_host("a:[::1]").unwrap().address, Some(std::net::Ipv6Addr::LOCALHOST.into()));
        for bad in [
            "",
            "a",
            "a:",
            ":1.2.3.4",
            "a:b",
            "a:1.2.3",
            "a b:1.2.3.4",
            "a\nb:1.2.3.4",
            "a;:1.2.3.4",
            "a:host-gate",
        ] {
            assert!(parse_add_host(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_dns(&[]).unwrap(), Dns::Host);
        assert_eq!(parse_dns(&["none".into()]).unwrap(), Dns::Image);
        for bad in [&["none", "1.1.1.1"][..], &["a"], &[""], &["1.1.1.1:53"]] {
            assert!(parse_dns(&bad.iter().map(|s| s.to_string()).collect::<Vec<_>>()).is_err(), "{bad:?}");
        }
    }
}
