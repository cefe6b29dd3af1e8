//! `ctr commit` and `ctr import`: a container's changes as an image, the same for the same changes.

mod support;

use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, io::Read, process::Command};
use support::{Compression, Ctr, Layer, Subject, TestImage, User, feed, names};

const EPOCH: &str = "1700000000";

/// `ctr` with SOURCE_DATE_EPOCH.
fn dated(ctr: &Ctr, arguments: &[&str]) -> support::Outcome {
    let mut command = ctr.command(arguments);
    let output = command.env("SOURCE_DATE_EPOCH", EPOCH).output().expect("start ctr");
    support::Outcome::new(format!("as {:?}: {arguments:?}", ctr.user()), output)
}

fn inspect(ctr: &Ctr, name: &str) -> Value {
    let all: Value = serde_json::from_str(&ctr.run(["image", "inspect", name]).ok()).expect("JSON");
    all[0].clone()
}

/// The plain archive of the topmost layer of `name`.
fn top(ctr: &Ctr, name: &str) -> Vec<u8> {
    let dir = format!("top-{}", name.replace(['/', ':'], "-"));
    ctr.run(["save", "--format", "docker-dir", "-o", &dir, name]).ok();
    let read = |file: &str| fs::read(ctr.home().join(&dir).join(file)).expect("a file of the image");
    let manifest: Value = serde_json::from_slice(&read("manifest.json")).expect("a manifest");
    let layer = manifest["layers"].as_array().and_then(|layers| layers.last()).expect("a layer").clone();
    let mut plain = Vec::new();
    let blob = read(&layer["digest"].as_str().expect("a digest")[7..]);
    flate2::read::MultiGzDecoder::new(blob.as_slice()).read_to_end(&mut plain).expect("a gzip layer");
    plain
}

/// Name to type, mode, owner, link and time of each member.
fn members(archive: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("a tar archive").map(|entry| {
        let entry = entry.expect("a member");
        let header = entry.header();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
        let (uid, gid) = (header.uid().expect("a uid"), header.gid().expect("a gid"));
        let kind = header.entry_type().as_byte() as char;
        let mode = header.mode().expect("a mode");
        (name, format!("{kind} {mode:o} {uid}:{gid} {}", link.unwrap_or_default()))
    });
    entries.collect()
}

fn image() -> TestImage {
    let more = Layer::new(Compression::Plain)
        .dir("old", 0o755)
        .file("old/kept", "kept")
        .file("old/gone", "gone")
        .dir("again", 0o755)
        .file("again/before", "before")
        .dir("opt", 0o755)
        .owned_file("recorded", "", 0o640, 200_000, 300_000)
        .device("null", 1, 3);
    TestImage::new([Layer::busybox(), more])
}

const CHANGES: &str = "rm /old/gone; rm -r /again; mkdir /again /new; echo both > /again/after; echo n > /new/file; \
    chmod 750 /new; ln /new/file /new/hard; ln -s file /new/soft; mkfifo /new/fifo; chmod 4755 /new/file; \
    echo x > /.wh.kept; echo more >> /recorded; rm -r /home; echo > /home; echo x > /etc/added";

