//! The default profile as a payload finds it: capabilities, mounts, masks, devices, limits, system calls.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
};
use support::{Ctr, User};

/// Podman's eleven: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP.
const DEFAULT: u64 = 0x8004_05fb;
const NET_ADMIN: u64 = 1 << 12;
const SYS_RESOURCE: u64 = 1 << 24;

/// `Name:\tvalue` lines of proc(5).
fn fields(text: &str) -> BTreeMap<String, String> {
    let pair =
        |line: &str| line.split_once(":\t").map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    text.lines().filter_map(pair).collect()
}

/// Fields of /proc/1/status in a container with `options`.
fn status(ctr: &Ctr, options: &[&str]) -> BTreeMap<String, String> {
    fields(&ctr.payload(options, &["cat", "/proc/1/status"]).ok())
}

/// CapInh, CapPrm, CapEff, CapBnd and CapAmb.
fn sets(status: &BTreeMap<String, String>) -> [u64; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .map(|name| u64::from_str_radix(&status[name], 16).expect("a set of capabilities"))
}

#[test]
fn capabilities_are_exact() {
    const ALL_USERS: [&[&str]; 2] = [&[], &["--init"]];
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        for more in ALL_USERS {
            let sets_of = |options: &[&str]| sets(&status_of_payload(&ctr, &[more, options].concat()));
            assert_eq!(sets_of(&[]), [0, DEFAULT, DEFAULT, DEFAULT, 0], "as {user:?} {more:?}");
            let added = DEFAULT | NET_ADMIN;
            assert_eq!(
                sets_of(&["--cap-add=net_admin"]),
                [0, added, added, added, 0],
                "as {user:?} {more:?}"
            );
            assert_eq!(sets_of(&["--cap-drop=all"]), [0; 5], "as {user:?} {more:?}");
            // A namespace of one id has no other user.
            if user == User::Single {
                continue;
            }
            assert_eq!(sets_of(&["-u", "user"]), [0, 0, 0, DEFAULT, 0], "as {user:?} {more:?}");
            assert_eq!(
                sets_of(&["-u", "1000", "--cap-add=net_admin"]),
                [NET_ADMIN, NET_ADMIN, NET_ADMIN, added, NET_ADMIN],
                "as {user:?} {more:?}"
            );
            assert_eq!(sets_of(&["-u", "1000", "--privileged"])[..3], [0; 3], "as {user:?} {more:?}");
        }
    }
}

/// [`status`] of the payload, whichever process it is.
fn status_of_payload(ctr: &Ctr, options: &[&str]) -> BTreeMap<String, String> {
    fields(&ctr.payload(options, &["cat", "/proc/self/status"]).ok())
}

#[test]
fn an_init_of_ours_has_no_more_than_its_payload() {
    let ctr = Ctr::with_box(User::Rootless);
    let status = status(&ctr, &["--init"]);
    assert_eq!((status["Name"].as_str(), sets(&status)), ("ctr-init", [0, DEFAULT, DEFAULT, DEFAULT, 0]));
    assert_eq!(status["Seccomp"], "2");
}

#[test]
fn no_new_privileges_and_the_filter_are_as_asked() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let of = |options: &[&str]| {
            let status = status(&ctr, options);
            (status["NoNewPrivs"].clone(), status["Seccomp"].clone())
        };
        let expected = |privileges: &str, seccomp: &str| (privileges.to_owned(), seccomp.to_owned());
        assert_eq!(of(&[]), expected("0", "2"), "as {user:?}");
        assert_eq!(of(&["--security-opt=no-new-privileges"]), expected("1", "2"), "as {user:?}");
        assert_eq!(of(&["--security-opt=seccomp=unconfined"]), expected("0", "0"), "as {user:?}");
    }
}

/// Mount point to (mount options without atime's, file system), as mountinfo of proc(5) has them.
fn mounts(text: &str) -> Vec<(String, String, String)> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let dash = fields.iter().position(|field| *field == "-").expect("a separator");
        assert_eq!(dash, 6, "no peer group or master outside: {line}");
        let mut options: Vec<&str> =
            fields[5].split(',').filter(|option| !option.ends_with("atime")).collect();
        options.sort_unstable();
        (fields[4].to_owned(), options.join(","), fields[dash + 1].to_owned())
    };
    text.lines().map(line).collect()
}

