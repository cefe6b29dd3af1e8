//! Whether the store still is what it was made: blobs are hashed again; a layer, of which no archive can be made that is the
//! same bit by bit, is unpacked once more from its blob and compared; and what nothing names is found.

use super::{
    Compression, Digest, Expected, Image, Lock, Store,
    compare::differences,
    disk::ByErrno,
    gc::is_read_failure,
    ingest,
    layers::Draft,
    store::sync_directory,
    unpack::{Policy, Unpacked},
};
use crate::error::causes;
use anyhow::{Context, Error, Result, bail};
use rustix::{
    fs::{CWD, Mode, OFlags, RenameFlags, open, renameat_with, syncfs},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs::{self, File},
    io::{self, Read},
    os::fd::AsFd,
    path::Path,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::{Duration, SystemTime},
};

/// How thoroughly to look, and whether to mend.
#[derive(Clone, Debug, Default)]
pub struct Thoroughness {
    /// Read no layer.
    pub quick: bool,
    /// Put layers that their blobs give again in the place of damaged ones.
    pub repair: bool,
    /// What nothing names is damage after so long.
    pub max_age: Duration,
    /// Layers that somebody sees, so that they stay as they are.
    pub mounted: HashSet<Digest>,
}

/// What is wrong, in words, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Layers that are not what their diff ids say.
    pub layers: BTreeMap<String, Vec<String>>,
    /// Those of them that are whole again.
    pub repaired: Vec<String>,
    /// Images that miss something, or whose parts are damaged.
    pub images: BTreeMap<String, Vec<String>>,
    /// Records of images that can't be read, by file.
    pub records: BTreeMap<String, Vec<String>>,
    /// Containers that miss something.
    pub containers: BTreeMap<String, Vec<String>>,
    /// Paths that nothing names.
    pub orphans: Vec<String>,
}

impl Findings {
    /// Whether anything is wrong.
    pub fn any(&self) -> bool {
        let Findings { layers, images, records, containers, orphans, .. } = self;
        [layers, images, records, containers].iter().any(|list| !list.is_empty()) || !orphans.is_empty()
    }
}

impl Store {
    /// Look the store over. Starts threads; inside the user namespace that owns the layers.
    ///
    /// # Errors
    /// The disk won't give or take something now, so that there is no telling.
    pub fn check(&self, how: &Thoroughness) -> Result<Findings> {
        let orphans = self.orphans(how.max_age)?.unwrap_or_default();
        let _hold = self.hold()?;
        let mut findings = Findings {
            orphans: orphans.iter().map(|path| path.display().to_string()).collect(),
            ..Findings::default()
        };
        let listing = self.list_images()?;
        for damaged in listing.damaged {
            if is_read_failure(&damaged.error) {
                return Err(damaged.error);
            }
            let name = damaged.file.to_string_lossy().into_owned();
            findings.records.insert(name, vec![format!("{:#}", damaged.error)]);
        }
        let mut check = Check { store: self, how, blobs: BTreeMap::new(), findings };
        for (layer, blobs) in stacked(&listing.images) {
            check.layer(&layer, &blobs)?;
        }
        for image in &listing.images {
            check.image(image)?;
        }
        check.containers()?;
        Ok(check.findings)
    }

