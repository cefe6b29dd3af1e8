//! `--tmpfs DIR[:OPTIONS]` (podman-run(1)), as mount(8) options.

use anyhow::{Context, Result, bail};
use std::path::{Component, Path, PathBuf};

/// An empty file system in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tmpfs {
    /// Absolute, without `.` and `..`, and not one of the container's own mounts.
    pub target: PathBuf,
    /// Complete, in the runtime specification's words.
    pub options: Vec<String>,
}

/// What a tmpfs has unless its user says otherwise; `tmpcopyup` starts it with what the image has at its place.
pub const DEFAULT_OPTIONS: [&str; 5] = ["rprivate", "rw", "nosuid", "nodev", "tmpcopyup"];

/// `DIR[:OPTION,…]`. What is not said comes from [`DEFAULT_OPTIONS`].
pub fn parse(text: &str) -> Result<Tmpfs> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let mut chosen = DEFAULT_OPTIONS.map(str::to_owned).to_vec();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let class = class(option)?;
        chosen.retain(|other| self::class(other).is_ok_and(|other| other != class));
        match option.strip_prefix("size=").map(super::limits::parse_size) {
            // The kernel knows fewer units than a user.
            Some(Ok(bytes)) => chosen.push(format!("size={bytes}")),
            _ if option == "notmpcopyup" => {}
            _ => chosen.push(option.to_owned()),
        }
    }
    Ok(Tmpfs { target: target_dir(target)?, options: chosen })
}

/// Options of one class replace each other.
fn class(option: &str) -> Result<&str> {
    let (key, value) = match option.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (option, None),
    };
    let digits = |value: &str| !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    Ok(match (key, value) {
        ("rw" | "ro", None) => "rw",
        ("suid" | "nosuid", None) => "suid",
        ("dev" | "nodev", None) => "dev",
        ("exec" | "noexec", None) => "exec",
        ("atime" | "noatime" | "relatime" | "strictatime", None) => "atime",
        ("private" | "rprivate", None) => "propagation",
        ("tmpcopyup" | "notmpcopyup", None) => "tmpcopyup",
        ("size", Some(value)) => {
            let percent = value.strip_suffix('%').is_some_and(digits);
            if !percent {
                super::limits::parse_size(value).context("size")?;
            }
            key
        }
        ("nr_inodes" | "nr_blocks", Some(value)) => {
            super::limits::parse_size(value).with_context(|| key.to_owned())?;
            key
        }
        ("mode", Some(value)) => {
            super::grammar::parse_mode(value, 0o7777).context("mode")?;
            key
        }
        ("uid" | "gid", Some(value)) if digits(value) => key,
        _ => bail!("{option:?} is no option of a tmpfs"),
    })
}

fn target_dir(text: &str) -> Result<PathBuf> {
    let mut target = PathBuf::from("/");
    if !text.starts_with('/') {
        bail!("{text:?} is not an absolute path");
    }
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => target.push(name),
            Component::RootDir | Component::CurDir => {}
            _ => bail!("{text:?} contains `..`"),
        }
    }
    let ours = target == Path::new("/") || target == Path::new("/dev");
    let kernels = target.starts_with("/proc") || target.starts_with("/sys");
    if (ours || kernels) && !crate::weakened::is("tmpfs-places") {
        bail!("{} is the container's own", target.display());
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        for (text, target, options) in [
            ("/tmp", "/tmp", "rprivate,rw,nosuid,nodev,tmpcopyup"),
            ("/tmp:", "/tmp", "rprivate,rw,nosuid,nodev,tmpcopyup"),
            ("/a//./b/:ro,noexec", "/a/b", "rprivate,nosuid,nodev,tmpcopyup,ro,noexec"),
            ("/run:size=64m,mode=1777", "/run", "rprivate,rw,nosuid,nodev,tmpcopyup,size=67108864,mode=1777"),
            ("/x:exec,suid,dev,notmpcopyup", "/x", "rprivate,rw,exec,suid,dev"),
            ("/x:size=1k,size=50%,uid=5", "/x", "rprivate,rw,nosuid,nodev,tmpcopyup,size=50%,uid=5"),
            ("/dev/shm", "/dev/shm", "rprivate,rw,nosuid,nodev,tmpcopyup"),
        ] {
            let tmpfs = parse(text).unwrap();
            assert_eq!(
                (tmpfs.target.to_str().unwrap(), tmpfs.options.join(",").as_str()),
                (target, options),
                "{text}"
            );
        }
        for bad in [
            "",
            "tmp",
            "/",
            "/.",
            "/a/../b",
            "/proc",
            "/proc/x",
            "/sys/fs",
            "/dev",
            "/t:bogus",
            "/t:size",
            "/t:size=x",
            "/t:mode=9",
            "/t:uid=-1",
            "/t:lowerdir=/",
            "/t:bind",
            "/t:shared",
            "/t:rw=1",
            "/t:size=%",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
