//! Where a registry may send us: to its token server, and from a blob to where it is stored. Pure.

use crate::weakened;
use reqwest::Url;
use std::net::IpAddr;

/// Whether an answer of `from` may lead us to `to`.
///
/// # Errors
/// Why not: the connection would be less protected, or the target is a service of this machine or of its cloud.
pub fn allowed(from: &Url, to: &Url) -> Result<(), &'static str> {
    if weakened::is("hops") {
        return Ok(());
    }
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => {}
        (_, "http") => return Err("it would lead from https to http"),
        _ => return Err("only http and https are followed"),
    }
    let near = match reach(to) {
        Reach::Everyone => true,
        Reach::Machine => reach(from) == Reach::Machine,
        Reach::Link => from.host_str() == to.host_str(),
    };
    if near { Ok(()) } else { Err("it would lead to a service of this machine or of its cloud") }
}

/// Whether `host[:port]` is this machine itself, which is reached through no proxy.
pub fn is_local(host: &str) -> bool {
    Url::parse(&format!("https://{host}/")).is_ok_and(|url| reach(&url) == Reach::Machine)
}

/// Who can connect to a host.
#[derive(PartialEq, Eq)]
enum Reach {
    Everyone,
    /// Loopback.
    Machine,
    /// Link-local: 169.254.169.254 hands out a cloud machine's secrets.
    Link,
}

fn reach(url: &Url) -> Reach {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    if host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost") {
        return Reach::Machine;
    }
    match host.trim_matches(['[', ']']).parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(v4)) if v4.is_link_local() => Reach::Link,
        Ok(IpAddr::V6(v6)) if v6.is_unicast_link_local() => Reach::Link,
        Ok(address) if address.is_loopback() || address.is_unspecified() => Reach::Machine,
        _ => Reach::Everyone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops() {
        for (from, to, fine) in [
            ("https://a.b/", "https://c.d/x", true),
            ("https://a.b/", "http://a.b/", false),
            ("http://a.b/", "http://c.d/", true),
            ("http://a.b/", "https://c.d/", true),
            ("https://a.b/", "file:///etc/passwd", false),
            ("https://a.b/", "https://127.0.0.1/", false),
            ("https://a.b/", "https://0x7f.1/", false),
            ("https://a.b/", "https://localhost./", false),
            ("https://a.b/", "https://x.localhost/", false),
            ("https://a.b/", "https://[::1]/", false),
            ("https://a.b/", "https://[::ffff:127.0.0.1]/", false),
            ("https://a.b/", "https://169.254.169.254/", false),
            ("https://a.b/", "https://0.0.0.0/", false),
            ("https://a.b/", "https://10.0.0.1/", true),
            ("https://127.0.0.1:5000/", "https://localhost:5001/", true),
            ("https://127.0.0.1:5000/", "https://169.254.169.254/", false),
            ("https://169.254.1.1:5000/", "https://169.254.1.1/", true),
        ] {
            let hop = allowed(&Url::parse(from).unwrap(), &Url::parse(to).unwrap());
            assert_eq!(hop.is_ok(), fine, "{from} {to}: {hop:?}");
        }
    }
}
