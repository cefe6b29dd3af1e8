//! What a registry can do wrong, at each step of a pull: one clear error with a hint, exit 125, and the store as it was. Only
//! where the connection failed what has come of a layer stays. (There is no step before the manifest: nothing is pinged.)

mod support;

use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use support::{
    Compression, Ctr, Fault, Faults, Flavour, Layer, Pushed, Registry, TestImage, User, index, noise,
    partials, tiny, without_partials,
};

/// What happens to an answer, whether a next try may find it mended, and what that says.
fn faults() -> Vec<(Fault, bool, &'static str)> {
    let html =
        Fault::Answer("200 OK", vec![("content-type", "text/html".into())], b"<html>log in</html>".to_vec());
    let slow = Fault::Answer("429 Too Many Requests", vec![("retry-after", "3600".into())], Vec::new());
    let basic =
        Fault::Answer("401 Unauthorized", vec![("www-authenticate", "Basic realm=\"x\"".into())], Vec::new());
    let nowhere = Fault::Answer(
        "307 Temporary Redirect",
        vec![("location", "https://127.0.0.1:1/".into())],
        Vec::new(),
    );
    let away = Fault::Answer("302 Found", vec![("location", "file:///etc/passwd".into())], Vec::new());
    vec![
        (Fault::status("400 Bad Request"), false, "400"),
        (basic, true, "401"),
        (Fault::status("401 Unauthorized"), true, "401"),
        (Fault::status("403 Forbidden"), true, "403"),
        (Fault::status("404 Not Found"), false, "404"),
        (slow, true, "429"),
        (Fault::status("500 Internal Server Error"), true, "500"),
        (Fault::status("204 No Content"), false, ""),
        (html, false, ""),
        (nowhere, true, ""),
        (away, false, "redirects"),
        (Fault::Cut(10), true, ""),
        (Fault::Reset(10), true, ""),
        (Fault::Corrupt, false, ""),
        (Fault::Shorter(7), false, ""),
        (Fault::Longer(7), false, ""),
        (Fault::Endless(None), false, ""),
    ]
}

/// A pull of `name` through `front`, where `spoiled` suffers each fault at `path` in turn.
#[track_caller]
fn each_fault(target: &str, step: &str, lay: impl Fn(&Faults, &Faults), path: &str) {
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&Registry::plain().as_docker_hub());
    ctr.run(["pull", "-q", &Registry::plain().name("steps/kept:latest")]).ok();
    let before = ctr.store();
    for (fault, may_pass, about) in faults() {
        let (front, behind) = (Faults::new(Registry::plain()), Faults::new(Registry::plain()));
        ctr.registries(&front.conf());
        // First of those for its path: what leads there comes after.
        behind.spoil(path, fault.clone(), usize::MAX);
        lay(&front, &behind);
        let outcome = ctr.run(["pull", "-q", "--retry=0", &front.name(target)]);
        let outcome = outcome.fails(about);
        assert!(
            !behind.asked("GET", path).is_empty() || !front.asked("GET", path).is_empty(),
            "{step} was not reached"
        );
        assert_eq!(without_partials(&ctr), before, "{step}, {fault:?}: {outcome}");
        assert!(may_pass || partials(&ctr).is_empty(), "{step}, {fault:?}: {:?} {outcome}", partials(&ctr));
        assert!(outcome.stderr().len() < 2000, "{step}, {fault:?}: {outcome}");
        for blob in ctr.list("blobs/partial") {
            std::fs::remove_file(ctr.data().join("blobs/partial").join(blob)).expect("begin anew");
        }
    }
}

fn image(name: &str) -> Pushed {
    let registry = Registry::plain();
    tiny("kept").push(registry, "steps/kept:latest");
    let layer = |seed| Layer::new(Compression::Gzip).file(&format!("noise{seed}"), noise(seed, 100_000));
    TestImage::new([layer(1), layer(2)]).push(registry, &format!("steps/{name}:latest"))
}

/// The registry sends everybody to another host for `path`.
fn redirect(front: &Faults, behind: &Faults, path: &str, blob: &str) {
    let place = format!("http://localhost:{}/v2/{blob}", behind.address().port());
    front.spoil(
        path,
        Fault::Answer("307 Temporary Redirect", vec![("location", place)], Vec::new()),
        usize::MAX,
    );
}

/// A fault at the registry itself.
fn direct(fault_path: &str) -> impl Fn(&Faults, &Faults) {
    let path = fault_path.to_owned();
    move |front, behind| {
        let rest = path.strip_prefix("/v2/").unwrap_or(&path);
        redirect(front, behind, &path, rest);
    }
}

