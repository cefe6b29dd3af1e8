//! What a push is to send: the tree of manifests below the one that is pushed, checked to be whole, and then blobs and
//! manifests in the form that the options ask for.

use super::{
    convert::{Format, Packed, Sendable},
    layer::compression,
    manifest::{Content, MANIFEST_LIMIT},
    reference::Reference,
};
use crate::{
    error::Explain,
    storage::{Compression, Digest, Outgoing, Store},
};
use anyhow::{Context, Result, anyhow};
use std::{
    collections::{BTreeSet, HashMap},
    thread,
};

/// An index may name indexes, so deep.
const INDEX_DEPTH: usize = 4;
/// So many layers are packed at once.
const LAYERS_AT_ONCE: usize = 4;

/// What is pushed: a manifest or an index of the store.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Which.
    pub root: Digest,
    /// Members of it whose blobs the store may lack, and where they are.
    pub elsewhere: HashMap<Digest, Reference>,
    /// An index without its members.
    pub alone: bool,
}

/// In which form it is sent; as it is by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packing {
    /// Of the manifests.
    pub format: Option<Format>,
    /// Of the layers.
    pub compression: Option<Compression>,
    /// The compressor's level; its own choice without it.
    pub level: Option<u32>,
    /// Pack also those layers anew that are packed so.
    pub force: bool,
}

/// A manifest of the store and what it names.
pub struct Node {
    sendable: Sendable,
    kind: Kinds,
}

enum Kinds {
    Image { config: Content, layers: Vec<Content>, elsewhere: Option<Reference> },
    Index(Vec<(Digest, Node)>),
}

/// A blob to bring over.
pub struct Planned {
    /// Which.
    pub content: Content,
    /// From where.
    pub supply: Supply,
}

/// Where a blob comes from.
#[derive(Clone)]
pub enum Supply {
    /// The store, or what was made of it.
    Here(Outgoing),
    /// This repository.
    Elsewhere(Reference),
}

/// In the order in which it is sent.
#[derive(Default)]
pub struct Plan {
    /// Each once.
    pub blobs: Vec<Planned>,
    /// All manifests but the one that is pushed; those that an index names before it.
    pub members: Vec<Sendable>,
}

impl Plan {
    fn add(&mut self, content: Content, supply: Supply) {
        if !self.blobs.iter().any(|blob| blob.content == content) {
            self.blobs.push(Planned { content, supply });
        }
    }
}

impl Parcel {
    /// The tree below its root.
    ///
    /// # Errors
    /// The store lacks a part of it: all members that aren't whole are named.
    pub fn gather(&self, store: &Store) -> Result<Node> {
        let mut lacking = Vec::new();
        let node = self.node(store, &self.root, INDEX_DEPTH, &mut lacking)?;
        lacking.dedup();
        match (lacking.is_empty(), node) {
            (true, Some(node)) => Ok(node),
            _ => Err(anyhow!("the store lacks {}", lacking.join(", "))).hint(
                "fetch what is missing: ctr pull --platform PLATFORM IMAGE; or push this platform alone, without --all",
            ),
        }
    }

    fn node(
        &self,
        store: &Store,
        digest: &Digest,
        depth: usize,
        lacking: &mut Vec<String>,
    ) -> Result<Option<Node>> {
        if !store.has_blob(digest) {
            lacking.push(format!("manifest {digest}"));
            return Ok(None);
        }
        let sendable = Sendable::read(store.read_blob(digest, MANIFEST_LIMIT)?)
            .with_context(|| format!("manifest {digest}"))?;
        if !sendable.is_index() {
            let (config, layers) = (sendable.config()?, sendable.layers()?);
            let elsewhere = self.elsewhere.get(digest).cloned();
            let missing = |content: &&Content| !store.has_blob(&content.digest);
            if elsewhere.is_none()
                && let Some(blob) = [config].iter().chain(&layers).find(missing)
            {
                lacking.push(format!("blob {}", blob.digest));
            }
            return Ok(Some(Node { sendable, kind: Kinds::Image { config, layers, elsewhere } }));
        }
        let depth = depth.checked_sub(1).ok_or_else(|| anyhow!("indexes lie within indexes, too deep"))?;
        let mut members = Vec::new();
        let listed = if self.alone { Vec::new() } else { sendable.members()? };
        for (content, platform) in listed {
            let mut inner = Vec::new();
            let member = self.node(store, &content.digest, depth, &mut inner)?;
            lacking.extend(inner.into_iter().map(|_| platform.clone()));
            members.extend(member.map(|member| (content.digest, member)));
        }
        Ok(Some(Node { sendable, kind: Kinds::Index(members) }))
    }
}

