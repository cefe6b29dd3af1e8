//! Takes the members of a source in as they come, before anything says what they are: layers become drafts in the store,
//! JSON documents stay in memory, the rest is only hashed.

use super::input::{Member, Members, Packing};
use crate::{
    registry::{
        Progress,
        manifest::{self, CONFIG_LIMIT, Document},
    },
    storage::{Compression, Digest, Expected, LayerDraft, Store, archive},
};
use anyhow::{Context, Error, Result, anyhow, bail};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};

/// What has come, by name.
#[derive(Default)]
pub struct Contents {
    held: BTreeMap<String, Held>,
    documents: u64,
}

/// One member.
pub enum Held {
    /// JSON.
    Document(Digest, Vec<u8>),
    /// A layer.
    Layer(Box<LayerDraft>),
    /// What is in the store already.
    Stored(Stored),
    /// Neither, and why not. It is an error only when an image needs it.
    Unusable(Option<Digest>, Error),
    /// Another name of this one.
    Link(String),
}

/// A blob of the store.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is compressed with, if it is a layer.
    pub compression: Compression,
}

/// Bytes of all documents together.
const MAX_DOCUMENTS: u64 = 32 << 20;
/// Links that may lead from one to the next.
const MAX_LINKS: usize = 16;
/// A tar header, the longest of the first bytes that tell what a file is.
const HEAD: usize = 512;

/// Take in all that `members` has.
///
/// # Errors
/// The source is malformed or cut short, or has two members of one name that differ; or the disk.
pub fn take_in(store: &Store, mut members: Members, progress: &dyn Progress) -> Result<Contents> {
    let mut contents = Contents::default();
    while let Some(member) = members.next()? {
        let (name, held) = match member {
            Member::Link { name, target } => (name, Held::Link(target)),
            Member::File { name, size } if contents.held.contains_key(&name) => {
                let again = hash(&mut members, Vec::new()).with_context(|| format!("read {name:?}"))?;
                (name, Held::Unusable(Some(again), anyhow!("{size} bytes come twice")))
            }
            Member::File { name, size } => {
                let held = contents.take(store, &mut members, &name, size, progress);
                let held = held.with_context(|| format!("read {name:?}"))?;
                (name, held)
            }
        };
        match contents.held.get(&name) {
            Some(first) if !first.is_same(&held) => bail!("two members are called {name:?}, and differ"),
            Some(_) => {}
            None => drop(contents.held.insert(name, held)),
        }
    }
    members.finish()?;
    Ok(contents)
}

impl Contents {
    /// Whether there is a member `name`.
    pub fn has(&self, name: &str) -> bool {
        self.held.contains_key(name)
    }

    /// What `name` and the links behind it lead to.
    pub fn resolve<'a>(&'a self, name: &'a str) -> Result<&'a str> {
        let mut at = name;
        for _ in 0..MAX_LINKS {
            match self.held.get(at) {
                Some(Held::Link(target)) => at = target,
                Some(_) => return Ok(at),
                None => bail!("the archive lacks {name:?}"),
            }
        }
        bail!("{name:?} is a link to a link, and so on")
    }

    /// The document `name`.
    pub fn document(&mut self, name: &str) -> Result<&[u8]> {
        let name = self.resolve(name)?.to_owned();
        self.usable(&name)?;
        match &self.held[&name] {
            Held::Document(_, bytes) => Ok(bytes),
            _ => bail!("{name:?} is no JSON document"),
        }
    }

    /// Of each manifest that one offers, the index among the documents that lie where `place` says.
    pub fn indexes(&self, place: impl Fn(&Digest) -> String) -> HashMap<Digest, Digest> {
        let mut found = HashMap::new();
        for (name, held) in &self.held {
            let Held::Document(digest, bytes) = held else { continue };
            if let (true, Ok(Document::Index(offers))) =
                (*name == place(digest), manifest::parse(bytes, None))
            {
                found.extend(offers.into_iter().map(|offer| (offer.content.digest, *digest)));
            }
        }
        found
    }

    /// Digest, size and compression of the layer `name`, which is no link.
    pub fn layer(&mut self, name: &str) -> Result<Stored> {
        self.usable(name)?;
        match self.held.get(name) {
            Some(Held::Layer(draft)) => {
                Ok(Stored { digest: draft.blob, size: draft.size, compression: draft.compression })
            }
            Some(Held::Stored(stored)) => Ok(*stored),
            _ => bail!("{name:?} is no layer"),
        }
    }

    /// The draft of layer `name`; `None` when it is in the store, or was taken out before.
    pub fn take_draft(&mut self, name: &str) -> Option<LayerDraft> {
        let held = self.held.get_mut(name)?;
        let Held::Layer(draft) = held else { return None };
        let (digest, size, compression) = (draft.blob, draft.size, draft.compression);
        match std::mem::replace(held, Held::Stored(Stored { digest, size, compression })) {
            Held::Layer(draft) => Some(*draft),
            _ => None,
        }
    }

