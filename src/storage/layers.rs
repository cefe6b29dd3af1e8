//! Layers: `layers/<diff id>/fs` is what overlay takes, `size` beside it says how many bytes it holds. A layer appears
//! whole, by one rename, when everything about it has been verified and written to disk.

use super::{
    Compression, Digest, Hold, Partial, Store, delete_tree,
    disk::ByErrno,
    ingest::{self, Blob},
    unpack::{Policy, Unpacked},
};
use anyhow::{Context, Result, anyhow};
use rustix::{
    fs::{Mode, OFlags, open, removexattr, syncfs},
    io::Errno,
};
use std::{
    fmt,
    fs::{self, DirBuilder, File},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

/// Chunks that [`LayerIngest::push`] runs ahead.
const CHUNKS: usize = 8;

/// A layer as its manifest and its configuration describe it.
#[derive(Clone, Debug)]
pub struct LayerSource {
    /// Of the blob as it travels.
    pub blob: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// Of the blob.
    pub compression: Compression,
    /// Of the plain archive.
    pub diff_id: Digest,
}

/// What is known of a layer before it has come.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Of the blob as it travels.
    pub blob: Option<Digest>,
    /// Bytes of the blob.
    pub size: Option<u64>,
    /// It may not expand to more than a layer does; else it is our own.
    pub bounded: bool,
    /// Of the blob.
    pub compression: Compression,
    /// Of the plain archive.
    pub diff_id: Option<Digest>,
}

/// `layer sha256:…`, as far as its digest is known.
impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.blob {
            Some(blob) => write!(f, "layer {blob}"),
            None => f.write_str("the layer"),
        }
    }
}

impl From<LayerSource> for Expected {
    fn from(source: LayerSource) -> Expected {
        let LayerSource { blob, size, compression, diff_id } = source;
        Expected { blob: Some(blob), size: Some(size), bounded: true, compression, diff_id: Some(diff_id) }
    }
}

/// A layer on its way into the store. Dropped before it is published it leaves nothing.
pub struct LayerIngest {
    store: Store,
    expected: Expected,
    blob: Blob,
    worker: Worker,
    draft: Draft,
    partial: Option<Partial>,
    hold: Hold,
}

/// A layer that is whole and verified, and not in the store yet. Dropped it leaves nothing.
pub struct LayerDraft {
    /// Of the blob as it travels.
    pub blob: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// Of the blob.
    pub compression: Compression,
    /// Of the plain archive.
    pub diff_id: Digest,
    store: Store,
    unpacked: Unpacked,
    draft: Draft,
    partial: Option<Partial>,
    _hold: Hold,
}

impl Store {
    /// Is the layer of this diff id in the store?
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer_dir(&diff_id.hex()).is_dir()
    }

    /// The directory of a layer that overlay takes as a lower one.
    pub fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.layer_dir(&diff_id.hex()).join("fs")
    }

    /// Bytes of data in the files of a layer.
    pub fn layer_size(&self, diff_id: &Digest) -> Result<u64> {
        let path = self.layer_dir(&diff_id.hex()).join("size");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        text.trim_end().parse().with_context(|| format!("read {}", path.display()))
    }

    /// Begin to take in a layer of which all is known: starts two threads.
    pub fn ingest(&self, source: LayerSource) -> Result<LayerIngest> {
        self.receive(source.into())
    }

    /// The same for a layer whose blob is ours to receive, and may be here in part: [`LayerIngest::replay`] comes first.
    pub fn ingest_partial(&self, source: LayerSource, partial: Partial) -> Result<LayerIngest> {
        self.begin(source.into(), Some(partial))
    }

    /// Begin to take in a layer: starts two threads.
    pub fn receive(&self, expected: Expected) -> Result<LayerIngest> {
        self.begin(expected, None)
    }

    fn begin(&self, expected: Expected, partial: Option<Partial>) -> Result<LayerIngest> {
        let hold = self.hold()?;
        let policy = Policy::of_process()?;
        let draft = Draft::make(self.draft_path()?).hint_by_errno()?;
        let blob = match &partial {
            Some(partial) => partial.file()?,
            None => {
                let path = draft.blob();
                File::create_new(&path).with_context(|| format!("make {}", path.display())).hint_by_errno()?
            }
        };
        let blob = Blob::new(expected, blob);
        let root = draft.open_root()?;
        let (chunks, queue) = sync_channel(CHUNKS);
        let thread = thread::Builder::new()
            .name("receive".into())
            .spawn(move || ingest::ingest(&expected, queue, root, &policy))
            .context("start a thread")?;
        let worker = Worker { chunks: Some(chunks), thread: Some(thread) };
        Ok(LayerIngest { store: self.clone(), expected, blob, worker, draft, partial, hold })
    }
}

