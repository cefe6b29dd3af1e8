//! `ctr system`: what the store takes, what nobody uses, what is damaged; on full and read-only disks, too.

mod support;

use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};
use support::{Compression, Ctr, Layer, Outcome, Pushed, Registry, TestImage, User};

fn shared() -> Layer {
    Layer::new(Compression::Gzip)
        .file("shared", vec![1; 50_000])
        .hardlink("again", "shared")
        .symlink("link", "shared")
        .dir("dir", 0o700)
        .owned_file("dir/theirs", vec![2; 9_000], 0o640, 7, 8)
}

/// Two images that share a layer.
fn ground(user: User) -> (Ctr, [Pushed; 2]) {
    let one = TestImage::new([shared()]).push(Registry::plain(), "library/one:latest");
    let top = Layer::new(Compression::Zstd).file("top", vec![3; 70_000]);
    let two = TestImage::new([shared(), top]).push(Registry::plain(), "library/two:latest");
    let ctr = Ctr::new(user).with_hub();
    ctr.run(["pull", "-q", "one"]).ok();
    ctr.run(["pull", "-q", "two"]).ok();
    (ctr, [one, two])
}

/// What du says of what lies in `directories` of the store; root, or the root of a namespace, sees all of it.
fn du(ctr: &Ctr, directories: &[&str]) -> u64 {
    let script = "cd \"$0\" && for dir; do find \"$dir\" -mindepth 1 -maxdepth 1 -print0; done | du -sB1 -c --files0-from=- | tail -n1";
    let inside: &[&str] = match rustix::process::getuid().is_root() {
        true => &["sh"],
        false => &["unshare", "--user", "--map-root-user", "--map-auto", "sh"],
    };
    let output = Command::new(inside[0])
        .args(&inside[1..])
        .args(["-c", script])
        .arg(ctr.data())
        .args(directories)
        .output()
        .expect("start du");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().next().expect("a number").parse().expect("a number")
}

fn df(ctr: &Ctr) -> Value {
    serde_json::from_str(&ctr.run(["system", "df", "--format", "json"]).ok()).expect("JSON")
}

#[test]
fn df_says_what_du_says() {
    for &user in User::all() {
        let (ctr, [one, two]) = ground(user);
        let images = |df: &Value| (df[0]["RawSize"].clone(), df[0]["RawReclaimable"].clone());
        let all = du(&ctr, &["layers", "blobs/sha256", "images"]);
        assert_eq!(images(&df(&ctr)), (json!(all), json!(all)), "as {user:?}");
        ctr.run(["create", "--name=c", "one", "true"]).ok();
        fs::write(
            ctr.data().join("containers").join(ctr.list("containers").remove(0)).join("upper/x"),
            vec![1; 30_000],
        )
        .expect("write into the container");
        let now = df(&ctr);
        let count = |row: usize| (now[row]["Total"].clone(), now[row]["Active"].clone());
        assert_eq!(
            (count(0), count(1), count(2)),
            ((json!(2), json!(1)), (json!(1), json!(0)), (json!(0), json!(0)))
        );
        assert_eq!(now[1]["RawSize"], json!(du(&ctr, &["containers"])));
        assert_eq!(now[1]["RawSize"], now[1]["RawReclaimable"]);
        // What goes with the image that nobody uses is what du misses afterwards.
        let table = ctr.run(["system", "df", "-v"]).ok();
        let unique = table.lines().find(|line| line.contains("library/two")).expect("a line");
        assert!(unique.contains(two.short_id()) && table.contains(one.short_id()), "{table}");
        ctr.run(["rmi", "two"]).ok();
        let left = du(&ctr, &["layers", "blobs/sha256", "images"]);
        assert_eq!(images(&df(&ctr)).0, json!(left));
        let records = 4096;
        assert!(
            (all - left).abs_diff(now[0]["RawReclaimable"].as_u64().expect("bytes") - records) <= records,
            "{now} {all} {left}"
        );
    }
    volumes_are_counted();
    let (ctr, _) = ground(User::Rootless);
    let table = ctr.run(["system", "df"]).ok();
    let first: Vec<_> = table.lines().map(|line| line.split_whitespace().next().expect("a word")).collect();
    assert_eq!(first, ["TYPE", "Images", "Containers", "Local"], "{table}");
    assert!(table.contains("(100%)") && table.contains("0B (0%)"), "{table}");
    assert_eq!(
        ctr.run(["system", "df", "--format", "{{.Type}} {{.Total}}"]).ok(),
        "Images 2\nContainers 0\nLocal Volumes 0"
    );
    ctr.run(["system", "df", "-v", "--format=json"]).fails("cannot combine");
}

