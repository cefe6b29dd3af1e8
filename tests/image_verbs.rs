//! Names of images given, moved and taken away; what they are made of, and what becomes of those that nobody names.

mod support;

use serde_json::{Value, json};
use std::fs;
use support::{Compression, Ctr, Layer, Outcome, Pushed, Registry, TestImage, User};

fn bottom() -> Layer {
    Layer::new(Compression::Gzip)
        .dir("etc", 0o755)
        .file("etc/base", "base")
        .file("gone", "x")
        .dir("dir", 0o755)
}

fn step(second: u32, by: &str) -> Value {
    json!({"created": format!("2024-01-01T00:00:0{second}Z"), "created_by": by})
}

/// `base` of one layer, and `child` built upon it: a layer and a step without one more.
fn family(ctr: &Ctr) -> [Pushed; 2] {
    let first = json!({"created": "2024-01-01T00:00:01Z", "history": [step(1, "ADD base")]});
    let base_image = TestImage::new([bottom()]).details(first);
    let base_image = base_image.push(Registry::plain(), "library/base:latest");
    let upper = Layer::new(Compression::Gzip)
        .file("etc/child", "child")
        .file("new/file", "x")
        .file(".wh.gone", "")
        .dir("dir", 0o700);
    let mut steps = vec![
        step(1, "ADD base"),
        step(2, "COPY a command that is much longer than a line of it may be"),
        step(3, "CMD"),
    ];
    steps[2]["empty_layer"] = true.into();
    steps[2]["comment"] = "the last".into();
    let details = json!({"created": "2024-01-01T00:00:03Z", "history": steps, "author": "me"});
    let child =
        TestImage::new([bottom(), upper]).details(details).push(Registry::plain(), "library/child:latest");
    ctr.run(["pull", "-q", "base"]).ok();
    ctr.run(["pull", "-q", "child"]).ok();
    [base_image, child]
}

