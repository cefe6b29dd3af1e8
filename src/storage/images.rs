//! Images by reference: one file each, written last, so that whatever it names is there.

use super::{Digest, Store, gc::is_read_failure, small_file};
use crate::error::Explain;
use anyhow::{Context, Error, Result, bail};
use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs,
    mem::replace,
    path::{Path, PathBuf},
};

/// An image in the store, as its reference names it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// Canonical: `docker.io/library/ubuntu:latest` or `…@sha256:…`; [`Image::unnamed_reference`] without a name.
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
    /// When it was built, as its configuration says; [`Store::publish_image`] fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<jiff::Timestamp>,
    /// Names that it had before it lost them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<String>,
}

impl Image {
    /// What stands for a reference where an image has no name: `@sha256:<hex of its manifest>`.
    pub fn unnamed_reference(manifest: &Digest) -> String {
        format!("@{manifest}")
    }

    /// Its reference, unless it has no name.
    pub fn name(&self) -> Option<&str> {
        (!self.reference.starts_with('@')).then_some(&self.reference)
    }
}

/// What images/ holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// The images, sorted by reference.
    pub images: Vec<Image>,
    /// What could not be read.
    pub damaged: Vec<Damaged>,
    /// References of images without a name that have got one since: whoever gave it was interrupted.
    pub superseded: Vec<String>,
}

/// A record that can't be read.
#[derive(Debug)]
pub struct Damaged {
    /// Its name in images/.
    pub file: OsString,
    /// Why.
    pub error: Error,
}

impl Store {
    /// All images, sorted by reference. Unreadable ones are left out: [`Store::list_images`] names them.
    pub fn images(&self) -> Result<Vec<Image>> {
        Ok(self.list_images()?.images)
    }

    /// All images, and a warning for each that can't be read.
    pub fn list_images(&self) -> Result<Listing> {
        let mut listing = self.scan()?;
        let named: HashSet<Digest> =
            listing.images.iter().filter(|image| image.name().is_some()).map(|image| image.config).collect();
        let superseded = |image: &mut Image| image.name().is_none() && named.contains(&image.config);
        listing.superseded = listing.images.extract_if(.., superseded).map(|image| image.reference).collect();
        Ok(listing)
    }

    /// All records, also of images without a name that have got one since.
    ///
    /// # Errors
    /// The disk won't give one now.
    pub(super) fn records(&self) -> Result<Vec<Image>> {
        let Listing { images, damaged, .. } = self.scan()?;
        let unread = damaged.into_iter().map(|damaged| damaged.error).find(is_read_failure);
        unread.map_or(Ok(images), Err)
    }

    fn scan(&self) -> Result<Listing> {
        let dir = self.directory("images");
        let entries = fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?;
        let mut listing = Listing::default();
        for entry in entries {
            let entry = entry.with_context(|| format!("list {}", dir.display()))?;
            match read(&entry.path()) {
                Ok(Some(image)) => listing.images.push(image),
                Ok(None) => {}
                Err(error) => listing.damaged.push(Damaged { file: entry.file_name(), error }),
            }
        }
        listing.images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(listing)
    }

    /// The image of exactly this canonical reference.
    pub fn image(&self, reference: &str) -> Result<Option<Image>> {
        read(&self.reference_path(reference))
    }

    pub(super) fn reference_path(&self, reference: &str) -> PathBuf {
        self.directory("images").join(file_name(reference))
    }
}

/// A reference as one file name, at most 255 bytes (limits.h, NAME_MAX).
pub(super) fn file_name(reference: &str) -> String {
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

pub(super) fn read(path: &Path) -> Result<Option<Image>> {
    let Some(json) = small_file::read(path)? else { return Ok(None) };
    let mut image: Image = serde_json::from_slice(&json)
        .with_context(|| format!("read image record {}", path.display()))
        .hint("`ctr system check --repair` removes it; then pull that image again")?;
    let is = |reference: &str| path.file_name().is_some_and(|name| name == OsStr::new(&file_name(reference)));
    // An image loses its name by a rename alone, which needs no space: the record still says the name.
    let unnamed = Image::unnamed_reference(&image.manifest);
    if is(&unnamed) && image.name().is_some() {
        image.former.push(replace(&mut image.reference, unnamed));
    }
    if !is(&image.reference) {
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
        created: None,
        former: vec![],
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
