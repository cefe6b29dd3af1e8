//! `save`: blobs as they are in the store, in a layout that others read. The same images are the same bytes.

use super::{
    docker_archive::{self, Entry},
    oci_layout::{self, Descriptor, IMAGE_NAME, Index, REF_NAME, place},
    output::Output,
};
use crate::{
    error::Explain,
    registry::manifest::MANIFEST_LIMIT,
    storage::{Digest, Image, Store},
};
use anyhow::{Context, Result, anyhow, bail};
use oci_distribution::manifest::{OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

/// How images are laid out (podman-save(1), `--format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A tar archive that is Docker's and an OCI layout at once, as Docker's own since 25.
    DockerArchive,
    /// A tar archive of an OCI layout.
    OciArchive,
    /// A directory in OCI's layout.
    OciDir,
    /// A directory in the layout of `dir:`.
    DockerDir,
}

impl Format {
    /// Whether it is a directory.
    pub fn is_directory(self) -> bool {
        matches!(self, Format::OciDir | Format::DockerDir)
    }
}

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Format> {
        match text {
            "docker-archive" => Ok(Format::DockerArchive),
            "oci-archive" => Ok(Format::OciArchive),
            "oci-dir" => Ok(Format::OciDir),
            "docker-dir" => Ok(Format::DockerDir),
            _ => Err(anyhow!("{text:?} is not a format"))
                .hint("docker-archive, oci-archive, oci-dir or docker-dir"),
        }
    }
}

/// An image to be saved, and the references it is to have.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Which.
    pub image: Image,
    /// Its names in the archive.
    pub names: Vec<String>,
}

/// What a file of the layout has in it.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// This blob of the store.
    Blob(Digest),
}

/// Write `images` to `out`.
///
/// # Errors
/// A blob is missing or damaged; or `out` takes no more. Then nothing is left of it.
pub fn save(store: &Store, images: &[Selected], format: Format, mut out: Output) -> Result<()> {
    let _hold = store.hold()?;
    let mut files = BTreeMap::new();
    for blob in images.iter().flat_map(|selected| blobs(&selected.image)) {
        let name = if format == Format::DockerDir { blob.hex() } else { place(&blob) };
        files.insert(name, Content::Blob(blob));
    }
    if format == Format::DockerDir {
        let [Selected { image, .. }] = images else { bail!("a directory of this format holds one image") };
        // There the manifest has a name of its own.
        for known in [Some(image.manifest), image.index].into_iter().flatten() {
            files.remove(&known.hex());
        }
        files.insert(docker_archive::MANIFEST.into(), Content::Blob(image.manifest));
        files.insert("version".into(), Content::Bytes(b"Directory Transport Version: 1.1\n".to_vec()));
    } else {
        files.insert(oci_layout::LAYOUT.into(), Content::Bytes(oci_layout::LAYOUT_CONTENTS.to_vec()));
        files.insert(oci_layout::INDEX.into(), Content::Bytes(index(store, images, format)?));
    }
    if format == Format::DockerArchive {
        files.insert(docker_archive::MANIFEST.into(), Content::Bytes(table(images)?));
    }
    for (name, content) in &files {
        match content {
            Content::Bytes(bytes) => out.file(name, bytes.len() as u64, &mut bytes.as_slice(), None),
            Content::Blob(digest) => {
                let (mut file, size) = store.open_blob(digest)?;
                out.file(name, size, &mut file, Some(digest))
            }
        }
        .with_context(|| format!("save {name}"))?;
    }
    out.finish()
}

/// The index, too, that the image was pulled by: nothing names it there, so others pass it over, and `load` knows it.
fn blobs(image: &Image) -> BTreeSet<Digest> {
    image.blobs.iter().copied().chain([image.manifest, image.config]).chain(image.index).collect()
}

/// index.json.
fn index(store: &Store, images: &[Selected], format: Format) -> Result<Vec<u8>> {
    let mut manifests = Vec::new();
    for Selected { image, names } in images {
        let bytes = store.read_blob(&image.manifest, MANIFEST_LIMIT)?;
        let descriptor = Descriptor {
            media_type: media_type(&bytes)?,
            digest: image.manifest,
            size: bytes.len() as u64,
            annotations: None,
            platform: None,
        };
        let named = names.iter().map(|name| {
            let docker = (format == Format::DockerArchive).then_some(IMAGE_NAME);
            let annotations = docker.into_iter().chain([REF_NAME]).map(|key| (key.to_owned(), name.clone()));
            Descriptor { annotations: Some(annotations.collect()), ..descriptor.clone() }
        });
        manifests.extend(named);
        if names.is_empty() {
            manifests.push(descriptor);
        }
    }
    let media_type = Some(OCI_IMAGE_INDEX_MEDIA_TYPE.to_owned());
    serde_json::to_vec(&Index { schema_version: 2, media_type, manifests }).context("encode index.json")
}

/// manifest.json of a Docker archive. A name with a digest is no tag.
fn table(images: &[Selected]) -> Result<Vec<u8>> {
    let entries = images.iter().map(|Selected { image, names }| {
        let tags: Vec<String> = names.iter().filter(|name| !name.contains('@')).cloned().collect();
        Entry {
            config: place(&image.config),
            repo_tags: (!tags.is_empty()).then_some(tags),
            layers: Some(image.blobs.iter().map(place).collect()),
        }
    });
    serde_json::to_vec(&entries.collect::<Vec<_>>()).context("encode manifest.json")
}

/// A manifest that doesn't say what it is, is OCI's.
fn media_type(manifest: &[u8]) -> Result<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let typed: Typed = serde_json::from_slice(manifest).context("read the image's manifest")?;
    Ok(typed.media_type.unwrap_or_else(|| OCI_IMAGE_MEDIA_TYPE.to_owned()))
}
