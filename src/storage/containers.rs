//! Containers as directories. `containers/<id>/` appears whole by one rename with its lock already held; a container lives
//! as long as somebody holds that lock.
//!
//! Nothing here is fsynced: a container is atomic, not durable. What a crash of the machine takes away is a container
//! that was running in it; images are what must survive.

use super::{ContainerDir, ContainerId, Digest, Lock, Name, Store, delete_tree, disk::ByErrno};
use crate::error::Explain;
use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, open};
use std::{
    fmt::Write as _,
    fs,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

impl Store {
    /// Make the container `id` over `layers` (diff ids, base first), alive from its first moment: whoever holds the lock,
    /// or a descriptor inherited from it, keeps the container alive. The caller holds the store ([`Store::hold`]) until
    /// this returns; from then on the container's list keeps the layers.
    pub fn create_container(&self, id: &ContainerId, layers: &[Digest]) -> Result<(ContainerDir, Lock)> {
        let draft = self.dirs().data.join("tmp").join(id.as_str());
        let dir = self.container(id);
        let made = self.draft_container(&draft, layers).and_then(|lock| {
            fs::rename(&draft, &dir.path)
                .with_context(|| format!("publish container {}", dir.path.display()))?;
            Ok(lock)
        });
        match made {
            Ok(lock) => Ok((dir, lock)),
            Err(failure) => {
                let _ = delete_tree(&draft);
                Err(failure)
                    .hint_by_errno()
                    .hint("`ctr info` shows the data directory; name another with --root")
            }
        }
    }

    fn draft_container(&self, draft: &Path, layers: &[Digest]) -> Result<Lock> {
        make_dir(draft)?;
        make_dir(&draft.join("work"))?;
        let upper = draft.join("upper");
        make_dir(&upper)?;
        // It becomes the container's `/`, which everyone inside may enter.
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("chmod {}", upper.display()))?;
        let mut list = String::with_capacity(layers.len() * 72);
        for layer in layers {
            let _ = writeln!(list, "{layer}");
        }
        let path = draft.join("layers");
        fs::write(&path, list).with_context(|| format!("write {}", path.display()))?;
        let path = draft.join("lock");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let file = open(&path, flags, Mode::RUSR | Mode::WUSR)
            .with_context(|| format!("make {}", path.display()))?;
        Lock::take(file)
            .with_context(|| format!("lock {}", path.display()))?
            .context("a new lock is held already")
    }

    /// Where container `id` lies, whether it exists or not.
    pub fn container(&self, id: &ContainerId) -> ContainerDir {
        ContainerDir {
            id: id.clone(),
            path: self.dirs().data.join("containers").join(id.as_str()),
            runtime: self.dirs().runtime.clone(),
        }
    }

    /// The ids of all containers, in no order.
    pub fn containers(&self) -> Result<Vec<ContainerId>> {
        let path = self.dirs().data.join("containers");
        let entries = fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// Take away what is left of containers that are gone, names and files of the runtime directory: whoever removed them
    /// was killed on the way.
    pub fn forget_the_gone(&self) -> Result<()> {
        let runtime = fs::read_dir(&self.dirs().runtime).into_iter().flatten().flatten();
        for file in runtime {
            let id = file.path().file_stem().and_then(|stem| stem.to_str()?.parse::<ContainerId>().ok());
            if id.is_some_and(|id| !self.container(&id).path().exists()) {
                let _ = fs::remove_file(file.path());
            }
        }
        self.free_dangling_names()
    }

    /// Take `dir` out of the listing and free its name: from here on the container does not exist. The caller holds its
    /// lock. Returns what is left to delete, in `trash/`; `None` when somebody else was faster.
    pub fn retire_container(&self, dir: &ContainerDir, name: Option<&Name>) -> Result<Option<PathBuf>> {
        let trash = self.dirs().data.join("trash").join(dir.id.as_str());
        match fs::rename(&dir.path, &trash) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            moved => moved.with_context(|| format!("move {} to the trash", dir.path.display()))?,
        }
        dir.remove_pid_file();
        dir.remove_socket_file();
        match name {
            Some(name) => self.release_name(name, &dir.id)?,
            None => self.names_of(&dir.id)?.iter().try_for_each(|name| self.release_name(name, &dir.id))?,
        }
        Ok(Some(trash))
    }
}

fn make_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make directory {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::store::test_store;

    #[test]
    fn alive_from_birth_until_the_last_descriptor_closes() {
        let (_temp, store) = test_store();
        let id = ContainerId::random().unwrap();
        let layers = [Digest::of(b"base"), Digest::of(b"top")];
        let (dir, lock) = store.create_container(&id, &layers).unwrap();
        assert_eq!(store.containers().unwrap(), std::slice::from_ref(&id));
        assert_eq!(dir.layers().unwrap(), layers);
        assert_eq!(fs::metadata(dir.upper()).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o7777, 0o700);
        let second = lock.0.try_clone().unwrap();
        drop(lock);
        assert!(dir.is_alive().unwrap() && dir.try_lock().unwrap().is_none());
        drop(second);
        assert!(!dir.is_alive().unwrap());
        let mine = dir.lock().unwrap().unwrap();
        assert!(dir.is_alive().unwrap());
        let trash = store.retire_container(&dir, None).unwrap().unwrap();
        assert!(store.retire_container(&dir, None).unwrap().is_none());
        drop(mine);
        assert!(store.containers().unwrap().is_empty() && trash.exists() && !dir.is_alive().unwrap());
    }
}
