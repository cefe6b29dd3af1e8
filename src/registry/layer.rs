//! One layer from its registry into the store, in one pass: chunks go from the socket to the thread that unpacks them,
//! and a transfer that breaks goes on where it stopped, be it in another process.

use super::{
    Progress,
    client::Client,
    failure::{Failure, Kind, broken, failure, ours, transport},
    manifest::{Config, Content, Manifest},
    worker::Worker,
};
use crate::storage::{Claim, Compression, Digest, LayerDraft, LayerIngest, LayerSource, Partial, Store};
use anyhow::{Result, anyhow};
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap},
};
use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Chunks (of at most some 400 KiB each) that may wait for a layer's thread: memory is bounded, and a slow disk slows the
/// sender down.
const CHUNKS_AHEAD: usize = 4;
/// A transfer that got so far, in bytes, before it broke, has earned new patience.
const WORTHWHILE: u64 = 1 << 20;
/// So many bytes tell the compression.
const HEAD: u64 = 4;
/// How often to look whether another process has come further with a blob.
const GLANCE: Duration = Duration::from_millis(100);
/// Whoever comes no further for so long (a stopped process) is not waited for.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(60);

/// One layer of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// As transferred.
    pub blob: Content,
    /// Of the unpacked tar archive.
    pub diff_id: Digest,
}

/// Fetch `layer`, unless another process does: then wait for that. `None`: it is in the store.
///
/// # Errors
/// What has come of it stays for the next one, unless the error says that it is worth nothing.
pub async fn fetch(
    client: &Client,
    store: &Store,
    layer: &Layer,
    progress: &dyn Progress,
) -> Result<Option<LayerDraft>, Failure> {
    progress.begin(&layer.blob.digest, layer.blob.size);
    let mut anew = false;
    loop {
        let place = match place(store, layer, progress).await? {
            Place::Published => {
                progress.done(&layer.blob.digest);
                return Ok(None);
            }
            Place::Partial(partial)
                if anew || partial.length() > layer.blob.size || partial.length() < HEAD =>
            {
                Place::Partial(partial.clear().map_err(ours)?)
            }
            place => place,
        };
        let has_some = matches!(&place, Place::Partial(partial) if partial.length() > 0);
        match receive(client, store, layer, place, progress).await {
            // What an earlier process has left may be what is wrong.
            Err(Failure { kind: Kind::Broken, .. }) if has_some && !anew => anew = true,
            received => {
                let draft = received?;
                progress.done(&layer.blob.digest);
                return Ok(Some(draft));
            }
        }
    }
}

/// Where a blob comes to.
enum Place {
    /// It is in the store, with its layer.
    Published,
    /// Where others wait for it.
    Partial(Partial),
    /// In a draft that nobody else knows of.
    Draft,
}

/// Where we may receive `layer`, after those who receive it now.
async fn place(store: &Store, layer: &Layer, progress: &dyn Progress) -> Result<Place, Failure> {
    let digest = layer.blob.digest;
    let is_there = || store.has_layer(&layer.diff_id) && store.has_blob(&digest);
    let mut seen = (0, Instant::now());
    loop {
        if is_there() {
            return Ok(Place::Published);
        }
        let length = match store.claim_blob(&digest).map_err(ours)? {
            // It may have been published between the two.
            Claim::Ours(_) if is_there() => return Ok(Place::Published),
            Claim::Ours(partial) => return Ok(Place::Partial(partial)),
            Claim::Taken(length) => length,
        };
        if length > seen.0 {
            seen = (length, Instant::now());
            progress.advance(&digest, length);
        } else if seen.1.elapsed() > PATIENCE_WITH_OTHERS {
            return Ok(Place::Draft);
        }
        // A lock has no event that a future could wait for.
        tokio::time::sleep(GLANCE).await;
    }
}

async fn receive(
    client: &Client,
    store: &Store,
    layer: &Layer,
    place: Place,
    progress: &dyn Progress,
) -> Result<LayerDraft, Failure> {
    let mut intake = Intake::begin(store, layer, place).await?;
    let mut patience = client.patience();
    while intake.received < layer.blob.size {
        let before = intake.received;
        if let Err(mut failure) = transfer(client, &mut intake, progress).await {
            failure.cause = failure.cause.context(format!("layer {}", layer.blob.digest));
            if intake.received - before >= WORTHWHILE {
                patience = client.patience();
            }
            patience.pause(failure).await?;
        }
    }
    intake.finish().await
}

