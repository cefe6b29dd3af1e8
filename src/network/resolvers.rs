//! Whom the host asks for names: resolv.conf(5).

use std::{
    io::Read,
    net::{IpAddr, Ipv4Addr},
};

/// The host's nameservers as they are now, in order.
pub fn now() -> Vec<IpAddr> {
    let mut text = String::new();
    // What can't be read says nothing.
    let _ =
        std::fs::File::open("/etc/resolv.conf").and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    parse(&text)
}

const LONGEST: u64 = 64 << 10;

/// The nameservers of `text`; without any it is this machine. Of a link-local one the link is unknown here, so it is left out.
fn parse(text: &str) -> Vec<IpAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    });
    let named: Vec<IpAddr> = named.take(MOST).collect();
    if named.is_empty() { vec![IpAddr::V4(Ipv4Addr::LOCALHOST)] } else { named }
}

const MOST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers() {
        let cases = [
            ("", "127.0.0.1"),
            ("# nameserver 1.1.1.1\nsearch a b\n", "127.0.0.1"),
            ("nameserver 127.0.0.53\noptions edns0\n", "127.0.0.53"),
            (
                "nameserver\t192.0.2.1  \n nameserver 2001:db8::1 # two\nnameserver x\n",
                "192.0.2.1 2001:db8::1",
            ),
            ("nameserver fe80::1%eth0\nnameserver 192.0.2.1\n", "192.0.2.1"),
        ];
        for (text, expected) in cases {
            let found: Vec<String> = parse(text).iter().map(IpAddr::to_string).collect();
            assert_eq!(found.join(" "), expected, "{text:?}");
        }
    }
}
