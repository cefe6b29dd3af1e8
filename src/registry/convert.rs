//! Manifests on their way out: which media type they are, what they name, and the same image in the other format or with
//! layers packed anew. Pure. What has nothing to be changed stays as it is, byte for byte.

use super::manifest::Content;
use crate::{
    error::Explain,
    storage::{Compression, Digest},
};
use anyhow::{Context, Result, anyhow, bail};
use oci_distribution::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use serde_json::{Value, json};
use std::{collections::HashMap, str::FromStr};

/// `--format` of podman-push(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OCI image-spec.
    Oci,
    /// Docker image manifest version 2, schema 2.
    V2s2,
}

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Format> {
        match text {
            "oci" => Ok(Format::Oci),
            "v2s2" | "docker" => Ok(Format::V2s2),
            "v2s1" => {
                Err(anyhow!("Docker's schema 1 (v2s1) is not written: no registry needs it since 2019"))
                    .hint("--format v2s2")
            }
            _ => Err(anyhow!("{text:?} is not a manifest format")).hint("oci or v2s2"),
        }
    }
}

impl Format {
    fn image(self) -> &'static str {
        match self {
            Format::Oci => OCI_IMAGE_MEDIA_TYPE,
            Format::V2s2 => IMAGE_MANIFEST_MEDIA_TYPE,
        }
    }

    fn index(self) -> &'static str {
        match self {
            Format::Oci => OCI_IMAGE_INDEX_MEDIA_TYPE,
            Format::V2s2 => IMAGE_MANIFEST_LIST_MEDIA_TYPE,
        }
    }

    fn config(self) -> &'static str {
        match self {
            Format::Oci => IMAGE_CONFIG_MEDIA_TYPE,
            Format::V2s2 => IMAGE_DOCKER_CONFIG_MEDIA_TYPE,
        }
    }

    fn layer(self, compression: Compression) -> Result<&'static str> {
        Ok(match (self, compression) {
            (Format::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (Format::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Format::Oci, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Format::V2s2, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (Format::V2s2, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Format::V2s2, Compression::Zstd) => {
                return Err(anyhow!("an image of format v2s2 has no zstd layers"))
                    .hint("--format oci, or --compression-format gzip");
            }
        })
    }
}

/// A manifest as it is sent.
#[derive(Clone, Debug)]
pub struct Sendable {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Of them.
    pub digest: Digest,
    /// For the Content-Type header and the index that names it.
    pub media_type: String,
    document: Value,
}

/// A layer in place of another.
#[derive(Clone, Copy, Debug)]
pub struct Packed {
    /// What it is now.
    pub content: Content,
    /// How it is packed.
    pub compression: Compression,
    /// Whether it is other bytes than the manifest names.
    pub anew: bool,
}

impl Sendable {
    /// Read a manifest or an index.
    ///
    /// # Errors
    /// It is no JSON object, or of no known kind.
    pub fn read(bytes: Vec<u8>) -> Result<Sendable> {
        let document: Value = serde_json::from_slice(&bytes).context("read the manifest as JSON")?;
        let config = document["config"]["mediaType"].as_str();
        let media_type = match document["mediaType"].as_str() {
            Some(media_type) => media_type,
            None if document["manifests"].is_array() => OCI_IMAGE_INDEX_MEDIA_TYPE,
            None if config == Some(IMAGE_DOCKER_CONFIG_MEDIA_TYPE) => IMAGE_MANIFEST_MEDIA_TYPE,
            None if document["layers"].is_array() => OCI_IMAGE_MEDIA_TYPE,
            None => bail!("the manifest is neither an image nor an index"),
        };
        let media_type = media_type.to_owned();
        Ok(Sendable { digest: Digest::of(&bytes), bytes, media_type, document })
    }

    fn write(document: Value, media_type: &str) -> Result<Sendable> {
        let bytes = serde_json::to_vec(&document).context("encode the manifest")?;
        Ok(Sendable { digest: Digest::of(&bytes), bytes, media_type: media_type.to_owned(), document })
    }

    /// Whether it is of several images.
    pub fn is_index(&self) -> bool {
        self.document["manifests"].is_array()
    }

    /// The images of an index, and what to call each.
    pub fn members(&self) -> Result<Vec<(Content, String)>> {
        let platform = |entry: &Value| {
            let word = |key: &str| entry["platform"][key].as_str().unwrap_or("unknown").to_owned();
            let variant = entry["platform"]["variant"].as_str().map(|v| format!("/{v}")).unwrap_or_default();
            format!("{}/{}{variant}", word("os"), word("architecture"))
        };
        let entries = self.document["manifests"].as_array().into_iter().flatten();
        entries.map(|entry| Ok((content(entry)?, platform(entry)))).collect()
    }

    /// The config of an image.
    pub fn config(&self) -> Result<Content> {
        content(&self.document["config"])
    }

    /// The layers of an image, in order.
    pub fn layers(&self) -> Result<Vec<Content>> {
        self.document["layers"].as_array().into_iter().flatten().map(content).collect()
    }

    /// Whether this is a container image, not an artifact that lies beside one.
    pub fn is_image(&self) -> bool {
        let layers = self.document["layers"].as_array().into_iter().flatten();
        layers.filter_map(|layer| layer["mediaType"].as_str()).all(|kind| kind.contains(".tar"))
            && matches!(
                self.document["config"]["mediaType"].as_str(),
                Some(IMAGE_CONFIG_MEDIA_TYPE | IMAGE_DOCKER_CONFIG_MEDIA_TYPE)
            )
    }

    fn format(&self) -> Option<Format> {
        [Format::Oci, Format::V2s2]
            .into_iter()
            .find(|format| [format.image(), format.index()].contains(&self.media_type.as_str()))
    }

