//! What /etc/hosts and /etc/resolv.conf of a container say of its networks, when these change after it was made.

use super::{
    etc_files::{HOSTS_LIMIT, directive},
    networks,
    record::Record,
};
use crate::{
    network::{networks::Attachment, private},
    storage::{ContainerDir, Store},
};
use anyhow::{Context, Result};
use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

/// Let the files of the container in `dir` follow a change of its record. Lines that are not about its networks stay.
///
/// # Errors
/// A file can't be read or written. One that the container doesn't have is left out.
pub fn follow(store: &Store, dir: &ContainerDir, before: &Record, after: &Record) -> Result<()> {
    let host = networks::lead_out(store, &after.networks)?.then_some(private::HOST);
    change(&dir.path().join("hosts"), |text| hosts(text, before, after, host))?;
    let nameservers =
        [networks::nameserver(store, &before.networks)?, networks::nameserver(store, &after.networks)?];
    change(&dir.path().join("resolv.conf"), |text| resolv_conf(text, nameservers))
}

fn change(path: &Path, change: impl FnOnce(&str) -> String) -> Result<()> {
    let doing = || format!("change {}", path.display());
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(2 * HOSTS_LIMIT).read_to_end(&mut text).with_context(doing)?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(doing),
    };
    let text = String::from_utf8_lossy(&text);
    let changed = change(&text);
    // The same file, since that is what the container has mounted.
    if changed == text { Ok(()) } else { fs::write(path, changed).with_context(doing) }
}

fn hosts(text: &str, before: &Record, after: &Record, host: Option<Ipv4Addr>) -> String {
    let addresses = |all: &[Attachment]| -> Vec<IpAddr> {
        all.iter().flat_map(|one| [Some(one.v4.into()), one.v6.map(IpAddr::from)]).flatten().collect()
    };
    let (old, new) = (addresses(&before.networks), addresses(&after.networks));
    let of = |line: &str| directive(line).and_then(|word| word.parse::<IpAddr>().ok());
    let ours = |line: &str| {
        let address = of(line);
        let gone = address.is_some_and(|address| old.contains(&address) && !new.contains(&address));
        let alone = address == Some(ALONE.into()) && !new.is_empty();
        let host_gone =
            host.is_none() && address == Some(private::HOST.into()) && line.contains(NAMES_OF_HOST);
        gone || alone || host_gone
    };
    let mut lines: Vec<String> = text.lines().filter(|line| !ours(line)).map(str::to_owned).collect();
    if let Some(host) = host.filter(|_| !lines.iter().any(|line| line.contains(NAMES_OF_HOST))) {
        lines.push(format!("{host}\t{NAMES_OF_HOST}"));
    }
    let own = match after.networks.is_empty() {
        true => vec![ALONE],
        false => after.networks.iter().map(|one| one.v4).collect(),
    };
    for address in own {
        if !lines.iter().any(|line| of(line) == Some(address.into())) {
            let Record { hostname, name, .. } = after;
            let separate = if name.as_str() == hostname { "" } else { name.as_str() };
            lines.push(format!("{address}\t{hostname} {separate}").trim_end().to_owned());
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn resolv_conf(text: &str, [before, after]: [Option<IpAddr>; 2]) -> String {
    if before == after {
        return text.to_owned();
    }
    let server = |address: IpAddr| format!("nameserver {address}");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let asked = lines.iter().any(|line| directive(line) == Some("nameserver"));
    match (before.map(server), after.map(server)) {
        (Some(before), Some(after)) => {
            lines.iter_mut().filter(|line| **line == before).for_each(|line| line.clone_from(&after));
        }
        (Some(before), None) => lines.retain(|line| *line != before),
        // Whoever has others was told whom to ask.
        (None, Some(after)) if !asked => lines.push(after),
        (None, _) => {}
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// Without a network.
const ALONE: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
/// What the host is called.
pub const NAMES_OF_HOST: &str = "host.containers.internal host.docker.internal";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ContainerId;
    use jiff::Timestamp;

    fn record(addresses: &[[u8; 4]]) -> Record {
        let place = |address: &[u8; 4]| Attachment {
            network: "n".into(),
            interface: "eth0".into(),
            mac: [2; 6],
            v4: (*address).into(),
            v6: None,
            aliases: Vec::new(),
        };
        let id = ContainerId::random().unwrap();
        let record = Record::new(id, "web".parse().unwrap(), Timestamp::UNIX_EPOCH);
        Record { hostname: "box".into(), networks: addresses.iter().map(place).collect(), ..record }
    }

    #[test]
    fn hosts_follow() {
        let (none, one, two) =
            (record(&[]), record(&[[10, 0, 0, 1]]), record(&[[10, 0, 0, 1], [10, 1, 0, 1]]));
        let host = Some(private::HOST);
        let with_one =
            format!("9.9.9.9\tmine\n127.0.0.1\tlocalhost\n169.254.1.2\t{NAMES_OF_HOST}\n10.0.0.1\tbox web\n");
        assert_eq!(hosts(&with_one, &one, &two, host), format!("{with_one}10.1.0.1\tbox web\n"));
        assert_eq!(hosts(&format!("{with_one}10.1.0.1\tbox web\n"), &two, &one, host), with_one);
        let alone = "9.9.9.9\tmine\n127.0.0.1\tlocalhost\n127.0.1.1\tbox web\n";
        assert_eq!(hosts(&with_one, &one, &none, None), alone);
        assert_eq!(hosts(alone, &none, &one, host).lines().count(), 4);
        assert_eq!(hosts(&with_one, &one, &one, host), with_one);
    }

    #[test]
    fn nameservers_follow() {
        let (a, b) = (Some([10, 0, 0, 1].into()), Some([10, 1, 0, 1].into()));
        for (text, change, expected) in [
            ("search x\nnameserver 10.0.0.1\n", [a, b], "search x\nnameserver 10.1.0.1\n"),
            ("search x\nnameserver 10.0.0.1\n", [a, None], "search x\n"),
            ("search x\n", [None, a], "search x\nnameserver 10.0.0.1\n"),
            ("nameserver 9.9.9.9\n", [None, a], "nameserver 9.9.9.9\n"),
            ("nameserver 9.9.9.9\n", [a, b], "nameserver 9.9.9.9\n"),
        ] {
            assert_eq!(resolv_conf(text, change), expected, "{text}");
        }
    }
}
