//! Places: the lowest layer of a container that mounts things where its image has nothing, and that goes at its end. Made in
//! overlay, each mount point would be a directory on the disk to make at the start and to remove at the end; here they are made
//! once for each image and set of places. Kept and collected as views are: `views/places-…/`.

use super::{Digest, Store, digest::hex, skeleton};
use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    io::ErrorKind,
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// One: where it is, without the leading slash, and whether it is a directory.
pub type Place = (PathBuf, bool);

impl Store {
    /// The lowest layer called `key`.
    pub fn places(&self, key: &str) -> PathBuf {
        self.directory("views").join(key).join("fs")
    }

    /// The key of the lowest layer with `places`, for containers of `layers`, base first. Made when it isn't there.
    ///
    /// # Errors
    /// The disk; one of them lies in what is another's file.
    pub fn make_places(&self, layers: &[Digest], places: &[Place]) -> Result<String> {
        let key = format!("places-{}", fingerprint(layers, places));
        let there = self.directory("views").join(&key);
        if let Ok(meta) = fs::metadata(&there) {
            // The collector takes those that nobody has wanted for long.
            if meta.modified().ok().and_then(|time| time.elapsed().ok()).is_none_or(|age| age > DAY) {
                let _ = utimensat(CWD, &there, &NOW, AtFlags::empty());
            }
            return Ok(key);
        }
        let _hold = self.hold()?;
        let draft = self.draft_path()?;
        let make = || -> Result<()> {
            let private = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            private(&draft)?;
            let list: String = layers.iter().map(|layer| format!("{layer}\n")).collect();
            fs::write(draft.join("layers"), list)?;
            let top = draft.join("fs");
            skeleton::make(&top)?;
            places.iter().try_for_each(|place| skeleton::place(&top, place))?;
            private(&self.directory("views"))?;
            match fs::rename(&draft, &there) {
                // Another process was first.
                Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                    Ok(())
                }
                renamed => Ok(renamed?),
            }
        };
        let made = make().context("make the places of mounts");
        if draft.exists() {
            let _ = super::delete_tree(&draft);
        }
        made.map(|()| key)
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const NOW: Timestamps = {
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW as _ };
    Timestamps { last_access: now, last_modification: now }
};

fn fingerprint(layers: &[Digest], places: &[Place]) -> String {
    let mut hash = Sha256::new();
    for layer in layers {
        hash.update(format!("{layer}\n"));
    }
    for (path, is_directory) in places {
        hash.update([0, u8::from(*is_directory)]);
        hash.update(path.as_os_str().as_bytes());
    }
    hex(&hash.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::store::test_store;

    #[test]
    fn made_once_for_each_set() {
        let (_temp, store) = test_store();
        let layers = [Digest::of(b"layer")];
        let set =
            |names: &[(&str, bool)]| names.iter().map(|(n, d)| ((*n).into(), *d)).collect::<Vec<Place>>();
        let places = set(&[("a/b", true), ("a/b/c", false), ("a/d", false), ("etc/x", true)]);
        let key = store.make_places(&layers, &places).unwrap();
        let fs = store.places(&key);
        assert!(fs.join("a/b").is_dir() && fs.join("a/b/c").is_file() && fs.join("a/d").is_file());
        assert!(fs.join("etc/x").is_dir() && fs.join("etc/hosts").is_file());
        assert_eq!(store.make_places(&layers, &places).unwrap(), key);
        assert_ne!(store.make_places(&layers, &set(&[("a/b", false)])).unwrap(), key);
        assert_ne!(store.make_places(&[], &places).unwrap(), key);
        for bad in [&[("a", false), ("a/b", true)][..], &[("etc/hosts/x", true)], &[("proc", false)]] {
            assert!(store.make_places(&layers, &set(bad)).is_err(), "{bad:?}");
        }
        assert!(fs::read_dir(store.directory("tmp")).unwrap().next().is_none());
        // Its layers are of no image, so it is garbage.
        store.collect_garbage().unwrap();
        assert!(!fs.exists());
    }
}