    /// Why it can't be used is told once.
    fn usable(&mut self, name: &str) -> Result<()> {
        match self.held.get_mut(name) {
            Some(Held::Unusable(_, why)) => Err(std::mem::replace(why, anyhow!("see above"))),
            Some(_) => Ok(()),
            None => bail!("the archive lacks {name:?}"),
        }
    }

    fn take(
        &mut self,
        store: &Store,
        members: &mut Members,
        name: &str,
        size: u64,
        progress: &dyn Progress,
    ) -> Result<Held> {
        let claimed = claimed(name);
        let mut head = Vec::new();
        while head.len() < HEAD.min(size as usize) {
            head.extend(members.chunk()?);
        }
        let kind = kind(&head);
        match kind {
            Sniffed::Json if size <= CONFIG_LIMIT => {
                self.documents += size;
                if self.documents > MAX_DOCUMENTS {
                    bail!("the archive has more than {MAX_DOCUMENTS} bytes of JSON");
                }
                return document(members, head, claimed);
            }
            Sniffed::Layer(compression) => {
                if let Some(digest) = claimed.filter(|digest| store.has_blob(digest)) {
                    return Ok(match hash(members, head)? {
                        found if found == digest => Held::Stored(Stored { digest, size, compression }),
                        found => Held::Unusable(Some(found), wrong(&digest, &found)),
                    });
                }
                let expected =
                    Expected { blob: claimed, size: Some(size), bounded: true, compression, diff_id: None };
                return layer(store, members, head, expected, progress);
            }
            Sniffed::Json | Sniffed::Unknown => {}
        }
        let digest = hash(members, head)?;
        Ok(Held::Unusable(
            Some(digest),
            anyhow!("{name:?} is neither a layer nor a JSON document of usual size"),
        ))
    }
}

impl Held {
    fn digest(&self) -> Option<Digest> {
        match self {
            Held::Document(digest, _) => Some(*digest),
            Held::Layer(draft) => Some(draft.blob),
            Held::Stored(stored) => Some(stored.digest),
            Held::Unusable(digest, _) => *digest,
            Held::Link(_) => None,
        }
    }

    fn is_same(&self, other: &Held) -> bool {
        match (self, other) {
            (Held::Link(target), Held::Link(other)) => target == other,
            _ => self.digest().is_some() && self.digest() == other.digest(),
        }
    }
}

fn document(members: &mut Members, mut bytes: Vec<u8>, claimed: Option<Digest>) -> Result<Held> {
    loop {
        let chunk = members.chunk()?;
        if chunk.is_empty() {
            break;
        }
        bytes.extend(chunk);
    }
    let digest = Digest::of(&bytes);
    Ok(match claimed.filter(|claimed| *claimed != digest) {
        Some(claimed) => Held::Unusable(Some(digest), wrong(&claimed, &digest)),
        None => Held::Document(digest, bytes),
    })
}

/// Into the store's drafts. What is no layer after all is passed over; whether that matters shows later.
fn layer(
    store: &Store,
    members: &mut Members,
    head: Vec<u8>,
    expected: Expected,
    progress: &dyn Progress,
) -> Result<Held> {
    let mut ingest = store.receive(expected)?;
    let mut chunk = head;
    loop {
        if let Err(why) = ingest.push(chunk) {
            drop(ingest);
            while !members.chunk()?.is_empty() {}
            return Ok(Held::Unusable(None, why));
        }
        chunk = members.chunk()?;
        if chunk.is_empty() {
            break;
        }
    }
    Ok(match ingest.settle() {
        Err(why) => Held::Unusable(None, why),
        Ok(draft) => {
            progress.begin(&draft.blob, draft.size);
            progress.done(&draft.blob);
            Held::Layer(Box::new(draft))
        }
    })
}

fn hash(members: &mut Members, head: Vec<u8>) -> Result<Digest> {
    let mut hasher = Sha256::new();
    let mut chunk = if head.is_empty() { members.chunk()? } else { head };
    while !chunk.is_empty() {
        hasher.update(&chunk);
        chunk = members.chunk()?;
    }
    Ok(Digest::from(<[u8; 32]>::from(hasher.finalize())))
}

fn wrong(claimed: &Digest, found: &Digest) -> Error {
    anyhow!("blob {claimed} is damaged: its contents are {found}")
}

/// The digest that a blob's name says: in an OCI layout `blobs/sha256/HEX`, in a `dir:` HEX.
fn claimed(name: &str) -> Option<Digest> {
    let hex = name.strip_prefix("blobs/sha256/").unwrap_or(name);
    format!("sha256:{hex}").parse().ok()
}

enum Sniffed {
    Json,
    Layer(Compression),
    Unknown,
}

fn kind(head: &[u8]) -> Sniffed {
    match Packing::of(head) {
        Packing::Layer(compression) => return Sniffed::Layer(compression),
        Packing::Xz | Packing::Bzip2 => return Sniffed::Unknown,
        Packing::None => {}
    }
    // An empty file is an archive of nothing.
    if head.is_empty() || archive::begins_with(head) {
        return Sniffed::Layer(Compression::None);
    }
    match head.trim_ascii_start().first() {
        Some(b'{' | b'[') => Sniffed::Json,
        _ => Sniffed::Unknown,
    }
}
