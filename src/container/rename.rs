//! Another name for a container (podman-rename(1)).

use super::record::Record;
use crate::{
    error::Explain,
    storage::{ContainerDir, Name, Store},
};
use anyhow::{Result, anyhow};

/// Give it `name`; its old one is free.
///
/// # Errors
/// The name is another's, or it has it already; then nothing has changed.
pub fn rename(store: &Store, dir: &ContainerDir, name: &Name) -> Result<()> {
    let _lock = dir.lock_changes()?;
    let before = Record::finished(dir)?;
    if before.name == *name {
        return Err(anyhow!("container {} has the name {name} already", dir.id().short()))
            .hint("choose another name");
    }
    store.claim_name(name, dir.id())?;
    let renamed = Record { name: name.clone(), ..before.clone() }
        .write(dir)
        .and_then(|()| store.release_names_but(name, dir.id()).inspect_err(|_| drop(before.write(dir))));
    renamed.inspect_err(|_| drop(store.release_name(name, dir.id())))
}
