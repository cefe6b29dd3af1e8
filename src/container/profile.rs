//! The default profile of a container: what Docker and Podman agree on for mounts, masks, kernel parameters and
//! namespaces, and what `--privileged` lifts.

use super::{
    etc_files,
    request::Request,
    sharing::{Sharing, Whose},
    tmpfs::{DEFAULT_OPTIONS, Tmpfs},
};
use crate::{
    namespaces::{IdMaps, Mapping, user::IdRange},
    weakened,
};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Mount};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// Hidden: what tells of the host's hardware and keys, or wakes devices (CVE-2018-10892).
pub const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/system/cpu/cpu*/thermal_throttle",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Not to be written: what is not of the container's namespaces alone (CVE-2022-0811).
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// All mounts, outer ones first; a user's replaces ours of the same place. `etc` holds the files of [`etc_files`]; `volumes` is
/// what the user mounts, `memory` the image's volumes that are to be tmpfs.
pub fn mounts(request: &Request, etc: &Path, volumes: &[Mount], memory: &[Tmpfs]) -> Vec<Mount> {
    let shm_size =
        if weakened::is("shm-size") { "size=50%".to_owned() } else { format!("size={}", request.shm_size) };
    let kernel = ["nosuid", "noexec", "nodev"];
    let writable = if request.privileged { "rw" } else { "ro" };
    let kernel_tree = [&kernel[..], &[writable]].concat();
    let cgroup_tree = if weakened::is("read-only-cgroup") { kernel.to_vec() } else { kernel_tree.clone() };
    // Nodes that a container with CAP_MKNOD makes there open nothing; each of ours is a mount of its own.
    let devices = if request.privileged { "dev" } else { "nodev" };
    let of_the_host = |place| mount(place, "bind", place, &[&["rbind", "rprivate"], &kernel[..]].concat());
    let mut mounts = vec![
        // Only who owns a pid namespace may mount a new /proc of it.
        match request.sharing.pid {
            Whose::Host => of_the_host("/proc"),
            _ => mount("/proc", "proc", "proc", &kernel),
        },
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "noexec", devices, "strictatime", "mode=755", "size=65536k"],
        ),
        mount("/sys", "sysfs", "sysfs", &kernel_tree),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[&cgroup_tree[..], &["relatime"]].concat()),
    ];
    let queues = mount("/dev/mqueue", "mqueue", "mqueue", &kernel);
    match request.sharing.ipc {
        Whose::Private => {
            mounts.push(queues);
            mounts.push(mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                &[&kernel[..], &["mode=1777", &shm_size]].concat(),
            ));
        }
        Whose::Host => {
            let there = ["/dev/mqueue", "/dev/shm"].into_iter().filter(|place| Path::new(place).is_dir());
            mounts.extend(there.map(of_the_host));
        }
        // The other's /dev/shm is found at each start.
        Whose::Container(_) | Whose::Path(_) => mounts.push(queues),
    }
    let written = ["/run", "/tmp", "/var/tmp"]
        .map(|target| Tmpfs { target: target.into(), options: DEFAULT_OPTIONS.map(str::to_owned).to_vec() });
    let writable = request.read_only && request.read_only_tmpfs;
    for tmpfs in written.iter().filter(|_| writable).chain(&request.tmpfs).chain(memory) {
        let options: Vec<&str> = tmpfs.options.iter().map(String::as_str).collect();
        mounts.retain(|ours| *ours.destination() != tmpfs.target);
        mounts.push(mount(&tmpfs.target, "tmpfs", "tmpfs", &options));
    }
    let etc_access = if request.read_only { "ro" } else { "rw" };
    for (name, target) in etc_files::places(request) {
        let options = [&["bind", "rprivate"], &kernel[..], &[etc_access]].concat();
        // Who shares a network shares what is said of it.
        let of = match (&request.sharing.network, name) {
            (Whose::Container(id), "hosts" | "resolv.conf") => etc.with_file_name(id),
            _ => etc.to_owned(),
        };
        mounts.push(mount(target, "bind", of.join(name), &options));
    }
    for volume in volumes {
        mounts.retain(|ours| ours.destination() != volume.destination());
        mounts.push(volume.clone());
    }
    mounts.sort_by_key(|mount| mount.destination().components().count());
    mounts
}

