//! Rows 3 and 4: whatever links and files a root has where we mount and write, none leads to the host.

use crate::{
    layer,
    support::{Ctr, Layer, TestImage, User},
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

/// Path to kind, mode, owner and content of everything below `dir`.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).expect("look at a canary");
        let content = if meta.is_file() { fs::read(&path).expect("read a canary") } else { Vec::new() };
        if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).expect("list").map(|entry| entry.expect("list").path()));
        }
        found.insert(path, format!("{:o} {}:{} {content:?}", meta.mode(), meta.uid(), meta.gid()));
    }
    found
}

/// Directories and files like those of a root, in the user's home, under names that a link could lead to.
fn canary(ctr: &Ctr) -> PathBuf {
    for name in
        ["hosts", "hostname", "resolv.conf", ".containerenv", "passwd", "null", "sys/x", "self/x", "kcore"]
    {
        ctr.file(&format!("canary/{name}"), "CANARY\n");
    }
    ctr.home().join("canary")
}

#[test]
fn links_of_a_root_lead_to_no_place_of_the_host() {
    for &user in User::all() {
        let ctr = Ctr::new(user);
        let canary = canary(&ctr);
        let before = snapshot(&canary);
        let absolute = canary.display().to_string();
        let up = format!("../../../../../../../..{absolute}");
        let magic = format!("/proc/self/root{absolute}");
        let host = format!("/proc/1/cwd{absolute}");
        // Another place in the same root: harmless for /etc, but a /proc of the image's choice is none.
        let inside = "/inside".to_owned();
        let mut number = 0;
        for place in [
            "proc",
            "sys",
            "dev",
            "etc",
            "run",
            "etc/hosts",
            "etc/hostname",
            "etc/resolv.conf",
            "run/.containerenv",
        ] {
            // How a path is walked is the same for all; one kind of user tries each.
            let targets: &[&String] = match user {
                User::Rootless => &[&absolute, &up, &magic, &host, &inside],
                _ => &[&up, &inside],
            };
            for &target in targets {
                let file = place.contains('/');
                let target = if file { format!("{target}/hosts") } else { target.clone() };
                number += 1;
                let root = ctr.rootfs(&format!("root{number}"));
                let link = root.join(place);
                fs::create_dir_all(link.parent().expect("a parent")).expect("make a directory");
                symlink(&target, &link).expect("make a link");
                fs::create_dir(root.join("inside")).expect("make a directory");
                if let Some((uid, gid)) = ctr.user().ids() {
                    for dir in [link.parent().expect("a parent"), &root.join("inside")] {
                        std::os::unix::fs::chown(dir, Some(uid), Some(gid)).expect("chown");
                    }
                }
                let script =
                    "cat /etc/* /run/.* /run/* 2>/dev/null; grep -rs CANARY /etc /run /dev/shm; true";
                for suffix in if user == User::Rootless { &["", ":O"][..] } else { &[""] } {
                    let dir = format!("{}{suffix}", root.display());
                    let arguments = ["run", "--rm", "--network=none", "--rootfs", &dir, "sh", "-c", script];
                    let outcome = ctr.run(arguments);
                    assert_eq!(snapshot(&canary), before, "{place} -> {target}: {outcome}");
                    assert!(!outcome.stdout().contains("CANARY"), "{place} -> {target}: {outcome}");
                    let said = outcome.stderr();
                    let contained = match place {
                        "proc" | "sys" | "dev" => outcome.code() == 125 && said.contains("symbolic link"),
                        _ if target.starts_with("/inside") => outcome.code() == 0,
                        _ => outcome.code() == 0 || outcome.code() == 125 && said.contains(place),
                    };
                    assert!(contained, "{place} -> {target}: {outcome}");
                }
            }
        }
    }
}

#[test]
fn a_dev_null_that_is_none_is_not_taken_for_it() {
    // /etc/hosts leads to /dev/null: the file bound there would become every mask.
    for &user in User::all() {
        let null = layer().symlink("etc/hosts", "/dev/null");
        let ctr = Ctr::new(user).with_hub().with_image("null", TestImage::new([Layer::busybox(), null]));
        let outcome = ctr.payload_of("null", &[], &["cat", "/proc/keys"]);
        assert_eq!((outcome.code(), outcome.stdout()), (125, String::new()), "as {user:?}: {outcome}");
    }
}

#[test]
fn nothing_takes_the_place_of_proc() {
    for &user in User::all() {
        let fake = layer().file("proc/sys/kernel/msgmax", "fake\n").file("sys/fs/x", "");
        let ctr = Ctr::new(user).with_hub().with_image("fake", TestImage::new([Layer::busybox(), fake]));
        for place in
            ["/proc", "/proc/sys", "/proc/self/attr", "/sys", "/sys/fs/cgroup", "/dev", "//proc/.", "/"]
        {
            ctr.payload_of("fake", &[&format!("--tmpfs={place}")], &["true"]).fails("--tmpfs");
        }
        let read = ["cat", "/proc/sys/kernel/msgmax"];
        assert_eq!(
            ctr.payload_of("fake", &["--sysctl=kernel.msgmax=4321"], &read).ok(),
            "4321",
            "as {user:?}"
        );
    }
}

/// Filled with what is at its place, a tmpfs would show what our descriptors are, by their paths on the host.
#[test]
fn no_link_leads_a_mount_into_proc() {
    for &user in User::all() {
        let links = layer()
            .symlink("fd", "/proc/1/fd")
            .symlink("var/tmp", "/proc/1/fd")
            .symlink("irq", "proc/irq")
            .symlink("sys2", "/sys/kernel")
            .symlink("mine", "/home");
        let ctr = Ctr::new(user).with_hub().with_image("links", TestImage::new([Layer::busybox(), links]));
        for option in ["--tmpfs=/fd", "--tmpfs=/irq:notmpcopyup", "--tmpfs=/sys2:notmpcopyup", "--read-only"]
        {
            let outcome = ctr.payload_of("links", &[option], &["ls", "-l", "/proc/1/fd/"]);
            assert_eq!(
                (outcome.code(), outcome.stdout()),
                (125, String::new()),
                "as {user:?} {option}: {outcome}"
            );
            assert!(outcome.stderr().contains("symbolic link"), "as {user:?} {option}: {outcome}");
        }
        let mounts = ctr.payload_of("links", &["--tmpfs=/mine"], &["cat", "/proc/mounts"]).ok();
        assert!(mounts.contains(" /home tmpfs "), "as {user:?}: {mounts}");
    }
}
