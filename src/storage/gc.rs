//! Garbage collection: what no image and no container names goes through trash/ into nothing. Idempotent; a crash leaves
//! what the next collection takes.

use super::{
    Digest, Store, delete_tree,
    store::{LAST, random_name, sync_directory},
};
use crate::error::{Explain, causes};
use anyhow::{Context, Error, Result, anyhow};
use rustix::io::Errno;
use std::{
    collections::HashSet,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

/// What a collection freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Layers removed.
    pub layers: usize,
    /// Blobs removed.
    pub blobs: usize,
    /// Bytes that they took, compressed and unpacked.
    pub bytes: u64,
    /// Somebody holds the store, so that nothing could be collected: whoever collects next will.
    pub busy: bool,
}

impl Store {
    /// Remove layers and blobs that no image and no container names, and what crashes have left in tmp/ and trash/.
    /// Never waits: while somebody holds the store there is no telling what is garbage.
    ///
    /// # Errors
    /// The first thing that could not be removed; everything else has been.
    pub fn collect_garbage(&self) -> Result<Freed> {
        self.collect_garbage_but(&[])
    }

    /// The same, but `wanted` blobs are kept as if they had come in part: whoever pulls their image again goes on with them.
    pub fn collect_garbage_but(&self, wanted: &[Digest]) -> Result<Freed> {
        // What names are gone stays gone, before what they named goes.
        sync_directory(&self.directory("images"))?;
        let Some(alone) = self.try_hold_alone()? else { return Ok(Freed { busy: true, ..Freed::default() }) };
        let marks = self.mark()?;
        let mut sweep = Sweep { store: self, freed: Freed::default(), failure: None };
        for reference in &marks.superseded {
            let removed = self.remove_record(reference);
            sweep.note(removed);
        }
        self.keep_as_partial(wanted.iter().filter(|blob| !marks.blobs.contains(&blob.hex())))?;
        sweep.views(&marks.layers)?;
        sweep.layers(&marks.layers)?;
        sweep.blobs(&marks.blobs)?;
        // Nobody holds the store, so nobody works in tmp/, and no blob is being received.
        for draft in entries(&self.directory("tmp"))?.into_iter().chain(self.stale_partials()?) {
            sweep.trash(&draft);
        }
        // Unlinking takes long and concerns nobody.
        drop(alone);
        for corpse in entries(&self.directory("trash"))? {
            let deleted = delete_tree(&corpse).with_context(|| format!("delete {}", corpse.display()));
            sweep.note(deleted);
        }
        sweep.failure.map_or(Ok(sweep.freed), Err)
    }

    /// What no image and no container names and has lain here for longer than `age`, as paths below the store; and what
    /// crashes have left. `None` while somebody holds the store, when there is no telling.
    pub fn orphans(&self, age: Duration) -> Result<Option<Vec<PathBuf>>> {
        let Some(_alone) = self.try_hold_alone()? else { return Ok(None) };
        let marks = self.mark()?;
        let mut found = unmarked(&self.directory("layers"), &marks.layers)?;
        found.extend(unmarked(&self.directory("blobs/sha256"), &marks.blobs)?);
        found.extend(entries(&self.directory("tmp"))?);
        found.extend(entries(&self.directory("trash"))?);
        found.retain(|path| {
            let changed = path.symlink_metadata().and_then(|meta| meta.modified());
            changed.is_ok_and(|time| time.elapsed().unwrap_or_default() >= age)
        });
        let below = |path: PathBuf| path.strip_prefix(&self.dirs().data).map(Path::to_owned).unwrap_or(path);
        Ok(Some(found.into_iter().map(below).collect()))
    }