/// What systemd as first process writes in: its control groups, and directories that are empty at each start. What the user
/// mounts there stays.
pub fn for_systemd(mounts: &mut Vec<Mount>) {
    for target in ["/run", "/run/lock", "/tmp", "/var/log/journal"] {
        if !mounts.iter().any(|mount| mount.destination() == Path::new(target)) {
            mounts.push(self::mount(target, "tmpfs", "tmpfs", &DEFAULT_OPTIONS));
        }
    }
    let is_cgroup = |mount: &&mut Mount| mount.destination() == Path::new("/sys/fs/cgroup");
    if let Some(options) = mounts.iter_mut().find(is_cgroup).and_then(|mount| mount.options_mut().as_mut()) {
        options.iter_mut().filter(|option| *option == "ro").for_each(|option| *option = "rw".to_owned());
    }
    mounts.sort_by_key(|mount| mount.destination().components().count());
}

/// Dotted names and values; a user's replaces ours.
pub fn sysctls(request: &Request, mapping: &Mapping) -> HashMap<String, String> {
    let mut sysctls: HashMap<_, _> =
        if request.own_network() { own_sysctls(mapping).into() } else { HashMap::new() };
    sysctls.extend(request.sysctls.clone());
    sysctls
}

/// Those that a container can do without: ping(8) without a capability, and port 80 without root, are safe in a network of the
/// container's own.
pub fn own_sysctls(mapping: &Mapping) -> [(String, String); 2] {
    let IdMaps { gids, .. } = mapping.maps();
    let first_group = gids.iter().map(|range| range.inside).min().unwrap_or(0);
    // The kernel takes no more than half of all there can be.
    let last = |range: &IdRange| (range.inside + (range.count - 1)).min(i32::MAX as u32);
    let last_group = gids.iter().map(last).max().unwrap_or(0);
    [
        ("net.ipv4.ping_group_range".to_owned(), format!("{first_group} {last_group}")),
        ("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned()),
    ]
}

/// The namespaces to make.
pub fn namespaces(request: &Request, mapping: &Mapping) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let Sharing { pid, ipc, uts, .. } = &request.sharing;
    let but_of_the_host =
        [(pid, Pid), (ipc, Ipc), (uts, Uts)].into_iter().filter(|(whose, _)| **whose != Whose::Host);
    let cgroup = (!request.control_group.host_namespace).then_some(Cgroup);
    let network = (request.own_network() || request.sharing.network.is_joined()).then_some(Network);
    let user = mapping.is_rootless().then_some(User);
    let made = but_of_the_host.map(|(_, kind)| kind).chain([Mount]).chain(cgroup).chain(network).chain(user);
    made.map(|kind| LinuxNamespace::default().set_typ(kind).clone()).collect()
}

