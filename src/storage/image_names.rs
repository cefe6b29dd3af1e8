//! How images get names and lose them. At no moment of it, nor after a crash at any, is an image without a record: the one
//! that a name leaves stays, without a name, until somebody removes it. A lock of images/ keeps two such changes apart.

use super::{
    Digest, Hold, Image, Store, disk::ByErrno, gc::is_read_failure, images::read, store::sync_directory,
};
use anyhow::{Context, Result, bail};
use rustix::fs::{fsync, syncfs};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::Path,
};

impl Store {
    /// Let `image.reference` name `image`; the image that it named before stays without a name when it has no other. When
    /// this returns, image and reference survive a power loss; until then the reference names what it named before.
    ///
    /// # Errors
    /// The disk; or a layer or blob of the image that is not in the store.
    pub fn publish_image(&self, image: &Image) -> Result<()> {
        self.name_image(image, true)
    }

    /// The same for an image that is in the store already, so that nothing but the name has to reach the disk.
    pub fn tag_image(&self, image: &Image) -> Result<()> {
        self.name_image(image, false)
    }

    fn name_image(&self, image: &Image, new: bool) -> Result<()> {
        let hold = self.hold()?;
        if let Some(layer) = image.layers.iter().find(|layer| !self.has_layer(layer)) {
            bail!("publish {}: layer {layer} is not in the store", image.reference);
        }
        let named = [&image.manifest, &image.config].into_iter().chain(&image.index).chain(&image.blobs);
        if let Some(blob) = named.into_iter().find(|blob| !self.has_blob(blob)) {
            bail!("publish {}: blob {blob} is not in the store", image.reference);
        }
        let draft = self.draft_path()?;
        let written = self.write_record(image, &draft, new);
        let published = written.and_then(|()| self.put_name(image, &draft, &hold));
        if published.is_err() {
            let _ = fs::remove_file(&draft);
        }
        published.with_context(|| format!("publish {}", image.reference)).hint_by_errno()
    }

    /// Forget `reference`; false when nothing had that name. An image without another name stays without one.
    pub fn untag(&self, reference: &str) -> Result<bool> {
        let hold = self.hold()?;
        let _names = self.lock_images(&hold)?;
        let path = self.reference_path(reference);
        let removed = match read(&path) {
            Ok(None) => return Ok(false),
            Ok(Some(image)) if image.name().is_none() => return Ok(false),
            Ok(Some(image)) if !has_other_name(&image, &self.records()?) => {
                fs::rename(&path, self.reference_path(&Image::unnamed_reference(&image.manifest)))
            }
            Err(error) if is_read_failure(&error) => return Err(error),
            Ok(Some(_)) | Err(_) => fs::remove_file(&path),
        };
        removed.with_context(|| format!("untag {reference}")).hint_by_errno()?;
        sync_directory(&self.directory("images"))?;
        Ok(true)
    }

    /// Take `references` away from the image `id`, and the image itself when it has no name then; whether it went. Its
    /// layers and blobs are garbage from then on; whoever collects that makes the removal survive a power loss.
    pub fn forget(&self, id: &Digest, references: &[&str]) -> Result<bool> {
        let hold = self.hold()?;
        let _names = self.lock_images(&hold)?;
        let records: Vec<Image> = self.records()?.into_iter().filter(|image| image.config == *id).collect();
        let (named, unnamed): (Vec<_>, Vec<_>) = records.iter().partition(|image| image.name().is_some());
        let (going, staying): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|image| references.contains(&image.reference.as_str()));
        let gone = staying.is_empty();
        // The names last: one without a name that is left alone would be an image of its own.
        for image in unnamed.into_iter().filter(|_| gone).chain(going) {
            self.remove_record(&image.reference)?;
        }
        Ok(gone && !records.is_empty())
    }

    /// Remove the record in the file `name` of images/, which can't be read; whether it was there.
    pub fn untag_file(&self, name: &OsStr) -> Result<bool> {
        let path = self.directory("images").join(name);
        match read(&path) {
            Ok(_) => return Ok(false),
            Err(error) if is_read_failure(&error) => return Err(error),
            Err(_) => self.discard(&path)?,
        }
        sync_directory(&self.directory("images"))?;
        Ok(true)
    }

    pub(super) fn remove_record(&self, reference: &str) -> Result<()> {
        match fs::remove_file(self.reference_path(reference)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("untag {reference}")).hint_by_errno(),
        }
    }

    fn write_record(&self, image: &Image, draft: &Path, new: bool) -> Result<()> {
        let mut file = File::create_new(draft).with_context(|| format!("make {}", draft.display()))?;
        // Everything that the reference names, before the reference.
        if new {
            syncfs(&file).context("write the image to disk")?;
        }
        let created = image.created.or_else(|| self.built_at(image));
        let json =
            serde_json::to_vec(&Image { created, ..image.clone() }).context("encode the image record")?;
        let written = file.write_all(&json).and_then(|()| Ok(fsync(&file)?));
        written.with_context(|| format!("write {}", draft.display()))
    }

    fn put_name(&self, image: &Image, draft: &Path, hold: &Hold) -> Result<()> {
        let _names = self.lock_images(hold)?;
        let records = self.records()?;
        let same = |other: &&Image| other.config == image.config;
        if image.name().is_none() && records.iter().filter(same).any(|other| other.name().is_some()) {
            return fs::remove_file(draft).with_context(|| format!("remove {}", draft.display()));
        }
        let path = self.reference_path(&image.reference);
        let before = records.iter().find(|other| other.reference == image.reference);
        if let Some(before) = before.filter(|before| before.config != image.config)
            && !has_other_name(before, &records)
        {
            let unnamed = Image::unnamed_reference(&before.manifest);
            self.remove_record(&unnamed)?;
            let link = fs::hard_link(&path, self.reference_path(&unnamed));
            link.with_context(|| format!("keep {} without its name", before.config))?;
        }
        fs::rename(draft, &path).with_context(|| format!("write {}", path.display()))?;
        for unnamed in records.iter().filter(same).filter(|other| other.name().is_none()) {
            if unnamed.reference != image.reference {
                self.remove_record(&unnamed.reference)?;
            }
        }
        sync_directory(&self.directory("images"))
    }

    /// When the image was built, as its configuration says.
    fn built_at(&self, image: &Image) -> Option<jiff::Timestamp> {
        #[derive(serde::Deserialize)]
        struct Configuration {
            created: Option<jiff::Timestamp>,
        }
        const LIMIT: u64 = 8 << 20;
        let config = self.read_blob(&image.config, LIMIT).ok()?;
        serde_json::from_slice::<Configuration>(&config).ok()?.created
    }
}

