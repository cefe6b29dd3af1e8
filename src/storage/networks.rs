//! Networks that the user made: `networks/<name>`, one small JSON file each, there or not and never changed. What it says is
//! the business of the room `network`.

use super::{Name, Store, disk::ByErrno, small_file, store::sync_directory};
use crate::error::Explain;
use anyhow::{Context, Result, anyhow};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::{
    fs::{self, DirBuilder},
    io::ErrorKind,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::PathBuf,
};

/// Nobody else makes a network, or chooses an address in one, while this lives.
#[derive(Debug)]
pub struct NetworksLock(#[expect(dead_code, reason = "held")] OwnedFd);

impl Store {
    /// Wait for whoever chooses.
    pub fn lock_networks(&self) -> Result<NetworksLock> {
        let path = self.directory(NETWORKS);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("make directory {}", path.display())).hint_by_errno()?;
        let dir = open(&path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("open {}", path.display()))?;
        flock(&dir, FlockOperation::LockExclusive).with_context(|| format!("lock {}", path.display()))?;
        Ok(NetworksLock(dir))
    }

    /// Keep `network`, encoded, under `name`.
    ///
    /// # Errors
    /// There is one of that name.
    pub fn create_network(&self, name: &Name, network: &[u8], _lock: &NetworksLock) -> Result<()> {
        match self.put_record(NETWORKS, name, network, false)? {
            true => Ok(()),
            false => Err(anyhow!("network {name}: network already exists"))
                .hint(format!("--ignore takes it as it is; `ctr network rm {name}` removes it")),
        }
    }

    /// What is kept under `name`.
    pub fn network(&self, name: &Name) -> Result<Option<Vec<u8>>> {
        small_file::read(&self.network_path(name)).with_context(|| format!("read network {name}"))
    }

    /// Their names.
    pub fn network_names(&self) -> Result<Vec<Name>> {
        self.record_names(NETWORKS)
    }

    /// Remove it; false: there is none.
    pub fn remove_network(&self, name: &Name, _lock: &NetworksLock) -> Result<bool> {
        match fs::remove_file(self.network_path(name)) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            removed => removed.with_context(|| format!("remove network {name}"))?,
        }
        sync_directory(&self.directory(NETWORKS))?;
        // Its process has ended with the last of its members.
        let _ = fs::remove_dir_all(self.dirs().runtime.join(NETWORKS).join(name.as_str()));
        Ok(true)
    }

    /// Where its process is found while there is one; made when it isn't there.
    pub fn network_runtime(&self, name: &Name) -> Result<PathBuf> {
        let path = self.dirs().runtime.join(NETWORKS).join(name.as_str());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("make directory {}", path.display())).hint_by_errno()?;
        Ok(path)
    }

    fn network_path(&self, name: &Name) -> PathBuf {
        self.directory(NETWORKS).join(name.as_str())
    }
}

const NETWORKS: &str = "networks";