#[test]
fn the_same_change_is_the_same_image() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user).with_image("changes", image());
        let run = |name: &str, changes: &str| {
            let options =
                ["run", "--network=none", "--tmpfs", "/opt/mount/point", "--name", name, "-h", name];
            ctr.run([&options[..], &["changes", "sh", "-c", changes]].concat()).ok();
        };
        run("one", CHANGES);
        // Other times and another order of directories.
        run("two", &format!("sleep 0.01; {CHANGES}; mkdir /x; rmdir /x"));
        let ids = ["one", "two"].map(|name| dated(&ctr, &["commit", "-q", name, name]).ok());
        let digests = ["one", "two"].map(|name| inspect(&ctr, name)["Digest"].clone());
        let config = |name: &str| inspect(&ctr, name)["Config"].clone();
        assert_eq!(config("one")["Cmd"][2], json!(CHANGES));
        // The command is another, so the configuration is; the layer is the same.
        assert!(ids[0] != ids[1] && digests[0] != digests[1]);
        let layers = ["one", "two"].map(|name| inspect(&ctr, name)["RootFS"]["Layers"].clone());
        assert_eq!(layers[0], layers[1], "{user:?}");
        let again = dated(&ctr, &["container", "commit", "one", "again"]).ok();
        assert_eq!((again, inspect(&ctr, "again")["Digest"].clone()), (ids[0].clone(), digests[0].clone()));

        let archive = top(&ctr, "one");
        let found = members(&archive);
        let gone = ["again/.wh..wh..opq", "old/.wh.gone"].map(|name| (name, "0 600 0:0 "));
        let expected = [
            ("again/", "5 755 0:0 "),
            ("again/after", "0 644 0:0 "),
            ("etc/", "5 755 0:0 "),
            ("etc/added", "0 644 0:0 "),
            ("home", "0 644 0:0 "),
            ("new/", "5 750 0:0 "),
            ("new/fifo", "6 644 0:0 "),
            ("new/file", "0 4755 0:0 "),
            ("new/hard", "1 4755 0:0 new/file"),
            ("new/soft", "2 777 0:0 file"),
            ("old/", "5 755 0:0 "),
            ("recorded", "0 640 200000:300000 "),
        ];
        let expected = expected.into_iter().chain(gone);
        let expected: BTreeMap<_, _> =
            expected.map(|(name, what)| (name.to_owned(), what.to_owned())).collect();
        assert_eq!(found, expected, "{user:?}");
        let mut sorted = names(&archive);
        sorted.sort_by(|a, b| a.trim_end_matches('/').split('/').cmp(b.trim_end_matches('/').split('/')));
        assert_eq!(names(&archive), sorted);
        let mut entries = tar::Archive::new(archive.as_slice());
        let times = entries.entries().expect("entries").map(|entry| entry.expect("one").header().mtime());
        assert!(times.map(|time| time.expect("a time")).all(|time| time == 0 || time <= 1_700_000_000));

        // What was changed is what a container of the new image sees.
        let seen = "cat /new/hard /again/after /recorded; ls -a /old /again /opt; test -p /new/fifo && test -u /new/file && \
            test ! -d /home && test ! -e /opt/mount && readlink /new/soft && cat /.wh.kept";
        let outcome = ctr.run(["run", "--rm", "--network=none", "one", "sh", "-c", seen]);
        let expected = "n\nboth\nmore\n/again:\n.\n..\nafter\n\n/old:\n.\n..\nkept\n\n/opt:\n.\n..\nfile";
        // A layer has no such name.
        assert!(outcome.stderr().contains("/.wh.kept"), "{outcome}");
        assert_eq!(outcome.stdout().trim_end(), expected, "{user:?} {outcome}");
    }
}

