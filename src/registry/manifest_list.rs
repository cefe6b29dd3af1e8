//! Manifest lists of our own (podman-manifest(1)): what is added to them, from the store or from a registry, and how they are
//! named. Of an image of a registry manifest and config are kept; its layers stay where they are until the list is pushed.

use super::{
    PullOptions,
    client::Client,
    connector::Connector,
    convert::Sendable,
    failure::Failure,
    list_index::{Index, Marks, entry},
    local,
    manifest::{self, CONFIG_LIMIT, Content, Document, MANIFEST_LIMIT},
    parcel::Parcel,
    platform::Platform,
    reference::{Named, Reference, Target, parse},
    registries_files, short_names,
};
use crate::{
    error::Explain,
    storage::{Digest, ListMember, ManifestList, Store},
};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use std::collections::HashMap;

/// An index names no more.
const MEMBERS_LIMIT: usize = 1000;

/// An image that is to be added to a list.
pub struct Addition {
    entry: Value,
    member: ListMember,
    /// Manifest and config, when the store may lack them.
    documents: Vec<Vec<u8>>,
}

/// Which images, and what is said of them.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// All images of an index, not the one for this machine.
    pub all: bool,
    /// Over what the images say themselves.
    pub marks: Marks,
}

/// The reference that a list called `name` has or gets.
pub fn list_reference(name: &str) -> Result<String> {
    let reference = match parse(name)? {
        Named::Full(reference) => reference,
        Named::Short { path, target } => Reference::at("localhost", &path, target),
    };
    match reference.target {
        Target::Tag(_) => Ok(reference.to_string()),
        Target::Digest(_) => Err(anyhow!("a list is not called by a digest")).hint("name it NAME:TAG"),
    }
}

/// The list that `name` means: its name, or the beginning of its id.
pub fn find_list(store: &Store, name: &str) -> Result<Option<ManifestList>> {
    if let Ok(reference) = list_reference(name)
        && let Some(list) = store.list(&reference)?
    {
        return Ok(Some(list));
    }
    if parse(name).is_ok() {
        for place in short_names::to_find(name, &registries_files::load(store.dirs())?)? {
            if let Some(list) = store.list(&place.to_string())? {
                return Ok(Some(list));
            }
        }
    }
    let id = name.strip_prefix("sha256:").unwrap_or(name);
    let is_id = (12..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit());
    Ok(store.lists()?.into_iter().find(|list| is_id && list.index.hex().starts_with(id)))
}

/// The images that `name` means: of the store, `containers-storage:` in front; of a registry, `docker://` in front; else of
/// the first of them that has it.
///
/// # Errors
/// There is no such image, or it can't be fetched.
pub fn additions(store: &Store, name: &str, choice: &Choice, options: &PullOptions) -> Result<Vec<Addition>> {
    let (local, remote) = match (name.strip_prefix("containers-storage:"), name.strip_prefix("docker://")) {
        (Some(name), _) => (Some(name), None),
        (_, Some(name)) => (None, Some(name)),
        _ => (Some(name), Some(name)),
    };
    if let Some(name) = local
        && let Some(found) = of_store(store, name, choice)?
    {
        return Ok(found);
    }
    let Some(name) = remote else {
        return Err(anyhow!("no image of the store has the name {name:?}"))
            .hint("`ctr images` lists all images");
    };
    let registries = registries_files::load(store.dirs())?;
    let place = short_names::to_pull(name, &registries)?;
    let place = place.first().context("the name has no place")?;
    let connector = Connector::new(store.dirs(), options);
    let client = connector.client(&registries.own(place)?)?;
    let added = runtime()?.block_on(of_registry(&client, place, choice));
    added.map_err(|failure| failure.cause.context(format!("add {place}")))
}

/// What a registry has under `name`: a manifest or an index, as it came.
pub fn remote_manifest(store: &Store, name: &str, options: &PullOptions) -> Result<Vec<u8>> {
    let registries = registries_files::load(store.dirs())?;
    let place = short_names::to_pull(name, &registries)?;
    let place = place.first().context("the name has no place")?;
    let connector = Connector::new(store.dirs(), options);
    let client = connector.client(&registries.own(place)?)?;
    let received = runtime()?.block_on(client.manifest(&place.target, MANIFEST_LIMIT));
    Ok(received.map_err(|failure| failure.cause.context(format!("inspect {place}")))?.bytes)
}

