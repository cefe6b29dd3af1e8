//! Rows 3, 4, 10 and 18: neither what is in a volume nor what is put into one leads to the host.

use crate::{
    rounds,
    support::{Compression, Ctr, Layer, User, feed},
};
use std::{fs, os::unix::fs::MetadataExt};

const CANARY: &str = "CANARY-OF-THE-HOST";

/// A home with a volume `v` and, beside the store, `canary/file`.
fn ground(user: User) -> (Ctr, String) {
    let ctr = Ctr::with_box(user);
    ctr.file("canary/file", CANARY);
    ctr.run(["volume", "create", "v"]).ok();
    let canary = ctr.home().join("canary").display().to_string();
    (ctr, canary)
}

fn unchanged(ctr: &Ctr) -> bool {
    let names: Vec<_> = fs::read_dir(ctr.home().join("canary")).expect("list").collect();
    fs::read_to_string(ctr.home().join("canary/file")).expect("read") == CANARY && names.len() == 1
}

#[test]
fn a_place_in_a_volume_is_reached_through_no_link() {
    for &user in User::all() {
        let (ctr, canary) = ground(user);
        let up = format!("../../../../../../../../..{canary}");
        ctr.script(
            &["-v", "v:/v"],
            &format!("mkdir /v/d; ln -s {canary} /v/abs; ln -s {up} /v/up; ln -s {up} /v/d/in"),
        );
        for subpath in ["abs", "up", "abs/file", "d/in", "d/in/file"] {
            let mount = format!("type=volume,src=v,dst=/x,subpath={subpath}");
            let outcome = ctr.payload(&["--mount", &mount], &["sh", "-c", "cat /x /x/file"]);
            assert!(!outcome.stdout().contains(CANARY), "{subpath}, as {user:?}: {outcome}");
            outcome.fails("mount");
        }
        assert!(unchanged(&ctr), "as {user:?}");
    }
}

#[test]
fn nothing_takes_the_place_of_proc() {
    for &user in User::all() {
        let (ctr, _) = ground(user);
        for target in ["/proc", "/proc/", "/proc/self", "/proc/sys", "/proc/1/attr", "/./proc"] {
            for volume in ["./canary", "v"] {
                ctr.payload(&["-v", &format!("{volume}:{target}")], &["true"]).fails("container's own");
            }
            ctr.payload(&["--tmpfs", target], &["true"]).fails("container's own");
            ctr.payload(&["--mount", &format!("type=tmpfs,dst={target}")], &["true"])
                .fails("container's own");
        }
        ctr.payload(&["-v", "./canary/file:/proc/uptime"], &["cat", "/proc/uptime"]).ok();
    }
}

#[test]
fn what_is_given_away_is_never_behind_a_link() {
    for &user in User::all() {
        let (ctr, canary) = ground(user);
        let who = if user == User::Single { "0" } else { "1000" };
        // A relative link leads out of a volume even where the root has changed.
        let near = "../../../../../canary";
        let links = format!(
            "mkdir /v/d; ln -s {canary} /v/abs; ln -s {near} /v/dir; ln -s {near}/file /v/file; ln -s ../{near}/file /v/d/file"
        );
        ctr.script(&["-v", "v:/v"], &links);
        let owners =
            || ["canary", "canary/file"].map(|path| fs::metadata(ctr.home().join(path)).expect("stat").uid());
        let before = owners();
        ctr.script(&["-u", who, "-v", "v:/v:U"], "true");
        assert_eq!(owners(), before, "as {user:?}");
    }
}

#[test]
fn names_of_volumes_and_secrets_lead_nowhere() {
    for &user in User::all() {
        let (ctr, _) = ground(user);
        for name in ["../canary", "..", "../../canary", "a/../../canary"] {
            ctr.run(["volume", "create", name]).fails("name");
            assert_ne!(ctr.run(["volume", "rm", "-f", name]).stdout(), format!("{name}\n"));
            ctr.run(["volume", "import", name, "canary/file"]).exits(1);
            ctr.payload(&["--mount", &format!("type=volume,src={name},dst=/x")], &["true"]).fails("name");
            ctr.run(["secret", "create", name, "canary/file"]).fails("name");
            ctr.payload(&["--secret", name], &["true"]).fails("--secret");
        }
        assert!(unchanged(&ctr), "as {user:?}");
    }
}

#[test]
fn an_archive_never_leaves_its_volume() {
    for &user in User::all() {
        let (ctr, canary) = ground(user);
        let archives = [
            Layer::new(Compression::Plain).file("../../../../canary/new", "x"),
            Layer::new(Compression::Plain).symlink("out", &canary).file("out/file", "x").file("out/new", "x"),
            Layer::new(Compression::Plain)
                .symlink("a", "..")
                .symlink("a/b", "../../..")
                .file("a/b/canary/new", "x"),
            Layer::new(Compression::Plain).hardlink("file", &format!("{canary}/file")).file("file", "x"),
            Layer::new(Compression::Plain).symlink(".", &canary).file("new", "x"),
        ];
        for archive in archives {
            let _ = feed(ctr.command(["volume", "import", "v", "-"]), &archive.tar());
            assert!(unchanged(&ctr), "as {user:?}");
        }
        let absolute = Layer::new(Compression::Plain).file(&format!("{canary}/new"), "x").tar();
        feed(ctr.command(["volume", "import", "v", "-"]), &absolute).ok();
        assert!(unchanged(&ctr), "as {user:?}");
    }
}

#[test]
fn a_race_of_links_never_leaves_the_volume() {
    let (ctr, canary) = ground(User::Rootless);
    let swap = format!(
        "mkdir /v/d; echo inside > /v/d/file; ln -s {canary} /v/l; echo ready; \
         while :; do mv /v/d /v/e; mv /v/l /v/d; mv /v/d /v/l; mv /v/e /v/d; done"
    );
    let mut live = ctr.live(&["--stop-timeout=0", "-v", "v:/v"], &["sh", "-c", &swap]);
    live.says("ready");
    let archive =
        Layer::new(Compression::Plain).dir("d", 0o755).file("d/file", "inside").file("d/new", "x").tar();
    for _ in 0..rounds() / 10 {
        let exported = ctr.run(["volume", "export", "v"]);
        assert!(!exported.stdout().contains(CANARY), "{exported}");
        let _ = feed(ctr.command(["volume", "import", "v", "-"]), &archive);
        assert!(unchanged(&ctr));
    }
    live.signal(rustix::process::Signal::KILL);
    let _ = live.end();
}
