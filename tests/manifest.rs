//! `ctr manifest`: lists of images for several platforms, of the store and of a registry, which collections spare and which are
//! pushed whole.

mod support;

use serde_json::{Value, json};
use std::fs;
use support::{
    Compression, Ctr, Faults, Flavour, Layer, Pushed, Registry, TestImage, User, index, noise, tiny,
};

fn ctr(user: User, faults: &Faults) -> Ctr {
    let ctr = Ctr::new(user);
    ctr.registries(&format!("{}{}", faults.conf(), Registry::plain().as_docker_hub()));
    ctr
}

fn inspect(ctr: &Ctr, list: &str) -> Value {
    serde_json::from_str(&ctr.run(["manifest", "inspect", list]).ok()).expect("JSON")
}

fn digests(list: &Value) -> Vec<&str> {
    list["manifests"]
        .as_array()
        .expect("entries")
        .iter()
        .filter_map(|entry| entry["digest"].as_str())
        .collect()
}

/// What `skopeo inspect` says of `target`.
fn skopeo(target: &str, options: &[&str]) -> Value {
    let output = std::process::Command::new("skopeo")
        .args([&["inspect", "--tls-verify=false"], options].concat())
        .arg(format!("docker://{}", Registry::plain().name(target)))
        .output()
        .expect("start skopeo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn arm(content: &str, target: &str) -> Pushed {
    tiny(content).architecture("arm").push(Registry::plain(), target)
}

#[test]
fn a_list_of_local_images_is_kept_and_pushed() {
    let registry = Registry::plain();
    let own = tiny("list own").push(registry, "list/own:latest");
    let other = arm("list arm", "list/arm:latest");
    for (number, &user) in User::all().iter().enumerate() {
        let faults = Faults::new(registry);
        let ctr = ctr(user, &faults);
        for name in ["list/own", "list/arm"] {
            ctr.run(["pull", "-q", &registry.name(name)]).ok();
        }
        let id = ctr.run(["manifest", "create", "mine", &registry.name("list/own")]).ok();
        assert_eq!(id.len(), 64, "{id}");
        ctr.run(["manifest", "create", "mine"]).fails("in use").hints("--amend");
        ctr.run(["manifest", "create", &registry.name("list/own")]).fails("in use");
        let storage = format!("containers-storage:{}", registry.name("list/arm"));
        ctr.run(["manifest", "add", "--variant=v7", "--annotation=k=v", "mine:latest", &storage]).ok();
        ctr.run(["manifest", "annotate", "--os-version=6.1", "--os-features=a,b", "mine", &own.manifest])
            .ok();
        let list = inspect(&ctr, "localhost/mine");
        assert_eq!(list["mediaType"], "application/vnd.oci.image.index.v1+json");
        assert_eq!(digests(&list), [&*own.manifest, &*other.manifest]);
        let entry = &list["manifests"][1];
        assert_eq!(entry["platform"], json!({ "architecture": "arm", "os": "linux", "variant": "v7" }));
        assert_eq!((&entry["annotations"]["k"], &entry["size"]), (&json!("v"), &json!(other.size)));
        assert_eq!(list["manifests"][0]["platform"]["os.version"], "6.1");
        assert_eq!(list["manifests"][0]["platform"]["os.features"], json!(["a", "b"]));
        // Without its images' names it still has all that a push needs.
        ctr.run(["rmi", &registry.name("list/own"), &registry.name("list/arm")]).ok();
        assert!(ctr.list("blobs/sha256").contains(&other.blobs[0]["sha256:".len()..].to_owned()));
        let target = format!("list/pushed{number}:v1");
        ctr.run(["manifest", "push", "-q", "--digestfile=digest", "mine", &faults.name(&target)]).ok();
        assert_eq!(skopeo(&target, &["--raw"]), list, "as {user:?}");
        let digest = fs::read_to_string(ctr.home().join("digest")).expect("the digest");
        assert_eq!(skopeo(&format!("list/pushed{number}@{digest}"), &["--raw"]), list);
        assert_eq!(skopeo(&target, &["--override-arch=arm", "--override-variant=v7"])["Architecture"], "arm");
        // `ctr push` knows lists, too.
        ctr.run(["push", "-q", "mine", &faults.name(&format!("list/pushed{number}:again"))]).ok();
        ctr.run(["manifest", "exists", "mine"]).exits(0);
        ctr.run(["manifest", "rm", "mine"]).ok();
        ctr.run(["manifest", "exists", "mine"]).exits(1);
        ctr.run(["manifest", "rm", "mine"]).exits(1);
        assert_eq!((ctr.list("lists").len(), ctr.list("blobs/sha256").len()), (0, 0), "as {user:?}");
    }
}

/// As Podman lists and removes them: like images, and by the filter `manifest` apart from them.
#[test]
fn lists_are_among_the_images() {
    let ctr = Ctr::with_box(User::Rootless);
    let id = ctr.run(["manifest", "create", "team/list:v1", "box"]).ok();
    let shown = |options: &[&str]| {
        let format = ["--format", "{{.Repository}}:{{.Tag}} {{.Id}} {{.IsManifestList}}"];
        ctr.run([&["images"], &format[..], options].concat()).ok()
    };
    let row = format!("localhost/team/list:v1 {id} true");
    let all = shown(&[]);
    assert_eq!((all.lines().count(), all.lines().filter(|line| *line == row).count()), (2, 1), "{all}");
    for (options, found) in [
        (&["--filter=manifest=true"][..], 1),
        (&["--filter=reference=team/*"], 1),
        (&["team/list"], 1),
        (&["--filter=manifest=false"], 0),
        (&["--filter=dangling=true"], 0),
        (&["--filter=until=2h"], 0),
    ] {
        assert_eq!(shown(options).lines().filter(|line| *line == row).count(), found, "{options:?}");
    }
    let listed: Value = serde_json::from_str(&ctr.run(["images", "--format=json"]).ok()).expect("JSON");
    let list = listed.as_array().expect("a list").iter().find(|image| image["Id"] == id.as_str());
    let list = list.expect("the list");
    assert_eq!((&list["IsManifestList"], &list["Names"]), (&json!(true), &json!(["localhost/team/list:v1"])));
    assert!(ctr.run(["images", "-q"]).ok().contains(&id[..12]));
    ctr.run(["inspect", "--type=image", "box"]).ok();
    let said = ctr.run(["rmi", "team/list:v1"]).ok();
    assert_eq!(said, format!("Untagged: localhost/team/list:v1\nDeleted: {id}"));
    ctr.run(["manifest", "create", "again", "box"]).ok();
    ctr.run(["rmi", "-a"]).ok();
    assert_eq!((ctr.list("lists").len(), ctr.list("blobs/sha256").len()), (0, 0));
}

#[test]
fn images_of_registries_are_added_without_their_layers() {
    let registry = Registry::plain();
    let layer = Layer::new(Compression::Gzip).file("noise", noise(17, 1_000_000));
    let big = TestImage::new([layer]).push(registry, "list/remote:big");
    let other = arm("list remote arm", "list/remote:arm");
    index(registry, "list/remote:latest", Flavour::Docker, &[big.clone(), other.clone()]);
    let faults = Faults::new(registry);
    let ctr = ctr(User::Rootless, &faults);
    let remote = faults.name("list/remote");
    ctr.run(["manifest", "create", "one", &remote]).ok();
    assert_eq!(digests(&inspect(&ctr, "one")), [&*big.manifest], "the one for this machine");
    ctr.run(["manifest", "create", "--all", "all", &format!("docker://{remote}")]).ok();
    assert_eq!(digests(&inspect(&ctr, "all")), [&*big.manifest, &*other.manifest]);
    assert!(faults.asked("GET", &format!("/blobs/{}", big.blobs[0])).is_empty(), "its layer was not fetched");
    // To the same registry: by a mount.
    ctr.run(["manifest", "push", "-q", "all", &faults.name("list/near:latest")]).ok();
    assert_eq!(skopeo("list/near", &["--raw"]), inspect(&ctr, "all"));
    assert!(
        faults.asked("PATCH", "/list/near/").is_empty()
            && faults.asked("PUT", "/list/near/blobs/").is_empty()
    );
    // To another one, as far as it can be told: through here, and nothing of it stays.
    let before = ctr.list("blobs/sha256");
    ctr.run(["manifest", "push", "-q", "--rm", "all", &registry.name("list/far:latest")]).ok();
    assert_eq!(digests(&skopeo("list/far", &["--raw"])), [&*big.manifest, &*other.manifest]);
    assert_eq!((ctr.list("blobs/sha256"), ctr.list("tmp").len()), (before, 0));
    ctr.run(["manifest", "exists", "all"]).exits(1);
    let outcome =
        ctr.run(["manifest", "push", "--compression-format=zstd", "one", &registry.name("list/no:latest")]);
    outcome.fails("not in the store").hints("pull");
    // What isn't here is looked at where it is.
    assert_eq!(inspect(&ctr, &remote)["manifests"].as_array().map(Vec::len), Some(2));
    let single = ctr.run(["manifest", "inspect", &faults.name("list/remote:big")]).exits(0);
    assert!(single.stderr().contains("not a list"), "{single}");
}

#[test]
fn lists_are_amended_and_images_taken_out() {
    let registry = Registry::plain();
    let [first, second] = ["one", "two"].map(|tag| arm(tag, &format!("list/amended:{tag}")));
    let faults = Faults::new(registry);
    let ctr = ctr(User::Rootless, &faults);
    let name = |tag: &str| registry.name(&format!("list/amended:{tag}"));
    ctr.run(["manifest", "create", "team/list:v1"]).ok();
    assert_eq!(inspect(&ctr, "localhost/team/list:v1")["manifests"], json!([]));
    ctr.run(["manifest", "create", "--amend", "team/list:v1", &name("one")]).ok();
    ctr.run(["manifest", "create", "-a", "team/list:v1", &name("two"), &name("one")]).ok();
    assert_eq!(digests(&inspect(&ctr, "team/list:v1")), [&*second.manifest, &*first.manifest]);
    let removed = ctr.run(["manifest", "remove", "team/list:v1", &second.manifest]).ok();
    assert!(removed.ends_with(&format!(": {}", second.manifest)), "{removed}");
    let id = &removed[..64];
    assert_eq!(digests(&inspect(&ctr, id)), [&*first.manifest], "by its id");
    ctr.run(["manifest", "remove", "team/list:v1", &second.manifest])
        .fails("has no manifest")
        .hints("inspect");
    ctr.run(["manifest", "annotate", "--arch=x", "team/list:v1", &second.manifest]).fails("has no manifest");
    ctr.run(["manifest", "add", "team/list:v1", &name("none")]).fails("not found");
    ctr.run(["manifest", "add", "team/none", &name("one")])
        .fails("no manifest list")
        .hints("manifest create");
    ctr.run(["manifest", "add", "team/list:v1", "containers-storage:none"]).fails("no image");
    ctr.run(["manifest", "add", "--annotation=x", "team/list:v1", &name("one")]).fails("KEY=VALUE");
    ctr.run(["manifest", "create", "UPPER"]).exits(125);
    // An index alone, of images that the registry has.
    ctr.run(["push", "-q", "team/list:v1", &faults.name("list/amended:list")]).ok();
    ctr.run(["manifest", "push", "-q", "--all=false", "team/list:v1", &faults.name("list/amended:alone")])
        .ok();
    assert_eq!(digests(&skopeo("list/amended:alone", &["--raw"])), [&*first.manifest]);
    // Of several at a time none is lost.
    let adding = ["one", "two"].map(|tag| {
        ctr.command(["manifest", "create", "--amend", "together", &name(tag)]).spawn().expect("start ctr")
    });
    for mut child in adding {
        assert!(child.wait().expect("wait for ctr").success());
    }
    assert_eq!(digests(&inspect(&ctr, "together")).len(), 2);
}