#[test]
fn what_commit_is_told() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run([
        "run",
        "--network=none",
        "--name",
        "c",
        "-e",
        "A=user",
        "-l",
        "l=v",
        "-w",
        "/tmp",
        "box",
        "touch",
        "/x",
    ])
    .ok();
    let base = inspect(&ctr, "box");
    ctr.run(["create", "--name=v", "--network=none", "-v", "data:/data", "-v", "/own", "box", "true"]).ok();
    for (options, volumes) in
        [(&[][..], Value::Null), (&["--include-volumes"], json!({"/data": {}, "/own": {}}))]
    {
        ctr.run([&["commit", "-q"], options, &["v", "volumes"]].concat()).ok();
        assert_eq!(inspect(&ctr, "volumes")["Config"]["Volumes"], volumes);
    }
    ctr.file("config.json", r#"{"ExposedPorts":{"9/tcp":{}}}"#);
    let line = [
        "commit",
        "-a",
        "me <me@example.com>",
        "-m",
        "because",
        "-c",
        "CMD [\"a\", \"b\"]",
        "-c",
        "ENV B=c",
        "--change",
        "USER=7",
        "-c",
        "VOLUME /v",
        "--config",
        "config.json",
        "--iidfile",
        "iid",
        "--timestamp",
        "5",
        "c",
        "registry.example.com/new:1",
    ];
    let id = ctr.run(line).ok();
    assert_eq!(fs::read_to_string(ctr.home().join("iid")).expect("the id"), id);
    let new = inspect(&ctr, "registry.example.com/new:1");
    assert_eq!((&new["Id"], &new["Author"]), (&json!(id), &json!("me <me@example.com>")));
    assert_eq!(new["Created"], json!("1970-01-01T00:00:05Z"));
    let config = &new["Config"];
    assert_eq!(config["Cmd"], json!(["a", "b"]));
    assert_eq!(config["Env"], json!(["PATH=/bin:/usr/bin", "A=user", "B=c"]));
    for (field, value) in [
        ("User", json!("7")),
        ("WorkingDir", json!("/tmp")),
        ("Labels", json!({ "l": "v" })),
        ("Volumes", json!({ "/v": {} })),
        ("ExposedPorts", json!({ "9/tcp": {} })),
    ] {
        assert_eq!(config[field], value, "{field}");
    }
    let history = new["History"].as_array().expect("the history").last().expect("a step").clone();
    assert_eq!(history["comment"], json!("because"));
    assert_eq!(history["created_by"], json!("touch /x"));
    let layers = |image: &Value| image["RootFS"]["Layers"].as_array().expect("layers").clone();
    assert_eq!(layers(&new)[..1], layers(&base)[..]);
    assert_eq!(layers(&new).len(), 2);
    // Without a name; in Docker's format; all in one layer.
    let unnamed = ctr.run(["commit", "-f", "docker", "c"]).ok();
    assert!(ctr.run(["images"]).ok().contains("<none>"));
    let manifest = ctr.run(["save", "--format", "docker-dir", "-o", "docker", &unnamed]).exits(0);
    drop(manifest);
    let manifest = fs::read_to_string(ctr.home().join("docker/manifest.json")).expect("the manifest");
    assert!(
        manifest.contains("docker.distribution.manifest.v2") && !manifest.contains("vnd.oci"),
        "{manifest}"
    );
    dated(&ctr, &["commit", "--squash", "c", "flat"]).ok();
    let flat = inspect(&ctr, "flat");
    assert_eq!((layers(&flat).len(), flat["History"].as_array().map(Vec::len)), (1, Some(1)));
    let found = members(&top(&ctr, "flat"));
    for there in ["bin/busybox", "etc/passwd", "tmp/", "x", "proc/", "dev/"] {
        assert!(found.contains_key(there), "{there} {found:?}");
    }
    for ours in ["etc/hosts", "etc/hostname", "etc/resolv.conf", "run/.containerenv"] {
        assert!(!found.contains_key(ours), "{ours}");
    }
    ctr.run(["run", "--rm", "--network=none", "flat", "test", "-f", "/x"]).ok();

    ctr.run(["commit", "nothing"]).exits(1);
    ctr.run(["commit", "-c", "RUN x", "c"]).exits(125);
    ctr.run(["commit", "c", "UPPER"]).fails("upper-case");
    ctr.run(["commit", "--config", "none.json", "c"]).fails("none.json");
    ctr.file("root/file", "x")
        .run(["create", "--network=none", "--name", "r", "--rootfs", "root", "/file"])
        .ok();
    ctr.run(["commit", "r"]).fails("no image").hints("ctr import");
}

/// A container that runs is committed as it is, paused if that is asked for, and goes on.
#[test]
fn while_it_runs() {
    for &user in User::all() {
        let mut subject = Subject::new(user, true, &["--tmpfs", "/cache"], "echo x > /x; echo y > /cache/y");
        for (name, pause) in [("a", "--pause=false"), ("b", "-p")] {
            dated(&subject.ctr, &["commit", pause, "c", name]).ok();
        }
        assert_eq!(inspect(&subject.ctr, "a")["Id"], inspect(&subject.ctr, "b")["Id"]);
        let found = members(&top(&subject.ctr, "a"));
        assert_eq!(found.keys().collect::<Vec<_>>(), ["x"], "{user:?}");
        dated(&subject.ctr, &["commit", "-s", "c", "flat"]).ok();
        let found = members(&top(&subject.ctr, "flat"));
        assert!(
            found.contains_key("x") && !found.keys().any(|name| name.starts_with("cache")),
            "{user:?} {found:?}"
        );
        let live = subject.live.as_mut().expect("it runs");
        live.close_stdin();
        subject.live.take().expect("it runs").end().ok();
    }
}

