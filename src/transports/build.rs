//! New images: a layer over those of another image or over nothing, a configuration and a manifest. The same input is the
//! same image.

use super::{
    Instruction, docker_archive,
    input::{Packing, plain},
    instructions::object_of,
};
use crate::{
    error::Explain,
    registry::manifest::{self, CONFIG_LIMIT, Document, MANIFEST_LIMIT},
    storage::{Compression, Digest, Expected, Image, LayerDraft, Store},
};
use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use oci_distribution::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Read},
    str::FromStr,
};

/// What a new image starts from.
#[derive(Clone, Copy, Debug)]
pub enum Base<'a> {
    /// This image and its layers.
    Over(&'a Image),
    /// The configuration of this image; the new layer is all of it.
    Squashed(&'a Image),
    /// Nothing: os, architecture, variant.
    Scratch(&'a str, &'a str, Option<&'a str>),
}

/// Whose media types the manifest has (podman-commit(1), `--format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// OCI.
    Oci,
    /// Docker.
    Docker,
}

impl FromStr for Flavour {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Flavour> {
        match text {
            "oci" => Ok(Flavour::Oci),
            "docker" => Ok(Flavour::Docker),
            _ => Err(anyhow!("{text:?} is not a format of images")).hint("oci or docker"),
        }
    }
}

/// What a new image is.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Its reference; none: it has no name.
    pub name: Option<String>,
    /// The manifest's.
    pub flavour: Flavour,
    /// Who made it.
    pub author: Option<String>,
    /// Why.
    pub comment: Option<String>,
    /// When.
    pub created: Timestamp,
    /// By which command.
    pub created_by: Option<String>,
    /// Fields of its `config` that are set first; null takes one away.
    pub fields: Map<String, Value>,
    /// What is changed after them.
    pub instructions: Vec<Instruction>,
}

/// Publish the image of `base` and `draft`.
pub fn build(store: &Store, base: Base<'_>, draft: LayerDraft, recipe: &Recipe) -> Result<Image> {
    let _hold = store.hold()?;
    let (config, manifest) = documents(store, base, &draft, recipe)?;
    let document = manifest::parse(&manifest, None)?;
    let Document::Image(parsed) = document else { bail!("the new manifest is an index") };
    let known = manifest::parse_config(&config, &parsed)?;
    draft.publish()?;
    let distinct: BTreeSet<&Digest> = known.diff_ids.iter().collect();
    let sizes = distinct.into_iter().map(|layer| store.layer_size(layer)).collect::<Result<Vec<_>>>()?;
    let manifest = store.put_blob(&manifest)?;
    let image = Image {
        reference: recipe.name.clone().unwrap_or_else(|| Image::unnamed_reference(&manifest)),
        manifest,
        index: None,
        config: store.put_blob(&config)?,
        layers: known.diff_ids,
        blobs: parsed.layers.iter().map(|layer| layer.digest).collect(),
        size: sizes.iter().sum(),
        platform: known.platform.to_string(),
        pulled: Timestamp::now(),
        created: None,
        former: Vec::new(),
    };
    store.publish_image(&image)?;
    Ok(image)
}

/// The one layer that `file` is, a tar archive whatever it is compressed with, as a new image. Starts threads.
pub fn import(store: &Store, mut file: File, base: Base<'_>, recipe: &Recipe) -> Result<Image> {
    let mut head = Vec::new();
    (&mut file).take(6).read_to_end(&mut head).context("read the archive")?;
    let whole = io::Cursor::new(head.clone()).chain(file);
    let (compression, mut reader): (_, Box<dyn Read>) = match Packing::of(&head) {
        Packing::Layer(compression) => (compression, Box::new(whole)),
        Packing::None => (Compression::None, Box::new(whole)),
        // No layer is compressed like that.
        Packing::Xz | Packing::Bzip2 => (Compression::None, plain(whole)?),
    };
    if head.is_empty() {
        return Err(anyhow!("it is empty")).hint("`ctr export CONTAINER` writes what `ctr import` reads");
    }
    let expected = Expected { blob: None, size: None, bounded: true, compression, diff_id: None };
    let mut ingest = store.receive(expected)?;
    let mut reader = BufReader::with_capacity(CHUNK, &mut reader);
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        reader.by_ref().take(CHUNK as u64).read_to_end(&mut chunk).context("read the archive")?;
        if chunk.is_empty() {
            break;
        }
        ingest.push(chunk)?;
    }
    build(store, base, ingest.settle()?, recipe)
}

const CHUNK: usize = 256 << 10;

