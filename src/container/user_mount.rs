//! What a user mounts into a container: `--volume`, `--mount`, `--volumes-from`, and the VOLUMEs of its image. As plain data, as
//! the container's record keeps it.

use crate::storage::{Digest, VolumeName};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserMount {
    /// What is mounted.
    pub source: Source,
    /// Absolute, without `.` and `..`.
    pub target: PathBuf,
    /// As podman-run(1) spells them, complete, of one class only one.
    pub options: Vec<String>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Source {
    /// A file or directory of the host; absolute.
    Bind {
        /// Which.
        path: PathBuf,
    },
    /// A directory of the host, what is written to which goes elsewhere (`:O`).
    Overlay {
        /// Which.
        path: PathBuf,
        /// The user's own upper and work directory; None: new ones for each start.
        upper: Option<(PathBuf, PathBuf)>,
    },
    /// A volume.
    Volume {
        /// None: one without a name, until it is made.
        name: Option<VolumeName>,
        /// It is not the user who has named it.
        anonymous: bool,
        /// Where what is in it lies, once that is known.
        #[serde(default)]
        path: PathBuf,
        /// A place below it.
        subpath: Option<PathBuf>,
    },
    /// The files of an image.
    Image {
        /// As the user calls it.
        name: String,
        /// A directory in it.
        subpath: Option<PathBuf>,
        /// Its layers, base first; looked up when the container is made.
        #[serde(default)]
        layers: Vec<Digest>,
        /// The view that shows them with the container's ids, where those are not the ones they were stored with.
        #[serde(default)]
        view: Option<String>,
    },
    /// Terminals of its own.
    Devpts,
    /// A file system in memory without limits, which root alone can make.
    Ramfs,
}

impl UserMount {
    /// Whether it has the option `word`.
    pub fn has(&self, word: &str) -> bool {
        self.options.iter().any(|option| option == word)
    }

    /// Whether its files are seen with other ids.
    pub fn is_mapped(&self) -> bool {
        self.options.iter().any(|option| option.starts_with("idmap"))
    }
}

/// Options of one class exclude each other. `None`: there is no such option.
pub fn class(option: &str) -> Option<&'static str> {
    Some(match option.split_once('=').map_or(option, |(key, _)| key) {
        "rw" | "ro" if !option.contains('=') => "rw|ro",
        "suid" | "nosuid" if !option.contains('=') => "[no]suid",
        "dev" | "nodev" if !option.contains('=') => "[no]dev",
        "exec" | "noexec" if !option.contains('=') => "[no]exec",
        "bind" | "rbind" if !option.contains('=') => "[r]bind",
        "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" | "unbindable" | "runbindable"
            if !option.contains('=') =>
        {
            "[r]shared|[r]slave|[r]private|[r]unbindable"
        }
        "z" | "Z" if !option.contains('=') => "z|Z",
        "copy" | "nocopy" if !option.contains('=') => "[no]copy",
        "U" if !option.contains('=') => "U",
        "O" if !option.contains('=') => "O",
        "no-dereference" if !option.contains('=') => "no-dereference",
        "idmap" => "idmap",
        "upperdir" | "workdir" if option.split_once('=').is_some_and(|(_, path)| path.starts_with('/')) => {
            if option.starts_with('u') {
                "upperdir"
            } else {
                "workdir"
            }
        }
        _ => return None,
    })
}

/// `words`, each of a class that no other has, and after them what Podman fills in.
pub fn complete(words: &[&str], named_volume: bool) -> Result<Vec<String>> {
    let mut classes: Vec<&str> = Vec::new();
    let mut options = Vec::new();
    for word in words {
        let Some(class) = class(word) else { bail!("{word:?}: invalid mount option") };
        if classes.contains(&class) {
            bail!("only one of the options {class} can be given");
        }
        if let Some(map) = word.strip_prefix("idmap=") {
            parse_idmap(map)?;
        }
        classes.push(class);
        options.push((*word).to_owned());
    }
    let is_mapped = |option: &String| option.starts_with("idmap");
    if classes.contains(&"U") && options.iter().any(is_mapped) {
        bail!("U gives the files to another owner, idmap shows them as another's: choose one");
    }
    // Of named volumes no privilege comes.
    let presets = [("rw", "rw|ro"), ("rprivate", "[r]shared|[r]slave|[r]private|[r]unbindable")];
    let more = [("nosuid", "[no]suid"), ("nodev", "[no]dev")].into_iter().filter(|_| named_volume);
    for (preset, class) in presets.into_iter().chain(more).chain([("rbind", "[r]bind")]) {
        if !classes.contains(&class) {
            options.push(preset.to_owned());
        }
    }
    Ok(options)
}

/// The maps of an idmapped mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    /// Of users.
    pub uids: Vec<Triple>,
    /// Of groups.
    pub gids: Vec<Triple>,
}

/// Some ids of an idmapped mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triple {
    /// The first on the file system.
    pub file: u32,
    /// The first that is seen.
    pub seen: u32,
    /// How many.
    pub count: u32,
    /// Seen by the container, not by the host.
    pub relative: bool,
}