#[track_caller]
fn volumes_are_counted() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["volume", "create", "idle"]).ok();
    fs::write(ctr.data().join("volumes/idle/_data/x"), vec![1; 30_000]).expect("write into the volume");
    let idle = du(&ctr, &["volumes"]);
    ctr.run(["create", "--name=c", "-v=used:/data", "box", "true"]).ok();
    let row = &df(&ctr)[2];
    assert_eq!((&row["Total"], &row["Active"]), (&json!(2), &json!(1)), "{row}");
    assert_eq!(
        (&row["RawSize"], &row["RawReclaimable"]),
        (&json!(du(&ctr, &["volumes"])), &json!(idle)),
        "{row}"
    );
    let table = ctr.run(["system", "df", "-v"]).ok();
    let words = |name: &str| {
        let line =
            table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {table}"));
        line.split_whitespace().nth(1).map(str::to_owned)
    };
    assert_eq!((words("idle"), words("used")), (Some("0".into()), Some("1".into())), "{table}");
    ctr.run(["rm", "c"]).ok();
}

#[test]
fn pruned() {
    let (ctr, [one, two]) = ground(User::Rootless);
    ctr.run(["create", "--name=c", "--label=keep", "one", "true"]).ok();
    ctr.run(["untag", "two"]).ok();
    let id = ctr.run(["ps", "-aq", "--no-trunc"]).ok();
    ctr.run(["system", "prune"]).fails("nobody is there");
    assert_eq!(
        ctr.run(["system", "prune", "-af", "--filter", "until=2020-01-01T00:00:00Z"]).ok(),
        "Total reclaimed space: 0B"
    );
    let said = ctr.run(["system", "prune", "-f", "--filter", "label!=keep"]).ok();
    let hex = |image: &Pushed| image.config["sha256:".len()..].to_owned();
    assert!(said.starts_with(&format!("Deleted Images\n{}\nTotal reclaimed space: ", hex(&two))), "{said}");
    assert!(!said.ends_with(" 0B"), "{said}");
    let before = du(&ctr, &["layers", "blobs/sha256", "images", "containers"]);
    let said = ctr.run(["system", "prune", "--all", "--force", "--volumes", "--build"]).ok();
    let expected =
        format!("Deleted Containers\n{id}\nDeleted Images\n{}\nTotal reclaimed space: ", hex(&one));
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(du(&ctr, &["layers", "blobs/sha256", "images", "containers"]), 0);
    assert!(said.ends_with(&short(before)), "{said} {before}");
    assert_eq!(ctr.run(["system", "prune", "-af"]).ok(), "Total reclaimed space: 0B");
}

fn short(bytes: u64) -> String {
    format!("{}kB", (bytes as f64 / 1e3 * 10.0).round() / 10.0)
}

/// Where layer `at` of `image` lies.
fn layer(ctr: &Ctr, image: &Pushed, at: usize) -> PathBuf {
    support::layer(ctr, image, at)
}

fn blob(ctr: &Ctr, digest: &str) -> PathBuf {
    ctr.data().join("blobs/sha256").join(&digest["sha256:".len()..])
}

/// Change a file without a trace in its size or times.
fn spoil(path: &Path) {
    let meta = fs::metadata(path).expect("a file");
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("write it");
    let touched = fs::File::options()
        .write(true)
        .open(path)
        .expect("a file")
        .set_modified(meta.modified().expect("a time"));
    touched.expect("set its time");
}

fn check(ctr: &Ctr, options: &[&str]) -> Outcome {
    ctr.run([&["system", "check"], options].concat())
}

fn found(outcome: Outcome, about: &[&str]) {
    let outcome = outcome.exits(125);
    assert!(outcome.stderr().starts_with("error: damage "), "{outcome}");
    for words in about {
        assert!(outcome.stdout().contains(words), "no {words:?}: {outcome}");
    }
}

