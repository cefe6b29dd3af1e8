//! Row 18: files are copied through no link that leads out, whoever changes what meanwhile.

use crate::{
    Running, rounds,
    support::{Ctr, Layer, TestImage, User},
};
use std::{fs, os::unix::fs::symlink, path::PathBuf};

/// A container `c` of `image` that has run `script`, and waits or has ended.
fn subject(ctr: Ctr, image: &str, running: bool, script: &str) -> Running {
    let wait = if running { format!("{script}; : >/ready; exec sleep 10000") } else { script.to_owned() };
    let c = Running::new(ctr, image, &[], &wait);
    match running {
        true => while c.exec(&[], &["cat", "/ready"]).code() != 0 {},
        false => drop(c.0.run(["wait", "c"]).ok()),
    }
    c
}

/// Directories and links change places while files are copied through them.
#[test]
fn a_race_of_links_never_leaves_the_root() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.file("canary/secret", "canary").file("canary/d/file", "canary").file("in/d/file", "payload");
        let canary = ctr.home().join("canary").display().to_string();
        // The payload swaps a directory and a link to the host's canary, all the time.
        let script = format!(
            "mkdir /work; cd /work; mkdir -p real/d; ln -s {canary} evil; (while true; do mv real x; ln -s {canary} real; rm real; mv x real; done) & true"
        );
        let subject = subject(ctr, "box", true, &script);
        let path = |name: &str| -> PathBuf { subject.0.home().join(name) };
        let text = |name: &str| fs::read_to_string(path(name)).expect(name);
        let cp = |arguments: &[&str]| subject.0.run([&["cp"], arguments].concat());
        let mut copied = 0;
        for _ in 0..rounds() / User::all().len() {
            // Either may fail, at whatever it meets.
            cp(&["in/.", "c:/work/real"]);
            let out = cp(&["c:/work/real/d", "back"]);
            assert!(out.code() == 0 || out.code() == 125, "{out}");
            if let Ok(text) = fs::read_to_string(path("back/file")) {
                assert_eq!(text, "payload", "as {user:?}");
                copied += 1;
            }
            let _ = fs::remove_dir_all(path("back"));
        }
        assert!(copied > 0, "as {user:?}");
        assert_eq!(text("canary/secret"), "canary");
        assert_eq!(text("canary/d/file"), "canary");
        assert_eq!(fs::read_dir(path("canary")).expect("look").count(), 2);
        assert_eq!(fs::read_dir(path("canary/d")).expect("look").count(), 1);
    }
}

/// Links of a container lead where they lead inside it; links and device nodes of a stream, or in its way, lead nowhere.
#[test]
fn hostile_links() {
    for &user in User::all() {
        for running in [true, false] {
            let ctr = Ctr::with_box(user);
            ctr.file("canary/secret", "canary").file("file", "payload").file("out/x", "");
            let home = ctr.home().display().to_string();
            let layer = Layer::busybox()
                .symlink("up", &format!("../../../../../..{home}/canary"))
                .symlink("abs", &format!("{home}/canary"))
                .symlink("secret", &format!("{home}/canary/secret"))
                .symlink("dir/evil", &format!("{home}/canary"))
                .dir("dir/then", 0o755)
                .symlink("dir/then/out", "../../../../../../../etc");
            let ctr = ctr.with_image("hostile", TestImage::new([Layer::busybox(), layer]));
            let script = "mkdir -p /proc/self/x 2>/dev/null; ln -s /proc/1/root/etc /magic; ln -s /proc/self/exe /exe; true";
            let subject = subject(ctr, "hostile", running, script);
            let what = format!("as {user:?}, running: {running}");
            let path = |name: &str| -> PathBuf { subject.0.home().join(name) };
            let text = |name: &str| fs::read_to_string(path(name)).expect(name);
            let cp = |arguments: &[&str]| subject.0.run([&["cp"], arguments].concat());
            let untouched = || {
                assert_eq!(fs::read_dir(path("canary")).expect("look").count(), 1, "{what}");
                assert_eq!(text("canary/secret"), "canary", "{what}");
            };
            for link in ["up", "abs", "up/new", "abs/new"] {
                cp(&["file", &format!("c:/{link}/")]).exits(125);
                untouched();
            }
            for link in ["secret", "up/secret", "abs/secret", "exe", "magic/passwd"] {
                let outcome = cp(&[&format!("c:/{link}"), "-"]);
                let said = String::from_utf8_lossy(outcome.bytes()).into_owned();
                assert!(outcome.code() == 125 && !said.contains("canary"), "{link} {what}: {outcome}");
                cp(&["file", &format!("c:/{link}")]).exits(125);
                untouched();
            }
            // The links themselves travel as links; where they were copied nothing is written through them.
            cp(&["c:/dir", "out"]).ok();
            assert_eq!(fs::read_link(path("out/dir/evil")).expect("look"), path("canary"), "{what}");
            // In the way on the host: a link where the stream has a directory.
            fs::remove_dir_all(path("out/dir/then")).expect("look");
            symlink(path("canary"), path("out/dir/then")).expect("look");
            cp(&["c:/dir", "out"]).fails("in the way");
            untouched();
            cp(&["--overwrite", "c:/dir", "out"]).ok();
            untouched();
            assert!(fs::symlink_metadata(path("out/dir/then")).expect("look").is_dir(), "{what}");
        }
    }
}
