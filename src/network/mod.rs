//! The network of a container: none, the host's, or a private one that pasta(1) connects.

mod confine;
mod engine;
mod pasta;
pub mod process;
mod resolvers;
pub mod wire;

pub use pasta::Pasta;

use crate::error::Explain;
use anyhow::{Result, anyhow};
use rustix::fs::{Access, access};
use std::path::PathBuf;

/// What a container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// A namespace with nothing but loopback.
    None,
    /// No namespace of its own.
    Host,
    /// A namespace that this pasta connects.
    Private(PathBuf),
}

/// A private network if there can be one; else none, and the reason in words that say what mends it.
///
/// # Errors
/// It was asked for by name (`explicit`) and this machine has no usable /dev/net/tun.
pub fn private(explicit: bool) -> Result<(Connection, Option<String>)> {
    let Some(pasta) = pasta::find() else {
        let why = "pasta is not installed, so the container has no network (Debian: apt install passt)";
        return Ok((Connection::None, Some(why.to_owned())));
    };
    match access("/dev/net/tun", Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Ok((Connection::Private(pasta), None)),
        Err(errno) if explicit => Err(anyhow!("open /dev/net/tun: {errno}"))
            .hint(format!("{MEND_TUN}, or choose --network=none or --network=host")),
        Err(errno) => {
            let why = format!(
                "/dev/net/tun can't be opened ({errno}), so the container has no network ({MEND_TUN})"
            );
            Ok((Connection::None, Some(why)))
        }
    }
}

const MEND_TUN: &str = "`sudo modprobe tun && sudo chmod 0666 /dev/net/tun`";
