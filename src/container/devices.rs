//! Devices of the host that a container may have.

use anyhow::{Context, Result, bail};
use rustix::fs::{Access, FileType, access, stat};
use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// A device node of the host and its place in the container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// The node on the host.
    pub host: PathBuf,
    /// Absolute, without `..`.
    pub container: PathBuf,
    /// Block device; else a character device.
    pub block: bool,
    /// Its number.
    pub major: u32,
    /// Its number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Those of `r`, `w` and `m` that were asked for. There is no cgroup to hold root of a container to them: `mode` says the
    /// same to everybody else.
    pub rights: String,
}

/// `HOST[:CONTAINER[:PERMISSIONS]]` as its parts; the host's is not looked at.
pub fn parse(text: &str) -> Result<(&str, &str, &str)> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_permissions = |text: &str| !text.is_empty() && text.bytes().all(|b| b"rwm".contains(&b));
    let (host, container, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, permissions] if is_permissions(permissions) => (host, host, permissions),
        [host, container] => (host, container, "rwm"),
        [host, container, permissions] if is_permissions(permissions) => (host, container, permissions),
        _ => bail!("not of the form HOST[:CONTAINER[:rwm]]"),
    };
    checked(host, container, permissions)
}

/// The same parts, if they can be those of a device.
pub fn checked<'a>(
    host: &'a str,
    container: &'a str,
    rights: &'a str,
) -> Result<(&'a str, &'a str, &'a str)> {
    if rights.is_empty() || !rights.bytes().all(|b| b"rwm".contains(&b)) {
        bail!("{rights:?} is not made of r, w and m");
    }
    for path in [host, container] {
        if !path.starts_with('/') || Path::new(path).components().any(|part| part == Component::ParentDir) {
            bail!("{path:?} is not an absolute path");
        }
    }
    Ok((host, container, rights))
}

/// The device at `host`, or all below the directory `host`, to appear at `container` for those who have
/// `rights`.
pub fn find(host: &Path, container: &Path, rights: &str) -> Result<Vec<Device>> {
    let directory = host.starts_with("/dev") && host.is_dir();
    let mut found =
        if directory { below(host, container, 0) } else { look(host, container)?.into_iter().collect() };
    if found.is_empty() {
        bail!("{} is no device", host.display());
    }
    let bits = |right, bits| if rights.contains(right) { bits } else { 0 };
    for device in &mut found {
        device.mode &= !0o666 | bits('r', 0o444) | bits('w', 0o222);
        rights.clone_into(&mut device.rights);
    }
    Ok(found)
}

/// All devices of the host that this user may open.
pub fn of_host() -> Vec<Device> {
    let mut all = below(Path::new("/dev"), Path::new("/dev"), 0);
    all.retain(|device| {
        access(&device.host, Access::READ_OK).is_ok() || access(&device.host, Access::WRITE_OK).is_ok()
    });
    all
}

/// A container has its own of these: the standard devices, and what lies on file systems of its own.
const OWN: [&str; 12] =
    ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue", "fd"];

fn below(host: &Path, container: &Path, depth: u32) -> Vec<Device> {
    let mut found = Vec::new();
    for entry in fs::read_dir(host).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let own = host == Path::new("/dev") && OWN.iter().any(|own| name == *own);
        match entry.file_type() {
            Ok(kind) if own || kind.is_symlink() => {}
            Ok(kind) if kind.is_dir() && depth < 4 => {
                found.extend(below(&entry.path(), &container.join(name), depth + 1));
            }
            // What vanishes meanwhile is no device any more.
            _ => found.extend(look(&entry.path(), &container.join(name)).ok().flatten()),
        }
    }
    found
}

fn look(host: &Path, container: &Path) -> Result<Option<Device>> {
    let stat = stat(host).with_context(|| format!("look at {}", host.display()))?;
    let block = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => true,
        FileType::CharacterDevice => false,
        _ => return Ok(None),
    };
    Ok(Some(Device {
        host: host.to_owned(),
        container: container.to_owned(),
        block,
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
        mode: stat.st_mode & 0o7777,
        rights: "rwm".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        for (text, host, container) in [
            ("/dev/fuse", "/dev/fuse", "/dev/fuse rwm"),
            ("/dev/fuse:r", "/dev/fuse", "/dev/fuse r"),
            ("/dev/fuse:/dev/x", "/dev/fuse", "/dev/x rwm"),
            ("/dev/fuse:/dev/x:rw", "/dev/fuse", "/dev/x rw"),
        ] {
            let (found, inside, rights) = parse(text).unwrap();
            assert_eq!((found, format!("{inside} {rights}").as_str()), (host, container), "{text}");
        }
        for bad in [
            "",
            "fuse",
            "/dev/fuse:x",
            "/dev/fuse:/x:q",
            "/dev/fuse:/x:rw:y",
            "/dev/fuse:/a/../b",
            "vendor.com/class=device",
            "/dev/fuse:/x:",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nodes() {
        let null = &find(Path::new("/dev/null"), Path::new("/dev/x"), "r").unwrap()[0];
        assert_eq!((null.mode & 0o666, null.rights.as_str()), (0o444, "r"));
        assert_eq!((null.block, null.major, null.minor), (false, 1, 3));
        assert_eq!(null.container, Path::new("/dev/x"));
        for bad in ["/etc/passwd", "/nonexistent", "/etc"] {
            assert!(find(Path::new(bad), Path::new("/dev/x"), "rwm").is_err(), "{bad}");
        }
        assert!(
            of_host().iter().all(|device| device.host.starts_with("/dev") && !device.host.ends_with("null"))
        );
    }
}