#[test]
fn under_fuse_overlayfs() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user).with_image("changes", image());
        let script = "rm /old/gone; rm -r /again; mkdir /again; echo x > /again/after";
        let line = [
            "--storage-driver=fuse-overlayfs",
            "run",
            "--network=none",
            "--name",
            "c",
            "changes",
            "sh",
            "-c",
            script,
        ];
        ctr.run(line).ok();
        dated(&ctr, &["commit", "c", "new"]).ok();
        let found = members(&top(&ctr, "new"));
        let found: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(
            found,
            ["again/", "again/.wh..wh..opq", "again/after", "old/", "old/.wh.gone"],
            "{user:?}"
        );
    }
}

/// An image that nobody can read to its end is none.
#[test]
fn a_commit_that_fails_leaves_nothing() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["run", "--network=none", "--name", "c", "box", "touch", "/x"]).ok();
    let before = ctr.store();
    // A limit that the layer's blob exceeds.
    ctr.run([
        "run",
        "--network=none",
        "--name",
        "big",
        "box",
        "dd",
        "if=/dev/urandom",
        "of=/big",
        "bs=1M",
        "count=4",
    ])
    .ok();
    let limited = ctr.wrapped(&["sh", "-c", "ulimit -f 2048; exec \"$@\"", "sh"], &["commit", "big", "x"]);
    let output = { limited }.output().expect("start ctr");
    support::Outcome::new("commit".into(), output).fails("too large");
    ctr.run(["rm", "big"]).ok();
    assert!(ctr.store() == before);
    ctr.run(["commit", "c", "x"]).ok();
}

#[test]
fn exported_and_imported() {
    let subject = Subject::new(User::Rootless, false, &[], "echo text > /file; chown 1000:50 /file");
    let ctr = &subject.ctr;
    ctr.run(["export", "-o", "root.tar", "c"]).ok();
    let archive = fs::read(ctr.home().join("root.tar")).expect("the archive");
    let id = dated(ctr, &["import", "-c", "CMD=[\"cat\",\"/file\"]", "-m", "why", "root.tar", "flat:1"]).ok();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    assert_eq!(ctr.run(["run", "--rm", "--network=none", "localhost/flat:1"]).ok(), "text");
    let flat = inspect(ctr, "flat:1");
    assert_eq!(flat["History"][0]["comment"], json!("why"));
    assert_eq!(flat["RootFS"]["Layers"], json!([support::digest(&archive)]));
    // However it is compressed, and from standard input.
    for program in ["gzip", "xz"] {
        let packed = support::packed_by(program, &archive);
        let line = ["image", "import", "--arch", "arm64", "--variant", "v9", "-", program];
        feed(ctr.command(line), &packed).ok();
        let found = inspect(ctr, program);
        assert_eq!(found["RootFS"]["Layers"], flat["RootFS"]["Layers"], "{program}");
        assert_eq!((&found["Architecture"], &found["Variant"]), (&json!("arm64"), &json!("v9")));
        feed(ctr.command(["import", "-"]), &packed[..packed.len() / 9]).fails("");
    }
    feed(ctr.command(["import", "-"]), b"").fails("empty");
    feed(ctr.command(["import", "-"]), &b"no archive".repeat(100)).fails("not a tar archive");
    ctr.run(["import", "https://example.com/x.tar"]).fails("URL").hints("curl");
    ctr.run(["import", "no/such/file"]).fails("no/such/file");
    // GNU tar reads a layer of ours as we do.
    let list = Command::new("tar").arg("-tf").arg(ctr.home().join("root.tar")).output().expect("start tar");
    assert_eq!(String::from_utf8(list.stdout).expect("names").lines().count(), names(&archive).len());
}
