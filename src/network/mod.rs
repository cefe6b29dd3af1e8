//! The network of a container: none, the host's, or a private one: a process of ours, or pasta(1) where it is asked for, turns
//! what it sends into sockets of this user.

mod confine;
pub mod device;
pub mod engine;
pub mod networks;
pub mod pasta;
pub mod plug;
pub mod ports;
pub mod private;
pub mod process;
mod resolvers;
pub mod subnet;
pub mod wire;

pub use pasta::Pasta;

use crate::error::Explain;
use anyhow::{Result, anyhow};
use rustix::fs::{Access, access};
use std::path::PathBuf;

/// What a container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// A namespace with nothing but loopback, or one that is there already.
    None,
    /// No namespace of its own.
    Host,
    /// A namespace that a process of ours connects.
    Private {
        /// The gateway leads to the host's loopback.
        host_loopback: bool,
    },
    /// A namespace that this pasta connects, with these options.
    Pasta(PathBuf, Vec<String>),
}

/// That of a container whose record says `network`.
///
/// # Errors
/// What it takes is missing on this machine.
pub fn connection(network: &str) -> Result<Connection> {
    let private = |host_loopback| match missing() {
        None => Ok(Connection::Private { host_loopback }),
        Some(missing) => Err(anyhow!("connect the network: {missing}"))
            .hint(format!("{MEND_TUN}, or choose --network=none or --network=host")),
    };
    match network {
        "host" => Ok(Connection::Host),
        "private" => private(false),
        "private:host-loopback" => private(true),
        _ if network == "pasta" || network.starts_with("pasta:") => match pasta::find() {
            Some(pasta) => {
                let options = network.strip_prefix("pasta:").unwrap_or_default();
                Ok(Connection::Pasta(pasta, pasta::parse(options)?))
            }
            None => Err(anyhow!("pasta is not installed"))
                .hint("--network=private needs nothing; Debian: apt install passt"),
        },
        _ => Ok(Connection::None),
    }
}

/// Why there can be no private network, and what mends it: said once, and then there is none. `explicit`: it was asked for.
///
/// # Errors
/// It was asked for by name and this machine has no usable /dev/net/tun.
pub fn fallback(explicit: bool) -> Result<Option<String>> {
    match missing() {
        None => Ok(None),
        Some(missing) if explicit => {
            Err(anyhow!("{missing}")).hint(format!("{MEND_TUN}, or choose --network=none or --network=host"))
        }
        Some(missing) => Ok(Some(format!("{missing}, so the container has no network ({MEND_TUN})"))),
    }
}

/// Why there can be no private network here.
pub fn missing() -> Option<String> {
    access("/dev/net/tun", Access::READ_OK | Access::WRITE_OK)
        .err()
        .map(|errno| format!("/dev/net/tun can't be opened ({errno})"))
}

const MEND_TUN: &str = "`sudo modprobe tun && sudo chmod 0666 /dev/net/tun`";