/// Read on from where the last transfer stopped.
async fn transfer(client: &Client, intake: &mut Intake<'_>, progress: &dyn Progress) -> Result<(), Failure> {
    let Content { digest, size } = intake.layer.blob;
    let mut response = client.blob(&digest, intake.received).await?;
    let mut known = begins_before(&response, intake.received, size)
        .map_err(|what| broken(anyhow!("{} sends {what}", client.host())))?;
    loop {
        let chunk = response.chunk().await.map_err(|error| {
            let Failure { kind, cause } = transport(error, client.host());
            Failure {
                kind,
                cause: cause.context(format!("stopped after {} of {size} bytes", intake.received)),
            }
        })?;
        let Some(chunk) = chunk else { break };
        let skipped = known.min(chunk.len() as u64);
        known -= skipped;
        let fresh = &chunk[skipped as usize..];
        if intake.received + fresh.len() as u64 > size {
            return Err(broken(anyhow!("{} sends more than the declared {size} bytes", client.host())));
        }
        if !fresh.is_empty() {
            intake.push(fresh.to_vec()).await?;
            progress.advance(&digest, intake.received);
        }
    }
    if intake.received < size {
        let what = format!("{} stops after {} of {size} bytes", client.host(), intake.received);
        return Err(failure(
            Kind::Passing(None),
            what,
            "run the command again; if it stays so, the registry is broken",
        ));
    }
    Ok(())
}

/// How many bytes before `wanted` the body of `response` begins.
fn begins_before(response: &Response, wanted: u64, size: u64) -> Result<u64, String> {
    offset(response.status(), response.headers(), wanted, size)
}

fn offset(status: StatusCode, headers: &HeaderMap, wanted: u64, size: u64) -> Result<u64, String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match status {
        StatusCode::OK => match text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()) {
            Some(length) if length != size => {
                Err(format!("{length} bytes, but the manifest declares {size}"))
            }
            _ => Ok(wanted),
        },
        StatusCode::PARTIAL_CONTENT => {
            let range = text(CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes "));
            let parsed = range.and_then(|range| {
                let (span, total) = range.split_once('/')?;
                Some((span.split_once('-')?.0.parse::<u64>().ok()?, total))
            });
            match parsed {
                Some((start, total)) if start == wanted && (total == "*" || total.parse() == Ok(size)) => {
                    Ok(0)
                }
                _ => Err(format!("the wrong part: asked for bytes {wanted}- of {size}, it says {range:?}")),
            }
        }
        other => Err(format!("status {other}")),
    }
}

/// What has come of a layer.
struct Intake<'a> {
    store: &'a Store,
    layer: &'a Layer,
    /// Held back until it tells the compression.
    head: Vec<u8>,
    received: u64,
    partial: Option<Partial>,
    unpacker: Option<Unpacker>,
}

/// The thread that unpacks a layer. Dropped without an end mark, it throws away what it has.
struct Unpacker {
    chunks: mpsc::Sender<Option<Vec<u8>>>,
    worker: Worker<LayerDraft>,
}

