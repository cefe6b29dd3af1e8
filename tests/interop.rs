//! Other programs and ours: what skopeo, Podman, Buildah and umoci write we load and run; what we commit and save they read, with every
//! digest as it was.

mod support;

use serde_json::Value;
use std::{ffi::OsStr, fs, path::Path, process::Command, sync::LazyLock};
use support::{Ctr, User};

/// A container's changes as the image `localhost/made:1`, and the base that it was made of.
fn made() -> Ctr {
    let ctr = Ctr::with_box(User::Rootless);
    let script = "mkdir -p /dir/sub; echo text > /dir/file; ln /dir/file /dir/hard; ln -s file /dir/soft; rm /etc/group; \
        rm -r /home; mkdir /home; echo new > /home/file; chown 7:8 /dir/file; chmod 2755 /dir/sub; \
        dd if=/dev/zero of=/sparse bs=1 count=1 seek=3000000; mkfifo /dir/fifo";
    ctr.run(["run", "--network=none", "--name", "c", "box", "sh", "-c", script]).ok();
    ctr.run([
        "commit",
        "-c",
        "CMD [\"cat\", \"/dir/hard\", \"/home/file\"]",
        "--timestamp",
        "1000",
        "c",
        "made:1",
    ])
    .ok();
    ctr
}

fn inspect(ctr: &Ctr, name: &str) -> Value {
    let all: Value = serde_json::from_str(&ctr.run(["image", "inspect", name]).ok()).expect("JSON");
    all[0].clone()
}

/// Run a program to its end; what it says.
fn tool<S: AsRef<OsStr>>(dir: &Path, program: &str, arguments: impl IntoIterator<Item = S>) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        // Podman and skopeo must not read what is configured for the tests of pulls.
        .env_remove("CONTAINERS_REGISTRIES_CONF")
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}: run scripts/setup test"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Podman with a storage of its own below `dir`.
fn podman<const N: usize>(dir: &Path, arguments: [&str; N]) -> String {
    stored(dir, "podman", &arguments)
}

/// Buildah with the same storage.
fn buildah<const N: usize>(dir: &Path, arguments: [&str; N]) -> String {
    stored(dir, "buildah", &arguments)
}

fn stored(dir: &Path, program: &str, arguments: &[&str]) -> String {
    let place = |name: &str| dir.join(name).display().to_string();
    let (root, run) = (place("podman"), place("podman-run"));
    let globals = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
    let said = tool(dir, program, [&globals[..], arguments].concat());
    String::from_utf8(said).expect("text").trim().to_owned()
}

/// Whoever is not root can't have Podman store files of others, nor chown them.
static ROOT: LazyLock<bool> = LazyLock::new(|| rustix::process::getuid().is_root());