fn hub(user: User) -> Ctr {
    Ctr::new(user).with_hub()
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// `repository:tag id` of each image.
fn listed(ctr: &Ctr, options: &[&str]) -> Vec<String> {
    let mut lines: Vec<_> = ctr
        .run([&["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"], options].concat())
        .ok()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

#[test]
fn a_tag_that_moves_leaves_its_image() {
    for &user in User::all() {
        let ctr = hub(user);
        let push = |content: &str| {
            TestImage::new([Layer::new(Compression::Gzip).file("hello", content)])
                .push(Registry::plain(), &format!("library/moving-{user:?}:latest").to_lowercase())
        };
        let name = format!("moving-{user:?}").to_lowercase();
        let reference = format!("docker.io/library/{name}:latest");
        let old = push("old");
        ctr.run(["pull", "-q", &name]).ok();
        let new = push("new");
        ctr.run(["pull", "-q", &name]).ok();
        let both = [format!("<none>:<none> {}", old.short_id()), format!("{} {}", reference, new.short_id())];
        assert_eq!(listed(&ctr, &[]), both);
        assert_eq!(listed(&ctr, &["-f", "dangling=true"]), both[..1]);
        assert_eq!(listed(&ctr, &["-f", "dangling=false"]), both[1..]);
        assert!(ctr.run(["images", "-n", "--history"]).ok().contains(&reference));
        let found = json_of(&ctr.run(["image", "inspect", old.short_id()]).ok());
        let of = |key: &str| found[0][key].clone();
        assert_eq!((of("RepoTags"), of("RepoDigests")), (json!([]), json!([])));
        assert_eq!((of("NamesHistory"), of("Digest")), (json!([reference]), json!(old.manifest)));
        // It is an image as any other, and its name comes back.
        ctr.run(["create", "--name=c", old.short_id(), "true"]).ok();
        assert_eq!(ctr.run(["ps", "-a", "--no-trunc", "--format={{.Image}}"]).ok(), hex(&old.config));
        ctr.run(["tag", old.short_id(), &reference]).ok();
        let swapped =
            [format!("<none>:<none> {}", new.short_id()), format!("{} {}", reference, old.short_id())];
        assert_eq!(listed(&ctr, &[]), swapped);
        ctr.run(["rm", "c"]).ok();
        assert_eq!(ctr.run(["image", "prune", "-f"]).ok(), hex(&new.config));
        assert_eq!((listed(&ctr, &[]), ctr.list("layers").len()), (swapped[1..].to_vec(), 1));
    }
}

#[test]
fn names_given_and_taken() {
    let ctr = hub(User::Rootless);
    let [_, child] = family(&ctr);
    let id = child.short_id();
    ctr.run(["tag", "child", "one", "team/two:2", "quay.io/x/y"]).ok();
    let named = |name: &str| format!("{name} {id}");
    let all = [
        "docker.io/library/child:latest",
        "localhost/one:latest",
        "localhost/team/two:2",
        "quay.io/x/y:latest",
    ];
    assert_eq!(listed(&ctr, &["-f", &format!("id={id}")]), all.map(named));
    for (arguments, status, about) in [
        (&["tag", "nothing", "x"][..], 125, "nothing"),
        (&["tag", "child", &format!("x@{}", child.manifest)], 125, "digest"),
        (&["tag", "child", "good", "UPPER"], 125, "UPPER"),
        (&["untag", "nothing"], 125, "nothing"),
        (&["untag", "child", "base"], 125, "base"),
        (&["image", "exists", "nothing"], 1, ""),
        (&["image", "exists", "good"], 1, ""),
        (&["image", "exists", "one"], 0, ""),
        (&["image", "exists", &format!("quay.io/x/y@{}", child.manifest)], 0, ""),
    ] {
        let outcome = ctr.run(arguments).exits(status);
        assert!(outcome.stderr().contains(about), "{outcome}");
    }
    ctr.run(["untag", "one", "team/two:2", "quay.io/x/y"]).ok();
    assert_eq!(listed(&ctr, &["-f", &format!("id={id}")]), [named(all[0]), named(all[1])]);
    // Without a name all of them; the image stays.
    ctr.run(["image", "untag", "child"]).ok();
    assert_eq!(listed(&ctr, &["-f", &format!("id={id}")]), [named("<none>:<none>")]);
    let history = json_of(&ctr.run(["inspect", id]).ok())[0]["NamesHistory"].clone();
    assert_eq!(history, json!([all[1], all[0]]));
    ctr.run(["image", "tag", id, "back"]).ok();
    assert_eq!(listed(&ctr, &["-f", &format!("id={id}")]), [named("localhost/back:latest")]);
    assert!(ctr.list("tmp").is_empty());
}

/// podman-rmi(1): what is said, and the exit status of each mixture.
#[test]
fn rmi_as_podman_does() {
    let ctr = hub(User::Rootless);
    let [base, child] = family(&ctr);
    ctr.run(["tag", "base", "other"]).ok();
    let said = |outcome: Outcome| outcome.stdout().trim_end().to_owned();
    let several = ctr.run(["rmi", base.short_id()]).exits(125);
    assert!(several.stderr().contains("docker.io/library/base:latest, localhost/other:latest"), "{several}");
    assert_eq!(said(ctr.run(["rmi", "other"]).exits(0)), "Untagged: localhost/other:latest");
    ctr.run(["create", "--name=c", "base", "true"]).ok();
    assert!(ctr.run(["rmi", "base"]).exits(2).stderr().contains("used by container"));
    ctr.run(["rmi", "nothing"]).exits(1);
    ctr.run(["rmi", "nothing", "base"]).exits(2);
    ctr.run(["rmi", "base", "nothing"]).exits(2);
    ctr.run(["rmi", "nothing", "UPPER"]).exits(125);
    ctr.run(["rmi", "-i", "nothing"]).exits(0);
    ctr.run(["rmi", "-f", "nothing"]).exits(0);
    ctr.run(["rmi"]).exits(125);
    ctr.run(["rmi", "-a", "base"]).exits(125);
    // Its name goes, but the container keeps it; by force both go. What was built upon it is no hindrance.
    ctr.run(["untag", "base"]).ok();
    ctr.run(["rmi", base.short_id()]).exits(2);
    assert_eq!(said(ctr.run(["rmi", "-f", base.short_id()]).exits(0)), "", "child has all of it");
    assert_eq!(ctr.run(["ps", "-aq"]).ok(), "");
    let gone = format!("Untagged: docker.io/library/child:latest\nDeleted: {}", hex(&child.config));
    assert_eq!(said(ctr.run(["rmi", "child"]).exits(0)), gone);
    for directory in ["layers", "images", "blobs/sha256", "containers", "tmp", "trash"] {
        assert_eq!(ctr.list(directory), [""; 0], "{directory}");
    }
}

#[test]
fn images_that_others_were_built_from() {
    let ctr = hub(User::Rootless);
    let [base, child] = family(&ctr);
    let parent = |format: &str| ctr.run(["images", "child", "--format", format]).ok();
    assert_eq!(parent("{{.ParentId}}"), hex(&base.config));
    assert_eq!(json_of(&ctr.run(["inspect", "child"]).ok())[0]["Parent"], json!(hex(&base.config)));
    ctr.run(["untag", "base"]).ok();
    let [hidden, shown] = [
        format!("<none>:<none> {}", base.short_id()),
        format!("docker.io/library/child:latest {}", child.short_id()),
    ];
    assert_eq!(listed(&ctr, &[]), [shown.as_str()]);
    assert_eq!(listed(&ctr, &["-a"]), [hidden.as_str(), &shown]);
    for (filter, expected) in [
        ("dangling=true", &[][..]),
        ("dangling=false", &[shown.as_str()]),
        ("intermediate=true", &[hidden.as_str()]),
        ("intermediate=false", &[shown.as_str()]),
        ("readonly=true", &[]),
        ("manifest=false", &[shown.as_str()]),
        ("since=child", &[]),
        (&format!("before={}", child.short_id()), &[]),
        (&format!("digest={}", child.manifest), &[shown.as_str()]),
    ] {
        assert_eq!(listed(&ctr, &["-f", filter]), expected, "{filter}");
    }
    assert_eq!(ctr.run(["image", "prune", "-f"]).ok(), "");
    // Whoever removes the child removes what only that needed, unless told otherwise.
    ctr.run(["rmi", "--no-prune", "child"]).ok();
    assert_eq!(listed(&ctr, &[]), [hidden.as_str()]);
    ctr.run(["rmi", base.short_id()]).ok();
    family(&ctr);
    ctr.run(["untag", "base"]).ok();
    let said = ctr.run(["rmi", "child"]).ok();
    assert!(said.ends_with(&format!("Deleted: {}", hex(&base.config))), "{said}");
    assert_eq!((listed(&ctr, &["-a"]).len(), ctr.list("layers").len()), (0, 0));
}

#[test]
fn pruned_by_use_and_filter() {
    let ctr = hub(User::Rootless);
    let [base, child] = family(&ctr);
    ctr.run(["create", "--name=c", "base", "true"]).ok();
    assert!(ctr.run(["image", "prune"]).fails("nobody is there").stderr().contains("--force"));
    assert_eq!(ctr.run(["image", "prune", "-af", "--filter", "label=x"]).ok(), "");
    assert_eq!(ctr.run(["image", "prune", "-af", "--filter", "until=2024-01-01T00:00:00Z"]).ok(), "");
    ctr.run(["image", "prune", "-af", "--filter", "reference=x"]).fails("until, label");
    assert_eq!(
        ctr.run(["image", "prune", "-af", "--filter", "until=2024-01-02T00:00:00Z"]).ok(),
        hex(&child.config)
    );
    ctr.run(["rm", "c"]).ok();
    assert_eq!(ctr.run(["image", "prune", "--all", "--force"]).ok(), hex(&base.config));
    assert_eq!(ctr.list("layers"), [""; 0]);
}

#[test]
fn history_and_tree() {
    let ctr = hub(User::Rootless);
    let [base, child] = family(&ctr);
    let ids = |options: &[&str]| ctr.run([&["history", "child"], options].concat()).ok();
    let (mine, theirs) = (child.short_id(), base.short_id());
    assert_eq!(ids(&["-q"]), format!("{mine}\n<missing>\n{theirs}"));
    assert_eq!(
        ids(&["-q", "--no-trunc"]),
        format!("{}\n<missing>\n{}", hex(&child.config), hex(&base.config))
    );
    let table = ctr.run(["image", "history", "child"]).ok();
    assert!(table.starts_with("ID            CREATED") && table.lines().count() == 4, "{table}");
    assert!(
        table.contains("COPY a command that is much longer than a ... ") && table.contains("the last"),
        "{table}"
    );
    let plain = ids(&["-H=false", "--format", "{{.Created}} {{.Size}} {{.Tags}}"]);
    let lines: Vec<_> = plain.lines().collect();
    assert_eq!(lines[0], "2024-01-01T00:00:03Z 0 [docker.io/library/child:latest]");
    assert!(lines[2].starts_with("2024-01-01T00:00:01Z 5 "), "{plain}");
    let json = json_of(&ids(&["--format", "json"]));
    assert_eq!((&json[0]["comment"], &json[1]["size"]), (&json!("the last"), &json!(6)));
    ctr.run(["history", "nothing"]).fails("nothing");

    let tree = ctr.run(["image", "tree", "child"]).ok();
    let layers: Vec<_> = tree.lines().skip(4).collect();
    assert!(
        tree.starts_with(&format!(
            "Image ID: {mine}\nTags:     [docker.io/library/child:latest]\nSize:     11B\n"
        )),
        "{tree}"
    );
    let first = &hex(&base.diff_ids[0])[..12];
    assert_eq!(
        layers[0],
        format!("├── ID: {first} Size:      5B Top Layer of: [docker.io/library/base:latest]")
    );
    assert!(
        layers[1].starts_with("└── ID: ") && layers[1].ends_with("[docker.io/library/child:latest]"),
        "{tree}"
    );
    let other = TestImage::new([bottom(), Layer::new(Compression::Gzip).file("other", "x")]);
    other.push(Registry::plain(), "library/sibling:latest");
    ctr.run(["pull", "-q", "sibling"]).ok();
    let tree = ctr.run(["image", "tree", "--whatrequires", "base"]).ok();
    let tops: Vec<_> = tree.lines().filter_map(|line| line.split_once(" Top Layer of: ")).collect();
    assert_eq!(tops.len(), 3, "{tree}");
    let trees = ctr.run(["images", "--tree"]).ok();
    assert_eq!(trees.matches("Image ID: ").count(), 3, "{trees}");
    let child = ctr.run(["image", "tree", "child"]).ok();
    assert!(trees.contains(&child), "{trees}");
    ctr.run(["images", "--tree", "-q"]).exits(125);
    assert!(tree.contains("child:latest") && tree.contains("sibling:latest"), "{tree}");
}

#[test]
fn differences_of_images() {
    for &user in User::all() {
        let ctr = hub(user);
        family(&ctr);
        let expected = "C /dir\nC /etc\nA /etc/child\nD /gone\nA /new\nA /new/file";
        for verb in [&["diff", "child"][..], &["image", "diff", "child"], &["diff", "child", "base"]] {
            assert_eq!(ctr.run(verb).ok(), expected, "as {user:?}");
        }
        let back = "C /dir\nC /etc\nD /etc/child\nA /gone\nD /new";
        assert_eq!(ctr.run(["image", "diff", "base", "child"]).ok(), back);
        assert_eq!(ctr.run(["diff", "base"]).ok(), "A /dir\nA /etc\nA /etc/base\nA /gone");
        let json = json_of(&ctr.run(["diff", "--format=json", "child"]).ok());
        assert_eq!(
            json,
            json!({"changed": ["/dir", "/etc"], "added": ["/etc/child", "/new", "/new/file"], "deleted": ["/gone"]})
        );
        assert_eq!(ctr.run(["diff", "child", "child"]).ok(), "");
        ctr.run(["image", "diff", "nothing"]).fails("nothing");
    }
}

#[test]
fn mounted_for_root() {
    let ctr = hub(User::Rootless);
    family(&ctr);
    ctr.run(["image", "mount", "child"]).fails("rootless");
    if !rustix::process::getuid().is_root() {
        return;
    }
    let ctr = hub(User::Root);
    let [base, child] = family(&ctr);
    let place = ctr.run(["image", "mount", "child"]).ok();
    assert_eq!(ctr.run(["image", "mount", "child"]).ok(), place);
    assert_eq!(fs::read_to_string(format!("{place}/etc/child")).expect("a file"), "child");
    assert!(!fs::exists(format!("{place}/gone")).expect("a look"));
    assert!(fs::write(format!("{place}/etc/child"), "").is_err(), "it is read-only");
    assert_eq!(ctr.run(["image", "mount"]).ok(), format!("docker.io/library/child:latest  {place}"));
    let json = json_of(&ctr.run(["image", "mount", "--format", "json"]).ok());
    assert_eq!((&json[0]["mountpoint"], &json[0]["id"]), (&json!(place), &json!(hex(&child.config))));
    assert!(ctr.run(["rmi", "child"]).exits(2).stderr().contains("is mounted"));
    assert_eq!(ctr.run(["image", "prune", "-af"]).ok(), hex(&base.config), "the mounted one stays");
    assert_eq!(ctr.run(["image", "unmount", "child"]).ok(), hex(&child.config));
    assert_eq!(ctr.run(["image", "unmount", "child"]).ok(), "");
    family(&ctr);
    let all = ctr.run(["image", "mount", "-a"]).ok();
    assert_eq!(all.lines().count(), 2, "{all}");
    assert_eq!(ctr.run(["image", "unmount", "-a"]).ok().lines().count(), 2);
    let place = ctr.run(["image", "mount", "base"]).ok();
    assert!(fs::write(format!("{place}/etc/base"), "").is_err(), "one layer alone is read-only, too");
    ctr.run(["rmi", "-f", "base"]).ok();
    assert_eq!(ctr.run(["image", "mount"]).ok(), "");
}
