//! Whatever makes the root file system of it (`--storage-driver`), a container is the same: overlay, fuse-overlayfs, or a copy.

mod support;

use std::{fs, os::unix::fs::MetadataExt, path::Path};
use support::{Compression, Ctr, Layer, TestImage, User, names};

const DRIVERS: [&str; 3] = ["overlay", "fuse-overlayfs", "plain"];

/// Three layers: the second hides a file, a directory and what was in another one; the third has one of them again.
fn image() -> TestImage {
    let below = Layer::busybox()
        .dir("keep", 0o755)
        .file("keep/one", "1")
        .file("keep/two", "2")
        .dir("hidden", 0o755)
        .file("hidden/old", "o")
        .dir("opaque", 0o755)
        .file("opaque/old", "o")
        .dir("again", 0o750)
        .file("again/old", "o")
        .owned_file("owned", "w", 0o640, 7, 8)
        .hardlink("owned2", "owned")
        .symlink("link", "keep/one");
    let middle = Layer::new(Compression::Gzip)
        .file("keep/.wh.two", "")
        .file(".wh.hidden", "")
        .dir("opaque", 0o700)
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "n")
        .file(".wh.again", "");
    let top = Layer::new(Compression::Gzip).dir("again", 0o755).file("again/new", "n");
    TestImage::new([below, middle, top])
}

const SEEN: &str = "cd / && find keep hidden opaque again owned owned2 link 2>/dev/null | sort | tr '\\n' ' '
    stat -c '%a %u:%g %h' owned; cat link; stat -c %a opaque again";
const EXPECTED: &str =
    "again again/new keep keep/one link opaque opaque/new owned owned2 640 7:8 2\n1700\n755";

const CHANGE: &str =
    "cd /; echo more >>keep/one; rm link; rm -r opaque; mkdir opaque; echo x >opaque/mine; mkdir made;
    echo y >made/file; chown 9:9 made/file; chmod 711 again; mknod made/fifo p; cat owned >/dev/null";
const CHANGED: &str = "C /again\nC /keep\nC /keep/one\nD /link\nA /made\nA /made/fifo\nA /made/file\nC /opaque\nA /opaque/mine\nD /opaque/new";

fn users() -> impl Iterator<Item = User> {
    User::all().iter().copied()
}

#[test]
fn each_driver_does_the_same() {
    for user in users() {
        let ctr = Ctr::with_box(user).with_image("layers", image());
        ctr.file("in", "from the host");
        for driver in DRIVERS {
            let forced = format!("--storage-driver={driver}");
            let with = |line: &[&str]| ctr.run([&[forced.as_str()], line].concat());
            let what = format!("{driver}, {user:?}");
            let owners =
                if user == User::Single { EXPECTED.replace("7:8", "0:0") } else { EXPECTED.to_owned() };
            let line = ["run", "-d", "--network=none", "--name=c", "layers", "sleep", "1000"];
            with(&line).ok();
            assert_eq!(ctr.run(["exec", "c", "sh", "-c", SEEN]).ok(), owners, "{what}");
            assert_eq!(ctr.run(["inspect", "-f", "{{.Driver}}", "c"]).ok(), driver, "{what}");
            assert_eq!(ctr.run(["diff", "c"]).ok(), "", "{what}: nothing has changed");
            ctr.run(["exec", "c", "sh", "-c", CHANGE]).ok();
            assert_eq!(ctr.run(["diff", "c"]).ok(), CHANGED, "{what}");
            ctr.run(["cp", "in", "c:/made/in"]).ok();
            assert_eq!(ctr.run(["exec", "c", "cat", "/made/in"]).ok(), "from the host", "{what}");
            ctr.run(["commit", "-q", "c", "made"]).ok();
            ctr.run(["stop", "-t0", "c"]).ok();
            // A stopped one, and one that starts again.
            let archive = ctr.run(["export", "c"]).exits(0);
            let members = names(archive.bytes());
            assert!(
                members.iter().any(|name| name == "made/in") && !members.iter().any(|name| name == "link"),
                "{what}"
            );
            assert_eq!(
                names(ctr.run(["cp", "c:/opaque", "-"]).exits(0).bytes()),
                ["opaque/", "opaque/mine"],
                "{what}"
            );
            ctr.run(["start", "c"]).ok();
            assert_eq!(ctr.run(["exec", "c", "cat", "/keep/one"]).ok(), "1more", "{what}");
            ctr.run(["rm", "-f", "-t0", "c"]).ok();
            // What was committed is the same whatever shows it.
            let look = "cat /keep/one /opaque/mine; ls /opaque; stat -c '%u %a' /made/file /again; ls /link";
            let seen = with(&["run", "--rm", "--network=none", "made", "sh", "-c", look]).exits(1).stdout();
            let owner = if user == User::Single { 0 } else { 9 };
            assert_eq!(seen, format!("1more\nx\nmine\n{owner} 644\n0 711\n"), "{what}");
            ctr.run(["rmi", "-f", "made"]).ok();
            for place in ["containers", "tmp", "trash"] {
                assert!(ctr.list(place).is_empty(), "{what}: {:?} in {place}", ctr.list(place));
            }
        }
    }
}