/// Make the list `reference`, or, with `amend`, add to one that there may be.
pub fn add(
    store: &Store,
    reference: &str,
    amend: bool,
    additions: Vec<Addition>,
    marks: &Marks,
) -> Result<ManifestList> {
    store.edit_list(reference, |list| {
        if !amend && (list.is_some() || store.image(reference)?.is_some()) {
            return Err(anyhow!("the name {reference} is in use"))
                .hint("take another one, or add to the list with --amend");
        }
        let mut index = list.as_ref().map_or_else(|| Ok(Index::new()), |list| read(store, list))?;
        let mut members = list.map(|list| list.members).unwrap_or_default();
        for mut addition in additions {
            for document in &addition.documents {
                store.put_blob(document)?;
            }
            marks.put_on(&mut addition.entry);
            index.put(addition.entry);
            members.retain(|member| member.manifest != addition.member.manifest);
            members.push(addition.member);
        }
        if members.len() > MEMBERS_LIMIT {
            bail!("the list would have {} members, the limit is {MEMBERS_LIMIT}", members.len());
        }
        Ok((members, index.bytes()?))
    })
}

/// Mark the entry of `manifest`.
pub fn annotate(store: &Store, reference: &str, manifest: &Digest, marks: &Marks) -> Result<ManifestList> {
    edit(store, reference, manifest, |index, _| index.mark(manifest, marks))
}

/// Take the entry of `manifest` out.
pub fn remove(store: &Store, reference: &str, manifest: &Digest) -> Result<ManifestList> {
    edit(store, reference, manifest, |index, members| {
        members.retain(|member| member.manifest != *manifest);
        index.remove(manifest)
    })
}

fn edit(
    store: &Store,
    reference: &str,
    manifest: &Digest,
    change: impl FnOnce(&mut Index, &mut Vec<ListMember>) -> bool,
) -> Result<ManifestList> {
    store.edit_list(reference, |list| {
        let mut list = list.ok_or_else(|| anyhow!("the list {reference} is gone"))?;
        let mut index = read(store, &list)?;
        if !change(&mut index, &mut list.members) {
            return Err(anyhow!("the list {reference} has no manifest {manifest}"))
                .hint(format!("ctr manifest inspect {reference}"));
        }
        Ok((list.members, index.bytes()?))
    })
}

fn read(store: &Store, list: &ManifestList) -> Result<Index> {
    Index::read(&store.read_blob(&list.index, MANIFEST_LIMIT)?)
}

/// What a push of `list` sends: its index, and unless `alone` its members.
pub fn parcel(list: &ManifestList, alone: bool) -> Result<Parcel> {
    let mut elsewhere = HashMap::new();
    for member in &list.members {
        if let Some(source) = &member.source {
            elsewhere.insert(member.manifest, Reference::parse(source)?);
        }
    }
    Ok(Parcel { root: list.index, elsewhere, alone })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("ask the registry")
}

/// `None` when the store has no such image or list.
fn of_store(store: &Store, name: &str, choice: &Choice) -> Result<Option<Vec<Addition>>> {
    let _hold = store.hold()?;
    let list = find_list(store, name)?;
    let image = local::find(store, store.dirs(), name).ok().flatten();
    let (root, source) = match (&list, &image) {
        (Some(list), _) => (list.index, None),
        (None, Some(image)) if choice.all => {
            (image.index.unwrap_or(image.manifest), Reference::parse(&image.reference).ok())
        }
        (None, Some(image)) => (image.manifest, None),
        (None, None) => return Ok(None),
    };
    let bytes = store.read_blob(&root, MANIFEST_LIMIT)?;
    let sendable = Sendable::read(bytes.clone())?;
    if !sendable.is_index() {
        return Ok(Some(vec![whole(store, &root, None, None)?]));
    }
    let (entries, wanted) = (entries(&bytes)?, chosen(&bytes, choice)?);
    let mut found = Vec::new();
    for (digest, entry) in
        entries.into_iter().filter(|(digest, _)| wanted.is_none_or(|wanted| wanted == *digest))
    {
        let known = list.as_ref().and_then(|list| list.members.iter().find(|m| m.manifest == digest));
        found.push(match known {
            Some(member) => Addition { entry, member: member.clone(), documents: Vec::new() },
            None => whole(store, &digest, Some(entry), source.as_ref())
                .with_context(|| format!("the store lacks a part of {name}"))
                .hint(format!("add it from its registry: docker://{name}"))?,
        });
    }
    Ok(Some(found))
}

