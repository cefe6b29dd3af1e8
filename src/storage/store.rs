//! STUB: the owner of the store replaces this file.

use super::{Digest, Dirs};
use anyhow::{Result, bail};
use std::path::Path;

/// The store.
pub struct Store {
    dirs: Dirs,
}

/// What was seen in the store stays while this lives.
pub struct Hold;

/// What a collection freed.
#[derive(Debug, Default)]
pub struct Freed;

/// An image.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// Canonical reference.
    pub reference: String,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Digest of the index it came from.
    pub index: Option<Digest>,
    /// Digest of the configuration: the image's id.
    pub config: Digest,
    /// Diff ids, base first.
    pub layers: Vec<Digest>,
    /// Everything else it keeps.
    pub blobs: Vec<Digest>,
    /// Bytes unpacked.
    pub size: u64,
    /// os/arch[/variant].
    pub platform: String,
    /// When.
    pub pulled: jiff::Timestamp,
}

impl Store {
    /// Open.
    pub fn open(dirs: Dirs) -> Result<Store> {
        dirs.create()?;
        for name in ["blobs/sha256", "layers", "images", "containers", "names", "tmp", "trash"] {
            std::fs::create_dir_all(dirs.data.join(name))?;
        }
        Ok(Store { dirs })
    }

    /// Where.
    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// Hold.
    pub fn hold(&self) -> Result<Hold> {
        Ok(Hold)
    }

    /// Read.
    pub fn read_blob(&self, digest: &Digest, _limit: u64) -> Result<Vec<u8>> {
        bail!("no blob {digest}")
    }

    /// All.
    pub fn images(&self) -> Result<Vec<Image>> {
        Ok(Vec::new())
    }

    /// Untag.
    pub fn untag(&self, _reference: &str) -> Result<bool> {
        Ok(false)
    }

    /// Collect.
    pub fn collect_garbage(&self) -> Result<Freed> {
        Ok(Freed)
    }

    /// Path.
    pub fn layer_path(&self, diff_id: &Digest) -> std::path::PathBuf {
        self.dirs.data.join("layers").join(diff_id.hex())
    }

    /// Discard.
    pub fn discard(&self, _path: &Path) -> Result<()> {
        Ok(())
    }
}