impl LayerIngest {
    /// Take what an earlier process has received, until it is `abandoned`.
    ///
    /// # Errors
    /// As those of [`LayerIngest::push`].
    pub fn replay(&mut self, abandoned: &AtomicBool) -> Result<()> {
        while !abandoned.load(Ordering::Relaxed) {
            let chunk = self.blob.received()?;
            if chunk.is_empty() {
                break;
            }
            self.pass_on(chunk)?;
        }
        Ok(())
    }

    /// The next bytes of the blob. Waits while unpacking lags behind.
    ///
    /// # Errors
    /// What has gone wrong since, in any stage.
    pub fn push(&mut self, chunk: Vec<u8>) -> Result<()> {
        self.blob.take(&chunk).hint_by_errno()?;
        self.pass_on(chunk)
    }

    fn pass_on(&mut self, chunk: Vec<u8>) -> Result<()> {
        if chunk.is_empty() || self.worker.chunks.as_ref().is_some_and(|chunks| chunks.send(chunk).is_ok()) {
            return Ok(());
        }
        self.worker.join()?;
        Err(anyhow!("{} is complete, yet more of it came", self.expected))
    }

    /// Wait for the rest, verify size, digest and diff id, and publish the layer and its blob. Fine if another process
    /// has published them meanwhile.
    pub fn finish(self) -> Result<()> {
        self.settle()?.publish()
    }

    /// Wait for the rest and verify size, digest and diff id, as far as they were known.
    pub fn settle(mut self) -> Result<LayerDraft> {
        let unpacked = self.worker.join();
        // The cause, if there is one, of whatever else went wrong.
        let (blob, size) = self.blob.verify()?;
        let (unpacked, diff_id) = unpacked?;
        let (compression, LayerIngest { store, draft, partial, hold, .. }) =
            (self.expected.compression, self);
        Ok(LayerDraft { blob, size, compression, diff_id, store, unpacked, draft, partial, _hold: hold })
    }
}

impl LayerDraft {
    /// Bytes of data in its files.
    pub fn unpacked_size(&self) -> u64 {
        self.unpacked.size
    }

    /// Let the layer and its blob appear in the store. Fine if another process has published them meanwhile.
    pub fn publish(self) -> Result<()> {
        LayerDraft::publish_all(vec![self])
    }

    /// The same for several, with one wait for the disk. The contents reach it before the names; the names do when an image
    /// is published that needs them.
    pub fn publish_all(drafts: Vec<LayerDraft>) -> Result<()> {
        let Some(first) = drafts.first() else { return Ok(()) };
        for draft in &drafts {
            let path = draft.draft.layer().join("size");
            let written = fs::write(&path, draft.unpacked.size.to_string());
            written.with_context(|| format!("write {}", path.display())).hint_by_errno()?;
        }
        let sync = || Ok(syncfs(File::open(&first.draft.0)?)?);
        sync().and_then(|()| drafts.iter().try_for_each(LayerDraft::rename)).hint_by_errno()
    }

    fn rename(&self) -> Result<()> {
        let rename = || {
            let place = self.store.layer_dir(&self.diff_id.hex());
            match fs::rename(self.draft.layer(), place).map_err(|e| (Errno::from_io_error(&e), e)) {
                Err((Some(Errno::NOTEMPTY | Errno::EXIST), _)) => {}
                renamed => renamed.map_err(|(_, e)| e)?,
            }
            let blob =
                self.partial.as_ref().map_or_else(|| self.draft.blob(), |partial| partial.path().to_owned());
            fs::rename(blob, self.store.blob_path(&self.blob.hex()))
        };
        rename().with_context(|| format!("publish layer {}", self.diff_id))
    }
}

/// The threads that unpack, and their queue. Dropped, it waits for their end.
struct Worker {
    chunks: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<Result<(Unpacked, Digest)>>>,
}

impl Worker {
    fn join(&mut self) -> Result<(Unpacked, Digest)> {
        drop(self.chunks.take());
        let thread = self.thread.take().context("the layer has failed")?;
        thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked"))).hint_by_errno()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

/// A directory in tmp/, gone with its value: `blob` and `layer/fs`.
pub(super) struct Draft(PathBuf);

impl Draft {
    pub(super) fn make(path: PathBuf) -> Result<Draft> {
        let draft = Draft(path);
        for dir in [draft.0.clone(), draft.0.join("layer"), draft.root()] {
            make_private(&dir).with_context(|| format!("make directory {}", dir.display()))?;
        }
        Ok(draft)
    }

    fn blob(&self) -> PathBuf {
        self.0.join("blob")
    }

    fn layer(&self) -> PathBuf {
        self.0.join("layer")
    }

    pub(super) fn root(&self) -> PathBuf {
        self.0.join("layer/fs")
    }

    pub(super) fn open_root(&self) -> Result<OwnedFd> {
        let root = self.root();
        // Modes are to be the image's, whatever ACL the user's directories hand down.
        match removexattr(&root, "system.posix_acl_default") {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(e) => return Err(e).with_context(|| format!("remove the ACL of {}", root.display())),
        }
        open(&root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("open {}", root.display()))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = delete_tree(&self.0);
    }
}

fn make_private(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}
