//! How much a container takes: the `--size` of `ps` and `inspect`.

use crate::{
    container::{plain, state::Container},
    namespaces::{Mapping, run_inside},
    storage::{Store, usage},
};
use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, memfd_create};
use std::{
    fs::File,
    io::{Read, Seek, Write},
};

/// Bytes of data.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// Of what the container changed.
    pub writable: u64,
    /// Of that and of its image.
    pub root: u64,
}

/// The size of each of `containers`.
///
/// # Errors
/// No user namespace can be made in which all files can be seen.
pub fn measure<'c>(store: &Store, containers: impl Iterator<Item = &'c Container>) -> Result<Vec<Size>> {
    let containers: Vec<_> = containers.collect();
    if containers.is_empty() {
        return Ok(Vec::new());
    }
    // Most files belong to subordinate ids: a child that is root of their namespace counts, and answers through this file.
    let answer = memfd_create("sizes", MemfdFlags::CLOEXEC).context("make a memory file")?;
    let mut answer = File::from(answer);
    run_inside(&Mapping::detect(), || {
        let mut sizes = Vec::with_capacity(containers.len() * 8);
        for container in &containers {
            // Its container is gone, or has a root directory of the user's.
            let size = match usage(&container.dir.upper()) {
                Err(rustix::io::Errno::NOENT) => 0,
                size => size.with_context(|| format!("measure container {}", container.record.id.short()))?,
            };
            sizes.extend(size.to_ne_bytes());
        }
        (&answer).write_all(&sizes).context("answer")
    })?;
    let mut sizes = Vec::new();
    answer.rewind().and_then(|()| answer.read_to_end(&mut sizes)).context("read the sizes")?;
    let sizes = sizes.chunks_exact(8).map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap_or_default()));
    let image = |container: &Container| -> u64 {
        // A copy has them all.
        if plain::is_made(&container.dir) {
            return 0;
        }
        let layers = container.dir.layers().unwrap_or_default();
        layers.iter().filter_map(|layer| store.layer_size(layer).ok()).sum()
    };
    Ok(sizes.zip(containers).map(|(writable, c)| Size { writable, root: writable + image(c) }).collect())
}