/// An image whose manifest and config are in the store; its layers, too, or they are at `source`.
fn whole(
    store: &Store,
    manifest: &Digest,
    known: Option<Value>,
    source: Option<&Reference>,
) -> Result<Addition> {
    let sendable = Sendable::read(store.read_blob(manifest, MANIFEST_LIMIT)?)?;
    let config = sendable.config()?;
    let text = store.read_blob(&config.digest, CONFIG_LIMIT)?;
    let layers = sendable.layers()?;
    let here = layers.iter().all(|layer| store.has_blob(&layer.digest));
    if !here && source.is_none() {
        bail!("a layer of {manifest} is not in the store");
    }
    let layers = layers.iter().filter(|layer| store.has_blob(&layer.digest)).map(|layer| layer.digest);
    let member = ListMember {
        manifest: *manifest,
        blobs: [config.digest].into_iter().chain(layers).collect(),
        source: source.filter(|_| !here).map(Reference::to_string),
    };
    let content = Content { digest: *manifest, size: sendable.bytes.len() as u64 };
    let entry = known.map_or_else(|| described(&sendable.media_type, content, &text), Ok)?;
    Ok(Addition { entry, member, documents: Vec::new() })
}

async fn of_registry(client: &Client, place: &Reference, choice: &Choice) -> Result<Vec<Addition>, Failure> {
    let broken = super::failure::broken;
    let received = client.manifest(&place.target, MANIFEST_LIMIT).await?;
    let sendable = Sendable::read(received.bytes).map_err(broken)?;
    if !sendable.is_index() {
        return Ok(vec![fetched(client, place, sendable, None).await?]);
    }
    let wanted = chosen(&sendable.bytes, choice).map_err(broken)?;
    let mut found = Vec::new();
    for (digest, entry) in entries(&sendable.bytes).map_err(broken)? {
        if wanted.is_none_or(|wanted| wanted == digest) {
            let member = client.manifest(&Target::Digest(digest), MANIFEST_LIMIT).await?;
            let member = Sendable::read(member.bytes).map_err(broken)?;
            found.push(fetched(client, place, member, Some(entry)).await?);
        }
    }
    Ok(found)
}

async fn fetched(
    client: &Client,
    place: &Reference,
    sendable: Sendable,
    known: Option<Value>,
) -> Result<Addition, Failure> {
    let broken = super::failure::broken;
    if sendable.is_index() {
        return Err(broken(anyhow!("an index within an index is not added to a list")));
    }
    let config = sendable.config().map_err(broken)?;
    let text = client.config(&config.digest, config.size.min(CONFIG_LIMIT)).await?;
    let content = Content { digest: sendable.digest, size: sendable.bytes.len() as u64 };
    let entry = known.map_or_else(|| described(&sendable.media_type, content, &text), Ok).map_err(broken)?;
    let source = Reference { target: Target::Digest(sendable.digest), ..place.clone() };
    let member = ListMember {
        manifest: sendable.digest,
        blobs: vec![config.digest],
        source: Some(source.to_string()),
    };
    Ok(Addition { entry, member, documents: vec![sendable.bytes, text] })
}

fn described(media_type: &str, content: Content, config: &[u8]) -> Result<Value> {
    let config: Value = serde_json::from_slice(config).context("read the image config as JSON")?;
    Ok(entry(media_type, content, &config))
}

/// The entries of an index, with their digests.
fn entries(index: &[u8]) -> Result<Vec<(Digest, Value)>> {
    let index: Value = serde_json::from_slice(index).context("read the index as JSON")?;
    let entries = index["manifests"].as_array().cloned().unwrap_or_default();
    if entries.len() > MEMBERS_LIMIT {
        bail!("the index has {} entries, the limit is {MEMBERS_LIMIT}", entries.len());
    }
    let digest = |entry: &Value| entry["digest"].as_str().context("an entry has no digest")?.parse();
    entries.into_iter().map(|entry| Ok((digest(&entry)?, entry))).collect()
}

/// The one entry that is meant, unless all are.
fn chosen(index: &[u8], choice: &Choice) -> Result<Option<Digest>> {
    if choice.all {
        return Ok(None);
    }
    let Document::Index(offers) = manifest::parse(index, None)? else { bail!("it is no index") };
    let host = Platform::host().to_string();
    let mut parts = host.split('/');
    let (os, architecture) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let marks = &choice.marks;
    let wanted = Platform::new(
        marks.os.as_deref().unwrap_or(os),
        marks.architecture.as_deref().unwrap_or(architecture),
        marks.variant.as_deref(),
    );
    Ok(Some(manifest::choose(&offers, &wanted)?.content.digest))
}
