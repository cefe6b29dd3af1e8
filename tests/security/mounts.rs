//! Rows 7 and 20: mounts, masks and read-only paths of the default profile, as a payload finds them.

use crate::support::{Ctr, User};
use std::fs;

const NODES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

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
        if user == User::Single {
            expected.push(format!("/dev/.apt.conf {disk} nodev,noexec,nosuid,ro"));
        }
        let read_only = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
        let here = read_only.iter().filter(|path| fs::exists(path).expect("look at /proc"));
        expected.extend(here.map(|path| format!("{path} proc nodev,noexec,nosuid,ro")));
        assert_eq!(shown, expected, "as {user:?}");
    }
}

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
fn kernel_parameters_of_the_host_are_refused() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        for bad in [
            "kernel.core_pattern=|/bin/sh",
            "kernel.sysrq=1",
            "vm.overcommit_memory=1",
            "fs.file-max=1",
            "kernel/msgmax=1",
            "net.ipv4/../../kernel/core_pattern=x",
            "kernel.shm_rmid_forced/../core_pattern=x",
            "net.+=1",
        ] {
            let option = format!("--sysctl={bad}");
            ctr.payload(&[&option], &["true"]).fails("sysctl");
        }
        ctr.payload(&["--network=host", "--sysctl=net.ipv4.ip_forward=1"], &["true"]).fails("sysctl");
        assert!(ctr.list("containers").is_empty(), "as {user:?}");
    }
}