#[test]
fn the_manifest() {
    image("manifest");
    let path = "/v2/steps/manifest/manifests/latest";
    each_fault("steps/manifest", "manifest", direct(path), path);
}

#[test]
fn the_member_of_an_index() {
    let image = image("member");
    index(Registry::plain(), "steps/member:list", Flavour::Oci, std::slice::from_ref(&image));
    let path = format!("/v2/steps/member/manifests/{}", image.manifest);
    each_fault("steps/member:list", "member", direct(&path), &path);
}

#[test]
fn the_config() {
    let path = format!("/v2/steps/config/blobs/{}", image("config").config);
    each_fault("steps/config", "config", direct(&path), &path);
}

#[test]
fn a_layer() {
    let path = format!("/v2/steps/layer/blobs/{}", image("layer").blobs[1]);
    each_fault("steps/layer", "layer", direct(&path), &path);
}

#[test]
fn the_token() {
    image("token");
    let lay = |front: &Faults, behind: &Faults| {
        let challenge = format!("Bearer realm=\"http://{}/token\",service=\"x\"", behind.address());
        let asks = Fault::Answer("401 Unauthorized", vec![("www-authenticate", challenge)], Vec::new());
        front.spoil("/v2/steps/token/", asks.clone(), usize::MAX);
    };
    each_fault("steps/token", "token", lay, "/token");
}

/// Documents that are what their digests say, and still no image.
#[test]
fn documents_that_contradict_themselves() {
    let registry = Registry::plain();
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let list = "application/vnd.oci.image.index.v1+json";
    let seen = Arc::new(Mutex::new(Value::Null));
    let copy = Arc::clone(&seen);
    let image = tiny("documents")
        .tweak(move |manifest| *copy.lock().expect("no panic while held") = manifest.clone());
    let image = image.push(registry, "steps/documents:latest");
    let good = seen.lock().expect("no panic while held").clone();
    let with = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).expect("a field") = value;
        (manifest, changed)
    };
    let indexed = |kind: &str, digest: &str, size: u64| {
        let platform = json!({ "os": "linux", "architecture": image.architecture });
        let entry = json!({ "mediaType": kind, "digest": digest, "size": size, "platform": platform });
        (list, json!({ "schemaVersion": 2, "mediaType": list, "manifests": [entry] }))
    };
    for ((kind, document), about) in [
        (with("/layers/0/size", json!(7)), "sha256:"),
        (with("/layers/0/size", json!(1u64 << 40)), "sha256:"),
        (with("/layers/0/size", json!(0)), "sha256:"),
        (with("/config/size", json!(7)), "config"),
        (with("/config/size", json!(1u64 << 40)), "config"),
        (with("/layers/0/mediaType", json!("application/x-executable")), "media type"),
        (with("/config/mediaType", json!("application/vnd.cncf.helm.config.v1+json")), "artifact"),
        (with("/config/digest", json!(image.blobs[0])), "config"),
        (with("/layers", json!([good["layers"][0], good["layers"][0]])), "layers"),
        (indexed(manifest, &image.manifest, image.size + 1), "declares"),
        (indexed(manifest, &image.config, image.size), ""),
        (indexed("application/x-unknown", &image.manifest, image.size), "no image"),
    ] {
        let faults = Faults::new(registry);
        let ctr = Ctr::new(User::Rootless);
        ctr.registries(&faults.conf()).run(["images"]).ok();
        let before = ctr.store();
        faults.spoil("/manifests/latest", Fault::json(kind, document.to_string()), usize::MAX);
        let outcome = ctr.run(["pull", "-q", "--retry=0", &faults.name("steps/documents")]).fails(about);
        assert_eq!(ctr.store(), before, "{document} {outcome}");
    }
}

/// Indexes in indexes, as deep as anybody makes them, and one more.
#[test]
fn an_index_that_is_too_deep() {
    let registry = Registry::plain();
    let image = tiny("deep").push(registry, "steps/deep:0");
    let kind = "application/vnd.oci.image.index.v1+json";
    let mut below = (image.media_type.clone(), image.manifest.clone(), image.size);
    for depth in 1..=5 {
        let platform = json!({ "os": "linux", "architecture": image.architecture });
        let entry = json!({ "mediaType": below.0, "digest": below.1, "size": below.2, "platform": platform });
        let text = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": [entry] }).to_string();
        registry.put_manifest("steps/deep", &depth.to_string(), kind, text.as_bytes());
        below = (kind.to_owned(), digest(text.as_bytes()), text.len() as u64);
    }
    let faults = Faults::new(registry);
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&faults.conf());
    ctr.run(["pull", "-q", &faults.name("steps/deep:4")]).ok();
    ctr.run(["pull", "-q", &faults.name("steps/deep:5")]).fails("deep");
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