#[test]
fn a_payload_reaches_no_layer_through_its_copy() {
    for user in users() {
        let ctr = Ctr::with_box(user).with_image("layers", image());
        let before = ctr.store();
        let script = "for f in /keep/one /owned; do echo broken >$f; chmod 777 $f; chown 1 $f 2>/dev/null; done; ln /keep/one /tmp/x; echo y >/tmp/x";
        ctr.run(["--storage-driver=plain", "run", "--rm", "--network=none", "layers", "sh", "-c", script])
            .exits(0);
        let after = ctr.store();
        let of_layers = |store: &std::collections::BTreeMap<std::path::PathBuf, String>| {
            store
                .iter()
                .filter(|(path, _)| path.starts_with("layers"))
                .map(|(p, v)| (p.clone(), v.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(of_layers(&before), of_layers(&after), "{user:?}");
    }
}

#[test]
fn a_copy_has_the_ids_of_its_container() {
    let ctr = Ctr::with_box(User::Rootless).with_image("layers", image());
    for mode in ["--userns=keep-id", "--userns=nomap", "--userns=auto"] {
        let line = [
            "--storage-driver=plain",
            "run",
            "--rm",
            "--network=none",
            mode,
            "--user=0:0",
            "layers",
            "sh",
            "-c",
            SEEN,
        ];
        assert_eq!(ctr.run(line).ok(), EXPECTED, "{mode}");
        let line = [
            "--storage-driver=plain",
            "run",
            "--network=none",
            "--name=c",
            mode,
            "--user=0",
            "layers",
            "sh",
            "-c",
            "echo x >/tmp/x; rm /link",
        ];
        ctr.run(line).exits(0);
        let told = ctr.run(["diff", "c"]).ok();
        assert!(
            told.contains("A /tmp/x") && told.contains("D /link") && !told.contains("keep"),
            "{mode}: {told}"
        );
        ctr.run(["rm", "c"]).ok();
    }
}

#[test]
fn drivers_are_named_by_option_or_environment() {
    let ctr = Ctr::with_box(User::Rootless);
    let of = |variable: &str, value: &str, option: &[&str]| {
        let line = [option, &["create", "--network=none", "--name=c", "box", "true"]].concat();
        let made = ctr.command(line).env(variable, value).output().expect("start ctr");
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        let driver = ctr.run(["inspect", "-f", "{{.Driver}}", "c"]).stdout().trim().to_owned();
        ctr.run(["rm", "-i", "c"]).ok();
        (driver, said)
    };
    assert_eq!(of("CTR_STORAGE_DRIVER", "plain", &[]).0, "plain");
    assert_eq!(of("STORAGE_DRIVER", "vfs", &[]).0, "plain");
    assert_eq!(of("STORAGE_DRIVER", "plain", &["--storage-driver=overlay"]).0, "overlay");
    let (none, said) = of("STORAGE_DRIVER", "zfs", &[]);
    assert!(none.is_empty() && said.contains("STORAGE_DRIVER") && said.contains("hint:"), "{said}");
    ctr.run(["--storage-driver=zfs", "ps"]).fails("zfs");
    // A directory of the user's own is what it is, and never copied.
    let tree = ctr.rootfs("tree");
    let tree = tree.to_str().expect("text");
    ctr.run([
        "--storage-driver=plain",
        "run",
        "--rm",
        "--network=none",
        "--rootfs",
        tree,
        "sh",
        "-c",
        "echo x >/made",
    ])
    .ok();
    assert!(Path::new(tree).join("made").exists());
}

#[test]
fn a_copy_that_was_cut_short_is_made_anew() {
    let ctr = Ctr::with_box(User::Rootless).with_image("layers", image());
    ctr.run(["--storage-driver=plain", "create", "--network=none", "--name=c", "layers", "sh", "-c", SEEN])
        .ok();
    let id = ctr.run(["ps", "-aq", "--no-trunc"]).ok();
    let draft = Path::new("data/ctr/containers").join(&id).join("copy/fs/keep");
    ctr.file(draft.join("half").to_str().expect("text"), "");
    ctr.file(&format!("data/ctr/containers/{id}/copied"), "");
    assert_eq!(ctr.run(["start", "-a", "c"]).ok(), EXPECTED);
    let upper = ctr.data().join("containers").join(&id).join("upper");
    assert!(upper.join("keep/one").exists() && !upper.join("keep/half").exists());
    assert_eq!(fs::metadata(upper.join("keep")).expect("a directory").mode() & 0o7777, 0o755);
    ctr.run(["rm", "c"]).ok();
}

/// Others may have mounts of fuse-overlayfs, too: none of them is taken for the container's root.
#[test]
fn another_mount_of_fuse_overlayfs_is_not_ours() {
    if !User::all().contains(&User::Root) {
        return;
    }
    for user in users() {
        let ctr = Ctr::with_box(user);
        ctr.file("lower/other", "").file("merged/x", "");
        let at = |name: &str| ctr.home().join(name).display().to_string();
        let script = format!(
            "fuse-overlayfs -o lowerdir={} {}; exec setpriv --reuid={2} --regid={3} --clear-groups \"$@\"",
            at("lower"),
            at("merged"),
            user.ids().map_or(0, |ids| ids.0),
            user.ids().map_or(0, |ids| ids.1),
        );
        let wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"];
        let run = ["--storage-driver=fuse-overlayfs", "run", "--rm", "--network=none", "box", "echo", "up"];
        let output = ctr.outside(&wrapper, &run).output().expect("start unshare");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "up\n", "{user:?}: {output:?}");
    }
}
