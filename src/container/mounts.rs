//! From the mounts, devices and paths of an OCI runtime specification to the operations that make them (pure, but for
//! looking whether a source is a directory).

use super::{
    idmapped::{self, Stack},
    mount_words::Options,
    plan::{c_string, path_c_string},
};
use crate::{
    error::Explain,
    namespaces::{
        Mapping,
        mount::Operation,
        target::{Kind, Links, Target},
        volume::{Fresh, Gift, Overlay, Volume},
    },
    storage::FRESH,
    weakened,
};
use anyhow::{Context, Result, anyhow};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount, Spec};
use rustix::{
    fs::{FileType, statfs},
    mount::MountAttrFlags,
};
use std::{
    fs,
    io::ErrorKind,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

/// statfs(2).
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// All operations for `spec`, in the order in which they must happen. `stage`: an empty directory of the store. What only root of
/// the host can mount is mounted here, so this must be called before any thread exists.
///
/// # Errors
/// A mount whose source is missing, a path with `..` or a NUL byte.
pub fn operations(
    spec: &Spec,
    mapping: &Mapping,
    terminal: bool,
    devices: &[(PathBuf, PathBuf)],
    directories: &[String],
    stage: &Path,
) -> Result<Vec<Operation>> {
    let mut operations = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        operations.extend(one_mount(mount, mapping, stage)?);
        if mount.destination() == Path::new("/dev") && mount.typ().as_deref() == Some("tmpfs") {
            operations.extend(standard_devices(mapping, terminal)?);
        }
    }
    for directory in directories {
        operations.push(Operation::Create(target(directory, Kind::Directory)?));
    }
    let linux = spec.linux().as_ref();
    match mapping {
        Mapping::Root => {
            for device in linux.and_then(|linux| linux.devices().as_ref()).into_iter().flatten() {
                operations.push(own_device(device)?);
            }
        }
        _ => {
            for (host, inside) in devices {
                operations.push(host_device(host, inside)?);
            }
        }
    }
    let paths = |list: Option<&Vec<String>>| {
        list.into_iter().flatten().flat_map(|path| expand(path)).collect::<Vec<_>>()
    };
    let unless = |weakened: bool| linux.filter(|_| !weakened);
    for path in
        paths(unless(weakened::is("read-only-paths")).and_then(|linux| linux.readonly_paths().as_ref()))
    {
        operations.push(Operation::ReadOnly(target(&path, Kind::Directory)?));
    }
    for path in paths(unless(weakened::is("masked-paths")).and_then(|linux| linux.masked_paths().as_ref())) {
        operations.push(Operation::Mask(target(&path, Kind::Directory)?));
    }
    if let Some(process) = spec.process() {
        operations.push(Operation::Create(target(&process.cwd().to_string_lossy(), Kind::Directory)?));
    }
    Ok(operations)
}

fn one_mount(mount: &Mount, mapping: &Mapping, stage: &Path) -> Result<Vec<Operation>> {
    let destination = mount.destination().to_string_lossy();
    let empty = Vec::new();
    let mut options = Options::parse(mount.options().as_ref().unwrap_or(&empty), mapping)?;
    let kind = mount.typ().as_deref().unwrap_or("bind");
    let source =
        || mount.source().as_deref().ok_or_else(|| anyhow!("the mount on {destination} has no source"));
    let inside =
        || Ok::<_, anyhow::Error>(Operation::Give(Gift::Inside(target(&destination, Kind::Directory)?)));
    let gift = options.chown.then(inside).transpose()?;
    if kind == "bind" && options.bind {
        return user_mount(source()?, &destination, options, mapping);
    }
    if let Some(copy) = options.copy_dir.take().map(PathBuf::from).filter(|copy| copy.exists()) {
        return user_mount(&copy, &destination, options, mapping);
    }
    if kind == "overlay" {
        let overlay = overlay(&destination, options, mapping, stage)?;
        return Ok([Operation::Overlay(overlay)].into_iter().chain(gift).collect());
    }
    if kind == "bind" {
        return Ok(vec![bind(source()?, &destination, options.recursive, options.attributes)?]);
    }
    let filesystem = |kind: &str, settings| {
        Ok::<_, anyhow::Error>(Operation::Filesystem {
            kind: c_string(kind, "a file system's name")?,
            settings,
            attributes: options.attributes,
            at: target(&destination, Kind::Directory)?,
            copy_up: options.copy_up,
        })
    };
    let made = match kind {
        // The kernel gives nobody a new one where parts of the old one are covered, as inside another container. In a user
        // namespace nobody looks through the old one into processes outside; the host's root never gets it.
        "proc" if mapping.marks_as_user() => Operation::FirstOf(vec![
            filesystem("proc", options.settings)?,
            bind(Path::new("/proc"), &destination, true, options.attributes)?,
        ]),
        // Only the owner of the network namespace may mount a new sysfs; with the host's network its own is shown.
        "sysfs" => Operation::FirstOf(vec![
            filesystem("sysfs", options.settings)?,
            match statfs("/sys").is_ok_and(|found| found.f_type as u64 == SYSFS_MAGIC) {
                true => bind(Path::new("/sys"), &destination, true, options.attributes)?,
                // None at all, as in bubblewrap: an empty directory, in which there is room for control groups.
                false => Operation::Filesystem {
                    kind: c_string("tmpfs", "a file system's name")?,
                    settings: Vec::new(),
                    attributes: options.attributes - MountAttrFlags::MOUNT_ATTR_RDONLY,
                    at: target(&destination, Kind::Directory)?,
                    copy_up: false,
                },
            },
        ]),
        // On a host with the old hierarchy there may be nothing to show: then an empty directory.
        "cgroup" | "cgroup2" => {
            Operation::FirstOf(vec![filesystem("cgroup2", Vec::new())?, filesystem("tmpfs", Vec::new())?])
        }
        other => filesystem(other, options.settings)?,
    };
    Ok([made].into_iter().chain(gift).collect())
}

