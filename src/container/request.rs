//! What `run` was asked for: validated, as plain data. Nothing here acts, and nothing here comes from an image.

use super::{
    devices::Device,
    environment::Variable,
    etc_files::{AddHost, Dns},
    limits::Ulimit,
    signal::Signal,
    timezone::Timezone,
    tmpfs::Tmpfs,
    users::{UserSpec, Who},
};
use crate::{registry::PullPolicy, security::CapSet, storage::Name};
use anyhow::{Context, Result, bail};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Everything a new container is made from, beside its image.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where the root file system comes from.
    pub source: Source,
    /// The command line after the image; empty: the image's own.
    pub command: Vec<String>,
    /// In place of the image's entrypoint; `Some` of an empty list: none.
    pub entrypoint: Option<Vec<String>>,
    /// The container's name; None: one is made up.
    pub name: Option<Name>,
    /// User and group; None: the image's.
    pub user: Option<UserSpec>,
    /// Additional groups.
    pub group_add: Vec<Who>,
    /// Working directory, absolute; None: the image's.
    pub workdir: Option<String>,
    /// Variables beside the image's, in order.
    pub env: Vec<Variable>,
    /// A terminal.
    pub tty: bool,
    /// Stdin stays open.
    pub interactive: bool,
    /// Signals are passed on when there is no terminal.
    pub sig_proxy: bool,
    /// An init of ours is PID 1.
    pub init: bool,
    /// The container is removed when it exits.
    pub remove: bool,
    /// The id is written to this file, which must not exist.
    pub cidfile: Option<PathBuf>,
    /// The process id is written to this file.
    pub pidfile: Option<PathBuf>,
    /// Metadata for listings.
    pub labels: BTreeMap<String, String>,
    /// Metadata for runtimes.
    pub annotations: BTreeMap<String, String>,
    /// The network.
    pub network: NetworkMode,
    /// Host name; None: the container's short id.
    pub hostname: Option<String>,
    /// More lines of /etc/hosts.
    pub add_hosts: Vec<AddHost>,
    /// Name servers.
    pub dns: Dns,
    /// Root file system read-only, with tmpfs where programs write.
    pub read_only: bool,
    /// More tmpfs.
    pub tmpfs: Vec<Tmpfs>,
    /// Size of /dev/shm in bytes; 0: no limit.
    pub shm_size: u64,
    /// Devices of the host; with `privileged`, all that there are.
    pub devices: Vec<Device>,
    /// All capabilities and devices, nothing masked, no system call filter.
    pub privileged: bool,
    /// The bounding set, and root's effective set.
    pub capabilities: CapSet,
    /// Those of `--cap-add`: what a user other than root has.
    pub added_capabilities: CapSet,
    /// Set-user-ID programs and file capabilities give nothing.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: SeccompChoice,
    /// Resource limits.
    pub ulimits: Vec<Ulimit>,
    /// The session's limits stay as they are but for `ulimits`.
    pub inherit_limits: bool,
    /// Kernel parameters of the container's namespaces: dotted name and value.
    pub sysctls: BTreeMap<String, String>,
    /// File mode creation mask.
    pub umask: u32,
    /// Time zone; None: the image's.
    pub timezone: Option<Timezone>,
    /// Asks the container to stop; None: the image's, or SIGTERM.
    pub stop_signal: Option<Signal>,
    /// From that signal to SIGKILL.
    pub stop_timeout: Duration,
    /// From the start to SIGKILL; None: never.
    pub timeout: Option<Duration>,
}

/// Where the root file system comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A stored image, or one to pull.
    Image {
        /// As the user wrote it.
        name: String,
        /// How to get it.
        pull: Pull,
    },
    /// A directory of the user's.
    Rootfs(Rootfs),
}

/// How to get an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pull {
    /// Whether to ask a registry.
    pub policy: PullPolicy,
    /// `os/arch[/variant]`; None: this machine's.
    pub platform: Option<String>,
    /// Print no progress.
    pub quiet: bool,
    /// None: as registries.conf says.
    pub tls_verify: Option<bool>,
    /// Credentials file.
    pub authfile: Option<PathBuf>,
}

