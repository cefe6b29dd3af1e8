//! Verbs that look at images and take them away, on images of a real registry.

mod support;

use serde_json::{Value, json};
use support::{Compression, Ctr, Layer, Registry, TestImage, User};

fn ground() -> (Ctr, support::Pushed) {
    let registry = Registry::plain();
    let layer = Layer::new(Compression::Gzip).file("hello", "x".repeat(1234));
    let config = json!({"Cmd": ["/bin/sh"], "Env": ["A=b"], "Labels": {"team": "x"}, "User": "7"});
    let image = TestImage::new([layer]).config(config).push(registry, "verbs:one");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    ctr.run(["pull", "-q", &registry.name("verbs:one")]).ok();
    (ctr, image)
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn inspect_tells_what_the_image_says() {
    let (ctr, image) = ground();
    let id = image.config.trim_start_matches("sha256:");
    for name in ["verbs:one", image.short_id(), id, &image.config] {
        let name = if name == "verbs:one" { Registry::plain().name(name) } else { name.to_owned() };
        let found = parse(&ctr.run(["inspect", &name]).ok());
        let of = |key: &str| found[0][key].clone();
        assert_eq!((of("Id"), of("User"), of("Os")), (json!(id), json!("7"), json!("linux")), "{name}");
        assert_eq!(of("RootFS")["Layers"], json!(image.diff_ids));
        assert_eq!((&of("Config")["Cmd"], &of("Labels")), (&json!(["/bin/sh"]), &json!({"team": "x"})));
        assert_eq!(of("RepoTags"), json!([Registry::plain().name("verbs:one")]));
    }
    ctr.run(["inspect", "--type", "container", image.short_id()]).exits(125);
}

#[test]
fn listings_in_every_form() {
    let (ctr, image) = ground();
    let whole = format!("{}\n", image.config);
    assert_eq!(ctr.run(["images", "-q", "--no-trunc"]).ok().trim_end(), whole.trim_end());
    let found = parse(&ctr.run(["images", "--format", "json"]).ok());
    assert_eq!(found[0]["Names"], json!([Registry::plain().name("verbs:one")]));
    assert_eq!((&found[0]["Containers"], &found[0]["Os"]), (&json!(0), &Value::Null));
    let table = ctr.run(["images", "--digests", "-n", "verbs"]).ok();
    assert!(table.contains("sha256:") && table.contains(" kB") && table.lines().count() == 1, "{table}");
    assert_eq!(ctr.run(["images", "-n", "other"]).ok(), "");
}

#[test]
fn templates_and_filters() {
    let (ctr, image) = ground();
    let name = Registry::plain().name("verbs:one");
    let repository = name.trim_end_matches(":one");
    for (template, expected) in [
        ("{{.Repository}}:{{.Tag}}", name.clone()),
        ("{{.ID}} {{.Containers}}", format!("{} 0", image.short_id())),
        ("{{.Labels.team}}{{.Labels.none}} {{.Size}}", "x<no value> 1.23 kB".to_owned()),
        ("table {{.ID}}\\t{{.Tag}}", format!("IMAGE ID      TAG\n{}  one", image.short_id())),
    ] {
        assert_eq!(ctr.run(["images", "--format", template]).ok(), expected, "{template}");
    }
    for (filter, shown) in [
        ("reference=verbs", true),
        ("reference=*/verbs:o*", true),
        ("reference=other", false),
        ("label=team=x", true),
        ("label!=team", false),
        ("dangling=true", false),
        ("dangling=false", true),
        ("containers=true", false),
        ("until=1h", false),
        ("before=verbs:one", false),
    ] {
        let filter = filter.replace("=verbs:one", &format!("={name}"));
        let found = ctr.run(["images", "--filter", &filter, "--format", "{{.Repository}}"]).ok();
        assert_eq!(found, if shown { repository } else { "" }, "{filter}");
    }
    let settings = "{{json .Config.Entrypoint}} {{.Config.WorkingDir}}|{{index .Config.Labels \"team\"}}|{{index .Config.Env 0}}";
    assert_eq!(ctr.run(["image", "inspect", "-f", settings, &name]).ok(), "null |x|A=b");
}

/// A container keeps its image: rmi refuses, and with --force takes both.
#[test]
fn an_image_in_use() {
    let (ctr, image) = ground();
    let id = "d".repeat(64);
    let dir = ctr.data().join("containers").join(&id);
    let script = format!(
        r#"mkdir -p {dir}/upper; : > {dir}/lock; echo {layer} > {dir}/layers; ln -s {id} {data}/names/user
        echo '{{"id":"{id}","name":"user","created":"2026-01-01T00:00:00Z","image_id":"{image}"}}' > {dir}/container.json"#,
        dir = dir.display(),
        data = ctr.data().display(),
        layer = image.diff_ids[0],
        image = image.config,
    );
    assert!(ctr.wrapped(&["sh", "-c", &script], &[]).status().expect("sh starts").success());
    let refused = ctr.run(["rmi", image.short_id()]).exits(2);
    assert!(refused.stderr().contains("is used by container dddddddddddd (user)"), "{}", refused.stderr());
    assert!(refused.stderr().contains("\nhint: "));
    let removed = ctr.run(["rmi", "-f", image.short_id()]).ok();
    assert!(removed.starts_with("Untagged: ") && removed.contains("\nDeleted: "), "{removed}");
    assert_eq!(ctr.run(["ps", "-aq"]).ok(), "");
    assert_eq!((ctr.list("layers"), ctr.list("names")), (vec![], vec![]));
}
