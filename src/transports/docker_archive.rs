//! Docker's archive (Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format"; as `docker save`,
//! Podman, skopeo and kaniko write it): manifest.json names configurations, layers and tags by their places.

use super::{
    intake::{Contents, Stored},
    names,
    plan::{self, Plan},
};
use crate::{
    registry::manifest::{LAYERS_LIMIT, MANIFEST_LIMIT},
    storage::{Compression, Digest},
};
use anyhow::{Context, Result, bail};
use oci_distribution::manifest::{IMAGE_CONFIG_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;

/// The name of the archive's table of contents.
pub const MANIFEST: &str = "manifest.json";

/// An image of it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// Where its configuration is.
    pub config: String,
    /// What it is called.
    pub repo_tags: Option<Vec<String>>,
    /// Where its layers are, base first.
    pub layers: Option<Vec<String>>,
}

const MAX_IMAGES: usize = 1024;

/// The images of `contents`. They have no manifest in OCI's sense: the same archive gets the same one.
pub fn plan(contents: &mut Contents) -> Result<Vec<Plan>> {
    let entries: Vec<Entry> =
        serde_json::from_slice(contents.document(MANIFEST)?).context("read manifest.json")?;
    if entries.is_empty() || entries.len() > MAX_IMAGES {
        bail!("manifest.json names {} images", entries.len());
    }
    entries.into_iter().map(|entry| image(contents, entry)).collect()
}

fn image(contents: &mut Contents, entry: Entry) -> Result<Plan> {
    let tags = entry.repo_tags.unwrap_or_default();
    let names = tags.iter().map(|tag| names::of_repo_tag(tag)).collect::<Result<Vec<_>>>()?;
    let config = contents.document(&entry.config).context("read the image config")?;
    let (digest, size) = (Digest::of(config), config.len());
    check_name(&entry.config, &digest)?;
    let mut places = HashMap::from([(digest, entry.config)]);
    let layers = entry.layers.unwrap_or_default();
    if layers.len() > LAYERS_LIMIT {
        bail!("the image has {} layers, the limit is {LAYERS_LIMIT}", layers.len());
    }
    let mut descriptors = Vec::with_capacity(layers.len());
    for place in layers {
        let member = contents.resolve(&place)?.to_owned();
        let Stored { digest, size, compression } =
            contents.layer(&member).with_context(|| format!("layer {place:?}"))?;
        descriptors.push(json!({ "mediaType": layer_type(compression), "digest": digest, "size": size }));
        places.insert(digest, member);
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE_MEDIA_TYPE,
        "config": { "mediaType": IMAGE_CONFIG_MEDIA_TYPE, "digest": digest, "size": size },
        "layers": descriptors,
    });
    let manifest = serde_json::to_vec(&manifest).context("encode the manifest")?;
    if manifest.len() as u64 > MANIFEST_LIMIT {
        bail!("the manifest has more than {MANIFEST_LIMIT} bytes");
    }
    plan::complete(contents, names, None, manifest, &|digest| places.get(digest).cloned().unwrap_or_default())
}

/// Whoever names the configuration by its digest means it.
fn check_name(place: &str, digest: &Digest) -> Result<()> {
    let name = place.rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".json").unwrap_or(name);
    let claimed = format!("sha256:{}", name.strip_prefix("sha256:").unwrap_or(name)).parse::<Digest>();
    match claimed {
        Ok(claimed) if claimed != *digest => {
            bail!("image config {place:?} is damaged: its contents are {digest}")
        }
        _ => Ok(()),
    }
}

/// OCI's media type of a layer.
pub fn layer_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
}
