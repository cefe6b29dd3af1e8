//! Names of containers: symbolic links `names/<name>` -> id.

use super::{ContainerId, Name, Store};
use crate::error::Explain;
use anyhow::{Context, Result, anyhow};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::{
    fs,
    io::ErrorKind,
    os::{fd::OwnedFd, unix::fs::symlink},
    path::PathBuf,
};

impl Store {
    /// Give `name` to container `id`, which exists. Of two that want one name at the same time one gets it. A claim whose
    /// container is gone is taken over.
    ///
    /// # Errors
    /// The name belongs to another container.
    pub fn claim_name(&self, name: &Name, id: &ContainerId) -> Result<()> {
        let claim = self.claim(name);
        let taken = || symlink(id.to_link(), &claim).map_err(|e| (e.kind() == ErrorKind::AlreadyExists, e));
        let mut outcome = taken();
        if let Err((true, _)) = outcome {
            let _lock = self.lock_names()?;
            match self.named(name)? {
                Some(owner) if owner == *id => return Ok(()),
                Some(owner) => {
                    return Err(anyhow!("the name {name} belongs to container {}", owner.short()))
                        .hint(format!("remove that one (`ctr rm {name}`) or choose another name"));
                }
                None => {
                    let _ = fs::remove_file(&claim);
                    outcome = taken();
                }
            }
        }
        outcome
            .map_err(|(_, e)| e)
            .with_context(|| format!("give the name {name} to container {}", id.short()))
    }

    /// The container called `name`, if it exists.
    pub fn named(&self, name: &Name) -> Result<Option<ContainerId>> {
        match fs::read_link(self.claim(name)) {
            Ok(link) => Ok(ContainerId::from_link(&link).filter(|id| self.container(id).path.exists())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("look up the name {name}")),
        }
    }

    /// All names of container `id`.
    pub(super) fn names_of(&self, id: &ContainerId) -> Result<Vec<Name>> {
        let path = self.dirs().data.join("names");
        let entries = fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?.flatten();
        let ours = entries.filter(|e| {
            fs::read_link(e.path()).is_ok_and(|link| ContainerId::from_link(&link).as_ref() == Some(id))
        });
        Ok(ours.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect())
    }

    /// Free all names of container `id` but `kept`: the old one, and what a rename that was killed has left.
    pub fn release_names_but(&self, kept: &Name, id: &ContainerId) -> Result<()> {
        let mut others = self.names_of(id)?.into_iter().filter(|name| name != kept);
        others.try_for_each(|name| self.release_name(&name, id))
    }

    /// Free `name` if it is container `id` that has it.
    pub fn release_name(&self, name: &Name, id: &ContainerId) -> Result<()> {
        let claim = self.claim(name);
        let _lock = self.lock_names()?;
        if fs::read_link(&claim).is_ok_and(|link| ContainerId::from_link(&link).as_ref() == Some(id)) {
            fs::remove_file(&claim).with_context(|| format!("release the name {name}"))?;
        }
        Ok(())
    }

    /// Free the names of containers that are gone.
    pub(super) fn free_dangling_names(&self) -> Result<()> {
        let path = self.dirs().data.join("names");
        let entries = fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?.flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<Name>().ok());
        for name in names.filter(|name| matches!(self.named(name), Ok(None))) {
            let _lock = self.lock_names()?;
            if self.named(&name)?.is_none() {
                let _ = fs::remove_file(self.claim(&name));
            }
        }
        Ok(())
    }

    /// Whoever takes a claim away holds this, so that "look, then remove" can't hit somebody's new claim. Making a claim
    /// needs no lock: only one symlink(2) of a name succeeds.
    fn lock_names(&self) -> Result<OwnedFd> {
        let path = self.dirs().data.join("names");
        let dir = open(&path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let dir = dir.with_context(|| format!("open {}", path.display()))?;
        flock(&dir, FlockOperation::LockExclusive).with_context(|| format!("lock {}", path.display()))?;
        Ok(dir)
    }

    fn claim(&self, name: &Name) -> PathBuf {
        self.dirs().data.join("names").join(name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::store::test_store;

    #[test]
    fn a_name_has_one_owner() {
        let (_temp, store) = test_store();
        let [a, b] = [(); 2].map(|()| ContainerId::random().unwrap());
        let (first, _a) = store.create_container(&a, &[]).unwrap();
        let (second, _b) = store.create_container(&b, &[]).unwrap();
        let name: Name = "box".parse().unwrap();
        store.claim_name(&name, &a).unwrap();
        store.claim_name(&name, &a).unwrap();
        let refused = store.claim_name(&name, &b).unwrap_err();
        assert!(format!("{refused:#}").contains(a.short()));
        assert_eq!(store.named(&name).unwrap(), Some(a.clone()));
        // The owner vanishes without letting go: the claim heals.
        fs::remove_dir_all(first.path()).unwrap();
        assert_eq!(store.named(&name).unwrap(), None);
        store.claim_name(&name, &b).unwrap();
        assert_eq!(store.named(&name).unwrap(), Some(b));
        // Whoever has lost a name can't release it for its new owner.
        store.release_name(&name, &a).unwrap();
        assert!(store.named(&name).unwrap().is_some());
        store.retire_container(&second, Some(&name)).unwrap();
        assert!(fs::symlink_metadata(store.claim(&name)).is_err());
    }
}