/// A directory as root file system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rootfs {
    /// Absolute.
    pub dir: PathBuf,
    /// Changes go to a layer that is thrown away.
    pub overlay: bool,
}

/// The container's network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetworkMode {
    /// Its own, with a loopback interface only.
    None,
    /// The host's.
    Host,
    /// Its own, connected.
    Private {
        /// Asked for by name: without it, to fall back to `None` is worth a hint only.
        explicit: bool,
    },
}

/// The system call filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SeccompChoice {
    /// The built-in profile.
    Default,
    /// No filter.
    Unconfined,
    /// A profile in Docker's JSON format.
    File {
        /// For messages.
        path: PathBuf,
        /// Its text, at most [`SECCOMP_LIMIT`] bytes.
        json: Vec<u8>,
    },
}

/// Bytes of a seccomp profile.
pub const SECCOMP_LIMIT: u64 = 1 << 20;

/// One `--security-opt`, before files are read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecurityOption {
    /// `no-new-privileges[:true|false]`
    NoNewPrivileges(bool),
    /// `seccomp=unconfined`
    SeccompUnconfined,
    /// `seccomp=FILE`
    SeccompFile(PathBuf),
}

impl Request {
    /// Whether `net.*` parameters, /sys and ports are the container's own.
    pub fn own_network(&self) -> bool {
        self.network != NetworkMode::Host
    }
}

/// `none`, `host` or `private`.
pub fn parse_network(text: &str) -> Result<NetworkMode> {
    match text {
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        "private" => Ok(NetworkMode::Private { explicit: true }),
        _ => bail!("this network mode is not built yet"),
    }
}

/// `always`, `missing`, `never` or `newer`.
pub fn parse_pull_policy(text: &str) -> Result<PullPolicy> {
    Ok(match text {
        "always" | "true" => PullPolicy::Always,
        "missing" | "" => PullPolicy::Missing,
        "never" | "false" => PullPolicy::Never,
        "newer" => PullPolicy::Newer,
        _ => bail!("no such pull policy"),
    })
}

/// `no-new-privileges[:BOOL]`, `seccomp=unconfined`, `seccomp=FILE`.
pub fn parse_security_option(text: &str) -> Result<SecurityOption> {
    let (key, value) = match text.split_once(['=', ':']) {
        Some((key, value)) => (key, Some(value)),
        None => (text, None),
    };
    Ok(match (key, value) {
        ("no-new-privileges", None | Some("true")) => SecurityOption::NoNewPrivileges(true),
        ("no-new-privileges", Some("false")) => SecurityOption::NoNewPrivileges(false),
        ("seccomp", Some("unconfined")) => SecurityOption::SeccompUnconfined,
        ("seccomp", Some(path)) if !path.is_empty() => SecurityOption::SeccompFile(path.into()),
        ("apparmor" | "label" | "mask" | "unmask" | "proc-opts" | "systempaths", _) => {
            bail!("{key} is not built yet")
        }
        _ => bail!("no such security option"),
    })
}

/// A host name that sethostname(2) and a resolver take: at most 64 letters, digits, dots, hyphens, underscores.
pub fn parse_hostname(text: &str) -> Result<String> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if text.len() > 64 || !text.split('.').all(label) {
        bail!("a host name has at most 64 letters, digits, hyphens and dots");
    }
    Ok(text.to_owned())
}

/// `os/arch[/variant]`; the system is always linux.
pub fn parse_platform(text: &str) -> Result<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let word = |part: &&str| {
        !part.is_empty()
            && part.len() <= 32
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    match parts[..] {
        [_, _] | [_, _, _] if !parts.iter().all(word) => bail!("not of the form os/arch[/variant]"),
        ["linux", _] | ["linux", _, _] => Ok(text.to_owned()),
        [os, _] | [os, _, _] => bail!("containers of {os} can't run on Linux"),
        _ => bail!("not of the form os/arch[/variant]"),
    }
}

/// A program, or a JSON array of program and arguments; an empty text or array: none.
pub fn parse_entrypoint(text: &str) -> Vec<String> {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(words) => words,
        Err(_) => vec![text.to_owned()],
    }
}

