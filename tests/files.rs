//! The files of a container as a whole: diff, export, mount. For a running and a stopped one and each kind of user.

mod support;

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};
use support::{Ctr, Layer, Subject, TestImage, User, names};

#[test]
fn diff() {
    let script = "rm /old/gone; rm -r /again; mkdir /again; echo y > /again/both; echo > /again/new; chmod 600 /deep/er/file; \
        mkdir -p /new/er; echo > /new/er/file; chmod 700 /alone; rm -r /var";
    for &user in User::all() {
        for running in [true, false] {
            let image = TestImage::new([Layer::busybox(), image_layer()]);
            let ctr = Ctr::with_box(user).with_image("differs", image);
            let subject = Subject::of(ctr, "differs", running, &[], script);
            let expected = "C /again\nD /again/before\nC /again/both\nA /again/new\nC /alone\nC /deep\nC /deep/er\nC /deep/er/file\nA /new\nA /new/er\n\
                A /new/er/file\nC /old\nD /old/gone\nD /var";
            assert_eq!(subject.ctr.run(["diff", "c"]).ok(), expected, "{}", subject.what());
            let json = subject.ctr.run(["container", "diff", "--format", "json", "c"]).ok();
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(json["deleted"], serde_json::json!(["/again/before", "/old/gone", "/var"]));
            assert_eq!(json["added"][0], "/again/new");
            subject.ctr.run(["diff", "nothing"]).exits(1);
        }
    }
    fn image_layer() -> Layer {
        Layer::new(support::Compression::Plain)
            .dir("old", 0o755)
            .file("old/kept", "x")
            .file("old/gone", "x")
            .dir("again", 0o755)
            .file("again/before", "x")
            .file("again/both", "x")
            .dir("deep", 0o755)
            .dir("deep/er", 0o755)
            .file("deep/er/file", "x")
            .dir("alone", 0o755)
            .file("alone/file", "x")
    }
}

#[test]
fn a_container_that_changed_nothing_differs_in_nothing() {
    for subject in Subject::all(&["--tmpfs", "/cache"], "true") {
        assert_eq!(subject.ctr.run(["diff", "c"]).ok(), "", "{}", subject.what());
    }
}

#[test]
fn export_is_the_root_file_system_and_always_the_same() {
    for subject in Subject::all(
        &["--tmpfs", "/cache"],
        "mkdir /a; echo text > /a/file; rm /etc/group; echo hidden > /cache/x",
    ) {
        let what = subject.what();
        let first = subject.ctr.run(["export", "c"]).exits(0);
        let members = names(first.bytes());
        let mut sorted = members.clone();
        sorted.sort_by(|a, b| a.trim_end_matches('/').split('/').cmp(b.trim_end_matches('/').split('/')));
        assert_eq!(members, sorted, "{what}");
        for there in
            ["a/", "a/file", "bin/busybox", "bin/sh", "etc/passwd", "proc/", "dev/", "sys/", "cache/"]
        {
            assert!(members.iter().any(|name| name == there), "{there} {what}: {members:?}");
        }
        for (gone, below) in [("etc/group", "proc/"), ("cache/x", "dev/")] {
            let inside = |name: &&String| name.starts_with(below) && name.len() > below.len();
            assert!(
                !members.iter().any(|name| name == gone) && members.iter().find(inside).is_none(),
                "{what}"
            );
        }
        assert_eq!(subject.ctr.run(["export", "c"]).exits(0).bytes(), first.bytes(), "{what}");
        subject.ctr.run(["export", "-o", "file.tar", "c"]).ok();
        assert_eq!(fs::read(subject.path("file.tar")).unwrap(), first.bytes(), "{what}");
        // GNU tar agrees that it is one.
        let listed = Command::new("tar").arg("-tf").arg(subject.path("file.tar")).output().unwrap();
        assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().collect::<Vec<_>>(), members, "{what}");
        subject.ctr.run(["export", "nothing"]).exits(1);
        subject.ctr.run(["export", "-o", "no/such/dir", "c"]).fails("no/such/dir");
    }
}

