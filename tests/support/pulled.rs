//! What a pull has left.

use super::{Compression, Ctr, Layer, Pushed, TestImage};
use std::path::PathBuf;

/// An image that is small and, by `content`, unlike any other.
pub fn tiny(content: &str) -> TestImage {
    TestImage::new([Layer::new(Compression::Gzip).file("hello", content)])
}

/// Where the store unpacked layer `number` of `image`.
pub fn layer(ctr: &Ctr, image: &Pushed, number: usize) -> PathBuf {
    ctr.data().join("layers").join(&image.diff_ids[number]["sha256:".len()..]).join("fs")
}

/// The one image's id as the store lists it.
pub fn ids(ctr: &Ctr) -> Vec<String> {
    let mut ids: Vec<String> = ctr.run(["images", "-q"]).ok().lines().map(str::to_owned).collect();
    ids.dedup();
    ids
}