impl Node {
    /// The digests of all blobs below it.
    pub fn blobs(&self) -> BTreeSet<Digest> {
        match &self.kind {
            Kinds::Index(members) => members.iter().flat_map(|(_, member)| member.blobs()).collect(),
            Kinds::Image { config, layers, .. } => {
                layers.iter().chain([config]).map(|content| content.digest).collect()
            }
        }
    }

    /// Put the blobs below it, packed as `packing` says, and the manifests below it into `plan`; its own is handed back.
    pub fn pack(&self, store: &Store, packing: &Packing, plan: &mut Plan) -> Result<Sendable> {
        let sendable = self.sendable.clone();
        match &self.kind {
            Kinds::Index(members) => {
                let mut replaced = HashMap::new();
                for (digest, member) in members {
                    let member = member.pack(store, packing, plan)?;
                    if !plan.members.iter().any(|other| other.digest == member.digest) {
                        plan.members.push(member.clone());
                    }
                    replaced.insert(*digest, member);
                }
                sendable.index_as(packing.format, &replaced)
            }
            Kinds::Image { config, layers, elsewhere } => {
                plan.add(*config, supply(store, config, elsewhere.as_ref())?);
                if !sendable.is_image() || (packing.format.is_none() && packing.compression.is_none()) {
                    for layer in layers {
                        plan.add(*layer, supply(store, layer, elsewhere.as_ref())?);
                    }
                    return Ok(sendable);
                }
                let mut packed = Vec::new();
                for (content, outgoing, compression) in pack_all(store, layers, packing)? {
                    let anew = content.digest != outgoing.digest;
                    let content = Content { digest: outgoing.digest, size: outgoing.size };
                    packed.push(Packed { content, compression, anew });
                    plan.add(content, Supply::Here(outgoing));
                }
                sendable.image_as(packing.format, &packed)
            }
        }
    }
}

fn supply(store: &Store, content: &Content, elsewhere: Option<&Reference>) -> Result<Supply> {
    match elsewhere {
        Some(place) if !store.has_blob(&content.digest) => Ok(Supply::Elsewhere(place.clone())),
        _ => Ok(Supply::Here(here(store, content)?)),
    }
}

fn here(store: &Store, content: &Content) -> Result<Outgoing> {
    if !store.has_blob(&content.digest) {
        return Err(anyhow!("blob {} is not in the store", content.digest)).hint(
            "pull the image that needs it, or push it as it is: without --format and --compression-format",
        );
    }
    let outgoing = store.outgoing(&content.digest)?;
    if outgoing.size != content.size {
        let what = format!("blob {} of the store has {} bytes", content.digest, outgoing.size);
        return Err(anyhow!("{what}, not {}", content.size)).hint("pull or load that image again");
    }
    Ok(outgoing)
}

/// Each layer as it is to be sent, some packed side by side.
fn pack_all(
    store: &Store,
    layers: &[Content],
    packing: &Packing,
) -> Result<Vec<(Content, Outgoing, Compression)>> {
    let work = |layer: &Content| -> Result<(Content, Outgoing, Compression)> {
        let here = here(store, layer)?;
        let now = compression(&here.head()?);
        match packing.compression {
            Some(to) if to != now || packing.force => {
                Ok((*layer, store.recompress(&layer.digest, now, to, packing.level)?, to))
            }
            _ => Ok((*layer, here, now)),
        }
    };
    let mut packed = Vec::new();
    for group in layers.chunks(thread::available_parallelism().map_or(1, usize::from).min(LAYERS_AT_ONCE)) {
        let done = thread::scope(|scope| {
            let threads: Vec<_> = group.iter().map(|layer| scope.spawn(|| work(layer))).collect();
            threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        for one in done {
            packed.push(one.map_err(|_| anyhow!("a thread that packs a layer ended"))??);
        }
    }
    Ok(packed)
}