/// `uids=0-1-10#10-11-10;gids=0-100-10`; a triple that begins with `@` goes by the
/// container's ids (podman-run(1)).
pub fn parse_idmap(text: &str) -> Result<IdMap> {
    let triple = |text: &str| -> Result<Triple> {
        let relative = text.starts_with('@');
        let plain = text.strip_prefix('@').unwrap_or(text);
        let numbers: Vec<u32> = plain.split('-').map_while(|n| n.parse().ok()).collect();
        match (&numbers[..], plain.split('-').count()) {
            (&[file, seen, count], 3)
                if count > 0 && [file, seen].iter().all(|id| id.checked_add(count).is_some()) =>
            {
                Ok(Triple { file, seen, count, relative })
            }
            _ => bail!("idmap: {text:?} is not of the form FILE-SEEN-COUNT"),
        }
    };
    let mut map = IdMap::default();
    for part in text.split(';') {
        let list = |list: &str| list.split('#').map(triple).collect::<Result<Vec<_>>>();
        match part.split_once('=') {
            Some(("uids", triples)) if map.uids.is_empty() => map.uids = list(triples)?,
            Some(("gids", triples)) if map.gids.is_empty() => map.gids = list(triples)?,
            _ => bail!("idmap: {part:?} is not of the form uids=… or gids=…"),
        }
    }
    if map.uids.is_empty() || map.gids.is_empty() {
        bail!("idmap: it needs both uids and gids");
    }
    Ok(map)
}

/// Files of /proc that a user may replace, as lxcfs does; the rest is the kernel's.
const OF_PROC: [&str; 11] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "version",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// A place of a container.
///
/// # Errors
/// It is relative, climbs, or is what makes a container one.
pub fn parse_target(text: &str) -> Result<PathBuf> {
    if !text.starts_with('/') {
        bail!("invalid container path {text:?}, must be an absolute path");
    }
    let target = clean(Path::new(text))?;
    let proc =
        target.strip_prefix("/proc").ok().map(|below| OF_PROC.iter().any(|file| below == Path::new(file)));
    if target == Path::new("/") || proc == Some(false) && !crate::weakened::is("proc-volumes") {
        bail!("{} is the container's own", target.display());
    }
    Ok(target)
}

/// A relative path that stays below where it begins.
pub fn parse_subpath(text: &str) -> Result<PathBuf> {
    let path = clean(&Path::new("/").join(text))?;
    match path.strip_prefix("/") {
        Ok(below) if !below.as_os_str().is_empty() && !text.starts_with('/') => Ok(below.to_owned()),
        _ => bail!("{text:?} is no relative path"),
    }
}

fn clean(path: &Path) -> Result<PathBuf> {
    let mut cleaned = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::RootDir | Component::CurDir => {}
            _ => bail!("{:?} contains `..`", path.to_string_lossy()),
        }
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        bail!("{:?} contains a NUL byte", path.to_string_lossy());
    }
    Ok(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_completed() {
        for (words, named, expected) in [
            ("", false, "rw,rprivate,rbind"),
            ("", true, "rw,rprivate,nosuid,nodev,rbind"),
            ("ro,nocopy,U,exec", true, "ro,nocopy,U,exec,rprivate,nosuid,nodev,rbind"),
            ("bind,rshared,dev,suid,z", true, "bind,rshared,dev,suid,z,rw"),
            ("idmap", false, "idmap,rw,rprivate,rbind"),
        ] {
            let words: Vec<&str> = words.split(',').filter(|word| !word.is_empty()).collect();
            assert_eq!(complete(&words, named).unwrap().join(","), expected);
        }
        for bad in [
            &["ro", "rw"][..],
            &["z", "Z"],
            &["foo"],
            &["ro=1"],
            &["shared", "rslave"],
            &["size=1m"],
            &["bind", "rbind"],
            &["copy", "nocopy"],
            &["upperdir=x"],
            &["workdir"],
            &["dev", "dev"],
            &["idmap=x"],
            &["idmap", "U"],
            &[""],
        ] {
            assert!(complete(bad, false).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn id_maps() {
        let triple = |file, seen, count, relative| Triple { file, seen, count, relative };
        let map = parse_idmap("uids=0-1-10#@10-11-10;gids=0-100-10").unwrap();
        assert_eq!(map.uids, [triple(0, 1, 10, false), triple(10, 11, 10, true)]);
        assert_eq!(map.gids, [triple(0, 100, 10, false)]);
        for bad in [
            "",
            "uids=0-1-10",
            "uids=0-1;gids=0-1-1",
            "uids=0-1-0;gids=0-1-1",
            "uids=a-1-1;gids=0-1-1",
            "uids=0-1-1-1;gids=0-1-1",
            "uids=@@0-1-1;gids=0-1-1",
            "uids=@;gids=0-1-1",
            "uids=0-1-4294967295;gids=0-1-1",
            "x=0-1-1",
            "uids=0-1-1;uids=0-1-1;gids=0-1-1",
            "uids=-1-1-1;gids=0-1-1",
        ] {
            assert!(parse_idmap(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn places() {
        for (text, target) in
            [("/a//./b/", "/a/b"), ("/proc/cpuinfo", "/proc/cpuinfo"), ("/dev", "/dev"), ("/sys", "/sys")]
        {
            assert_eq!(parse_target(text).unwrap(), Path::new(target));
        }
        for bad in ["", "a", "/", "/.", "/a/../b", "/proc", "/proc/1", "/proc/cpuinfo/x", "/proc/sys", "/a\0"]
        {
            assert!(parse_target(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse_subpath("a/./b").unwrap(), Path::new("a/b"));
        for bad in ["", ".", "/a", "a/../b", "..", "a\0b"] {
            assert!(parse_subpath(bad).is_err(), "{bad:?}");
        }
    }
}
