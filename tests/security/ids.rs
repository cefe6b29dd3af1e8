//! Rows 5, 11 and 24: a container has the ids that are its own, and none of the host's or of another container's.

use crate::{
    Running, WAIT, layer,
    support::{Ctr, Layer, TestImage, User},
};
use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::{Command, Stdio},
};

#[test]
fn ids_of_others_are_refused() {
    for user in [User::Rootless, User::Single] {
        if !User::all().contains(&user) {
            continue;
        }
        let ctr = Ctr::with_box(user);
        for map in ["0:@0:1", "0:@1:1", "0:@4294967294:1", "0:0:4000000000", "0:4000000000:1", "+1:@0:1"] {
            for option in ["--uidmap", "--gidmap"] {
                ctr.payload(&[option, map], &["true"]).exits(125).fails("not all yours");
            }
        }
        for (map, words) in [("4294967295:0:1", "last id"), ("0:0:4294967295", "not all yours")] {
            ctr.payload(&["--uidmap", map], &["true"]).exits(125).fails(words);
        }
        assert!(ctr.list("containers").is_empty());
    }
}

/// First and last of the host's ids in a map.
fn hosts(map: &str) -> Vec<(u64, u64)> {
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let line = |line: &str| {
        let fields: Vec<u64> = line.split_whitespace().map(number).collect();
        (fields[1], fields[1] + fields[2])
    };
    map.lines().map(line).collect()
}

#[test]
fn containers_with_ids_of_their_own_have_none_in_common() {
    let c = Running::new(Ctr::with_box(User::Rootless), "box", &["--userns=auto:size=2000"], WAIT);
    let first = hosts(&c.script(&[], "cat /proc/self/uid_map"));
    let second = hosts(&c.0.script(&["--userns=auto:size=2000"], "cat /proc/self/uid_map"));
    let apart = |a: &(u64, u64), b: &(u64, u64)| a.1 <= b.0 || b.1 <= a.0;
    assert!(first.iter().all(|a| second.iter().all(|b| apart(a, b))), "{first:?} {second:?}");
    let own = fs::metadata(c.0.home()).expect("look at the home").uid().into();
    assert!(first.iter().chain(&second).all(|ids| !(ids.0..ids.1).contains(&own)), "{first:?} {second:?}");
}

#[test]
fn without_the_user_its_files_are_nobodys() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.file("dir/secret", "SECRET");
    for (path, mode) in [("dir", 0o755), ("dir/secret", 0o600)] {
        fs::set_permissions(ctr.home().join(path), std::os::unix::fs::PermissionsExt::from_mode(mode))
            .expect("chmod");
    }
    let script = "cat /d/secret; stat -c %u /d/secret";
    let said = |options: &[&str]| {
        let all = [&["-v", "./dir:/d"], options].concat();
        ctr.payload(&all, &["sh", "-c", script]).stdout()
    };
    assert_eq!(said(&[]), "SECRET0\n");
    assert_eq!(said(&["--userns=nomap"]), "65534\n");
}

/// An image's /etc/passwd is a node of a disk of the host: who asks it how many ids a container needs reads that disk.
#[test]
fn an_images_users_are_no_device() {
    if !User::all().contains(&User::Root) {
        return;
    }
    let ctr = Ctr::new(User::Root).with_hub();
    ctr.file("disk", format!("big:x:70000:70000::/:/bin/sh\n{}", "#\n".repeat(1 << 19)));
    let losetup = |arguments: &[&str]| Command::new("losetup").args(arguments).output();
    let disk = ctr.home().join("disk").display().to_string();
    let Some(output) = losetup(&["--find", "--show", &disk]).ok().filter(|output| output.status.success())
    else {
        return;
    };
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let number = name.trim_start_matches("/dev/loop").parse().expect("a loop device");
    let nodes = layer().dir("etc", 0o755).disk("etc/passwd", 7, number);
    let ctr = ctr.with_image("nodes", TestImage::new([Layer::busybox(), nodes]));
    ctr.file("subid", "containers:2000000:1000000\n");
    let ranges = "for f in subuid subgid; do mount --bind subid /etc/$f; done; exec \"$@\"";
    let run = [
        "run",
        "--rm",
        "--network=none",
        "--userns=auto",
        "--user=0:0",
        "nodes",
        "cat",
        "/proc/self/uid_map",
    ];
    let said = ctr.wrapped(&["unshare", "--mount", "sh", "-c", ranges, "sh"], &run).output();
    let _ = losetup(&["--detach", &name]);
    let ids: u64 = hosts(&String::from_utf8_lossy(&said.expect("start ctr").stdout))
        .iter()
        .map(|ids| ids.1 - ids.0)
        .sum();
    assert_eq!(ids, 1024);
}

/// Who owns a user namespace has every capability over whoever is in it: root, too, should it not take care.
#[test]
fn who_enters_a_namespace_of_another_user_gives_nothing_away() {
    if !User::all().contains(&User::Root) {
        return;
    }
    let (uid, gid) = User::Single.ids().expect("another user");
    let ctr = Ctr::with_box(User::Root);
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "sh", "-c", "echo up; exec sleep 1000"]);
    let mut owner =
        unshare.uid(uid).gid(gid).current_dir("/").stdout(Stdio::piped()).spawn().expect("start unshare");
    let mut ready = [0; 3];
    std::io::Read::read_exact(owner.stdout.as_mut().expect("its stdout"), &mut ready).expect("it is there");
    let namespace = format!("--userns=ns:/proc/{}/ns/user", owner.id());
    let create = ["create", "--name=c", "--network=none", &namespace, "box", "sleep", "1000"];
    let made = ctr.run(create).code();
    // The first process is there and waits, in the host's mounts.
    let init = (made == 0).then(|| ctr.run(["init", "c"]).code());
    let pid = ctr.run(["inspect", "--format", "{{.State.Pid}}", "c"]).stdout();
    let mut thief = Command::new("sh");
    let script = format!("cd /; ls /proc/{0}/root/ /proc/{0}/fd/", pid.trim());
    let stolen = thief.args(["-c", &script]).uid(uid).gid(gid).current_dir("/").output().expect("start sh");
    let _ = (owner.kill(), owner.wait(), ctr.run(["rm", "-f", "-t0", "c"]));
    assert_eq!((made, init), (0, Some(0)));
    assert_eq!(String::from_utf8_lossy(&stolen.stdout), "");
}