/// What the user mounts of the host, or a volume.
fn user_mount(
    source: &Path,
    destination: &str,
    options: Options,
    mapping: &Mapping,
) -> Result<Vec<Operation>> {
    if let (true, Ok(to)) = (options.link, fs::read_link(source)) {
        return Ok(vec![Operation::Link { to: path_c_string(&to)?, at: target(destination, Kind::File)? }]);
    }
    let subpath = options.subpath.as_deref().map(|path| c_string(path, "a subpath")).transpose()?;
    // What is below a volume's top is only found by the child, which no link of a container leads astray.
    let whole = options.subpath.as_deref().map_or(source.to_owned(), |subpath| source.join(subpath));
    let gone = || format!("{}, to be mounted on {destination}: it is gone", whole.display());
    let inner = options.subpath.is_some();
    let kind = match if inner { fs::symlink_metadata(&whole) } else { fs::metadata(&whole) } {
        // In a volume others may own the way there.
        Err(e) if inner && e.kind() == ErrorKind::PermissionDenied => Kind::Directory,
        looked => match looked.with_context(gone).hint(format!("mkdir -p {}", whole.display()))?.is_dir() {
            true => Kind::Directory,
            false => Kind::File,
        },
    };
    let path = path_c_string(source)?;
    let namespace = options.id_map.as_ref().map(|map| idmapped::namespace(map.as_deref(), mapping));
    let mapped = namespace.transpose()?.flatten();
    let mapped = mapped.map(|map| idmapped::tree(&path, subpath.as_deref(), options.recursive, &map));
    // By a map of the user's own the image's owners may have no ids there.
    let fits = !matches!(options.id_map, Some(Some(_)));
    let fresh = match options.volume.is_some().then(|| source.parent()).flatten() {
        Some(directory) if !inner && fits && directory.join(FRESH).exists() => {
            Some(Fresh { directory: path_c_string(directory)?, copy: options.copy, held: None })
        }
        _ => None,
    };
    let gift =
        options.chown.then(|| Ok::<_, anyhow::Error>(Gift::Host(path_c_string(source)?, subpath.clone())));
    let gift = gift.transpose()?.map(Operation::Give);
    let volume = Volume {
        source: path,
        subpath,
        recursive: options.recursive,
        attributes: options.attributes,
        propagation: options.propagation,
        mapped: mapped.transpose()?,
        fresh,
        at: target(destination, kind)?,
    };
    Ok([Operation::Volume(Box::new(volume))].into_iter().chain(gift).collect())
}

fn overlay(destination: &str, options: Options, mapping: &Mapping, stage: &Path) -> Result<Overlay> {
    let dirs = options.upper.as_deref().zip(options.work.as_deref());
    let path = |dir: &str| c_string(dir, "a directory of an overlay");
    let flags = options.flags();
    let subpath = options.subpath.as_deref().map(path).transpose()?;
    let namespace = options.id_map.as_ref().map(|map| idmapped::namespace(map.as_deref(), mapping));
    let mapped = |namespace: OwnedFd| {
        let stack = Stack {
            lower: options.lower.iter().map(Path::new).collect(),
            writable: dirs.map(|(upper, work)| (Path::new(upper), Path::new(work))),
            volatile: options.volatile,
            takes_after: options.volatile,
            flags,
            subpath: subpath.as_deref(),
            place: stage,
        };
        let made = idmapped::overlay(&stack, namespace.as_fd(), mapping);
        made.with_context(|| format!("mount an overlay with mapped ids on {destination}"))
            .hint(idmapped::NEEDS)
    };
    let mapped = namespace.transpose()?.flatten().map(mapped).transpose()?;
    Ok(Overlay {
        lower: options.lower.iter().map(|dir| path(dir)).collect::<Result<_>>()?,
        data: options.data.iter().map(|dir| path(dir)).collect::<Result<_>>()?,
        held: Vec::new(),
        upper: dirs.map(|(upper, work)| Ok::<_, anyhow::Error>([path(upper)?, path(work)?])).transpose()?,
        ephemeral: options.volatile,
        rootless: mapping.marks_as_user(),
        subpath,
        flags,
        mapped,
        at: target(destination, Kind::Directory)?,
    })
}