#[test]
fn damaged_layers_are_made_again_from_their_blobs() {
    for &user in User::all() {
        let (ctr, [one, two]) = ground(user);
        ctr.run(["create", "--name=c", "one", "true"]).ok();
        assert_eq!(check(&ctr, &[]).ok(), "", "as {user:?}");
        let before = ctr.store();
        let bottom = layer(&ctr, &one, 0);
        let damages: [(&dyn Fn(), &str); 7] = [
            (&|| spoil(&bottom.join("shared")), "/again has other contents"),
            (&|| fs::remove_file(bottom.join("dir/theirs")).expect("remove"), "/dir/theirs is missing"),
            (
                &|| {
                    fs::set_permissions(bottom.join("dir"), fs::Permissions::from_mode(0o755)).expect("chmod")
                },
                "/dir has mode 755, not 700",
            ),
            (&|| fs::write(bottom.join("extra"), "x").expect("write"), "/extra does not belong there"),
            (&|| fs::remove_dir_all(bottom.parent().expect("a parent")).expect("remove"), "it is missing"),
            (&|| fs::write(bottom.with_file_name("size"), "").expect("write"), "its size is not recorded"),
            (
                &|| {
                    let (uid, gid) = (
                        bottom.metadata().expect("a layer").uid(),
                        bottom.metadata().expect("a layer").gid(),
                    );
                    std::os::unix::fs::chown(bottom.join("dir/theirs"), Some(uid), Some(gid)).expect("chown");
                    rustix::fs::setxattr(
                        bottom.join("link"),
                        "trusted.x",
                        b"",
                        rustix::fs::XattrFlags::empty(),
                    )
                    .ok();
                    rustix::fs::setxattr(
                        bottom.join("dir/theirs"),
                        "user.new",
                        b"x",
                        rustix::fs::XattrFlags::empty(),
                    )
                    .expect("setxattr");
                },
                "/dir/theirs has other extended attributes",
            ),
        ];
        for (damage, words) in damages {
            if !rustix::process::getuid().is_root() {
                continue;
            }
            damage();
            let id = &one.diff_ids[0]["sha256:".len()..];
            found(check(&ctr, &[]), &[&format!("Damaged layer {id}:\n"), words, "Damaged image "]);
            let repaired = check(&ctr, &["--repair"]).ok();
            assert!(
                repaired.contains(&format!("Repaired layer: {id}")) && !repaired.contains("Deleted"),
                "{repaired}"
            );
            assert_eq!(check(&ctr, &[]).ok(), "");
            assert_eq!(ctr.store(), before, "as {user:?}: {words}");
        }
        spoil(&layer(&ctr, &two, 1).join("top"));
        assert_eq!(check(&ctr, &["--quick"]).ok(), "", "it reads no layer");
    }
}

#[test]
fn what_cannot_be_mended_goes() {
    let (ctr, [one, two]) = ground(User::Rootless);
    let whole = ctr.store();
    spoil(&blob(&ctr, &two.blobs[1]));
    let id = &two.config["sha256:".len()..];
    found(
        check(&ctr, &[]),
        &[&format!("Damaged image {id}:\n1 error occurred:\n\t* blob {} is damaged", two.blobs[1])],
    );
    // The container's image stays until force is used.
    ctr.run(["create", "--name=c", "two", "true"]).ok();
    let refused = check(&ctr, &["-r"]).exits(125);
    assert!(
        refused.stderr().contains("still present") && refused.stderr().contains("is used by container"),
        "{refused}"
    );
    let said = check(&ctr, &["--force"]).ok();
    assert!(said.contains(&format!("Deleted damaged image: {id}")), "{said}");
    assert_eq!(ctr.run(["ps", "-aq"]).ok(), "");
    ctr.run(["pull", "-q", "two"]).ok();

    // Both a layer and its blob: nobody could tell what it was.
    spoil(&blob(&ctr, &one.blobs[0]));
    fs::remove_dir_all(layer(&ctr, &one, 0).parent().expect("a layer")).expect("remove");
    found(check(&ctr, &["--quick"]), &["it is missing"]);
    let said = check(&ctr, &["--quick", "--repair"]).ok();
    assert_eq!(said.matches("Deleted damaged image: ").count(), 2, "{said}");
    ctr.run(["pull", "-q", "one"]).ok();
    ctr.run(["pull", "-q", "two"]).ok();
    let contents =
        |store: &std::collections::BTreeMap<PathBuf, String>| store.keys().cloned().collect::<Vec<_>>();
    assert_eq!(contents(&ctr.store()), contents(&whole));

    // Manifests and configurations are read even quickly.
    spoil(&blob(&ctr, &one.config));
    found(check(&ctr, &["-q"]), &["is damaged: its contents are not"]);
    check(&ctr, &["-qr"]).ok();
    ctr.run(["pull", "-q", "one"]).ok();
    assert_eq!(check(&ctr, &[]).ok(), "");
}

