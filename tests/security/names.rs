//! Row 10: no name leads out of the store.

use crate::support::{Ctr, User};

#[test]
fn names_lead_nowhere() {
    let long = "x".repeat(64 << 10);
    let bad = [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc/passwd",
        "a\nb",
        "a b",
        "-x",
        "\u{1b}[31m",
        "ä",
        "%2e%2e",
        &long,
    ];
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.run(["create", "--network=none", "--name=good", "box", "true"]).ok();
        ctr.file("kept", "kept");
        let before = ctr.store();
        // All verbs take the same way to a container; one kind of user tries them.
        let verbs: &[&[&str]] = match user {
            User::Rootless => &[
                &["rm", "-f"],
                &["start"],
                &["stop"],
                &["kill"],
                &["logs"],
                &["inspect"],
                &["wait"],
                &["pause"],
                &["top"],
                &["port"],
                &["diff"],
                &["export"],
                &["attach"],
                &["init"],
                &["restart"],
                &["rmi"],
                &["rm", "--volumes"],
            ],
            _ => &[&["rm", "-f"], &["inspect"]],
        };
        for name in bad {
            let shown = &name[..name.len().min(20)];
            let option = format!("--name={name}");
            // An empty one is none, as with Podman.
            if !name.is_empty() {
                let outcome = ctr.run(["create", "--network=none", &option, "box", "true"]);
                assert_eq!(outcome.code(), 125, "as {user:?} {shown:?}: {outcome}");
                assert!(!outcome.stderr().contains('\u{1b}'), "as {user:?} {shown:?}: {outcome}");
            }
            assert_ne!(ctr.run(["rename", "good", name]).code(), 0, "as {user:?} {shown:?}");
            for verb in verbs {
                // `rm -f` of what there isn't is done already.
                let code = ctr.run([verb, &["--", name][..]].concat()).code();
                assert!(code != 0 || verb[0] == "rm", "as {user:?} {verb:?} {shown:?}");
            }
            assert_ne!(
                ctr.run(["cp", &format!("{name}:/etc/passwd"), "copy"]).code(),
                0,
                "as {user:?} {shown:?}"
            );
            assert_ne!(ctr.run(["pull", "-q", "--", name]).code(), 0, "as {user:?} {shown:?}");
            assert!(ctr.store() == before, "as {user:?} {shown:?}");
        }
        assert_eq!(ctr.run(["ps", "-a", "--format={{.Names}}"]).ok(), "good", "as {user:?}");
    }
}