/// A mount that is attached nowhere yet, on `destination`.
pub fn held(mount: OwnedFd, destination: &str) -> Result<Operation> {
    Ok(Operation::Bind {
        source: c_string(destination, "a mount's place")?,
        recursive: false,
        attributes: MountAttrFlags::empty(),
        at: target(destination, Kind::Directory)?,
        held: Some(mount),
    })
}

fn bind(source: &Path, destination: &str, recursive: bool, attributes: MountAttrFlags) -> Result<Operation> {
    let meta = fs::metadata(source)
        .with_context(|| format!("look at {}, to be mounted on {destination}", source.display()))?;
    let kind = if meta.is_dir() { Kind::Directory } else { Kind::File };
    Ok(Operation::Bind {
        source: path_c_string(source)?,
        recursive,
        attributes,
        at: target(destination, kind)?,
        held: None,
    })
}

/// /dev's own: nodes, or without the privilege to make them the host's nodes; and the links that programs expect.
fn standard_devices(mapping: &Mapping, terminal: bool) -> Result<Vec<Operation>> {
    const NODES: [(&str, u32, u32); 6] =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    const LINKS: [(&str, &str); 5] = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    let mut operations = Vec::new();
    for (name, major, minor) in NODES {
        let path = format!("/dev/{name}");
        let hosts = Operation::Bind {
            source: c_string(&path, "a device")?,
            recursive: false,
            attributes: MountAttrFlags::empty(),
            at: target(&path, Kind::File)?,
            held: None,
        };
        operations.push(match mapping {
            // Root of another container's user namespace makes none.
            Mapping::Root => Operation::FirstOf(vec![
                Operation::Node {
                    at: target(&path, Kind::File)?,
                    kind: FileType::CharacterDevice,
                    mode: 0o666,
                    device: (major, minor),
                },
                hosts,
            ]),
            _ => hosts,
        });
    }
    for (name, to) in LINKS {
        operations.push(Operation::Link {
            to: c_string(to, "a link")?,
            at: target(&format!("/dev/{name}"), Kind::File)?,
        });
    }
    if terminal {
        operations.push(Operation::Create(target("/dev/console", Kind::File)?));
    }
    Ok(operations)
}

/// A node like the host's but not the host's own, which root of a container could chmod.
fn own_device(device: &LinuxDevice) -> Result<Operation> {
    let path = device.path().to_string_lossy();
    let number = |number| u32::try_from(number).with_context(|| format!("read the numbers of device {path}"));
    Ok(Operation::Node {
        at: target(&path, Kind::File)?,
        kind: match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            _ => FileType::CharacterDevice,
        },
        mode: device.file_mode().unwrap_or(0o600),
        device: (number(device.major())?, number(device.minor())?),
    })
}

fn host_device(host: &Path, inside: &Path) -> Result<Operation> {
    Ok(Operation::Bind {
        source: path_c_string(host)?,
        recursive: false,
        attributes: MountAttrFlags::empty(),
        at: target(&inside.to_string_lossy(), Kind::File)?,
        held: None,
    })
}

/// The paths that a masked or read-only path with a `*` for a processor's number stands for.
fn expand(path: &str) -> Vec<String> {
    let Some((before, after)) = path.split_once('*') else { return vec![path.to_owned()] };
    let (directory, start) = before.rsplit_once('/').unwrap_or(("", before));
    // Processors that are offline lack what others have, so it is what there is, not the first ones.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_numbered = |name: &String| {
        let number = name.strip_prefix(start);
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let paths = names.filter(is_numbered).map(|name| format!("{directory}/{name}{after}"));
    let mut paths: Vec<String> = paths.filter(|path| Path::new(path).exists()).collect();
    paths.sort();
    paths
}

fn target(path: &str, kind: Kind) -> Result<Target> {
    let fixed = ["/proc", "/sys", "/dev"].iter().any(|root| Path::new(path).starts_with(root));
    let links = if fixed { Links::Refuse } else { Links::Follow };
    Target::new(path, kind, links)
        .map_err(|_| anyhow!("{path:?} is no path inside a container: it has .. or a NUL byte"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_that_are_offline_stop_nothing() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["cpu0/x", "cpu2/x", "cpu10/x", "cpu3", "cpufreq/x", "cpu/x"] {
            fs::create_dir_all(temp.path().join(name)).unwrap();
        }
        let path = |name: &str| format!("{}/{name}", temp.path().display());
        assert_eq!(expand(&path("cpu*/x")), ["cpu0/x", "cpu10/x", "cpu2/x"].map(path));
        assert_eq!(expand("/proc/keys"), ["/proc/keys"]);
        assert!(expand("/nonexistent/cpu*/x").is_empty());
    }
}
