//! The OCI image layout (image-spec, image-layout.md): index.json names manifests, blobs lie under their digests.

use super::{
    intake::Contents,
    names,
    plan::{self, Plan},
};
use crate::{
    registry::{
        Platform,
        manifest::{self, ACCEPT, Content, Offer},
    },
    storage::Digest,
};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names of the layout's files.
pub const INDEX: &str = "index.json";
/// The same.
pub const LAYOUT: &str = "oci-layout";
/// What is in it.
pub const LAYOUT_CONTENTS: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// What an image is called (annotations.md).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The same, of containerd and Docker: the whole name, where the other may be a tag alone.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// index.json.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// Of the file itself.
    pub media_type: Option<String>,
    /// Of images, and of indexes of images.
    pub manifests: Vec<Descriptor>,
}

/// An entry of it.
#[derive(Serialize, Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Of what it describes.
    pub media_type: String,
    /// Of its bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Among them the image's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Runs>,
}

/// What an image runs on.
#[derive(Serialize, Deserialize, Clone)]
pub struct Runs {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Images that one layout may hold.
const MAX_IMAGES: usize = 1024;

/// Where blob `digest` lies.
pub fn place(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The images of `contents`. Manifests of one name, or of none, that say their platforms are one image, of which this
/// machine's is taken.
pub fn plan(contents: &mut Contents) -> Result<Vec<Plan>> {
    let index: Index = serde_json::from_slice(contents.document(INDEX)?).context("read index.json")?;
    if index.manifests.len() > MAX_IMAGES {
        bail!("index.json names {} images, more than {MAX_IMAGES}", index.manifests.len());
    }
    // What `save` puts beside an image that came from an index; nothing names it.
    let origins = contents.indexes(place);
    let mut plans: Vec<(Digest, Plan)> = Vec::new();
    for (name, group) in groups(index.manifests)? {
        let chosen = choose(&group)?;
        let declared = Content { digest: chosen.digest, size: chosen.size };
        let bytes = plan::blob(contents, &declared, &place)?;
        let (index, manifest) = plan::descend(contents, bytes, Some(&chosen.media_type), &place)?;
        let digest = Digest::of(&manifest);
        let index = match (index, origins.get(&digest)) {
            (None, Some(origin)) => Some(contents.document(&place(origin))?.to_vec()),
            (index, _) => index,
        };
        let digests: Vec<Digest> = index.iter().map(|index| Digest::of(index)).chain([digest]).collect();
        let name = name.and_then(|name| names::of_annotation(&name, &digests));
        match plans.iter_mut().find(|(known, _)| *known == digest) {
            Some((_, plan)) => plan.names.extend(name),
            None => {
                let names = name.into_iter().collect();
                plans.push((digest, plan::complete(contents, names, index, manifest, &place)?));
            }
        }
    }
    Ok(plans.into_iter().map(|(_, plan)| plan).collect())
}

/// The manifests of each image, under its name.
fn groups(manifests: Vec<Descriptor>) -> Result<Vec<(Option<String>, Vec<Descriptor>)>> {
    let types: Vec<String> = manifests.iter().map(|manifest| manifest.media_type.clone()).collect();
    let annotation =
        |one: &Descriptor, key: &str| one.annotations.as_ref().and_then(|all| all.get(key)).cloned();
    let manifests: Vec<Descriptor> =
        manifests.into_iter().filter(|one| ACCEPT.contains(&one.media_type.as_str())).collect();
    let names: Vec<Option<String>> = manifests.iter().map(|one| annotation(one, IMAGE_NAME)).collect();
    let mut groups: Vec<(Option<String>, Vec<Descriptor>)> = Vec::new();
    for (manifest, whole) in manifests.into_iter().zip(&names) {
        // umoci takes this name along when it gives an image another one.
        let copied = manifest.platform.is_none() && names.iter().filter(|name| *name == whole).count() > 1;
        let name = whole.clone().filter(|_| !copied).or_else(|| annotation(&manifest, REF_NAME));
        let alone = manifest.platform.is_none();
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((Some(name), group)) if alone || group[0].platform.is_none() => {
                if group.iter().all(|one| one.digest != manifest.digest) {
                    bail!("two images are called {name:?}");
                }
            }
            Some((_, group)) if !alone && group[0].platform.is_some() => group.push(manifest),
            _ => groups.push((name, vec![manifest])),
        }
    }
    match (groups.is_empty(), types.first()) {
        (false, _) => Ok(groups),
        (true, Some(other)) => bail!("index.json names no image, but something of type {other:?}"),
        (true, None) => bail!("index.json names no image"),
    }
}

fn choose(group: &[Descriptor]) -> Result<&Descriptor> {
    if let [only] = group {
        return Ok(only);
    }
    let offers = group.iter().map(|one| {
        let runs = one.platform.as_ref();
        Offer {
            content: Content { digest: one.digest, size: one.size },
            platform: runs.map(|runs| Platform::new(&runs.os, &runs.architecture, runs.variant.as_deref())),
        }
    });
    let offers: Vec<Offer> = offers.collect();
    let digest = manifest::choose(&offers, &Platform::host())?.content.digest;
    group.iter().find(|one| one.digest == digest).context("choose an image")
}
