//! Content as it came from a registry, each under its own digest.

use super::{Digest, Store, disk::ByErrno};
use crate::error::Explain;
use anyhow::{Context, Result, anyhow, bail};
use std::{
    fs::{self, File},
    io::Read,
};

impl Store {
    /// Is `digest` in the store?
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(&digest.hex()).is_file()
    }

    /// The contents of blob `digest`, hashed again.
    ///
    /// # Errors
    /// It is missing, larger than `limit` bytes, or not what its digest says.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(&digest.hex());
        let file = File::open(&path).with_context(|| format!("open blob {}", path.display()))?;
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .with_context(|| format!("read blob {}", path.display()))?;
        if bytes.len() as u64 > limit {
            bail!("blob {digest} is larger than {limit} bytes");
        }
        if Digest::of(&bytes) != *digest {
            return Err(anyhow!("blob {} is damaged: its contents are not {digest}", path.display()))
                .hint("remove the image that needs it and pull it again (`ctr rmi`, `ctr pull`)");
        }
        Ok(bytes)
    }

    /// Blob `digest`, open for reading, and its size. What is in it has not been verified.
    pub fn open_blob(&self, digest: &Digest) -> Result<(File, u64)> {
        let path = self.blob_path(&digest.hex());
        let open = || File::open(&path).and_then(|file| file.metadata().map(|meta| (file, meta.len())));
        open()
            .with_context(|| format!("open blob {}", path.display()))
            .hint("pull the image again: `ctr pull --policy=always IMAGE`")
    }

    /// Store `bytes`. They survive a power loss once an image that names them is published.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest.hex());
        if self.read_blob(&digest, bytes.len() as u64).is_err() {
            let draft = self.draft_path()?;
            let written = fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, &path));
            if written.is_err() {
                let _ = fs::remove_file(&draft);
            }
            written.with_context(|| format!("write blob {}", path.display())).hint_by_errno()?;
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::test_store;
    use super::*;

    #[test]
    fn comes_back_as_it_was_put() {
        let (_temp, store) = test_store();
        let digest = store.put_blob(b"{}").unwrap();
        assert!(store.has_blob(&digest));
        assert_eq!(store.read_blob(&digest, 2).unwrap(), b"{}");
        assert!(store.read_blob(&digest, 1).is_err());
        assert!(!store.has_blob(&Digest::of(b"other")));
    }

    #[test]
    fn damage_is_noticed_and_mended() {
        let (_temp, store) = test_store();
        let digest = store.put_blob(b"{}").unwrap();
        fs::write(store.blob_path(&digest.hex()), b"[]").unwrap();
        assert!(store.read_blob(&digest, 10).is_err());
        store.put_blob(b"{}").unwrap();
        assert_eq!(store.read_blob(&digest, 10).unwrap(), b"{}");
    }
}