#[test]
fn others_read_what_we_save() {
    let ctr = made();
    let image = inspect(&ctr, "made:1");
    let text = |field: &str| image[field].as_str().expect("text").to_owned();
    let home = ctr.home();
    ctr.run(["save", "-o", "docker.tar", "made:1"]).ok();
    ctr.run(["save", "--format", "oci-archive", "-o", "oci.tar", "made:1"]).ok();
    ctr.run(["save", "--format", "oci-dir", "-o", "oci", "made:1"]).ok();
    ctr.run(["save", "--format", "docker-dir", "-o", "dir", "made:1"]).ok();
    for place in ["oci-archive:oci.tar", "oci-archive:docker.tar", "oci:oci", "dir:dir"] {
        let manifest = tool(home, "skopeo", ["inspect", "--raw", place]);
        assert_eq!(support::digest(&manifest), text("Digest"), "{place}");
    }
    let config = tool(home, "skopeo", ["inspect", "--config", "--raw", "docker-archive:docker.tar"]);
    assert_eq!(support::digest(&config)[7..], text("Id"));
    if !*ROOT {
        return;
    }
    for file in ["docker.tar", "oci.tar"] {
        assert_eq!(podman(home, ["load", "-q", "-i", file]), "Loaded image: localhost/made:1", "{file}");
        let found = podman(home, ["image", "inspect", "--format", "{{.Digest}} {{.Id}}", "localhost/made:1"]);
        assert_eq!(found, format!("{} {}", text("Digest"), text("Id")), "{file}");
        podman(home, ["rmi", "-a"]);
    }
    // The tree that umoci unpacks is the one that a container of ours sees.
    tool(home, "umoci", ["unpack", "--image", "oci:localhost/made:1", "bundle"]);
    ctr.run(["create", "--network=none", "--name", "seen", "made:1"]).ok();
    ctr.run(["export", "-o", "seen.tar", "seen"]).ok();
    fs::create_dir(home.join("seen")).expect("make a directory");
    let archive = home.join("seen.tar").display().to_string();
    tool(&home.join("seen"), "tar", ["--numeric-owner", "-xpf", &archive]);
    let list = |top: &str| {
        let format = "%P %y %m %U:%G %s %l %n\n";
        let said = tool(&home.join(top), "find", [".", "-not", "-name", ".", "-printf", format]);
        let text = String::from_utf8(said).expect("text");
        let mut lines: Vec<_> = text.lines().filter(|line| !is_ours(line)).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (theirs, ours) = (list("bundle/rootfs"), list("seen"));
    assert!(theirs.iter().any(|line| line.starts_with("dir/hard f 644 ")), "{theirs:?}");
    assert_eq!(theirs, ours);
}

/// Sizes of directories are the file system's affair, and the skeleton is no part of an image.
fn is_ours(line: &str) -> bool {
    let name = line.split(' ').next().unwrap_or_default();
    line.contains(" d ")
        || ["etc/hosts", "etc/hostname", "etc/resolv.conf", "run/.containerenv"].contains(&name)
}

#[test]
fn we_read_what_others_save() {
    let ctr = made();
    let image = inspect(&ctr, "made:1");
    let home = ctr.home();
    ctr.run(["save", "--format", "oci-dir", "-o", "oci", "made:1"]).ok();
    let copies = [
        ("docker-archive:d.tar:a.example.com/b:1", "d.tar", "a.example.com/b:1"),
        ("oci-archive:o.tar:c:2", "o.tar", "localhost/c:2"),
        ("oci:o:d:3", "o", "localhost/d:3"),
        ("dir:d", "d", ""),
    ];
    for (to, file, name) in copies {
        tool(home, "skopeo", ["copy", "-q", "oci:oci", to]);
        share(home, file);
        ctr.run(["rmi", "-af"]).code();
        let said = ctr.run(["load", "-q", "-i", file]).ok();
        let id = image["Id"].as_str().expect("text");
        let name = if name.is_empty() { id } else { name };
        assert!(said.ends_with(name), "{said}");
        let found = inspect(&ctr, name);
        assert_eq!((&found["Id"], &found["RootFS"]), (&image["Id"], &image["RootFS"]), "{to}");
        if !to.starts_with("docker") {
            // It has compressed a layer that was plain.
            let place = format!("{}:{file}", to.split(':').next().unwrap_or_default());
            let manifest = tool(home, "skopeo", ["inspect", "--raw", &place]);
            assert_eq!(found["Digest"], Value::String(support::digest(&manifest)), "{to}");
        }
        assert_eq!(ctr.run(["run", "--rm", "--network=none", name]).ok(), "text\nnew", "{to}");
    }
    // A new image of umoci's, with a layer of its own.
    tool(home, "umoci", ["tag", "--image", "oci:localhost/made:1", "umoci"]);
    tool(
        home,
        "umoci",
        ["config", "--image", "oci:umoci", "--config.cmd", "cat", "--config.cmd", "/etc/umoci"],
    );
    ctr.file("etc-umoci", "by umoci\n");
    tool(home, "umoci", ["insert", "--rootless", "--image", "oci:umoci", "etc-umoci", "/etc/umoci"]);
    share(home, "oci");
    let said = ctr.run(["load", "-q", "-i", "oci"]).ok();
    assert!(said.contains("Loaded image: localhost/umoci:latest"), "{said}");
    assert_eq!(ctr.run(["run", "--rm", "--network=none", "umoci"]).ok(), "by umoci");
    if !*ROOT {
        return;
    }
    // What it has made is cut off behind its last byte, and Podman takes no such layer. Podman's own commit, and its two kinds of archive.
    ctr.run(["save", "-o", "ours.tar", "made:1"]).ok();
    podman(home, ["load", "-q", "-i", "ours.tar"]);
    podman(home, ["create", "--name", "p", "localhost/made:1"]);
    podman(home, ["commit", "-q", "-c", "CMD [\"cat\", \"/dir/file\"]", "p", "committed"]);
    for format in ["docker-archive", "oci-archive"] {
        let file = format!("podman-{format}");
        podman(home, ["save", "-q", "--format", format, "-o", &file, "committed"]);
        share(home, &file);
        assert_eq!(ctr.run(["load", "-q", "-i", &file]).ok(), "Loaded image: localhost/committed:latest");
        assert_eq!(ctr.run(["run", "--rm", "--network=none", "committed"]).ok(), "text", "{format}");
        let id = podman(home, ["image", "inspect", "--format", "{{.Id}}", "committed"]);
        assert_eq!(inspect(&ctr, "committed")["Id"], Value::String(id));
        ctr.run(["rmi", "committed"]).ok();
    }
    // Buildah goes on from what we have saved, and we from what it has made.
    buildah(home, ["from", "--name", "b", "oci-archive:ours.tar"]);
    ctr.file("etc-buildah", "by buildah");
    buildah(home, ["copy", "b", "etc-buildah", "/etc/buildah"]);
    buildah(home, ["config", "--cmd", "cat /dir/file /etc/buildah", "--label", "by=buildah", "b"]);
    for format in ["oci-archive", "docker-archive"] {
        let file = format!("buildah-{format}");
        buildah(home, ["commit", "-q", "b", &format!("{format}:{file}:localhost/built:1")]);
        share(home, &file);
        assert_eq!(ctr.run(["load", "-q", "-i", &file]).ok(), "Loaded image: localhost/built:1");
        assert_eq!(inspect(&ctr, "built:1")["Labels"]["by"], "buildah");
        assert_eq!(
            ctr.run(["run", "--rm", "--network=none", "built:1"]).ok(),
            "text\nby buildah",
            "{format}"
        );
        ctr.run(["rmi", "built:1"]).ok();
    }
}

/// What a program has written as root, the user of `ctr` may read.
fn share(dir: &Path, name: &str) {
    tool(dir, "chmod", ["-R", "a+rX", name]);
}
