//! Mount points that an image lacks: those of a container that goes at its end are made once, and not on its disk.

mod support;

use support::{Ctr, User};

fn ground(user: User) -> Ctr {
    let ctr = Ctr::with_box(user);
    ctr.file("src/file", "of the host").file("other/deep/x", "deep");
    ctr
}

#[test]
fn they_are_made_once_and_gone_with_the_image() {
    for &user in User::all() {
        let ctr = ground(user);
        let mounts =
            ["-v", "./src:/new/deep", "-v", "./src/file:/new/file", "-v", "/anonymous", "--tmpfs", "/memory"];
        let script = "cat /new/deep/file /new/file; stat -c ' %a %u:%g' /new; touch /new/x /anonymous/x /memory/x; stat -c %a /memory; grep -c . /etc/hosts";
        let hosts = ctr.script(&[], "grep -c . /etc/hosts");
        for _ in 0..2 {
            assert_eq!(
                ctr.script(&mounts, script),
                format!("of the hostof the host 755 0:0\n1777\n{hosts}"),
                "{user:?}"
            );
        }
        assert_eq!(ctr.list("views").len(), 1, "as {user:?}");
        // What fills a volume, or a tmpfs, finds nothing there.
        let inner = ["-v", "own:/own", "-v", "./src:/own/src", "--tmpfs=/t", "-v", "./src:/t/src"];
        assert_eq!(
            ctr.script(&inner, "ls /own; stat -c %a /t; umount /own/src 2>/dev/null; true"),
            "src\n1777"
        );
        let data = ctr.run(["volume", "inspect", "-f", "{{.Mountpoint}}", "own"]).ok();
        assert_eq!(std::fs::read_dir(data).expect("list it").count(), 1, "the mount point alone");
        // The same place for a file, then for a directory.
        ctr.script(&["-v", "./src/file:/place"], "test -f /place");
        ctr.script(&["-v", "./other:/place"], "test -f /place/deep/x");
        // One that stays has them as its own, and one with other ids, too.
        ctr.run(["run", "--name=c", "--network=none", "-v", "./src:/other/place", "box", "true"]).ok();
        let id = ctr.run(["ps", "-aq", "--no-trunc"]).ok();
        assert!(ctr.data().join("containers").join(id).join("upper/other/place").is_dir());
        ctr.run(["rm", "c"]).ok();
        assert!(ctr.list("containers").is_empty() && ctr.list("tmp").is_empty());
        ctr.run(["rmi", "-a"]).ok();
        assert!(ctr.list("views").is_empty(), "as {user:?}");
    }
}

#[test]
fn a_container_that_uses_them_keeps_them() {
    let ctr = ground(User::Rootless);
    let line =
        ["run", "-d", "--rm", "--name=w", "--network=none", "-v", "./src:/new/deep", "box", "sleep", "1000"];
    ctr.run(line).ok();
    for key in ctr.list("views") {
        let status = std::process::Command::new("touch")
            .args(["-d", "1 month ago"])
            .arg(ctr.data().join("views").join(key))
            .status();
        assert!(status.expect("run touch").success());
    }
    ctr.run(["system", "prune", "-f"]).ok();
    assert_eq!(ctr.list("views").len(), 1);
    assert_eq!(ctr.run(["exec", "w", "ls", "/new/deep"]).ok(), "file");
    let changed = ctr.run(["diff", "w"]).ok();
    assert!(!changed.contains("new"), "{changed}");
    ctr.run(["commit", "-q", "w", "copy"]).ok();
    assert_eq!(
        ctr.payload_of("copy", &[], &["sh", "-c", "ls -d /new 2>/dev/null || echo none"]).ok(),
        "none"
    );
    ctr.run(["rm", "-f", "-t0", "w"]).ok();
    ctr.run(["system", "prune", "-f"]).ok();
    assert!(ctr.list("views").is_empty(), "nobody has wanted them for a month");
}

#[test]
fn what_an_image_has_at_the_place_wins() {
    let ctr = ground(User::Rootless).with_image(
        "odd",
        support::TestImage::new([
            support::Layer::busybox(),
            support::Layer::new(support::Compression::Gzip)
                .dir("real", 0o711)
                .file("real/kept", "kept")
                .symlink("link", "/real")
                .file("file", "a file"),
        ]),
    );
    let run = |mount: &str, script: &str| ctr.payload_of("odd", &["-v", mount], &["sh", "-c", script]);
    assert_eq!(
        run("./src:/real/new", "stat -c %a /real; cat /real/kept; ls /real/new").ok(),
        "711\nkeptfile"
    );
    assert_eq!(run("./src:/link/new", "cat /real/new/file; readlink /link").ok(), "of the host/real");
    run("./src:/file/new", "true").exits(125);
    assert!(ctr.list("containers").is_empty());
}