impl<'a> Intake<'a> {
    async fn begin(store: &'a Store, layer: &'a Layer, place: Place) -> Result<Intake<'a>, Failure> {
        let mut intake =
            Intake { store, layer, head: Vec::new(), received: 0, partial: None, unpacker: None };
        let Place::Partial(partial) = place else { return Ok(intake) };
        intake.received = partial.length();
        let head = partial.head().map_err(ours)?;
        intake.partial = Some(partial);
        if intake.received > 0 {
            intake.start(&head)?;
        }
        Ok(intake)
    }

    async fn push(&mut self, chunk: Vec<u8>) -> Result<(), Failure> {
        self.received += chunk.len() as u64;
        if self.unpacker.is_some() {
            return self.send(Some(chunk)).await;
        }
        self.head.extend(chunk);
        if (self.head.len() as u64) < HEAD {
            return Ok(());
        }
        self.start_with_head().await
    }

    async fn finish(mut self) -> Result<LayerDraft, Failure> {
        if self.unpacker.is_none() {
            self.start_with_head().await?;
        }
        self.send(None).await?;
        self.joined().await
    }

    async fn start_with_head(&mut self) -> Result<(), Failure> {
        let head = std::mem::take(&mut self.head);
        self.start(&head)?;
        self.send(Some(head)).await
    }

    fn start(&mut self, head: &[u8]) -> Result<(), Failure> {
        let source = LayerSource {
            blob: self.layer.blob.digest,
            size: self.layer.blob.size,
            compression: compression(head),
            diff_id: self.layer.diff_id,
        };
        let ingest = match self.partial.take() {
            Some(partial) => self.store.ingest_partial(source, partial),
            None => self.store.ingest(source),
        };
        let ingest = ingest.map_err(ours)?;
        let (chunks, queue) = mpsc::channel(CHUNKS_AHEAD);
        let worker =
            Worker::start("layer", move |abandoned| unpack(ingest, queue, abandoned)).map_err(ours)?;
        self.unpacker = Some(Unpacker { chunks, worker });
        Ok(())
    }

    async fn send(&mut self, chunk: Option<Vec<u8>>) -> Result<(), Failure> {
        match &self.unpacker {
            Some(unpacker) if unpacker.chunks.send(chunk).await.is_ok() => Ok(()),
            // The thread is gone: it says why.
            _ => self.joined().await.map(drop),
        }
    }

    async fn joined(&mut self) -> Result<LayerDraft, Failure> {
        match self.unpacker.take() {
            Some(unpacker) => unpacker.worker.join().await.map_err(of_content),
            None => Err(ours(anyhow!("layer {} is not being unpacked", self.layer.diff_id))),
        }
    }
}

/// What came can't be taken: another place may have it whole. An error with a hint is this machine's own (a full disk).
fn of_content(cause: anyhow::Error) -> Failure {
    if crate::error::hint(&cause).is_some() { ours(cause) } else { broken(cause) }
}

/// Runs on a thread of its own: blocks on the queue and on the disk.
fn unpack(
    mut ingest: LayerIngest,
    mut queue: mpsc::Receiver<Option<Vec<u8>>>,
    abandoned: &AtomicBool,
) -> Result<LayerDraft> {
    ingest.replay(abandoned)?;
    while let Some(message) = queue.blocking_recv() {
        match message {
            Some(chunk) => ingest.push(chunk)?,
            None => return ingest.settle(),
        }
    }
    Err(anyhow!("the transfer ended early"))
}

/// By the first bytes (RFC 1952 section 2.3.1, RFC 8878 section 3.1): media types are known to lie.
pub(super) fn compression(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Each layer once, even when the image stacks it twice.
pub fn distinct(manifest: &Manifest, config: &Config) -> Vec<Layer> {
    let mut layers = Vec::with_capacity(manifest.layers.len());
    for (blob, diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
        let layer = Layer { blob: *blob, diff_id: *diff_id };
        if !layers.contains(&layer) {
            layers.push(layer);
        }
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn where_an_answer_begins() {
        let (ok, partial) = (StatusCode::OK, StatusCode::PARTIAL_CONTENT);
        for (status, name, value, wanted, expected) in [
            (ok, CONTENT_LENGTH, "10", 0, Some(0)),
            (ok, CONTENT_LENGTH, "10", 4, Some(4)),
            (ok, CONTENT_RANGE, "", 4, Some(4)),
            (ok, CONTENT_LENGTH, "9", 0, None),
            (partial, CONTENT_RANGE, "bytes 4-9/10", 4, Some(0)),
            (partial, CONTENT_RANGE, "bytes 4-9/*", 4, Some(0)),
            (partial, CONTENT_RANGE, "bytes 0-9/10", 4, None),
            (partial, CONTENT_RANGE, "bytes 4-9/11", 4, None),
            (partial, CONTENT_RANGE, "bytes x", 4, None),
            (partial, CONTENT_LENGTH, "6", 4, None),
            (StatusCode::NO_CONTENT, CONTENT_LENGTH, "0", 0, None),
        ] {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            assert_eq!(offset(status, &headers, wanted, 10).ok(), expected, "{status} {value} {wanted}");
        }
    }

    #[test]
    fn compressions() {
        for (head, expected) in [
            (&[0x1f, 0x8b, 8, 0][..], Compression::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
            (&[0x52, 0x2a, 0x4d, 0x18], Compression::Zstd),
            (b"etc/", Compression::None),
            (&[], Compression::None),
        ] {
            assert_eq!(compression(head), expected, "{head:?}");
        }
    }
}