    /// Remove `path`, a part of the store: at once from its place, then from the disk. Fine when it doesn't exist.
    pub fn discard(&self, path: &Path) -> Result<()> {
        match self.move_to_trash(path)? {
            Some(corpse) => {
                delete_tree(&corpse).with_context(|| format!("delete {}", corpse.display()))?;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Remove the whole store, which nobody holds, and what belongs to it elsewhere. Inside the user namespace.
    ///
    /// # Errors
    /// Somebody holds the store; or the first thing that could not be removed, while everything else has been.
    pub fn erase(&self) -> Result<()> {
        let Some(_alone) = self.try_hold_alone()? else {
            return Err(anyhow!("somebody works in the store {}", self.dirs().data.display()))
                .hint("wait until every other `ctr` has ended, then try again");
        };
        let delete = |path: &Path| delete_tree(path).with_context(|| format!("delete {}", path.display()));
        // Wherever this ends, whoever opens the store makes it whole again, and nothing in it has lost a part.
        self.move_to_trash(&self.directory(LAST))?;
        self.move_to_trash(&self.directory("images"))?;
        let mut sweep = Sweep { store: self, freed: Freed::default(), failure: None };
        let trash = self.directory("trash");
        for path in self.directories().filter(|path| *path != trash) {
            sweep.trash(&path);
        }
        let dirs = self.dirs();
        let events = ["events", "events.1"].map(|name| self.directory(name));
        for path in events.into_iter().chain([trash, dirs.runtime.clone(), dirs.cache.clone()]) {
            sweep.note(delete(&path));
        }
        // One that was named by --root may hold files of the user's.
        let _ = fs::remove_dir(&dirs.data);
        sweep.failure.map_or(Ok(()), Err)
    }

    fn move_to_trash(&self, path: &Path) -> Result<Option<PathBuf>> {
        let corpse = self.directory("trash").join(random_name()?);
        match fs::rename(path, &corpse) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            moved => moved.map(|()| Some(corpse)).with_context(|| format!("remove {}", path.display())),
        }
    }

    fn mark(&self) -> Result<Marks> {
        let mut marks = Marks::default();
        // A damaged record names nothing, so it keeps nothing: its image has to be pulled again anyway. But one that the
        // disk won't give now must not cost its layers.
        let listing = self.list_images()?;
        let damaged = listing.damaged.into_iter().map(|damaged| damaged.error);
        if let Some(unread) = damaged.into_iter().find(is_read_failure) {
            return Err(unread);
        }
        marks.superseded = listing.superseded;
        for image in &listing.images {
            marks.layers.extend(image.layers.iter().map(Digest::hex));
            let blobs = [&image.manifest, &image.config].into_iter().chain(&image.index).chain(&image.blobs);
            marks.blobs.extend(blobs.map(Digest::hex));
        }
        for list in self.lists()? {
            marks.blobs.extend(list.blobs().map(Digest::hex));
        }
        for container in entries(&self.directory("containers"))? {
            // Its own, and those of images that it mounts.
            for list in ["layers", "mounted-layers"].map(|name| container.join(name)) {
                match fs::read_to_string(&list) {
                    Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                    read => {
                        let read = read.with_context(|| format!("read {}", list.display()))?;
                        let names = read.lines().filter_map(|line| line.parse::<Digest>().ok());
                        marks.layers.extend(names.map(|layer| layer.hex()));
                    }
                }
            }
        }
        Ok(marks)
    }
}

#[derive(Default)]
struct Marks {
    layers: HashSet<String>,
    blobs: HashSet<String>,
    superseded: Vec<String>,
}

struct Sweep<'a> {
    store: &'a Store,
    freed: Freed,
    failure: Option<Error>,
}

impl Sweep<'_> {
    /// Those of which a layer goes, and those that no container has and none has wanted for a week.
    fn views(&mut self, marked: &HashSet<String>) -> Result<()> {
        let views = self.store.directory("views");
        if !views.is_dir() {
            return Ok(());
        }
        let containers = entries(&self.store.directory("containers"))?;
        let named = containers.iter().flat_map(|dir| ["view", "mounted-views"].map(|name| dir.join(name)));
        let lists: Vec<Vec<u8>> = named.filter_map(|list| fs::read(list).ok()).collect();
        let used: HashSet<&[u8]> = lists.iter().flat_map(|list| list.split(|byte| *byte == b'\n')).collect();
        for view in entries(&views)? {
            let list = fs::read_to_string(view.join("layers")).unwrap_or_default();
            let name = view.file_name().unwrap_or_default();
            let age = fs::metadata(&view)
                .and_then(|meta| meta.modified())
                .ok()
                .and_then(|time| time.elapsed().ok());
            let stale = age.is_some_and(|age| age > WEEK) && !used.contains(name.as_encoded_bytes());
            let whole = |line: &str| line.parse::<Digest>().is_ok_and(|layer| marked.contains(&layer.hex()));
            if stale || list.is_empty() || !list.lines().all(whole) {
                self.trash(&view);
            }
        }
        // Unless there are others: whoever makes one holds the store.
        let _ = fs::remove_dir(&views);
        Ok(())
    }

