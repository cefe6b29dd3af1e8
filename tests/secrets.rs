//! Secrets as each kind of user: kept, handed to containers, and told by nothing else.

mod support;

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};
use support::{Ctr, Live, User, feed};

const WORDS: &str = "rosebud-4711";

/// A home that has the secret `s`.
fn ground(user: User) -> Ctr {
    let ctr = Ctr::with_box(user);
    let id = feed(ctr.command(["secret", "create", "--label", "a=b", "s", "-"]), WORDS.as_bytes()).ok();
    assert!(id.len() == 25 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    ctr
}

#[test]
fn kept_listed_inspected_and_removed() {
    for &user in User::all() {
        let ctr = ground(user);
        let file = ctr.data().join("secrets/s");
        assert_eq!(fs::metadata(&file).expect("kept").mode() & 0o7777, 0o600, "as {user:?}");
        assert_eq!(fs::metadata(ctr.data().join("secrets")).expect("kept").mode() & 0o7777, 0o700);
        let list = ctr.run(["secret", "ls"]).ok();
        let headings: Vec<&str> = list.lines().next().unwrap_or_default().split_whitespace().collect();
        assert_eq!(headings, ["ID", "NAME", "DRIVER", "CREATED", "UPDATED"]);
        assert_eq!(
            ctr.run(["secret", "ls", "--noheading", "--format", "{{.Name}} {{.Driver}}"]).ok(),
            "s file"
        );
        let id = ctr.run(["secret", "ls", "-q", "-f", "name=^s$"]).ok();
        let format = "{{.ID}} {{.Spec.Name}} {{.Spec.Driver.Name}} {{.Spec.Labels.a}}";
        assert_eq!(ctr.run(["secret", "inspect", "s", "--format", format]).ok(), format!("{id} s file b"));
        assert!(!ctr.run(["secret", "inspect", "s"]).ok().contains(WORDS));
        assert!(!ctr.run(["secret", "inspect", "--pretty", "s"]).ok().contains(WORDS));
        assert_eq!(
            ctr.run(["secret", "inspect", "--showsecret", &id[..5], "-f", "{{.SecretData}}"]).ok(),
            WORDS
        );
        ctr.file("new", "new words");
        ctr.run(["secret", "create", "s", "new"]).fails("secret name in use").hints("--replace");
        ctr.run(["secret", "create", "--replace", "s", "new"]).ok();
        assert_eq!(
            ctr.run(["secret", "inspect", "--showsecret", "s", "-f", "{{.SecretData}}"]).ok(),
            "new words"
        );
        let mut command = ctr.command(["secret", "create", "--env", "e", "VARIABLE"]);
        command.env("VARIABLE", "of the environment");
        assert_eq!(feed(command, b"").code(), 0);
        ctr.run(["secret", "create", "--env", "f", "MISSING"]).fails("MISSING");
        assert_eq!(
            (ctr.run(["secret", "exists", "e"]).code(), ctr.run(["secret", "exists", "x"]).code()),
            (0, 1)
        );
        ctr.run(["secret", "rm", "x"]).fails("no such secret");
        ctr.run(["secret", "rm", "-i", "x"]).ok();
        assert_eq!(ctr.run(["secret", "rm", "-a"]).ok().lines().count(), 2);
        assert_eq!(ctr.run(["secret", "ls", "-q"]).ok(), "", "as {user:?}");
    }
}

#[test]
fn what_cannot_be_a_secret() {
    for &user in User::all() {
        let ctr = Ctr::new(user);
        for (size, good) in [(0, false), (1, true), (511_999, true), (512_000, false), (1 << 20, false)] {
            ctr.file("blob", vec![b'x'; size]);
            let outcome = ctr.run(["secret", "create", "--replace", "big", "blob"]);
            match good {
                true => drop(outcome.ok()),
                false => drop(outcome.fails("larger than 0 and less than 512000 bytes")),
            }
        }
        for name in ["..", "../x", "a/b", "", ".a", "a\nb", "a b", "a=b", "a,b", &"x".repeat(300)] {
            ctr.run(["secret", "create", "--", name, "blob"]).fails("name");
            assert_eq!(ctr.run(["secret", "exists", "--", name]).code(), 1, "{name:?}");
        }
        ctr.run(["secret", "create", "x", "/nonexistent"]).fails("/nonexistent");
        ctr.run(["secret", "create", "--driver", "pass", "x", "blob"]).fails("pass");
        assert_eq!(ctr.list("secrets"), ["big"], "as {user:?}");
        assert!(ctr.list("tmp").is_empty());
    }
}

#[test]
fn files_and_variables_of_a_container() {
    for &user in User::all() {
        let ctr = ground(user);
        let said = ctr.script(
            &["--secret", "s", "--secret", "s,target=/my/place,mode=0400", "--secret", "s,type=env,target=WORDS"],
            "cat /run/secrets/s /my/place; stat -c ' %a' /run/secrets/s /my/place; echo $WORDS; grep -c -E 'tmpfs.* /(run/secrets/s|my/place) |/my/place tmpfs|/run/secrets/s tmpfs' /proc/mounts",
        );
        assert_eq!(said, format!("{WORDS}{WORDS} 444\n 400\n{WORDS}\n2"), "as {user:?}");
        assert_eq!(ctr.script(&["--read-only", "--secret", "s"], "cat /run/secrets/s"), WORDS, "as {user:?}");
        if user != User::Single {
            let said = ctr.script(
                &["-u", "1000", "--secret", "s,uid=1000,gid=50,mode=440"],
                "stat -c %u:%g:%a /run/secrets/s; cat /run/secrets/s",
            );
            assert_eq!(said, format!("1000:50:440\n{WORDS}"), "as {user:?}");
        } else {
            ctr.payload(&["--secret", "s,uid=1000"], &["true"]).fails("secret").hints("idMappings");
        }
        ctr.payload(&["--secret", "nope"], &["true"]).fails("no such secret").hints("ctr secret create");
        ctr.payload(&["--secret", "s,target=../../etc/passwd"], &["true"]).fails("..");
        ctr.payload(&["--secret", "s,mode=9"], &["true"]).fails("mode");
        ctr.file("raw", b"\0\xff").run(["secret", "create", "raw", "raw"]).ok();
        ctr.payload(&["--secret", "raw,type=env"], &["true"]).fails("no text");
        assert_eq!(ctr.script(&["--secret", "raw"], "wc -c < /run/secrets/raw"), "2");
        assert!(ctr.list("containers").is_empty(), "as {user:?}");
    }
}

#[test]
fn a_container_keeps_what_it_was_made_with_and_tells_nobody() {
    for &user in User::all() {
        let ctr = ground(user);
        let script = "echo ready; read x; cat /run/secrets/s; echo \" $s\"";
        let mut live: Live = ctr.start([
            "run",
            "-i",
            "--name",
            "c",
            "--network=none",
            "--secret",
            "s",
            "--secret",
            "s,type=env",
            "box",
            "sh",
            "-c",
            script,
        ]);
        live.says("ready");
        ctr.run(["secret", "rm", "s"]).ok();
        assert_eq!(ctr.run(["exec", "c", "sh", "-c", "echo $s"]).ok(), WORDS, "as Podman's exec has it");
        for line in [&["inspect", "c"][..], &["ps", "-a", "--format", "json"], &["events", "--stream=false"]]
        {
            let outcome = ctr.run(line.iter().copied());
            assert!(!outcome.stdout().contains(WORDS), "{outcome}");
        }
        let named = ctr.run([
            "inspect",
            "c",
            "-f",
            "{{(index .Config.Secrets 0).Name}} {{(index .Config.Secrets 0).Mode}}",
        ]);
        assert_eq!(named.ok(), "s 292");
        live.write("\n");
        assert_eq!(live.end().ok(), format!("{WORDS} {WORDS}"));
        assert_eq!(
            ctr.run(["start", "-ai", "c"]).stdout(),
            format!("ready\n{WORDS} {WORDS}\n"),
            "as {user:?}"
        );
        // Of all files only copies of mode 0600 have it, and what the container printed.
        for path in with_words(&ctr.data()) {
            let name = path.rsplit('/').next().unwrap_or_default();
            assert!(name.starts_with("secret-") || name == "ctr.log", "{path}, as {user:?}");
            assert_eq!(fs::metadata(&path).expect("stat").mode() & 0o077, 0, "{path}");
        }
        ctr.run(["rm", "c"]).ok();
        assert!(with_words(&ctr.data()).is_empty(), "as {user:?}");
    }
}

fn with_words(dir: &Path) -> Vec<String> {
    let found = Command::new("grep").args(["-rl", WORDS]).arg(dir).output().expect("run grep");
    String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
}
