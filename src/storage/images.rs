//! Images by reference: one file each, written last, so that whatever it names is there.

use super::{Digest, Store, disk::ByErrno, small_file, store::sync_directory};
use crate::error::Explain;
use anyhow::{Context, Error, Result, bail};
use rustix::fs::{fsync, syncfs};
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

/// An image in the store, as its reference names it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// Canonical: `docker.io/library/ubuntu:latest` or `…@sha256:…`.
    pub reference: String,
    /// The manifest of the chosen platform.
    pub manifest: Digest,
    /// The index or manifest list that offered it.
    pub index: Option<Digest>,
    /// The image's configuration: its digest is the image's id.
    pub config: Digest,
    /// Diff ids, base first.
    pub layers: Vec<Digest>,
    /// The compressed layers and whatever else the image keeps alive.
    pub blobs: Vec<Digest>,
    /// Bytes that its layers take unpacked.
    pub size: u64,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// When it came into the store.
    pub pulled: jiff::Timestamp,
}

/// What images/ holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// The images, sorted by reference.
    pub images: Vec<Image>,
    /// What could not be read, an error each.
    pub damaged: Vec<Error>,
}

impl Store {
    /// All images, sorted by reference. Unreadable ones are left out: [`Store::list_images`] names them.
    pub fn images(&self) -> Result<Vec<Image>> {
        Ok(self.list_images()?.images)
    }

    /// All images, and a warning for each that can't be read.
    pub fn list_images(&self) -> Result<Listing> {
        let dir = self.directory("images");
        let entries = fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?;
        let mut listing = Listing::default();
        for entry in entries {
            let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
            match read(&path) {
                Ok(Some(image)) => listing.images.push(image),
                Ok(None) => {}
                Err(error) => listing.damaged.push(error),
            }
        }
        listing.images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(listing)
    }

    /// The image of exactly this canonical reference.
    pub fn image(&self, reference: &str) -> Result<Option<Image>> {
        read(&self.reference_path(reference))
    }

    /// Let `image.reference` name `image`. When this returns, image and reference survive a power loss; until then the
    /// reference names what it named before.
    ///
    /// # Errors
    /// The disk; or a layer or blob of the image that is not in the store.
    pub fn publish_image(&self, image: &Image) -> Result<()> {
        if let Some(layer) = image.layers.iter().find(|layer| !self.has_layer(layer)) {
            bail!("publish {}: layer {layer} is not in the store", image.reference);
        }
        let named = [&image.manifest, &image.config].into_iter().chain(&image.index).chain(&image.blobs);
        if let Some(blob) = named.into_iter().find(|blob| !self.has_blob(blob)) {
            bail!("publish {}: blob {blob} is not in the store", image.reference);
        }
        let draft = self.draft_path()?;
        let published = self.write_reference(image, &draft);
        if published.is_err() {
            let _ = fs::remove_file(&draft);
        }
        published.with_context(|| format!("publish {}", image.reference)).hint_by_errno()
    }

    /// Forget `reference`; false when nothing had that name. What it named stays until the garbage is collected.
    pub fn untag(&self, reference: &str) -> Result<bool> {
        match fs::remove_file(self.reference_path(reference)) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            removed => removed.with_context(|| format!("untag {reference}"))?,
        }
        sync_directory(&self.directory("images"))?;
        Ok(true)
    }

    fn write_reference(&self, image: &Image, draft: &Path) -> Result<()> {
        let mut file = File::create_new(draft).with_context(|| format!("make {}", draft.display()))?;
        // Everything that the reference names, before the reference.
        syncfs(&file).context("write the image to disk")?;
        let json = serde_json::to_vec(image).context("encode the image record")?;
        let written = file.write_all(&json).and_then(|()| Ok(fsync(&file)?));
        written.with_context(|| format!("write {}", draft.display()))?;
        let path = self.reference_path(&image.reference);
        fs::rename(draft, &path).with_context(|| format!("write {}", path.display()))?;
        sync_directory(&self.directory("images"))
    }

    fn reference_path(&self, reference: &str) -> PathBuf {
        self.directory("images").join(file_name(reference))
    }
}

/// A reference as one file name, at most 255 bytes (limits.h, NAME_MAX).
fn file_name(reference: &str) -> String {
    let mut name = String::with_capacity(reference.len() + 8);
    for byte in reference.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b':' | b'@' => name.push(byte.into()),
            // No file is hidden, and none is `.` or `..`.
            b'.' if !name.is_empty() => name.push('.'),
            _ => {
                let _ = write!(name, "%{byte:02X}");
            }
        }
    }
    // `%s` is no percent-encoding: it can't collide with the name of another reference.
    if name.len() > 255 { format!("%s{}", Digest::of(reference.as_bytes()).hex()) } else { name }
}

fn read(path: &Path) -> Result<Option<Image>> {
    let Some(json) = small_file::read(path)? else { return Ok(None) };
    let image: Image = serde_json::from_slice(&json)
        .with_context(|| format!("read image record {}", path.display()))
        .hint(format!("rm '{}', then pull that image again", path.display()))?;
    if path.file_name().is_none_or(|name| name.as_encoded_bytes() != file_name(&image.reference).as_bytes()) {
        bail!("image record {} claims to be {}", path.display(), image.reference);
    }
    Ok(Some(image))
}

#[cfg(test)]
pub(super) fn test_image(store: &Store, reference: &str, layers: Vec<Digest>) -> Image {
    let blob = store.put_blob(reference.as_bytes()).unwrap();
    Image {
        reference: reference.into(),
        manifest: blob,
        index: None,
        config: blob,
        layers,
        blobs: vec![],
        size: 1,
        platform: "linux/amd64".into(),
        pulled: jiff::Timestamp::UNIX_EPOCH,
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::test_store;
    use super::*;

    #[test]
    fn file_names() {
        for (reference, name) in [
            ("docker.io/library/ubuntu:latest", "docker.io%2Flibrary%2Fubuntu:latest"),
            ("localhost:5000/a@sha256:00", "localhost:5000%2Fa@sha256:00"),
            ("..", "%2E."),
            ("a%2Fb", "a%252Fb"),
            ("é\n", "%C3%A9%0A"),
        ] {
            assert_eq!(file_name(reference), name);
        }
        let (long, other) = ("a/".repeat(200), "a/".repeat(201));
        assert!(file_name(&long).len() <= 255 && file_name(&long) != file_name(&other));
    }

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

    #[test]
    fn a_damaged_record_hides_no_other() {
        let (_temp, store) = test_store();
        store.publish_image(&test_image(&store, "a/b:c", vec![])).unwrap();
        fs::write(store.reference_path("d/e:f"), "{").unwrap();
        fs::copy(store.reference_path("a/b:c"), store.reference_path("x/y:z")).unwrap();
        let listing = store.list_images().unwrap();
        assert_eq!((listing.images.len(), listing.damaged.len()), (1, 2));
        assert!(store.image("d/e:f").is_err());
        assert!(store.untag("d/e:f").unwrap());
    }
}