#[test]
fn mounts_are_those_of_the_profile() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let found = mounts(&ctr.payload(&[], &["cat", "/proc/self/mountinfo"]).ok());
        let is_mask = |place: &str, kind: &str| {
            (place.starts_with("/proc/") || place.starts_with("/sys/")) && (kind.contains("tmpfs"))
        };
        let shown: Vec<String> = found
            .iter()
            .filter(|(place, _, kind)| !is_mask(place, kind))
            .filter(|(place, ..)| !NODES.contains(&place.as_str()))
            .map(|(place, options, kind)| format!("{place} {kind} {options}"))
            .collect();
        let disk = shown.iter().find_map(|line| line.strip_prefix("/etc/hosts ")).unwrap_or_default();
        let disk = disk.split(' ').next().unwrap_or_default();
        let mut expected = vec![
            "/ overlay nodev,rw".to_owned(),
            "/proc proc nodev,noexec,nosuid,rw".to_owned(),
            "/dev tmpfs nodev,noexec,nosuid,rw".to_owned(),
            "/sys sysfs nodev,noexec,nosuid,ro".to_owned(),
            "/dev/pts devpts noexec,nosuid,rw".to_owned(),
            "/dev/mqueue mqueue nodev,noexec,nosuid,rw".to_owned(),
            "/dev/shm tmpfs nodev,noexec,nosuid,rw".to_owned(),
            format!("/etc/hosts {disk} nodev,noexec,nosuid,rw"),
            format!("/etc/hostname {disk} nodev,noexec,nosuid,rw"),
            format!("/etc/resolv.conf {disk} nodev,noexec,nosuid,rw"),
            format!("/run/.containerenv {disk} nodev,noexec,nosuid,rw"),
            "/sys/fs/cgroup cgroup2 nodev,noexec,nosuid,ro".to_owned(),
        ];
        let read_only = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
        let here = read_only.iter().filter(|path| fs::exists(path).expect("look at /proc"));
        expected.extend(here.map(|path| format!("{path} proc nodev,noexec,nosuid,ro")));
        assert_eq!(shown, expected, "as {user:?}");
    }
}

const NODES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

#[test]
fn what_is_masked_shows_nothing_and_takes_no_owner() {
    let masked = "/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats \
        /proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware \
        /sys/fs/selinux";
    let script = format!(
        "for path in {masked}; do \
            if [ -d $path ]; then echo dir $(ls -A $path | wc -l); \
            elif [ -e $path ]; then echo $(stat -c %F:%t:%T $path) $(wc -c < $path); fi; done"
    );
    let host_null = fs::metadata("/dev/null").expect("look at /dev/null");
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let found = ctr.script(&[], &script);
        let there = masked.split_whitespace().filter(|path| fs::exists(path).expect("look"));
        assert_eq!(found.lines().count(), there.count(), "as {user:?}: {found}");
        for line in found.lines() {
            assert!(["dir 0", "character special file:1:3 0"].contains(&line), "as {user:?}: {line}");
        }
        // Were they the host's /dev/null, root of a container could close it to everybody. Here it would get a sticky bit,
        // which means nothing there: a host survives the failure of this test.
        ctr.script(
            &[],
            "chmod 1666 /proc/interrupts /proc/keys /proc/timer_list /proc/self/fd/0 2>/dev/null; true",
        );
        let now = fs::metadata("/dev/null").expect("look at /dev/null").permissions();
        if now != host_null.permissions() {
            fs::set_permissions("/dev/null", host_null.permissions()).expect("mend /dev/null");
            panic!("a container changed the host's /dev/null, as {user:?}");
        }
    }
}

#[test]
fn what_is_read_only_refuses_writers() {
    for &user in User::all() {
        let ctr = Ctr::with_probe(user);
        let places = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys"];
        let writable = |options: &[&str]| {
            ctr.payload_of("probe", options, &[&["probe", "writable"][..], &places].concat()).ok()
        };
        assert_eq!(writable(&[]), "", "as {user:?}");
        assert!(
            writable(&["--privileged"]).contains("/proc/sys/net"),
            "the probe finds what there is, as {user:?}"
        );
        let script = "mkdir /sys/fs/cgroup/x; echo 1 > /sys/fs/cgroup/cgroup.procs; echo x > /proc/sys/kernel/core_pattern; \
            [ ! -e /proc/sysrq-trigger ] || echo b > /proc/sysrq-trigger";
        let refusals = if fs::exists("/proc/sysrq-trigger").expect("look at /proc") { 4 } else { 3 };
        let refused = ctr.payload_of("probe", &[], &["sh", "-c", script]).stderr();
        assert_eq!(refused.matches("Read-only file system").count(), refusals, "as {user:?}: {refused}");
    }
}

