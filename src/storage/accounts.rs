//! What the parts of the store take on the disk, in bytes, as du(1) counts them.

use super::{Store, disk_usage};
use anyhow::{Context, Result};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io::ErrorKind};

/// Bytes of each part, by its name in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// By diff id, hex.
    pub layers: BTreeMap<String, u64>,
    /// By digest, hex; those of which a part has come by `partial/` and that.
    pub blobs: BTreeMap<String, u64>,
    /// All records of images and of manifest lists together.
    pub records: u64,
    /// By id.
    pub containers: BTreeMap<String, u64>,
    /// By name.
    pub volumes: BTreeMap<String, u64>,
}

impl Accounts {
    /// Layers, blobs and records.
    pub fn of_images(&self) -> u64 {
        self.layers.values().chain(self.blobs.values()).sum::<u64>() + self.records
    }

    /// All that containers have.
    pub fn of_containers(&self) -> u64 {
        self.containers.values().sum()
    }

    /// All that is in volumes.
    pub fn of_volumes(&self) -> u64 {
        self.volumes.values().sum()
    }
}

impl Store {
    /// Measure the store. What vanishes meanwhile counts as nothing. Inside the user namespace, where all files can be seen.
    pub fn measure(&self) -> Result<Accounts> {
        let mut blobs = self.measure_each("blobs/sha256")?;
        let partial = self.measure_each("blobs/partial")?.into_iter();
        blobs.extend(partial.map(|(name, size)| (format!("partial/{name}"), size)));
        Ok(Accounts {
            layers: self.measure_each("layers")?,
            blobs,
            records: self.measure_each("images")?.values().chain(self.measure_each("lists")?.values()).sum(),
            containers: self.measure_each("containers")?,
            volumes: self.measure_each("volumes")?,
        })
    }

    fn measure_each(&self, directory: &str) -> Result<BTreeMap<String, u64>> {
        let path = self.directory(directory);
        let mut sizes = BTreeMap::new();
        let entries = match fs::read_dir(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(sizes),
            entries => entries.with_context(|| format!("list {}", path.display()))?,
        };
        for entry in entries {
            let entry = entry.with_context(|| format!("list {}", path.display()))?;
            let size = match disk_usage(&entry.path()) {
                Err(Errno::NOENT) => 0,
                size => size.with_context(|| format!("measure {}", entry.path().display()))?,
            };
            sizes.insert(entry.file_name().to_string_lossy().into_owned(), size);
        }
        Ok(sizes)
    }
}