    fn layers(&mut self, marked: &HashSet<String>) -> Result<()> {
        for layer in unmarked(&self.store.directory("layers"), marked)? {
            let size = fs::read_to_string(layer.join("size")).ok().and_then(|size| size.parse::<u64>().ok());
            if self.trash(&layer) {
                self.freed.layers += 1;
                self.freed.bytes += size.unwrap_or(0);
            }
        }
        Ok(())
    }

    fn blobs(&mut self, marked: &HashSet<String>) -> Result<()> {
        for blob in unmarked(&self.store.directory("blobs/sha256"), marked)? {
            let size = blob.symlink_metadata().map_or(0, |blob| blob.len());
            if self.trash(&blob) {
                self.freed.blobs += 1;
                self.freed.bytes += size;
            }
        }
        Ok(())
    }

    fn trash(&mut self, path: &Path) -> bool {
        let moved = self.store.move_to_trash(path);
        matches!(self.note(moved), Some(Some(_)))
    }

    fn note<T>(&mut self, outcome: Result<T>) -> Option<T> {
        outcome.map_err(|error| self.failure.get_or_insert(error).to_string()).ok()
    }
}

fn unmarked(dir: &Path, marked: &HashSet<String>) -> Result<Vec<PathBuf>> {
    let mut paths = entries(dir)?;
    paths.retain(|path| !path.file_name().and_then(|name| name.to_str()).is_some_and(|n| marked.contains(n)));
    Ok(paths)
}

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> io::Result<_> { fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect() };
    list().with_context(|| format!("list {}", dir.display()))
}

/// The disk, the memory or a limit failed, where another attempt may succeed.
pub(super) fn is_read_failure(error: &Error) -> bool {
    let transient = |errno| !matches!(errno, Errno::LOOP | Errno::ISDIR);
    causes(error).any(|cause| {
        cause.downcast_ref::<Errno>().copied().is_some_and(transient)
            || cause.downcast_ref::<io::Error>().and_then(Errno::from_io_error).is_some_and(transient)
            || cause.is::<nix::errno::Errno>()
    })
}

#[cfg(test)]
mod tests {
    use super::super::{images::test_image, store::test_store};
    use super::*;

    fn layer(store: &Store, name: &str) -> Digest {
        let digest = Digest::of(name.as_bytes());
        fs::create_dir_all(store.layer_path(&digest).join("deep/er")).unwrap();
        fs::write(store.layer_dir(&digest.hex()).join("size"), "1000").unwrap();
        digest
    }

    #[test]
    fn keeps_what_images_and_containers_name() {
        let (_temp, store) = test_store();
        let [of_image, of_container, of_nobody] = ["a", "b", "c"].map(|name| layer(&store, name));
        store.publish_image(&test_image(&store, "a/b:c", vec![of_image])).unwrap();
        let container = store.directory("containers").join("0");
        fs::create_dir(&container).unwrap();
        fs::write(container.join("layers"), format!("{of_container}\n")).unwrap();
        store.put_blob(b"12345").unwrap();
        fs::create_dir_all(store.directory("tmp").join("stale/x")).unwrap();
        fs::write(store.directory("trash").join("left"), "").unwrap();
        fs::write(store.directory("images").join("damaged"), "{").unwrap();

        let hold = store.hold().unwrap();
        assert!(store.collect_garbage().unwrap().busy && store.has_layer(&of_nobody));
        drop(hold);
        let freed = store.collect_garbage().unwrap();
        assert_eq!(freed, Freed { layers: 1, blobs: 1, bytes: 1005, busy: false });
        assert!(store.has_layer(&of_image) && store.has_layer(&of_container) && !store.has_layer(&of_nobody));
        assert!(store.has_blob(&Digest::of(b"a/b:c")));
        for emptied in ["tmp", "trash"] {
            assert!(entries(&store.directory(emptied)).unwrap().is_empty());
        }
        assert_eq!(store.collect_garbage().unwrap(), Freed::default());
    }

    #[test]
    fn discards_anything() {
        let (_temp, store) = test_store();
        let digest = layer(&store, "a");
        store.discard(&store.layer_dir(&digest.hex())).unwrap();
        store.discard(&store.layer_dir(&digest.hex())).unwrap();
        assert!(!store.has_layer(&digest) && entries(&store.directory("trash")).unwrap().is_empty());
    }
}
