//! Several images at once, all tags of one, what a pull repeats and what it needn't fetch.

mod support;

use serde_json::json;
use std::collections::BTreeSet;
use support::{
    Compression, Ctr, Fault, Faults, Flavour, Layer, Pushed, Registry, TestImage, User, ground, ids, index,
    noise, tiny,
};

fn proxied(user: User) -> (Ctr, Faults) {
    let (ctr, faults) = (Ctr::new(user), Faults::new(Registry::plain()));
    ctr.registries(&faults.conf());
    (ctr, faults)
}

fn names(ctr: &Ctr) -> BTreeSet<String> {
    ctr.run(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().lines().map(str::to_owned).collect()
}

#[test]
fn one_that_fails_keeps_no_other_from_coming() {
    let registry = Registry::plain();
    let images = ["a", "b"].map(|name| tiny(name).push(registry, &format!("several/{name}:latest")));
    for &user in User::all() {
        let (ctr, faults) = proxied(user);
        let name = |name: &str| faults.name(&format!("several/{name}"));
        let outcome = ctr.run(["pull", "-q", &name("a"), &name("missing"), "UPPER", &name("b")]).exits(125);
        let expected = images.iter().map(|image| &image.config["sha256:".len()..]).collect::<Vec<_>>();
        assert_eq!(outcome.stdout().lines().collect::<Vec<_>>(), expected, "as {user:?}, {outcome}");
        let errors: Vec<String> =
            outcome.stderr().lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect();
        assert!(
            errors.len() == 2 && errors[0].contains("missing") && errors[1].contains("UPPER"),
            "{outcome}"
        );
    }
}

#[test]
fn all_tags_of_a_repository() {
    let registry = Registry::plain();
    let images = ["one", "two", "3.0"].map(|tag| tiny(tag).push(registry, &format!("tags/all:{tag}")));
    let (ctr, faults) = proxied(User::Rootless);
    let name = faults.name("tags/all");
    ctr.run(["pull", "-q", "--all-tags", &format!("{name}:one")]).fails("tag").hints("--all-tags");
    let said = ctr.run(["pull", "-qa", &name]).ok();
    let expected: BTreeSet<_> = images.iter().map(|image| &image.config["sha256:".len()..]).collect();
    assert_eq!(said.lines().collect::<BTreeSet<_>>(), expected);
    assert_eq!(names(&ctr), ["3.0", "one", "two"].map(|tag| format!("{name}:{tag}")).into());
    ctr.run(["pull", "-qa", &faults.name("tags/none")]).fails("tags/none");
    // The first of them is broken: the others come.
    let (ctr, faults) = proxied(User::Rootless);
    faults.spoil(&images[2].config, Fault::Corrupt, 9);
    ctr.run(["pull", "-qa", &faults.name("tags/all")]).fails("sha256:");
    assert_eq!(names(&ctr).len(), 2);
}

#[test]
fn tags_come_in_pages() {
    let registry = Registry::plain();
    for tag in ["one", "two"] {
        tiny(tag).push(registry, &format!("tags/paged:{tag}"));
    }
    let page = |tags: &[&str], next: Option<&str>| {
        let body = json!({ "name": "tags/paged", "tags": tags }).to_string().into_bytes();
        let link = next.map(|next| ("link", format!("</v2/tags/paged/tags/list?last={next}>; rel=\"next\"")));
        Fault::Answer("200 OK", link.into_iter().collect(), body)
    };
    let (ctr, faults) = proxied(User::Rootless);
    faults.spoil("tags/list?n=", page(&["one"], Some("one")), 1).spoil(
        "tags/list?last=one",
        page(&["two", "../../x", "a b"], None),
        1,
    );
    ctr.run(["pull", "-qa", &faults.name("tags/paged")]).ok();
    assert_eq!(names(&ctr).len(), 2, "and what is no tag is passed over");
    // A list without an end.
    let (ctr, faults) = proxied(User::Rootless);
    faults.spoil("tags/list", page(&[], Some("same")), usize::MAX);
    ctr.run(["pull", "-qa", &faults.name("tags/paged")]).fails("list");
    assert!(faults.seen().len() < 10, "{} requests", faults.seen().len());
    for (answer, about) in [
        (Fault::Endless(None), "more than"),
        (Fault::json("application/json", "{\"tags\":7}"), "no list"),
        (Fault::status("404 Not Found"), "404"),
    ] {
        let (ctr, faults) = proxied(User::Rootless);
        faults.spoil("tags/list", answer, usize::MAX);
        ctr.run(["pull", "-qa", &faults.name("tags/paged")]).fails(about);
    }
}

#[test]
fn how_often_and_when_to_try_again() {
    for (options, count) in [
        (&["--retry=0"][..], 1),
        (&["--retry=1", "--retry-delay=0s"], 2),
        (&["--retry-delay=1ms"], 4),
        (&["--retry=9", "--retry-delay=1ms"], 10),
    ] {
        let (ctr, faults, _) = ground(User::Rootless, "retry/always:latest");
        let before = faults.seen().len();
        faults.spoil("/retry/always/", Fault::status("503 Service Unavailable"), usize::MAX);
        let name = faults.name("retry/always");
        ctr.run([&["pull", "-q"], options, &[&name]].concat()).fails("503");
        assert_eq!(faults.seen().len() - before, count, "{options:?}");
    }
    let (ctr, faults, _) = ground(User::Rootless, "retry/pause:latest");
    faults.spoil("/retry/pause/", Fault::status("503 Service Unavailable"), 1);
    let begin = std::time::Instant::now();
    ctr.run(["pull", "-q", "--retry-delay=1500ms", &faults.name("retry/pause")]).ok();
    assert!(begin.elapsed().as_millis() >= 1500);
}

#[test]
fn a_variant_is_chosen() {
    let registry = Registry::plain();
    let images: Vec<Pushed> = ["v6", "v7"]
        .map(|name| tiny(name).architecture("arm").push(registry, &format!("variants:{name}")))
        .into();
    let manifests: Vec<_> = images
        .iter()
        .zip(["v6", "v7"])
        .map(|(image, variant)| {
            json!({ "mediaType": image.media_type, "digest": image.manifest, "size": image.size,
                "platform": { "os": "linux", "architecture": "arm", "variant": variant } })
        })
        .collect();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
    registry.put_manifest("variants", "latest", media_type, index.to_string().as_bytes());
    for (options, chosen) in [
        (&["--arch=arm", "--variant=v6"][..], 0),
        (&["--arch=arm", "--variant=v7"], 1),
        (&["--arch=arm"], 1),
        (&["--platform=linux/arm/v6"], 0),
    ] {
        let (ctr, faults) = proxied(User::Rootless);
        let name = faults.name("variants");
        // The image itself says no variant: it is what its index says.
        let outcome = ctr.run([&["pull", "-q"], options, &[&name]].concat());
        assert_eq!(
            outcome.stdout().trim(),
            &images[chosen].config["sha256:".len()..],
            "{options:?} {outcome}"
        );
    }
    let (ctr, faults) = proxied(User::Rootless);
    ctr.run(["pull", "-q", "--platform=linux/arm", "--variant=v6", &faults.name("variants")]).exits(125);
}

#[test]
fn other_transports_are_refused_by_name() {
    let ctr = Ctr::new(User::Rootless);
    for (name, hint) in [
        ("oci:/images/x:latest", "ctr load -i /images/x"),
        ("oci:latest", "ctr load -i latest"),
        ("oci-archive:x.tar", "ctr load -i x.tar"),
        ("docker-archive:/x.tar:name:tag", "ctr load -i /x.tar"),
        ("dir:/x", "ctr load -i /x"),
        ("containers-storage:ubuntu", "skopeo copy containers-storage:ubuntu oci-archive:"),
        ("docker-daemon:ubuntu:latest", "skopeo copy"),
    ] {
        let outcome = ctr.run(["pull", "-q", name]).fails("is in no registry").hints(hint);
        assert!(outcome.stderr().contains(name), "{outcome}");
    }
    ctr.run(["run", "--rm", "oci-archive:/x.tar", "true"])
        .fails("is in no registry")
        .hints("ctr load -i /x.tar");
}

/// `newer` and `always` ask whether the tag has moved, and no more.
#[test]
fn what_is_unchanged_is_one_request() {
    let registry = Registry::plain();
    let image = tiny("unchanged").push(registry, "count/unchanged:latest");
    let other = tiny("foreign").architecture("s390x").push(registry, "count/unchanged:foreign");
    index(registry, "count/unchanged:list", Flavour::Oci, &[other, image.clone()]);
    for &user in User::all() {
        let (ctr, faults) = proxied(user);
        for target in ["latest", "list"] {
            let name = faults.name(&format!("count/unchanged:{target}"));
            ctr.run(["pull", "-q", &name]).ok();
            for (policy, expected) in [("always", 1), ("newer", 1), ("missing", 0), ("never", 0)] {
                let before = faults.seen().len();
                let said = ctr.run(["pull", "-q", "--policy", policy, &name]).ok();
                assert_eq!(said, &image.config["sha256:".len()..]);
                let seen = &faults.seen()[before..];
                assert_eq!(seen.len(), expected, "{policy} {target} as {user:?}: {seen:?}");
                assert!(seen.iter().all(|seen| seen.method == "HEAD"), "{seen:?}");
            }
        }
        let name = faults.name(&format!("count/unchanged@{}", image.manifest));
        ctr.run(["pull", "-q", &name]).ok();
        let before = faults.seen().len();
        ctr.run(["pull", "-q", &name]).ok();
        assert_eq!(faults.seen().len(), before, "a digest can't change");
    }
}

#[test]
fn a_policy_heeds_the_platform() {
    let registry = Registry::plain();
    let [own, foreign] = [(tiny("own"), "own"), (tiny("foreign").architecture("s390x"), "foreign")]
        .map(|(image, tag)| image.push(registry, &format!("policy/multi:{tag}")));
    index(registry, "policy/multi:latest", Flavour::Oci, &[own.clone(), foreign.clone()]);
    let (ctr, faults) = proxied(User::Rootless);
    let name = faults.name("policy/multi");
    let pull = |options: &[&str]| ctr.run([&["pull", "-q"], options, &[&name]].concat());
    pull(&["--policy=never"]).fails("not in the store");
    assert_eq!(pull(&["--policy=missing"]).ok(), &own.config["sha256:".len()..]);
    assert_eq!(pull(&["--policy=missing", "--arch=s390x"]).ok(), &foreign.config["sha256:".len()..]);
    // The registry is gone: what is here will do.
    faults.spoil_any("HEAD", "/", Fault::status("503 Service Unavailable"), usize::MAX);
    let outcome = pull(&["--policy=newer", "--retry=0"]).exits(0);
    assert!(outcome.stderr().contains("warning: ") && outcome.stderr().contains("503"), "{outcome}");
}

#[test]
fn only_new_layers_move() {
    let registry = Registry::plain();
    let base = || Layer::new(Compression::Gzip).file("base", noise(3, 1_000_000));
    let with = |name: &str| Layer::new(Compression::Gzip).file(name, noise(4, 10_000));
    TestImage::new([base()]).push(registry, "moved/base:latest");
    TestImage::new([base(), with("a")]).push(registry, "moved/a:latest");
    let (ctr, faults) = proxied(User::Rootless);
    ctr.run(["pull", "-q", &faults.name("moved/base")]).ok();
    let before = faults.bytes();
    assert!(before > 1_000_000);
    ctr.run(["pull", "-q", &faults.name("moved/a")]).ok();
    let moved = faults.bytes() - before;
    assert!((10_000..20_000).contains(&moved), "{moved} bytes");
}

/// Signatures and other company of an image (OCI 1.1, "subject"): neither taken for it nor in its way.
#[test]
fn artifacts_beside_an_image() {
    let registry = Registry::plain();
    let image = tiny("subject").push(registry, "artifacts:image");
    let empty = b"{}";
    registry.put_blob("artifacts", empty);
    let descriptor = |kind: &str| {
        json!({ "mediaType": kind, "size": 2,
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" })
    };
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let subject = json!({ "mediaType": manifest, "digest": image.manifest, "size": image.size });
    let artifact = json!({
        "schemaVersion": 2, "mediaType": manifest, "artifactType": "application/vnd.example.signature",
        "config": descriptor("application/vnd.oci.empty.v1+json"), "subject": subject,
        "layers": [descriptor("application/vnd.example.signature")],
    })
    .to_string();
    registry.put_manifest("artifacts", "signature", manifest, artifact.as_bytes());
    let (ctr, faults) = proxied(User::Rootless);
    ctr.run(["pull", "-q", &faults.name("artifacts:signature")]).fails("artifact of type");
    // In an index it has no platform, or one of nobody; it comes first.
    let digest = image_digest(artifact.as_bytes());
    let entry = |platform: serde_json::Value| {
        let mut entry = json!({ "mediaType": manifest, "digest": digest, "size": artifact.len(),
            "artifactType": "application/vnd.example.signature" });
        if !platform.is_null() {
            entry["platform"] = platform;
        }
        entry
    };
    let own = json!({ "mediaType": manifest, "digest": image.manifest, "size": image.size,
        "platform": { "os": "linux", "architecture": image.architecture } });
    let kind = "application/vnd.oci.image.index.v1+json";
    let nobody = json!({ "os": "unknown", "architecture": "unknown" });
    let index = |entries: &[serde_json::Value]| {
        json!({ "schemaVersion": 2, "mediaType": kind, "manifests": entries, "subject": subject }).to_string()
    };
    let all = index(&[entry(json!(null)), entry(nobody), own]);
    registry.put_manifest("artifacts", "latest", kind, all.as_bytes());
    ctr.run(["pull", "-q", &faults.name("artifacts")]).ok();
    assert_eq!(ids(&ctr), [image.short_id()]);
    ctr.run(["pull", "-q", "--arch=s390x", &faults.name("artifacts")]).fails("no platform linux/s390x");
    let alone = index(&[entry(json!(null))]);
    registry.put_manifest("artifacts", "alone", kind, alone.as_bytes());
    ctr.run(["pull", "-q", &faults.name("artifacts:alone")]).fails("no image");
}

fn image_digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
