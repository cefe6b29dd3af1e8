//! Images that are not what they say: manifests, indexes and layers. Each is one clear error, and the store is as it was.

mod support;

use serde_json::json;
use support::{Compression, Layer, Registry, TestImage, User, ground, noise, refused};

#[test]
fn diff_ids_that_do_not_match_the_layers() {
    // Two layers in the manifest, one of which the config does not know.
    let registry = Registry::plain();
    let extra = TestImage::new([Layer::new(Compression::Gzip).file("extra", "extra")])
        .push(registry, "bad/diff:extra");
    TestImage::new([Layer::new(Compression::Gzip).file("one", "one")])
        .tweak(move |manifest| {
            let layers = manifest["layers"].as_array_mut().expect("layers");
            let mut more = layers[0].clone();
            more["digest"] = json!(extra.blobs[0]);
            layers.push(more);
        })
        .push(registry, "bad/diff:latest");
    let (ctr, faults, _) = ground(User::Rootless, "bad/diff-ground:latest");
    refused(&ctr, &faults.name("bad/diff"), "layer");
}

#[test]
fn layers_that_are_no_archives() {
    let (ctr, faults, _) = ground(User::Rootless, "bad/archive-ground:latest");
    let registry = Registry::plain();
    // Valid digests over bytes that are neither gzip nor tar.
    for (name, bytes) in [("noise", noise(7, 10_000)), ("text", b"hello".to_vec())] {
        registry.put_blob("bad/archive", &bytes);
        let digest = {
            use sha2::Digest;
            let hex =
                sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            format!("sha256:{hex}")
        };
        let size = bytes.len();
        TestImage::new([Layer::new(Compression::Gzip).file("a", "a")])
            .tweak(move |manifest| {
                manifest["layers"][0]["digest"] = json!(digest);
                manifest["layers"][0]["size"] = json!(size);
            })
            .push(registry, &format!("bad/archive:{name}"));
        refused(&ctr, &faults.name(&format!("bad/archive:{name}")), "sha256:");
    }
}
