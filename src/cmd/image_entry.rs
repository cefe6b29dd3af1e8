//! Images as listings see them: what their configurations say, which containers use them, and which was built from which.

use super::images::config;
use crate::{
    container::state,
    storage::{Damaged, Digest, Image, Listing, ManifestList, Store},
};
use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;
use std::{cell::OnceCell, collections::HashSet};

/// An image, what its configuration says and who uses it.
pub struct Entry<'s> {
    /// What the store knows.
    pub image: Image,
    /// When it was built, else pulled.
    pub created: Timestamp,
    /// How many containers use it.
    pub containers: usize,
    /// It is a manifest list (`ctr manifest`), not an image.
    pub is_list: bool,
    store: &'s Store,
    config: OnceCell<Value>,
}

/// Every name of every image, and each image without one.
pub fn all(store: &Store) -> Result<Vec<Entry<'_>>> {
    Ok(look(store)?.0)
}

/// The same, and what could not be read.
pub fn look(store: &Store) -> Result<(Vec<Entry<'_>>, Vec<Damaged>)> {
    let (containers, _) = state::list(store)?;
    let used: Vec<Digest> = containers.iter().filter_map(|c| c.record.image_id).collect();
    let mut unnamed = HashSet::new();
    let Listing { mut images, damaged, .. } = store.list_images()?;
    images.retain(|image| image.name().is_some() || unnamed.insert(image.config));
    let entry = |image: Image| {
        let containers = used.iter().filter(|id| **id == image.config).count();
        let mut entry = Entry {
            created: image.created.unwrap_or(image.pulled),
            containers,
            is_list: false,
            store,
            config: OnceCell::new(),
            image,
        };
        if entry.image.created.is_none() {
            let said = entry.config()["created"].as_str().and_then(|time| time.parse().ok());
            entry.created = said.unwrap_or(entry.created);
        }
        entry
    };
    Ok((images.into_iter().map(entry).collect(), damaged))
}

/// The manifest lists that were put together here: their digests stand for the ids of images, and their indexes for
/// configurations, of which they have none.
pub fn lists(store: &Store) -> Result<Vec<Entry<'_>>> {
    let entry = |list: ManifestList| {
        let created = store.list_changed(&list.reference)?;
        let (_, size) = store.open_blob(&list.index)?;
        let image = Image {
            manifest: list.index,
            index: None,
            config: list.index,
            layers: Vec::new(),
            blobs: Vec::new(),
            size,
            platform: String::new(),
            pulled: created,
            created: Some(created),
            former: Vec::new(),
            reference: list.reference,
        };
        Ok(Entry { image, created, containers: 0, is_list: true, store, config: OnceCell::new() })
    };
    store.lists()?.into_iter().map(entry).collect()
}

impl Entry<'_> {
    /// Its configuration, read when somebody asks; null when that is damaged, which is no reason to hide an image.
    pub fn config(&self) -> &Value {
        self.config.get_or_init(|| config(self.store, &self.image).unwrap_or_default())
    }

    /// The image that it was built from, if that is one of `all`: what both say of their layers and steps is the same up to
    /// that one's end.
    pub fn parent<'a, 's>(&self, all: &'a [Entry<'s>]) -> Option<&'a Entry<'s>> {
        let parents = all.iter().filter(|other| other.begins(self));
        parents.max_by_key(|parent| parent.steps().len())
    }

    /// Whether any of `all` was built from it.
    pub fn has_children(&self, all: &[Entry<'_>]) -> bool {
        all.iter().any(|other| self.begins(other))
    }

    /// It has no name, and nothing was built from it.
    pub fn is_dangling(&self, all: &[Entry<'_>]) -> bool {
        self.image.name().is_none() && !self.has_children(all)
    }

    /// It has no name, but is a step on the way to another.
    pub fn is_intermediate(&self, all: &[Entry<'_>]) -> bool {
        self.image.name().is_none() && self.has_children(all)
    }

    fn begins(&self, other: &Entry<'_>) -> bool {
        self.image.config != other.image.config
            && other.image.layers.starts_with(&self.image.layers)
            && (1..other.steps().len()).contains(&self.steps().len())
            && other.steps().starts_with(self.steps())
    }

    fn steps(&self) -> &[Value] {
        self.config()["history"].as_array().map_or(&[], Vec::as_slice)
    }
}