#[test]
fn mounts_are_roots() {
    for subject in Subject::all(&[], "echo inside > /file") {
        let what = subject.what();
        if subject.ctr.user() != User::Root {
            for verb in ["mount", "unmount", "umount"] {
                subject.ctr.run([verb, "c"]).fails("in rootless mode");
            }
            continue;
        }
        assert_eq!(subject.ctr.run(["mount"]).ok(), "");
        let place = subject.ctr.run(["mount", "c"]).ok();
        assert_eq!(subject.ctr.run(["mount", "c"]).ok(), place, "{what}");
        assert_eq!(fs::read_to_string(Path::new(&place).join("file")).unwrap(), "inside\n", "{what}");
        fs::write(Path::new(&place).join("written"), "outside").unwrap();
        let listed = subject.ctr.run(["container", "mount", "--no-trunc"]).ok();
        assert!(listed.ends_with(&place) && listed.len() == 64 + 2 + place.len(), "{listed}");
        if subject.live.is_some() {
            subject.cp(&["c:/written", "written"]).ok();
            assert_eq!(subject.text("written"), "outside");
        }
        subject.ctr.run(["unmount", "c"]).ok();
        assert!(!Path::new(&place).exists() && subject.ctr.run(["mount"]).ok().is_empty(), "{what}");
        subject.ctr.run(["unmount", "c"]).fails("not mounted");
        subject.cp(&["c:/written", "written"]).ok();
        subject.ctr.run(["mount", "-a"]).ok();
        subject.ctr.run(["umount", "--all", "--force"]).ok();
        assert_eq!(subject.ctr.run(["mount"]).ok(), "");
    }
}

/// One root file system, however many look at it: two overlays over one upper directory would contradict each other.
#[test]
fn a_mounted_one_shares_its_root() {
    if !User::all().contains(&User::Root) {
        return;
    }
    let ctr = Ctr::with_box(User::Root);
    let script = "echo started >> /file; cat /outside; stat -c %d /; read x";
    ctr.run(["create", "-i", "--network=none", "--name", "c", "box", "sh", "-c", script]).ok();
    let place = ctr.run(["mount", "c"]).ok();
    let seen = |name: &str| fs::read_to_string(Path::new(&place).join(name)).expect("a file of the root");
    fs::write(Path::new(&place).join("outside"), "from outside\n").unwrap();
    let mut live = ctr.start(["start", "-ai", "c"]);
    live.says("from outside");
    live.says(&fs::metadata(&place).expect("the root").dev().to_string());
    assert_eq!(seen("file"), "started\n");
    live.close_stdin();
    live.end();
    ctr.run(["cp", "c:/file", "file"]).ok();
    // rm lets go of it, as podman-rm does, even while somebody is in it.
    let inside = fs::File::open(Path::new(&place).join("file")).unwrap();
    ctr.run(["rm", "c"]).ok();
    drop(inside);
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
    assert!(!mounts.contains(&place) && !Path::new(&place).exists());
}

/// A copy keeps a stopped container as it is: who wants to start it waits for the copy.
#[test]
fn a_start_waits_for_a_copy() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["create", "--network=none", "--name", "c", "box", "sh", "-c", "wc -c < /copied/file"]).ok();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let text = "text\n".repeat(100_000);
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "copied/file", text.as_bytes()).unwrap();
    let archive = String::from_utf8(archive.into_inner().unwrap()).unwrap();
    let (begin, end) = archive.split_at(archive.len() - 1024);
    let mut copy = ctr.start(["cp", "-", "c:/"]);
    // More than a pipe takes: it reads, so it holds the container.
    copy.write(begin);
    let mut start = ctr.start(["start", "-a", "c"]);
    // It has found the container held, and sleeps or has given up.
    let of_start = |file: &str| {
        fs::read_to_string(format!("/proc/{}/{file}", start.pid().as_raw_nonzero())).unwrap_or_default()
    };
    while !of_start("wchan").contains("nanosleep") && !of_start("stat").contains(") Z ") {
        std::thread::yield_now();
    }
    copy.write(end);
    copy.close_stdin();
    copy.end().ok();
    start.says("500000");
    start.end().ok();
}

#[test]
fn under_fuse_overlayfs() {
    for &user in User::all() {
        for running in [true, false] {
            let ctr = Ctr::with_box(user);
            let script =
                format!("echo one > /f; rm /etc/group{}", if running { "; echo ready; read x" } else { "" });
            let line = [
                "--storage-driver=fuse-overlayfs",
                "run",
                "-i",
                "--network=none",
                "--name",
                "c",
                "box",
                "sh",
                "-c",
            ];
            let mut live = ctr.start([&line[..], &[&script]].concat());
            let live = if running {
                live.says("ready");
                Some(live)
            } else {
                live.close_stdin();
                live.end().ok();
                None
            };
            let subject = Subject { ctr, live };
            let what = subject.what();
            subject.cp(&["c:/f", "f"]).ok();
            assert_eq!(subject.text("f"), "one\n", "{what}");
            subject.cp(&["f", "c:/g"]).ok();
            subject.cp(&["c:/g", "g"]).ok();
            assert_eq!(subject.text("g"), "one\n", "{what}");
            assert_eq!(subject.ctr.run(["diff", "c"]).ok(), "C /etc\nD /etc/group\nA /f\nA /g", "{what}");
            assert!(
                !names(subject.ctr.run(["export", "c"]).exits(0).bytes()).contains(&"etc/group".to_owned())
            );
        }
    }
}
