//! Kernel parameters that belong to the container's own namespaces, and none other: the rest of /proc/sys is the host's.

use crate::weakened;
use anyhow::{Context, Result, bail};

const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// `NAME=VALUE`, the name in its dotted form. `own_network` and `own_ipc` say whether those namespaces are the container's.
pub fn parse(text: &str, own_network: bool, own_ipc: bool) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').context("no `=` between name and value")?;
    // Each part becomes one path component below /proc/sys: a slash, an empty part or `..` would lead elsewhere.
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'@'))
    };
    if !name.split('.').all(plain) {
        bail!("{name:?} is not a dotted name such as net.ipv4.ip_forward");
    }
    if value.len() > 4096 || value.contains(['\n', '\0']) {
        bail!("the value is not one short line");
    }
    let namespaced = match name.split_once('.') {
        Some(("net", _)) if !own_network => bail!("net.* is the host's with --network=host"),
        Some(("net", _)) => true,
        Some(("kernel", key)) if IPC.contains(&key) && !own_ipc => {
            bail!("{name} is not this container's, which shares memory")
        }
        Some(("kernel", key)) => IPC.contains(&key),
        Some(("fs", key)) if key.starts_with("mqueue.") => own_ipc,
        _ => false,
    };
    if !namespaced && !weakened::is("sysctl-names") {
        bail!("{name} is not a parameter of a container's own namespaces");
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_namespaced() {
        for (text, name, value) in [
            ("net.ipv4.ip_forward=1", "net.ipv4.ip_forward", "1"),
            ("kernel.msgmax=65536", "kernel.msgmax", "65536"),
            ("kernel.sem=250 32000 100 128", "kernel.sem", "250 32000 100 128"),
            ("fs.mqueue.msg_max=10", "fs.mqueue.msg_max", "10"),
        ] {
            assert_eq!(parse(text, true, true).unwrap(), (name.into(), value.into()));
        }
        for bad in [
            "kernel.core_pattern=|/x",
            "kernel.core_pattern",
            "vm.swappiness=1",
            "fs.file-max=1",
            "fs.mqueue=1",
            "kernel/msgmax=1",
            "net/ipv4/ip_forward=1",
            "net.ipv4/../../kernel/core_pattern=1",
            "net...=1",
            "net=1",
            "net.+=1",
            "kernel.sysrq=1",
            "=1",
            "",
            "net.ipv4.x=1\n2",
            "kernel.msgmax.x=1",
            "NET.ipv4.x=1",
            "kernel.shm_rmid_forced/../core_pattern=x",
            "net.*.x=1",
        ] {
            assert!(parse(bad, true, true).is_err(), "{bad}");
        }
        assert!(parse("net.ipv4.ip_forward=1", false, true).is_err());
        assert!(parse("kernel.msgmax=1", false, true).is_ok());
    }
}