    /// Unpack `blob` as it was when it came.
    fn unpack_again(&self, blob: &Digest, diff_id: &Digest) -> Result<(Draft, Unpacked)> {
        let path = self.blob_path(&blob.hex());
        let file = File::open(&path).with_context(|| format!("open blob {}", path.display()))?;
        let size = file.metadata().with_context(|| format!("read blob {}", path.display()))?.len();
        let compression = compression(&path).with_context(|| format!("read blob {}", path.display()))?;
        // It was let in when it came; what `commit` made is not bounded.
        let expected = Expected {
            blob: Some(*blob),
            size: Some(size),
            bounded: false,
            compression,
            diff_id: Some(*diff_id),
        };
        let draft = Draft::make(self.draft_path()?).hint_by_errno()?;
        let (root, policy) = (draft.open_root()?, Policy::of_process()?);
        let (send, queue) = sync_channel(CHUNKS);
        let (fed, unpacked) = thread::scope(|scope| -> Result<_> {
            let feeding = thread::Builder::new().spawn_scoped(scope, move || feed(file, &send));
            let feeding = feeding.context("start a thread")?;
            let unpacked = ingest::ingest(&expected, queue, root, &policy);
            let fed = feeding.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
            Ok((fed, unpacked))
        })?;
        // The cause, if there is one, of whatever else went wrong.
        let found = fed.with_context(|| format!("read blob {}", path.display()))?;
        if found != *blob {
            bail!("blob {blob} is damaged: its contents are {found}");
        }
        let (unpacked, _) = unpacked.hint_by_errno()?;
        Ok((draft, unpacked))
    }

    /// Put what is in `draft` in the place of layer `diff_id`, unless somebody sees that; the old one goes with the draft.
    fn replace_layer(&self, diff_id: &Digest, draft: &Draft, size: u64) -> Result<bool> {
        let Some(_stopped) = self.lock_users(diff_id)? else { return Ok(false) };
        let root = draft.root();
        let new = root.parent().context("a layer has a directory")?;
        let replace = || -> Result<()> {
            fs::write(new.join("size"), size.to_string())?;
            syncfs(File::open(new)?)?;
            let place = self.layer_dir(&diff_id.hex());
            match renameat_with(CWD, new, CWD, &place, RenameFlags::EXCHANGE) {
                Err(Errno::NOENT) => fs::rename(new, &place)?,
                exchanged => exchanged?,
            }
            sync_directory(&self.directory("layers"))
        };
        replace().with_context(|| format!("repair layer {diff_id}")).hint_by_errno()?;
        Ok(true)
    }

    /// The locks of all containers over layer `diff_id`, so that none starts; `None` when one runs.
    fn lock_users(&self, diff_id: &Digest) -> Result<Option<Vec<Lock>>> {
        let mut locks = Vec::new();
        for id in self.containers()? {
            let dir = self.container(&id);
            if dir.layers().unwrap_or_default().contains(diff_id) {
                let Some(lock) = dir.try_lock()? else { return Ok(None) };
                locks.push(lock);
            }
        }
        Ok(Some(locks))
    }
}

struct Check<'c> {
    store: &'c Store,
    how: &'c Thoroughness,
    /// What is wrong with those that were looked at.
    blobs: BTreeMap<Digest, Option<String>>,
    findings: Findings,
}

