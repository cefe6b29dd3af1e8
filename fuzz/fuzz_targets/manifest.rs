//! Manifests, indices and image configurations; the first byte chooses the Content-Type that they come with.
#![no_main]

use ctr::registry::{Platform, manifest};
use libfuzzer_sys::fuzz_target;

const TYPES: [&str; 5] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/json; charset=utf-8",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    match manifest::parse(body, TYPES.get(usize::from(*first)).copied()) {
        Ok(manifest::Document::Index(offers)) => drop(manifest::choose(&offers, &Platform::host())),
        Ok(manifest::Document::Image(image)) => drop(manifest::parse_config(body, &image)),
        Err(_) => {}
    }
});
