//! Rows 13 to 15: what a registry sends.

use crate::{
    layer,
    support::{Ctr, Fault, Faults, MANIFEST, Outcome, Pushed, Registry, TestImage, User},
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// An image behind a proxy, and a `ctr` that speaks with that.
fn ground(target: &str) -> (Ctr, Faults, Pushed) {
    let image = TestImage::new([layer().file("file", "x".repeat(100_000))]).push(Registry::plain(), target);
    let faults = Faults::new(Registry::plain());
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&faults.conf());
    (ctr, faults, image)
}

/// The pull fails with `about` in its error and leaves the store as it was.
#[track_caller]
fn refused(ctr: &Ctr, name: &str, about: &str) -> Outcome {
    let outcome = ctr.run(["pull", "-q", name]).fails(about);
    for directory in ["blobs/sha256", "images", "layers", "tmp"] {
        assert!(ctr.list(directory).is_empty(), "{directory}, {outcome}");
    }
    outcome
}

#[test]
fn manifests_that_are_none() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let layer = |digest: &str, size: i64| {
        json!({ "schemaVersion": 2, "mediaType": MANIFEST,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2 },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size }] })
    };
    let mut ambiguous = layer(&digest, 3);
    ambiguous["manifests"] = json!([]);
    let deep = "[".repeat(100_000);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("no JSON", b"<html>captive portal</html>".to_vec()),
        ("deep", deep.into_bytes()),
        ("an array", b"[]".to_vec()),
        ("a path for a digest", layer("sha256:../../../x", 3).to_string().into_bytes()),
        ("another algorithm", layer("md5:aaaa", 3).to_string().into_bytes()),
        ("a negative size", layer(&digest, -1).to_string().into_bytes()),
        ("layers and manifests", ambiguous.to_string().into_bytes()),
        ("schema 1", br#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#.to_vec()),
    ];
    for (what, body) in cases {
        let (ctr, faults, _) = ground("bad/manifest:latest");
        faults.spoil("/bad/manifest/manifests/", Fault::json(MANIFEST, body), usize::MAX);
        let outcome = refused(&ctr, &faults.name("bad/manifest"), "manifest");
        assert!(outcome.stderr().len() < 4000, "{what}: the input is not repeated whole");
    }
}

#[test]
fn a_manifest_that_is_not_the_digest_asked_for() {
    let (ctr, faults, image) = ground("bad/digest:latest");
    faults.spoil("/manifests/sha256:", Fault::Corrupt, usize::MAX);
    refused(&ctr, &faults.name(&format!("bad/digest@{}", image.manifest)), "sha256:");
}

#[test]
fn an_index_that_points_to_itself() {
    // Its own digest can't be in it, but a registry may answer every request with the same index.
    let index = "application/vnd.oci.image.index.v1+json";
    let own = json!({ "schemaVersion": 2, "mediaType": index, "manifests": [{
        "mediaType": index, "digest": format!("sha256:{}", "b".repeat(64)), "size": 300,
        "platform": { "os": "linux", "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" } },
    }]});
    let (ctr, faults, _) = ground("bad/cycle:latest");
    faults.spoil("/bad/cycle/manifests/", Fault::json(index, own.to_string()), usize::MAX);
    refused(&ctr, &faults.name("bad/cycle"), "bad/cycle");
    assert!(faults.seen().len() < 30, "{} requests", faults.seen().len());
}

#[test]
fn an_endless_manifest_is_refused() {
    for length in [None, Some(4 << 30)] {
        let (ctr, faults, _) = ground("bad/endless:latest");
        faults.spoil("/bad/endless/manifests/", Fault::Endless(length), usize::MAX);
        refused(&ctr, &faults.name("bad/endless"), "manifest");
        assert!(faults.bytes() < 200 << 20, "{} bytes were taken", faults.bytes());
    }
}

/// Bytes, configuration and manifest are what their digests say, or nothing is kept of them.
#[test]
fn other_bytes_than_the_digest_says() {
    for (number, part) in ["layer", "config", "manifest"].into_iter().enumerate() {
        let target = format!("bytes/n{number}:latest");
        let (ctr, faults, image) = ground(&target);
        let path = match part {
            "layer" => image.blobs[0].clone(),
            "config" => image.config.clone(),
            _ => image.manifest.clone(),
        };
        faults.spoil(&path, Fault::Corrupt, usize::MAX);
        let name = format!("{}@{}", faults.name(target.trim_end_matches(":latest")), image.manifest);
        refused(&ctr, &name, "sha256:");
    }
}

/// What is a Docker manifest to one reader must not be an OCI manifest to the next (CVE-2021-41190).
#[test]
fn a_manifest_of_two_types() {
    let seen = Arc::new(Mutex::new(Value::Null));
    let copy = Arc::clone(&seen);
    TestImage::new([layer().file("file", "x")])
        .tweak(move |manifest| *copy.lock().expect("no panic while held") = manifest.clone())
        .push(Registry::plain(), "types/two:latest");
    let manifest = seen.lock().expect("no panic while held").clone();
    let (ctr, faults, _) = ground("types/ground:latest");
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    faults.spoil("/types/two/manifests/", Fault::json(docker, manifest.to_string()), usize::MAX);
    refused(&ctr, &faults.name("types/two"), "ambiguous");
}
