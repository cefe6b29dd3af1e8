//! The grammars of `run`'s smaller options, each a pure function of its text.

use super::record::Restart;
use super::request::NetworkMode;
use crate::{
    network::{
        networks::{self, Wish},
        pasta,
    },
    registry::PullPolicy,
    security::apparmor::Choice,
    storage::Name,
};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// One `--security-opt`, before files are read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecurityOption {
    /// `no-new-privileges[:true|false]`
    NoNewPrivileges(bool),
    /// `seccomp=unconfined`
    SeccompUnconfined,
    /// `seccomp=FILE`
    SeccompFile(PathBuf),
    /// `apparmor=PROFILE` and `apparmor=unconfined`
    AppArmor(Choice),
    /// `label=…`: whether a label is asked for.
    Label(bool),
}

/// `none`, `host`, `private`, or a network with options.
pub fn parse_network(text: &str) -> Result<NetworkMode> {
    match text {
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        "private" => Ok(NetworkMode::Private { explicit: true, host_loopback: false }),
        "private:host-loopback" => Ok(NetworkMode::Private { explicit: true, host_loopback: true }),
        "pasta" => Ok(NetworkMode::Pasta(String::new())),
        _ if text.starts_with("private:") => bail!("a private network has one option: host-loopback"),
        _ if text.starts_with("pasta:") => {
            let options = &text["pasta:".len()..];
            pasta::parse(options)?;
            Ok(NetworkMode::Pasta(options.to_owned()))
        }
        "slirp4netns" => bail!("slirp4netns is not used: a process of our own connects containers"),
        // Podman's words for its default network.
        "bridge" | "" => {
            Ok(NetworkMode::Networks(vec![Wish { network: networks::DEFAULT.to_owned(), ..Wish::default() }]))
        }
        _ => {
            let wish: Wish = text.parse()?;
            wish.network
                .parse::<Name>()
                .with_context(|| format!("{:?} is no name of a network", wish.network))?;
            Ok(NetworkMode::Networks(vec![wish]))
        }
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

/// `no`, `never`, `on-failure[:N]`, `always` or `unless-stopped`.
pub fn parse_restart(text: &str) -> Result<Restart> {
    Ok(match text.split_once(':') {
        None if matches!(text, "no" | "never") => Restart::No,
        None if text == "on-failure" => Restart::OnFailure(0),
        Some(("on-failure", count)) => Restart::OnFailure(count.parse().context("count the restarts")?),
        None if text == "always" => Restart::Always,
        None if text == "unless-stopped" => Restart::UnlessStopped,
        _ => bail!("no such restart policy"),
    })
}

/// `no-new-privileges[:BOOL]`, `seccomp=unconfined`, `seccomp=FILE`, `apparmor=unconfined`, `apparmor=PROFILE`,
/// `label=disable` and the parts of an SELinux label.
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
        ("apparmor", Some("unconfined")) => SecurityOption::AppArmor(Choice::Unconfined),
        ("apparmor", Some(name)) if is_profile(name) => {
            SecurityOption::AppArmor(Choice::Profile(name.to_owned()))
        }
        ("label", Some("disable" | "nested")) => SecurityOption::Label(false),
        ("label", Some(label)) if is_label(label) => SecurityOption::Label(true),
        ("mask" | "unmask" | "proc-opts" | "systempaths", _) => {
            bail!("{key} is not built yet")
        }
        _ => bail!("no such security option"),
    })
}

/// A name that the kernel takes behind "exec ".
fn is_profile(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_graphic())
}

/// One part of a label: `user:`, `role:`, `type:`, `level:` or `filetype:` and its value.
fn is_label(text: &str) -> bool {
    text.split_once(':').is_some_and(|(part, value)| {
        matches!(part, "user" | "role" | "type" | "level" | "filetype") && is_profile(value)
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
        assert_eq!(
            parse_network("private").unwrap(),
            NetworkMode::Private { explicit: true, host_loopback: false }
        );
        assert_eq!(parse_network("pasta:-T,5432").unwrap(), NetworkMode::Pasta("-T,5432".into()));
        for bad in
            ["slirp4netns", "pasta:--pid,/x", "private:host", "../x", "a b", "web:what=1", ":ip=1.2.3.4"]
        {
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
            ("apparmor=unconfined", SecurityOption::AppArmor(Choice::Unconfined)),
            ("apparmor=my//profile", SecurityOption::AppArmor(Choice::Profile("my//profile".into()))),
            ("label=disable", SecurityOption::Label(false)),
            ("label=type:spc_t", SecurityOption::Label(true)),
            ("label:level:s0:c1,c2", SecurityOption::Label(true)),
            ("seccomp=/a=b.json", SecurityOption::SeccompFile("/a=b.json".into())),
        ] {
            assert_eq!(parse_security_option(text).unwrap(), option);
        }
        for bad in [
            "",
            "seccomp",
            "seccomp=",
            "no-new-privileges:maybe",
            "label=x",
            "apparmor=",
            "apparmor=a b",
            "mask=/x",
        ] {
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
