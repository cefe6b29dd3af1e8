//! Images that are not what they say: manifests, indexes and layers. Each is one clear error, and the store is as it was.

mod support;

use serde_json::json;
use support::{Compression, Ctr, Fault, Layer, MANIFEST, Registry, TestImage, User, ground, noise, refused};

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
        let (ctr, faults, _) = ground(User::Rootless, "bad/manifest:latest");
        faults.spoil("/bad/manifest/manifests/", Fault::json(MANIFEST, body), usize::MAX);
        let outcome = refused(&ctr, &faults.name("bad/manifest"), "manifest");
        assert!(outcome.stderr().len() < 4000, "{what}: the input is not repeated whole");
    }
}

#[test]
fn a_manifest_that_is_not_the_digest_asked_for() {
    let (ctr, faults, image) = ground(User::Rootless, "bad/digest:latest");
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
    let (ctr, faults, _) = ground(User::Rootless, "bad/cycle:latest");
    faults.spoil("/bad/cycle/manifests/", Fault::json(index, own.to_string()), usize::MAX);
    refused(&ctr, &faults.name("bad/cycle"), "bad/cycle");
    assert!(faults.seen().len() < 30, "{} requests", faults.seen().len());
}

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
fn layers_that_climb_out() {
    let canary = tempfile::tempdir_in("/var/tmp").expect("a directory outside");
    let outside = canary.path().display().to_string();
    std::fs::set_permissions(canary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("chmod");
    let new = || Layer::new(Compression::Gzip);
    let up = format!("{}{}", "../".repeat(20), outside.trim_start_matches('/'));
    let attempts: Vec<(&str, Layer)> = vec![
        ("dot-dot", new().file(&format!("{up}/a"), "out")),
        ("dot-dot below a directory", new().dir("d", 0o755).file(&format!("d/{up}/b"), "out")),
        ("a symlink", new().symlink("s", &outside).file("s/c", "out")),
        ("a relative symlink", new().symlink("r", &up).file("r/d", "out")),
        ("a hard link", new().hardlink("h", "/etc/passwd")),
        ("a hard link upwards", new().hardlink("h2", &format!("{}etc/passwd", "../".repeat(20)))),
        ("a hard link through a symlink", new().symlink("e", "/etc").hardlink("h3", "e/passwd")),
        ("a whiteout through a symlink", new().symlink("w", &outside).file("w/.wh.victim", "")),
        ("the root as a symlink", new().symlink(".", &outside).file("f", "out")),
        ("a whiteout of the parent", new().file(".wh...", "").file(".wh.", "").file(".wh..", "")),
    ];
    std::fs::write(canary.path().join("victim"), "alive").expect("write a canary");
    for (number, (what, layer)) in attempts.into_iter().enumerate() {
        let target = format!("climb/n{number}:latest");
        TestImage::new([layer]).push(Registry::plain(), &target);
        for &user in User::all() {
            let ctr = Ctr::new(user);
            ctr.registries(&Registry::plain().as_docker_hub());
            // Both a refusal and a pull that keeps it inside the layer are right; a file outside never is.
            let outcome = ctr.run(["pull", "-q", &Registry::plain().name(&target)]);
            assert!(matches!(outcome.code(), 0 | 125), "{what}: {outcome}");
            let mut left = std::fs::read_dir(canary.path()).expect("list the canary");
            assert!(
                left.next().is_some_and(|e| e.is_ok_and(|e| e.file_name() == "victim")),
                "{what}: {outcome}"
            );
            assert!(left.next().is_none(), "{what}: {outcome}");
            let passwd = std::fs::metadata("/etc/passwd").expect("stat /etc/passwd");
            assert_eq!(std::os::unix::fs::MetadataExt::nlink(&passwd), 1, "{what}: {outcome}");
        }
    }
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