#[test]
fn dev_has_exactly_its_own() {
    let script = "cd /dev; for f in $(ls); do [ -L $f ] && echo \"$f -> $(readlink $f)\" || echo \"$f $(stat -c '%A %t:%T' $f)\"; done";
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let listing = [
            "fd -> /proc/self/fd",
            "full crw-rw-rw- 1:7",
            "mqueue drwxrwxrwt 0:0",
            "null crw-rw-rw- 1:3",
            "ptmx -> pts/ptmx",
            "pts drwxr-xr-x 0:0",
            "random crw-rw-rw- 1:8",
            "shm drwxrwxrwt 0:0",
            "stderr -> /proc/self/fd/2",
            "stdin -> /proc/self/fd/0",
            "stdout -> /proc/self/fd/1",
            "tty crw-rw-rw- 5:0",
            "urandom crw-rw-rw- 1:9",
            "zero crw-rw-rw- 1:5",
        ];
        assert_eq!(ctr.script(&[], script).lines().collect::<Vec<_>>(), listing, "as {user:?}");
        let with_terminal = ctr.script(&["-t"], script).replace('\r', "");
        let names: BTreeSet<&str> =
            with_terminal.lines().map(|line| line.split(' ').next().unwrap_or("")).collect();
        let plain: BTreeSet<&str> = listing.iter().map(|line| line.split(' ').next().unwrap_or("")).collect();
        assert_eq!(names.difference(&plain).collect::<Vec<_>>(), [&"console"], "as {user:?}");
    }
}

/// Mode of a device of the host.
fn mode(path: &str) -> u32 {
    fs::metadata(path).expect("look at a device").permissions().mode() & 0o7777
}

#[test]
fn a_device_that_is_handed_in_is_the_containers_own() {
    let before = mode("/dev/fuse");
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        for (option, inside) in
            [("/dev/fuse", "/dev/fuse"), ("/dev/fuse:/dev/a/b", "/dev/a/b"), ("/dev/fuse:/srv/f", "/srv/f")]
        {
            // A sticky bit means nothing there: a host survives the failure of this test.
            let script =
                format!("stat -c '%t:%T %a' {inside}; : <{inside} && echo opens; chmod 1600 {inside}");
            let said = ctr.payload(&["--device", option], &["sh", "-c", &script]).stdout();
            assert_eq!(said, format!("a:e5 {before:o}\nopens\n"), "as {user:?} {option}");
            let now = mode("/dev/fuse");
            if now != before {
                fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(before)).expect("mend /dev/fuse");
                panic!("a container changed the host's /dev/fuse, as {user:?}");
            }
        }
    }
}

#[test]
fn no_other_device_opens() {
    let script = "for dir in /dev /dev/shm; do \
        mknod -m 666 $dir/z c 1 5 2>/dev/null && head -c 1 $dir/z 2>/dev/null | wc -c; done; \
        rm -f /dev/zero 2>/dev/null; mv /dev/full /dev/zero 2>/dev/null; head -c 1 /dev/zero | wc -c; echo x >/dev/null";
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let expected = if user == User::Root { "0\n0\n1" } else { "1" };
        for options in [&["--cap-add=MKNOD"][..], &["--cap-add=MKNOD", "--read-only"]] {
            assert_eq!(ctr.script(options, script), expected, "as {user:?} {options:?}");
        }
    }
    if User::all().contains(&User::Root) {
        let ctr = Ctr::with_box(User::Root);
        let script = "mknod /dev/z c 1 5 && head -c 1 /dev/z | wc -c";
        assert_eq!(ctr.script(&["--privileged"], script), "1", "all devices are a privileged container's");
    }
}

#[test]
fn limits_and_masks_of_the_payload() {
    let own = fields(&fs::read_to_string("/proc/self/status").expect("read our status"));
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        assert_eq!(ctr.script(&[], "umask"), "0022", "as {user:?}");
        assert_eq!(ctr.script(&["--umask=077"], "umask"), "0077", "as {user:?}");
        // Only CAP_SYS_RESOURCE on the host raises a hard limit.
        let expected =
            if user == User::Root && sets(&own)[2] & SYS_RESOURCE != 0 { 1 << 20 } else { hard.min(1 << 20) };
        assert_eq!(
            ctr.script(&[], "ulimit -Sn; ulimit -Hn"),
            format!("{expected}\n{expected}"),
            "as {user:?}"
        );
        let limits = ["--ulimit=nofile=100:200", "--ulimit=core=0"];
        assert_eq!(ctr.script(&limits, "ulimit -Sn; ulimit -Hn; ulimit -c"), "100\n200\n0", "as {user:?}");
        let shm = ctr.script(&[], "head -c 70000000 /dev/zero > /dev/shm/x; stat -c %s /dev/shm/x; df -k /dev/shm | awk 'END {print $2}'");
        assert_eq!(shm, format!("{}\n65536", 64 << 20), "as {user:?}");
    }
}