fn has_other_name(image: &Image, records: &[Image]) -> bool {
    let other = |other: &Image| {
        other.config == image.config && other.name().is_some() && other.reference != image.reference
    };
    records.iter().any(other)
}

#[cfg(test)]
mod tests {
    use super::super::{images::test_image, store::test_store};
    use super::*;

    #[test]
    fn published_found_and_untagged() {
        let (_temp, store) = test_store();
        let image = test_image(&store, "docker.io/library/ubuntu:latest", vec![]);
        assert_eq!(store.image(&image.reference).unwrap(), None);
        store.publish_image(&image).unwrap();
        assert_eq!(store.image(&image.reference).unwrap().as_ref(), Some(&image));
        assert_eq!(store.images().unwrap(), std::slice::from_ref(&image));
        assert!(store.untag(&image.reference).unwrap());
        assert!(!store.untag(&image.reference).unwrap());
        assert!(fs::read_dir(store.directory("tmp")).unwrap().next().is_none());
    }

    #[test]
    fn what_it_names_must_be_there() {
        let (_temp, store) = test_store();
        let layer = Digest::of(b"layer");
        let error = store.publish_image(&test_image(&store, "a/b:c", vec![layer])).unwrap_err();
        assert!(error.to_string().contains(&layer.to_string()));
        assert!(store.images().unwrap().is_empty());
    }

    fn references(store: &Store) -> Vec<String> {
        store.images().unwrap().into_iter().map(|image| image.reference).collect()
    }

    #[test]
    fn a_moved_name_leaves_its_image() {
        let (_temp, store) = test_store();
        let [old, new] = ["old", "new"].map(|name| test_image(&store, name, vec![]));
        let [old, new] = [old, new].map(|image| Image { reference: "a/b:c".into(), ..image });
        let unnamed = Image::unnamed_reference(&old.manifest);
        store.publish_image(&old).unwrap();
        store.publish_image(&Image { reference: "x/y:z".into(), ..old.clone() }).unwrap();
        store.publish_image(&new).unwrap();
        assert_eq!(references(&store), ["a/b:c", "x/y:z"]);
        assert!(store.untag("x/y:z").unwrap());
        assert_eq!(references(&store), [unnamed.as_str(), "a/b:c"]);
        let left = store.image(&unnamed).unwrap().unwrap();
        assert_eq!((left.name(), left.former.as_slice()), (None, &["x/y:z".to_owned()][..]));
        // Its name comes back, and moves again.
        store.publish_image(&old).unwrap();
        assert_eq!(references(&store), [Image::unnamed_reference(&new.manifest).as_str(), "a/b:c"]);
        store.publish_image(&Image { reference: unnamed, ..old.clone() }).unwrap();
        assert_eq!(references(&store).len(), 2);
        assert!(store.forget(&new.config, &[]).unwrap() && !store.forget(&old.config, &[]).unwrap());
        assert!(store.forget(&old.config, &["a/b:c"]).unwrap() && references(&store).is_empty());
        assert!(!store.forget(&old.config, &["a/b:c"]).unwrap());
    }

    /// Both orders in which a crash can leave a record without a name beside one with a name.
    #[test]
    fn a_crash_in_between_shows_one_image() {
        let (_temp, store) = test_store();
        let image = test_image(&store, "a/b:c", vec![]);
        let unnamed = Image::unnamed_reference(&image.manifest);
        store.publish_image(&image).unwrap();
        fs::hard_link(store.reference_path("a/b:c"), store.reference_path(&unnamed)).unwrap();
        assert_eq!(references(&store), ["a/b:c"]);
        assert_eq!(store.list_images().unwrap().superseded, [unnamed.as_str()]);
        store.collect_garbage().unwrap();
        assert_eq!(store.image(&unnamed).unwrap(), None);
        assert_eq!(references(&store), ["a/b:c"]);
    }
}
