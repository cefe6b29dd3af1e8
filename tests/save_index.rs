//! An image that came from an index keeps the index's digest, too, by which its users know it: pull, save, load, push.

mod support;

use serde_json::Value;
use std::process::Command;
use support::{Ctr, Flavour, Registry, User, index, tiny};

fn repo_digests(ctr: &Ctr, name: &str) -> Vec<String> {
    let inspected: Value = serde_json::from_str(&ctr.run(["image", "inspect", name]).ok()).expect("JSON");
    let list = inspected[0]["RepoDigests"].as_array().expect("a list").iter();
    list.map(|digest| digest.as_str().expect("text").to_owned()).collect()
}

#[test]
fn every_digest_of_an_image_from_an_index_comes_back() {
    let registry = Registry::plain();
    let image = tiny("of an index").push(registry, "indexed/own:latest");
    let foreign = tiny("foreign").architecture("s390x").push(registry, "indexed/own:foreign");
    let origin = index(registry, "indexed/own:list", Flavour::Oci, &[foreign, image.clone()]);
    let repository = registry.name("indexed/own");
    let (by_tag, by_digest) = (format!("{repository}:list"), format!("{repository}@{origin}"));
    for &user in User::all() {
        let ctr = Ctr::new(user);
        ctr.registries(&registry.as_docker_hub());
        for (number, name) in [&by_tag, &by_digest].into_iter().enumerate() {
            ctr.run(["pull", "-q", name]).ok();
            let mut expected = [format!("{repository}@{}", image.manifest), by_digest.clone()];
            expected.sort();
            assert_eq!(repo_digests(&ctr, name), expected);
            let blobs = ctr.list("blobs/sha256");
            for format in ["docker-archive", "oci-archive", "oci-dir"] {
                let (file, what) = (format!("{format}-{number}"), format!("{name} as {format} by {user:?}"));
                ctr.run(["save", "-q", "--format", format, "-o", &file, name]).ok();
                ctr.run(["rmi", name]).ok();
                assert!(ctr.list("blobs/sha256").is_empty(), "{what}");
                assert_eq!(
                    ctr.run(["load", "-q", "-i", &file]).ok(),
                    format!("Loaded image: {name}"),
                    "{what}"
                );
                assert_eq!(
                    (repo_digests(&ctr, name), ctr.list("blobs/sha256")),
                    (expected.to_vec(), blobs.clone()),
                    "{what}"
                );
                // What is beside the image is in nobody's way.
                let transport = format.replace("oci-dir", "oci");
                let archive = format!("{transport}:{}", ctr.home().join(&file).display());
                let said = Command::new("skopeo")
                    .args(["inspect", "--raw", &archive])
                    .output()
                    .expect("start skopeo");
                assert!(said.status.success(), "{what}: {}", String::from_utf8_lossy(&said.stderr));
            }
            ctr.run(["push", "-q", "--digestfile=digest", name, &registry.name("indexed/again:1")]).ok();
            let pushed = std::fs::read_to_string(ctr.home().join("digest")).expect("the digest");
            assert_eq!(pushed, image.manifest);
            ctr.run(["rmi", "-af"]).ok();
        }
    }
}