fn mount(target: impl Into<PathBuf>, kind: &str, source: impl Into<PathBuf>, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(target.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{
        request::{NetworkMode, tests::request},
        tmpfs,
    };

    fn single() -> Mapping {
        Mapping::Single { why: "no entry in /etc/subuid".into(), inside: (0, 0) }
    }

    fn shown(request: &Request) -> Vec<String> {
        let line = |mount: &Mount| {
            let options = mount.options().as_ref().unwrap().join(",");
            format!(
                "{} {} {options}",
                mount.destination().display(),
                mount.source().as_ref().unwrap().display()
            )
        };
        mounts(request, Path::new("/c"), &[], &[]).iter().map(line).collect()
    }

    #[test]
    fn default_mounts() {
        assert_eq!(
            shown(&request()),
            [
                "/proc proc nosuid,noexec,nodev",
                "/dev tmpfs nosuid,noexec,nodev,strictatime,mode=755,size=65536k",
                "/sys sysfs nosuid,noexec,nodev,ro",
                "/dev/pts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
                "/dev/mqueue mqueue nosuid,noexec,nodev",
                "/dev/shm shm nosuid,noexec,nodev,mode=1777,size=67108864",
                "/etc/hosts /c/hosts bind,rprivate,nosuid,noexec,nodev,rw",
                "/etc/hostname /c/hostname bind,rprivate,nosuid,noexec,nodev,rw",
                "/etc/resolv.conf /c/resolv.conf bind,rprivate,nosuid,noexec,nodev,rw",
                "/run/.containerenv /c/containerenv bind,rprivate,nosuid,noexec,nodev,rw",
                "/sys/fs/cgroup cgroup nosuid,noexec,nodev,ro,relatime",
            ]
        );
    }

    #[test]
    fn read_only_and_tmpfs() {
        let mut request = request();
        request.read_only = true;
        request.tmpfs = vec![tmpfs::parse("/tmp:noexec").unwrap(), tmpfs::parse("/dev/shm:size=1k").unwrap()];
        let shown = shown(&request);
        let of = |target: &str| {
            let lines = shown.iter().filter_map(|line| line.strip_prefix(target));
            lines.filter(|rest| rest.starts_with(' ')).collect::<Vec<_>>()
        };
        assert_eq!(of("/tmp"), [" tmpfs rprivate,rw,nosuid,nodev,tmpcopyup,noexec"]);
        assert_eq!(of("/run"), [" tmpfs rprivate,rw,nosuid,nodev,tmpcopyup"]);
        assert_eq!(of("/var/tmp").len(), 1);
        assert_eq!(of("/dev/shm"), [" tmpfs rprivate,rw,nosuid,nodev,tmpcopyup,size=1024"]);
        assert!(of("/etc/hosts")[0].ends_with(",ro"));
        let at = |target: &str| shown.iter().position(|line| line.starts_with(target)).unwrap();
        assert!(at("/run ") < at("/run/.containerenv "));
    }

    #[test]
    fn privileged() {
        let mut request = request();
        request.privileged = true;
        let shown = shown(&request);
        assert!(shown.contains(&"/sys sysfs nosuid,noexec,nodev,rw".to_owned()));
        assert!(shown.contains(&"/sys/fs/cgroup cgroup nosuid,noexec,nodev,rw,relatime".to_owned()));
    }

    #[test]
    fn parameters_of_an_own_network() {
        let mut request = request();
        let range = |inside, count| IdRange { inside, host: 1000 + inside, count };
        let gids = vec![range(0, 1), range(1, 65536)];
        let ranges = Mapping::Ranges { uids: gids.clone(), gids, helpers: Default::default() };
        assert_eq!(sysctls(&request, &ranges)["net.ipv4.ping_group_range"], "0 65536");
        assert_eq!(sysctls(&request, &single())["net.ipv4.ping_group_range"], "0 0");
        assert_eq!(sysctls(&request, &Mapping::Root)["net.ipv4.ping_group_range"], "0 2147483647");
        request.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
        assert_eq!(sysctls(&request, &single())["net.ipv4.ip_unprivileged_port_start"], "80");
        request.sysctls.clear();
        request.network = NetworkMode::Host;
        assert!(sysctls(&request, &Mapping::Root).is_empty());
    }

    #[test]
    fn namespaces_by_mode() {
        let count = |request: &Request, mapping: &Mapping| namespaces(request, mapping).len();
        let mut request = request();
        assert_eq!((count(&request, &Mapping::Root), count(&request, &single())), (6, 7));
        request.network = NetworkMode::Host;
        assert_eq!((count(&request, &Mapping::Root), count(&request, &single())), (5, 6));
    }
}
