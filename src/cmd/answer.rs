//! Work that has to be done as root of the user namespace that owns the store's files, and that has an answer.

use crate::namespaces::{Mapping, start_inside};
use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::File,
    io::{BufReader, Seek},
};

/// Do `work` in a process of its own, which may start threads, and hand back its answer. Must be called before any thread
/// exists.
///
/// # Errors
/// What `work` says; or no user namespace can be made.
pub fn ask<T: Serialize + DeserializeOwned>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let file = memfd_create("answer", MemfdFlags::CLOEXEC).context("make a memory file")?;
    let mut file = File::from(file);
    // Here: the caller, whoever that is. Inside: a child, root of the user namespace unless the caller is root already.
    let (inside, ()) = start_inside(
        &Mapping::detect(),
        |_| Ok(()),
        |_| serde_json::to_writer(&file, &work()?).context("answer"),
    )?;
    inside.wait()?;
    file.rewind().context("read the answer")?;
    serde_json::from_reader(BufReader::new(file)).context("read the answer")
}