#[test]
fn records_orphans_and_containers() {
    let (ctr, [one, _]) = ground(User::Rootless);
    let record = ctr.data().join("images/docker.io%2Flibrary%2Fone:latest");
    fs::write(&record, "{").expect("write");
    found(check(&ctr, &[]), &["Damaged image docker.io%2Flibrary%2Fone:latest:\n", "read image record"]);
    let warned = ctr.run(["images", "-q"]);
    assert!(warned.stderr().contains("system check --repair"), "{warned}");
    let said = check(&ctr, &["--repair"]).ok();
    assert!(said.contains("Deleted damaged image: docker.io%2Flibrary%2Fone:latest"), "{said}");
    assert!(!record.exists() && ctr.list("trash").is_empty());

    // What nothing names is damage once it is old.
    let orphan = ctr.data().join("layers").join("a".repeat(64));
    ctr.file(&format!("data/ctr/layers/{}/size", "a".repeat(64)), "1");
    ctr.file(&format!("data/ctr/blobs/sha256/{}", "b".repeat(64)), "x");
    ctr.file("data/ctr/tmp/draft", "x");
    assert_eq!(check(&ctr, &["-q"]).ok(), "");
    found(
        check(&ctr, &["-q", "--max=0s"]),
        &[&format!("Damaged layer {}:", "a".repeat(64)), "Unused: tmp/draft"],
    );
    check(&ctr, &["-q", "-r", "-m0s"]).ok();
    assert!(!orphan.exists() && ctr.list("tmp").is_empty() && ctr.list("layers").len() == 2);
    check(&ctr, &["--max=x"]).fails("duration");

    ctr.run(["pull", "-q", "one"]).ok();
    ctr.run(["create", "--name=c", "one", "true"]).ok();
    let id = ctr.list("containers").remove(0);
    fs::write(ctr.data().join("containers").join(&id).join("container.json"), "{").expect("write");
    found(check(&ctr, &["-q"]), &[&format!("Damaged container {id}:")]);
    check(&ctr, &["-q", "-r"]).exits(125);
    let said = check(&ctr, &["-q", "-f"]).ok();
    assert!(said.contains(&format!("Deleted damaged container: {id}")), "{said}");
    assert_eq!((ctr.list("containers").len(), ctr.run(["image", "exists", one.short_id()]).code()), (0, 0));
}

#[test]
fn a_layer_in_use_stays_as_it_is() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["run", "-d", "--network=none", "--name=c", "box", "sh", "-c", "read -r line < /dev/zero"]).ok();
    let layer = ctr.data().join("layers").join(ctr.list("layers").remove(0));
    fs::write(layer.join("fs/extra"), "x").expect("write");
    check(&ctr, &["-r"]).exits(125);
    assert_eq!(ctr.run(["exec", "c", "cat", "/extra"]).ok(), "x");
    ctr.run(["kill", "c"]).ok();
    ctr.run(["wait", "c"]).ok();
    check(&ctr, &["-r"]).ok();
    ctr.run(["start", "c"]).ok();
    ctr.run(["exec", "c", "test", "-e", "/extra"]).exits(1);
    ctr.run(["rm", "-f", "c"]).ok();
}