impl Check<'_> {
    fn layer(&mut self, layer: &Digest, blobs: &BTreeSet<Digest>) -> Result<()> {
        let dir = self.store.layer_dir(&layer.hex());
        let mut wrong = Vec::new();
        if !dir.join("fs").is_dir() {
            wrong.push("it is missing".to_owned());
        } else if self.store.layer_size(layer).is_err() {
            wrong.push("its size is not recorded".to_owned());
        }
        let mut compared = self.how.quick && (wrong.is_empty() || !self.how.repair);
        for blob in blobs {
            if self.how.quick && compared {
                self.present(blob);
                continue;
            }
            // The kernel's clock for files lags a little.
            let since = now() - 1;
            let (draft, unpacked) = match self.store.unpack_again(blob, layer) {
                Ok(again) => again,
                Err(error) if is_read_failure(&error) && !is_missing(&error) => return Err(error),
                Err(error) => {
                    self.blobs.insert(*blob, Some(format!("{error:#}")));
                    continue;
                }
            };
            self.blobs.insert(*blob, None);
            if compared {
                continue;
            }
            compared = true;
            if wrong.is_empty() {
                wrong = self.compare(layer, &draft, since)?;
            }
            let seen = self.how.mounted.contains(layer);
            if !wrong.is_empty()
                && self.how.repair
                && !seen
                && self.store.replace_layer(layer, &draft, unpacked.size)?
            {
                self.findings.repaired.push(layer.hex());
            }
        }
        if !wrong.is_empty() {
            self.findings.layers.insert(layer.hex(), wrong);
        }
        Ok(())
    }

    fn compare(&self, layer: &Digest, draft: &Draft, since: i64) -> Result<Vec<String>> {
        let directory = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
        };
        let (expected, found) = (directory(&draft.root())?, directory(&self.store.layer_path(layer))?);
        differences(expected.as_fd(), found.as_fd(), since)
            .with_context(|| format!("compare layer {layer} with its blob"))
    }

    fn present(&mut self, blob: &Digest) {
        let missing = || format!("blob {blob} is missing");
        let state = (!self.store.has_blob(blob)).then(missing);
        self.blobs.entry(*blob).or_insert(state);
    }

    fn image(&mut self, image: &Image) -> Result<()> {
        const LIMIT: u64 = 16 << 20;
        let mut wrong = Vec::new();
        for document in [&image.manifest, &image.config].into_iter().chain(&image.index) {
            match self.store.read_blob(document, LIMIT) {
                Err(error) if is_read_failure(&error) && !is_missing(&error) => return Err(error),
                read => wrong.extend(read.err().map(|error| format!("{error:#}"))),
            }
        }
        for blob in &image.blobs {
            self.present(blob);
            wrong.extend(self.blobs.get(blob).cloned().flatten());
        }
        for layer in image.layers.iter().map(Digest::hex) {
            if self.findings.layers.contains_key(&layer) && !self.findings.repaired.contains(&layer) {
                wrong.push(format!("layer {layer} is damaged"));
            }
        }
        if !wrong.is_empty() {
            let known = self.findings.images.entry(image.config.hex()).or_default();
            wrong.retain(|new| !known.contains(new));
            wrong.dedup();
            known.extend(wrong);
        }
        Ok(())
    }

    fn containers(&mut self) -> Result<()> {
        for id in self.store.containers()? {
            let wrong: Vec<String> = match self.store.container(&id).layers() {
                Err(error) => vec![format!("{error:#}")],
                Ok(layers) => {
                    let missing = layers.iter().filter(|layer| !self.store.has_layer(layer));
                    missing.map(|layer| format!("layer {} is missing", layer.hex())).collect()
                }
            };
            if !wrong.is_empty() {
                self.findings.containers.insert(id.to_string(), wrong);
            }
        }
        Ok(())
    }
}

/// Chunks between the one who reads a blob and those who unpack it.
const CHUNKS: usize = 8;
const CHUNK: usize = 256 << 10;

/// All layers of `images`, each with its blobs.
fn stacked(images: &[Image]) -> BTreeMap<Digest, BTreeSet<Digest>> {
    let mut layers: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
    for image in images {
        for (at, layer) in image.layers.iter().enumerate() {
            layers.entry(*layer).or_default().extend(image.blobs.get(at));
        }
    }
    layers
}

fn feed(mut file: File, to: &SyncSender<Vec<u8>>) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(Digest::from(<[u8; 32]>::from(hasher.finalize())));
        }
        hasher.update(&chunk);
        // Whoever unpacks may have had enough; the hash is wanted all the same.
        let _ = to.send(chunk);
    }
}

/// By its first bytes (RFC 1952, RFC 8878).
fn compression(path: &Path) -> io::Result<Compression> {
    let mut magic = [0; 4];
    let length = File::open(path)?.read(&mut magic)?;
    Ok(match &magic[..length] {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Compression::Zstd,
        _ => Compression::None,
    })
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn is_missing(error: &Error) -> bool {
    let errno = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().and_then(Errno::from_io_error) == Some(Errno::NOENT)
    };
    causes(error).any(errno)
}
