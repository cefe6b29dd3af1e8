//! Manifest lists that are being put together: lists/<reference>, one small JSON file each, written last like an image's. What
//! it names is kept: the index as it is now, and of each member whatever blobs the store has.

use super::{Digest, Store, disk::ByErrno, images::file_name, small_file, store::sync_directory};
use crate::error::Explain;
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fsync, open, syncfs};
use std::{
    fs::{self, DirBuilder, File},
    io::{ErrorKind, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// A list of images for several platforms.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ManifestList {
    /// Canonical: `localhost/list:latest`.
    pub reference: String,
    /// The index.
    pub index: Digest,
    /// What it names.
    pub members: Vec<ListMember>,
}

/// One image of a list.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ListMember {
    /// Its manifest.
    pub manifest: Digest,
    /// Its config, and its layers if they were here.
    pub blobs: Vec<Digest>,
    /// The repository that has the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl ManifestList {
    /// Everything that it keeps.
    pub fn blobs(&self) -> impl Iterator<Item = &Digest> {
        let members =
            self.members.iter().flat_map(|member| [&member.manifest].into_iter().chain(&member.blobs));
        [&self.index].into_iter().chain(members)
    }
}

impl Store {
    /// All lists, sorted by reference; damaged ones are left out.
    ///
    /// # Errors
    /// The disk.
    pub fn lists(&self) -> Result<Vec<ManifestList>> {
        let dir = self.directory(LISTS);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("list {}", dir.display()))?,
        };
        let mut lists = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
            lists.extend(small_file::read(&path)?.and_then(|json| parse(&json).ok()));
        }
        lists.sort_by(|a: &ManifestList, b| a.reference.cmp(&b.reference));
        Ok(lists)
    }

    /// The list of exactly this canonical reference.
    pub fn list(&self, reference: &str) -> Result<Option<ManifestList>> {
        let path = self.list_path(reference);
        let list = small_file::read(&path)?.map(|json| parse(&json));
        list.transpose()
            .with_context(|| format!("read manifest list {}", path.display()))
            .hint(format!("rm '{}', and make that list again", path.display()))
    }

    /// When the list of exactly this canonical reference was made what it is.
    pub fn list_changed(&self, reference: &str) -> Result<Timestamp> {
        let path = self.list_path(reference);
        let changed = fs::metadata(&path).and_then(|meta| meta.modified());
        Ok(changed.with_context(|| format!("look at {}", path.display()))?.try_into()?)
    }

    /// Let `edit` make a list of what `reference` is now, and the bytes of its index; it may put blobs. When this returns, the
    /// list and what it names survive a power loss; until then it is what it was. Of several at a time each sees what those
    /// before it did.
    ///
    /// # Errors
    /// Those of `edit`; the disk; or a blob of the list that is not in the store.
    pub fn edit_list(
        &self,
        reference: &str,
        edit: impl FnOnce(Option<ManifestList>) -> Result<(Vec<ListMember>, Vec<u8>)>,
    ) -> Result<ManifestList> {
        let dir = self.directory(LISTS);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.with_context(|| format!("make directory {}", dir.display())).hint_by_errno()?;
        let lock = open(&dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("open {}", dir.display()))?;
        flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("lock {}", dir.display()))?;
        let _hold = self.hold()?;
        let (members, index) = edit(self.list(reference)?)?;
        let list = ManifestList { reference: reference.to_owned(), index: self.put_blob(&index)?, members };
        if let Some(blob) = list.blobs().find(|blob| !self.has_blob(blob)) {
            bail!("make list {reference}: blob {blob} is not in the store");
        }
        let draft = self.draft_path()?;
        let written = self.write_list(&list, &draft);
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written.with_context(|| format!("write list {reference}")).hint_by_errno()?;
        Ok(list)
    }

    /// Forget a list; false when there is none. What it named stays until the garbage is collected.
    pub fn remove_list(&self, reference: &str) -> Result<bool> {
        match fs::remove_file(self.list_path(reference)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            removed => removed.with_context(|| format!("remove list {reference}"))?,
        }
        sync_directory(&self.directory(LISTS))?;
        Ok(true)
    }

    fn write_list(&self, list: &ManifestList, draft: &Path) -> Result<()> {
        let mut file = File::create_new(draft).with_context(|| format!("make {}", draft.display()))?;
        // Everything that the list names, before the list.
        syncfs(&file).context("write its blobs to disk")?;
        let json = serde_json::to_vec(list).context("encode the list")?;
        let written = file.write_all(&json).and_then(|()| Ok(fsync(&file)?));
        written.with_context(|| format!("write {}", draft.display()))?;
        let path = self.list_path(&list.reference);
        fs::rename(draft, &path).with_context(|| format!("write {}", path.display()))?;
        sync_directory(&self.directory(LISTS))
    }

    fn list_path(&self, reference: &str) -> PathBuf {
        self.directory(LISTS).join(file_name(reference))
    }
}

/// Made with the first list: most stores never have one.
const LISTS: &str = "lists";

fn parse(json: &[u8]) -> Result<ManifestList> {
    Ok(serde_json::from_slice(json)?)
}

#[cfg(test)]
mod tests {
    use super::super::store::test_store;
    use super::*;

    #[test]
    fn what_a_list_names_is_kept() {
        let (_temp, store) = test_store();
        let member = || {
            let [manifest, config] =
                ["manifest", "config"].map(|text| store.put_blob(text.as_bytes()).unwrap());
            ListMember { manifest, blobs: vec![config], source: None }
        };
        let list = store.edit_list("a/b:c", |_| Ok((vec![member()], b"index".to_vec()))).unwrap();
        assert_eq!(store.list("a/b:c").unwrap().as_ref(), Some(&list));
        assert_eq!(store.collect_garbage().unwrap().blobs, 0);
        let empty = store.edit_list("a/b:c", |was| {
            assert_eq!(was.as_ref(), Some(&list));
            Ok((vec![], b"empty".to_vec()))
        });
        assert_eq!(store.lists().unwrap(), [empty.unwrap()]);
        assert_eq!(store.collect_garbage().unwrap().blobs, 3);
        let lacking = ListMember { manifest: Digest::of(b"none"), blobs: vec![], source: None };
        assert!(store.edit_list("a/b:c", |_| Ok((vec![lacking], b"x".to_vec()))).is_err());
        assert_eq!(store.list("a/b:c").unwrap().unwrap().index, Digest::of(b"empty"));
        assert!(store.remove_list("a/b:c").unwrap() && !store.remove_list("a/b:c").unwrap());
        assert!(fs::read_dir(store.directory("tmp")).unwrap().next().is_none());
        fs::write(store.list_path("d/e:f"), "{").unwrap();
        assert!(store.lists().unwrap().is_empty() && store.list("d/e:f").is_err());
    }
}
