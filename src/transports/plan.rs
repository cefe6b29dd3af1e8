//! Which images a source holds: everything about them is verified before the store changes.

use super::{docker_archive, intake::Contents, oci_layout};
use crate::{
    error::Explain,
    registry::{
        Platform,
        manifest::{self, Content, Document, Manifest},
    },
    storage::Digest,
};
use anyhow::{Context, Result, anyhow, bail};

/// One image to be published.
pub struct Plan {
    /// References; none: it has no name.
    pub names: Vec<String>,
    /// The index that offered it.
    pub index: Option<Vec<u8>>,
    /// Its manifest.
    pub manifest: Vec<u8>,
    /// Its configuration.
    pub config: Vec<u8>,
    /// Base first.
    pub layers: Vec<PlannedLayer>,
    /// What it runs on.
    pub platform: Platform,
}

/// A layer of it.
pub struct PlannedLayer {
    /// The member that has it.
    pub member: String,
    /// As it travels.
    pub blob: Content,
    /// Of the plain archive.
    pub diff_id: Digest,
}

/// An index may name indexes, so deep.
const INDEX_DEPTH: usize = 4;

/// The images of `contents`.
///
/// # Errors
/// It is in no layout that we know; an image lacks something, is ambiguous or not what it says.
pub fn plan(contents: &mut Contents) -> Result<Vec<Plan>> {
    if contents.has(oci_layout::INDEX) {
        return oci_layout::plan(contents);
    }
    if !contents.has(docker_archive::MANIFEST) {
        let words = match contents.has("repositories") {
            true => "it is an archive of a Docker older than 1.10, which has no manifest.json",
            false => "it has neither an index.json (OCI) nor a manifest.json (Docker)",
        };
        return Err(anyhow!(words)).hint("a root file system is taken in by `ctr import`, not by `ctr load`");
    }
    match contents.document(docker_archive::MANIFEST)?.trim_ascii_start().first() {
        Some(b'[') => docker_archive::plan(contents),
        _ => directory(contents),
    }
}

/// `dir:` (containers-transports(5)): one image, its blobs named by their digests alone.
fn directory(contents: &mut Contents) -> Result<Vec<Plan>> {
    let bytes = contents.document(docker_archive::MANIFEST)?.to_vec();
    let (index, manifest) =
        descend(contents, bytes, None, &|digest| format!("{}.manifest.json", digest.hex()))?;
    Ok(vec![complete(contents, Vec::new(), index, manifest, &|digest| digest.hex())?])
}

/// The manifest that `bytes` is, or the one for this machine that it leads to; and the index that it was.
pub fn descend(
    contents: &mut Contents,
    mut bytes: Vec<u8>,
    mut media_type: Option<&str>,
    locate: &dyn Fn(&Digest) -> String,
) -> Result<(Option<Vec<u8>>, Vec<u8>)> {
    let mut index = None;
    for _ in 0..=INDEX_DEPTH {
        let document = manifest::parse(&bytes, media_type.take());
        let offers = match document.with_context(|| format!("manifest {}", Digest::of(&bytes)))? {
            Document::Image(_) => return Ok((index, bytes)),
            Document::Index(offers) => offers,
        };
        let next = blob(contents, &manifest::choose(&offers, &Platform::host())?.content, locate)?;
        index.get_or_insert(std::mem::replace(&mut bytes, next));
    }
    bail!("indexes lie within indexes, more than {INDEX_DEPTH} deep")
}

/// The JSON document that `content` describes.
pub fn blob(
    contents: &mut Contents,
    content: &Content,
    locate: &dyn Fn(&Digest) -> String,
) -> Result<Vec<u8>> {
    let Content { digest, size } = content;
    let bytes = contents.document(&locate(digest)).with_context(|| format!("read blob {digest}"))?;
    if bytes.len() as u64 != *size {
        bail!("blob {digest} has {} bytes, not the declared {size}", bytes.len());
    }
    if Digest::of(bytes) != *digest {
        bail!("blob {digest} is damaged: its contents are {}", Digest::of(bytes));
    }
    Ok(bytes.to_vec())
}

/// The image of `manifest`, whose blobs are the members that `locate` says.
pub fn complete(
    contents: &mut Contents,
    names: Vec<String>,
    index: Option<Vec<u8>>,
    manifest: Vec<u8>,
    locate: &dyn Fn(&Digest) -> String,
) -> Result<Plan> {
    let Document::Image(parsed) = manifest::parse(&manifest, None)? else {
        bail!("the manifest is an index");
    };
    let config = blob(contents, &parsed.config, locate)?;
    let manifest::Config { platform, diff_ids } = manifest::parse_config(&config, &parsed)?;
    let Manifest { layers, .. } = parsed;
    let layers = layers.into_iter().zip(diff_ids).map(|(blob, diff_id)| {
        let place = locate(&blob.digest);
        let member = contents.resolve(&place)?.to_owned();
        let found = contents.layer(&member).with_context(|| format!("layer {}", blob.digest))?;
        if (found.digest, found.size) != (blob.digest, blob.size) {
            bail!(
                "layer {} of {} bytes is declared to be {} of {} bytes",
                found.digest,
                found.size,
                blob.digest,
                blob.size
            );
        }
        Ok(PlannedLayer { member, blob, diff_id })
    });
    Ok(Plan { layers: layers.collect::<Result<_>>()?, names, index, manifest, config, platform })
}