    /// The same image in `format`, with `layers`.
    pub fn image_as(self, format: Option<Format>, layers: &[Packed]) -> Result<Sendable> {
        let own = self.format();
        let Some(format) = format.or(own).filter(|_| self.is_image()) else { return Ok(self) };
        if own == Some(format) && !layers.iter().any(|layer| layer.anew) {
            return Ok(self);
        }
        let mut document = self.document;
        document["mediaType"] = json!(format.image());
        document["config"]["mediaType"] = json!(format.config());
        let entries = document["layers"].as_array_mut().context("the manifest has no layers")?;
        for (entry, layer) in entries.iter_mut().zip(layers) {
            let annotations =
                entry.get("annotations").filter(|_| !layer.anew && format == Format::Oci).cloned();
            *entry = json!({
                "mediaType": format.layer(layer.compression)?,
                "digest": layer.content.digest,
                "size": layer.content.size,
            });
            if let Some(annotations) = annotations {
                entry["annotations"] = annotations;
            }
        }
        without_oci_fields(&mut document, format);
        Sendable::write(document, format.image())
    }

    /// The same index in `format`, naming `members` in place of those of the same position.
    pub fn index_as(self, format: Option<Format>, members: &HashMap<Digest, Sendable>) -> Result<Sendable> {
        let own = self.format();
        let Some(format) = format.or(own) else { return Ok(self) };
        let kept = members.iter().all(|(digest, member)| *digest == member.digest);
        if own == Some(format) && kept {
            return Ok(self);
        }
        let mut document = self.document;
        document["mediaType"] = json!(format.index());
        let entries = document["manifests"].as_array_mut().context("the index has no manifests")?;
        for entry in entries {
            let Some(member) = members.get(&content(entry)?.digest) else { continue };
            entry["mediaType"] = json!(member.media_type);
            entry["digest"] = json!(member.digest);
            entry["size"] = json!(member.bytes.len());
        }
        without_oci_fields(&mut document, format);
        Sendable::write(document, format.index())
    }
}

/// Docker's manifests have no such fields.
fn without_oci_fields(document: &mut Value, format: Format) {
    if let (Format::V2s2, Some(fields)) = (format, document.as_object_mut()) {
        for field in ["annotations", "subject", "artifactType"] {
            fields.remove(field);
        }
    }
}

fn content(descriptor: &Value) -> Result<Content> {
    let digest = descriptor["digest"].as_str().context("a descriptor has no digest")?;
    let size = descriptor["size"].as_u64().with_context(|| format!("{digest:?} has no size"))?;
    Ok(Content { digest: digest.parse()?, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn image() -> Sendable {
        let text = format!(
            r#"{{"schemaVersion":2, "mediaType":"{OCI_IMAGE_MEDIA_TYPE}","annotations":{{"x":"y"}},
            "config":{{"mediaType":"{IMAGE_CONFIG_MEDIA_TYPE}","digest":"{A}","size":3}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{A}","size":5}}]}}"#
        );
        Sendable::read(text.into_bytes()).unwrap()
    }

    fn packed(compression: Compression, anew: bool) -> Packed {
        Packed { content: Content { digest: Digest::of(b"x"), size: 1 }, compression, anew }
    }

    #[test]
    fn what_needs_no_change_has_none() {
        let before = image();
        for format in [None, Some(Format::Oci)] {
            let after = image().image_as(format, &[packed(Compression::Gzip, false)]).unwrap();
            assert_eq!(after.bytes, before.bytes);
        }
    }

    #[test]
    fn the_other_format_and_back() {
        let docker = image().image_as(Some(Format::V2s2), &[packed(Compression::Gzip, false)]).unwrap();
        assert_eq!(docker.media_type, IMAGE_MANIFEST_MEDIA_TYPE);
        let text = String::from_utf8(docker.bytes.clone()).unwrap();
        assert!(!text.contains("oci") && !text.contains("annotations"), "{text}");
        let oci = docker.image_as(Some(Format::Oci), &[packed(Compression::Zstd, true)]).unwrap();
        let text = String::from_utf8(oci.bytes).unwrap();
        assert!(!text.contains("docker") && text.contains("tar+zstd"), "{text}");
        let zstd = image().image_as(Some(Format::V2s2), &[packed(Compression::Zstd, true)]);
        assert!(format!("{:#}", zstd.unwrap_err()).contains("zstd"));
    }

    #[test]
    fn an_index_follows_its_members() {
        let member = image();
        let index = |entry: &Sendable| {
            let text = json!({"schemaVersion": 2, "mediaType": OCI_IMAGE_INDEX_MEDIA_TYPE, "manifests": [
                {"mediaType": entry.media_type, "digest": entry.digest, "size": entry.bytes.len(),
                 "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}]});
            Sendable::read(serde_json::to_vec_pretty(&text).unwrap()).unwrap()
        };
        let before = index(&member);
        assert_eq!(before.members().unwrap()[0].1, "linux/arm/v7");
        let same = HashMap::from([(member.digest, member.clone())]);
        assert_eq!(index(&member).index_as(None, &same).unwrap().bytes, before.bytes);
        let other = image().image_as(Some(Format::V2s2), &[packed(Compression::Gzip, false)]).unwrap();
        let changed = HashMap::from([(member.digest, other.clone())]);
        let after = index(&member).index_as(Some(Format::V2s2), &changed).unwrap();
        assert_eq!(after.members().unwrap()[0].0.digest, other.digest);
        assert_eq!(after.media_type, IMAGE_MANIFEST_LIST_MEDIA_TYPE);
    }
}