#[test]
fn reset() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.run(["run", "-d", "--network=none", "--name=c", "box", "sh", "-c", "read -r line < /dev/zero"])
            .ok();
        ctr.run(["create", "--name=d", "box", "true"]).ok();
        ctr.run(["system", "reset"]).fails("nobody is there");
        ctr.run(["system", "reset", "--force"]).ok();
        assert!(!ctr.data().exists(), "as {user:?}: {:?}", ctr.list(""));
        assert!(!ctr.home().join("run/ctr").exists() && !ctr.home().join("cache/ctr").exists());
        assert_eq!(ctr.run(["ps", "-aq"]).ok() + &ctr.run(["images", "-q"]).ok(), "");
        ctr.run(["system", "reset", "-f"]).ok();
        ctr.run(["pull", "-q", "box"]).ok();
    }
}

/// `ctr` after root has run `setup` in a mount namespace of its own.
fn after(ctr: &Ctr, setup: &str, arguments: &[&str]) -> Outcome {
    let (uid, gid) = ctr.user().ids().unwrap_or((0, 0));
    let script = format!("{setup} && exec setpriv --reuid={uid} --regid={gid} --clear-groups \"$@\"");
    let output = ctr.outside(&["unshare", "--mount", "sh", "-c", &script, "sh"], arguments).output();
    Outcome::new(format!("after {setup:?}: {arguments:?}"), output.expect("start unshare"))
}

#[test]
fn a_read_only_store_can_be_looked_at() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    for &user in User::all() {
        let (ctr, _) = ground(user);
        ctr.run(["create", "--name=c", "one", "true"]).ok();
        let setup = format!("mount --bind {0} {0} && mount -o remount,ro,bind {0}", ctr.data().display());
        for arguments in [
            &["images", "-q"][..],
            &["images", "--format=json"],
            &["inspect", "one"],
            &["history", "one"],
            &["image", "tree", "one"],
            &["image", "exists", "one"],
            &["diff", "two"],
            &["system", "df"],
            &["system", "df", "-v"],
            &["system", "check", "-q"],
            &["ps", "-a"],
        ] {
            let looked = after(&ctr, &setup, arguments).exits(0);
            assert_eq!(looked.stderr(), "", "{looked}");
        }
        for arguments in
            [&["rmi", "two"][..], &["untag", "two"], &["tag", "two", "x"], &["image", "prune", "-af"]]
        {
            let refused = after(&ctr, &setup, arguments);
            assert!(refused.code() == 125 && refused.stderr().contains("Read-only file system"), "{refused}");
        }
        assert_eq!(ctr.run(["image", "exists", "two"]).code(), 0);
    }
}

/// Whatever gives space back needs none.
#[test]
fn a_full_store_can_be_emptied() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    for &user in User::all() {
        let (ctr, [_, two]) = ground(user);
        ctr.run(["create", "--name=c", "one", "true"]).ok();
        ctr.run(["untag", "two"]).ok();
        let (data, (uid, gid)) = (ctr.data(), ctr.user().ids().unwrap_or((0, 0)));
        // The store on a disk of its own that is filled to the last block.
        let full = format!(
            "mount -t tmpfs -o size=2m,mode=700,uid={uid},gid={gid} none /mnt && cp -a {0}/. /mnt && mount --move /mnt {0} && \
             {{ dd if=/dev/zero of={0}/fill bs=4k status=none 2>/dev/null; ! {{ echo x > {0}/more; }} 2>/dev/null; }}",
            data.display()
        );
        for (arguments, images, layers) in [
            (&["rmi", two.short_id()][..], 1, 1),
            (&["image", "prune", "-f"], 1, 1),
            (&["untag", "one"], 2, 2),
            (&["rmi", "-f", "one"], 1, 2),
            (&["system", "prune", "-af"], 0, 0),
            (&["system", "check", "-qr"], 2, 2),
            (&["system", "reset", "-f"], 0, 0),
        ] {
            let script = format!(
                "{full} && {{ setpriv --reuid={uid} --regid={gid} --clear-groups \"$@\" >&2; echo $?; }} && \
                 ls {0}/images 2>/dev/null | wc -l && ls {0}/layers 2>/dev/null | wc -l",
                data.display()
            );
            let output = ctr.outside(&["unshare", "--mount", "sh", "-c", &script, "sh"], arguments).output();
            let outcome = Outcome::new(format!("as {user:?}: {arguments:?}"), output.expect("start unshare"));
            assert_eq!(outcome.stdout(), format!("0\n{images}\n{layers}\n"), "{outcome}");
            assert!(!outcome.stderr().contains("error: "), "{outcome}");
        }
    }
}