/// `KEY=VALUE`, or `KEY` alone for an empty value.
pub fn parse_label(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        bail!("the key is empty");
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `KEY=VALUE`.
pub fn parse_annotation(text: &str) -> Result<(String, String)> {
    text.contains('=').then_some(()).context("no `=` between key and value")?;
    parse_label(text)
}

/// An octal mode of at most `limit`.
pub fn parse_mode(text: &str, limit: u32) -> Result<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    match digits.then(|| u32::from_str_radix(text, 8).ok()).flatten() {
        Some(mode) if mode <= limit => Ok(mode),
        _ => bail!("{text:?} is no octal mode of 0 to {limit:o}"),
    }
}

/// `DIR[:O]`: where, and whether changes are thrown away. The directory is not looked at.
pub fn parse_rootfs(text: &str) -> Result<(&str, bool)> {
    match text.rsplit_once(':') {
        Some((dir, "O")) => Ok((dir, true)),
        Some((_, option)) if option.starts_with("idmap") => bail!("the option {option} is not built yet"),
        _ => Ok((text, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(parse_network("none").unwrap(), NetworkMode::None);
        assert_eq!(parse_network("private").unwrap(), NetworkMode::Private { explicit: true });
        for bad in ["", "bridge", "slirp4netns", "container:x", "ns:/x", "None"] {
            assert!(parse_network(bad).is_err(), "{bad}");
        }
        assert!(parse_pull_policy("sometimes").is_err());
    }

    #[test]
    fn security_options() {
        for (text, option) in [
            ("no-new-privileges", SecurityOption::NoNewPrivileges(true)),
            ("no-new-privileges:true", SecurityOption::NoNewPrivileges(true)),
            ("no-new-privileges=false", SecurityOption::NoNewPrivileges(false)),
            ("seccomp=unconfined", SecurityOption::SeccompUnconfined),
            ("seccomp=/a=b.json", SecurityOption::SeccompFile("/a=b.json".into())),
        ] {
            assert_eq!(parse_security_option(text).unwrap(), option);
        }
        for bad in ["", "seccomp", "seccomp=", "no-new-privileges:maybe", "label=disable", "apparmor=unconfined"] {
            assert!(parse_security_option(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hostnames() {
        for good in ["box", "a.b-c_d", "0", &"x".repeat(64)] {
            assert_eq!(parse_hostname(good).unwrap(), good);
        }
        for bad in ["", "-a", "a..b", ".a", "a b", "a\nb", "a/b", "ä", &"x".repeat(65)] {
            assert!(parse_hostname(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn platforms() {
        for good in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(parse_platform(good).unwrap(), good);
        }
        for bad in ["", "amd64", "linux/", "windows/amd64", "linux/arm/v7/x", "linux/a b", "/amd64"] {
            assert!(parse_platform(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn entrypoints() {
        for (text, words) in [
            ("/bin/sh", &["/bin/sh"][..]),
            ("a b", &["a b"]),
            (r#"["a", "b c"]"#, &["a", "b c"]),
            ("[]", &[]),
            ("", &[""]),
            ("[1]", &["[1]"]),
        ] {
            assert_eq!(parse_entrypoint(text), words, "{text}");
        }
    }

    #[test]
    fn pairs_modes_and_directories() {
        assert_eq!(parse_label("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert_eq!(parse_label("a").unwrap(), ("a".into(), "".into()));
        assert!(parse_label("=a").is_err() && parse_label("").is_err());
        assert!(parse_annotation("a").is_err() && parse_annotation("=").is_err());
        assert_eq!((parse_mode("0022", 0o777).unwrap(), parse_mode("777", 0o777).unwrap()), (0o022, 0o777));
        for bad in ["", "8", "1000", "-1", "0o22", "+1", "99999999999"] {
            assert!(parse_mode(bad, 0o777).is_err(), "{bad}");
        }
        assert_eq!(parse_rootfs("/a:O").unwrap(), ("/a", true));
        assert_eq!(parse_rootfs("/a:b").unwrap(), ("/a:b", false));
        assert!(parse_rootfs("/a:idmap").is_err());
    }
}