/// Configuration and manifest.
fn documents(
    store: &Store,
    base: Base<'_>,
    draft: &LayerDraft,
    recipe: &Recipe,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let object = |bytes: Vec<u8>| -> Result<Map<String, Value>> {
        serde_json::from_slice(&bytes).context("read the base image's documents")
    };
    let mut config = match base {
        Base::Over(image) | Base::Squashed(image) => object(store.read_blob(&image.config, CONFIG_LIMIT)?)?,
        Base::Scratch(os, architecture, variant) => {
            let mut config = Map::from_iter([("os", os), ("architecture", architecture)].map(entry));
            config.extend(variant.map(|variant| entry(("variant", variant))));
            config
        }
    };
    let mut layers = match base {
        Base::Over(image) => {
            match object(store.read_blob(&image.manifest, MANIFEST_LIMIT)?)?.remove("layers") {
                Some(Value::Array(layers)) => layers,
                _ => bail!("the base image's manifest has no layers"),
            }
        }
        _ => Vec::new(),
    };
    if !matches!(base, Base::Over(_)) {
        config.retain(|field, _| field != "rootfs" && field != "history");
    }
    configure(&mut config, draft, recipe);
    let config = serde_json::to_vec(&config).context("encode the image's configuration")?;
    let kind = docker_archive::layer_type(draft.compression);
    layers.push(json!({ "mediaType": kind, "digest": draft.blob, "size": draft.size }));
    layers.iter_mut().for_each(|layer| retype(layer, recipe.flavour));
    let (manifest_type, config_type) = match recipe.flavour {
        Flavour::Oci => (OCI_IMAGE_MEDIA_TYPE, IMAGE_CONFIG_MEDIA_TYPE),
        Flavour::Docker => (IMAGE_MANIFEST_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE),
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": { "mediaType": config_type, "digest": Digest::of(&config), "size": config.len() },
        "layers": layers,
    });
    Ok((config, serde_json::to_vec(&manifest).context("encode the manifest")?))
}

fn configure(document: &mut Map<String, Value>, draft: &LayerDraft, recipe: &Recipe) {
    // Docker's records of the machine and the container that an image was made in.
    for field in ["id", "parent", "container", "container_config", "docker_version"] {
        document.remove(field);
    }
    let created = recipe.created.to_string();
    document.insert("created".into(), json!(created));
    document.extend(recipe.author.iter().map(|author| entry(("author", author))));
    document.extend(recipe.comment.iter().map(|comment| entry(("comment", comment))));
    let config = object_of(document, "config");
    for field in ["Hostname", "Domainname", "Image"] {
        config.remove(field);
    }
    config.extend(recipe.fields.clone());
    recipe.instructions.iter().for_each(|instruction| instruction.apply(config));
    config.retain(|_, value| !value.is_null());
    let rootfs = object_of(document, "rootfs");
    rootfs.insert("type".into(), json!("layers"));
    let mut layers = 0;
    if let Value::Array(list) = rootfs.entry("diff_ids").or_insert_with(|| json!([])) {
        layers = list.len();
        list.push(json!(draft.diff_id));
    }
    let step = [
        ("created", Some(&created)),
        ("created_by", recipe.created_by.as_ref()),
        ("author", recipe.author.as_ref()),
        ("comment", recipe.comment.as_ref()),
    ];
    let step = step.into_iter().filter_map(|(field, text)| Some(entry((field, text?))));
    let history = document.entry("history").or_insert_with(|| json!([]));
    if !history.is_array() {
        *history = json!([]);
    }
    if let Value::Array(list) = history {
        // A step for each layer or for none, says Podman; the base may have none.
        let told = list.iter().filter(|step| step["empty_layer"] != json!(true)).count();
        list.extend((told..layers).map(|_| json!({})));
        list.push(Value::Object(step.collect()));
    }
}

fn entry((field, text): (&str, &str)) -> (String, Value) {
    (field.to_owned(), json!(text))
}

/// A layer's media type, in the other one's words.
fn retype(layer: &mut Value, flavour: Flavour) {
    const OCI: &str = "application/vnd.oci.image.layer.v1.tar";
    const DOCKER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    let Some(Value::String(kind)) = layer.get_mut("mediaType") else { return };
    let packing = kind.rsplit(['.', '+']).next().filter(|last| ["gzip", "zstd"].contains(last));
    *kind = match (flavour, packing) {
        (Flavour::Oci, None) => OCI.to_owned(),
        (Flavour::Oci, Some(packing)) => format!("{OCI}+{packing}"),
        (Flavour::Docker, None) => DOCKER.to_owned(),
        (Flavour::Docker, Some(packing)) => format!("{DOCKER}.{packing}"),
    };
}
