//! Pulls an image: which places to try, its manifest for our platform, its config, its layers side by side, and the
//! reference last.

use super::{
    Progress, PullOptions,
    client::{Client, Received},
    connector::Connector,
    failure::{self, Failure, Kind, broken, ours},
    layer::{self, Layer},
    local,
    manifest::{self, CONFIG_LIMIT, Config, Content, Document, LAYERS_LIMIT, MANIFEST_LIMIT, Manifest},
    platform::Platform,
    publish::Publisher,
    reference::{self, Reference, Target},
    registries::{Registries, Source},
    registries_files, search, short_names,
};
use crate::{
    error::Explain,
    storage::{Digest, Image, Store},
};
use anyhow::{Context, Result, anyhow};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{cell::RefCell, collections::HashMap, os::fd::BorrowedFd, rc::Rc};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Runtime,
};

/// So many layers come at once.
const LAYERS_AT_ONCE: usize = 4;
/// An index may name indexes, so deep.
const INDEX_DEPTH: usize = 4;
/// So many tags of one repository are pulled at once.
const TAGS_LIMIT: usize = 10_000;

/// Pulls images into one store, one after the other; connections and tokens are kept between them. Made and used inside the
/// user namespace that owns the store. Has a current-thread tokio of its own; the threads that unpack are gone when a pull
/// returns.
pub struct Puller<'a> {
    runtime: Runtime,
    pull: Pull<'a>,
    /// Readable when the user wants us to end.
    interrupt: Option<AsyncFd<BorrowedFd<'a>>>,
}

/// The user wanted it to end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl<'a> Puller<'a> {
    /// Nothing is connected yet. When `interrupt` becomes readable, a pull ends early; what has come of its layers stays.
    pub fn new(
        store: &'a Store,
        options: &'a PullOptions,
        progress: &'a dyn Progress,
        interrupt: Option<BorrowedFd<'a>>,
    ) -> Result<Puller<'a>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("start the pull")?;
        let guard = runtime.enter();
        #[expect(
            deprecated,
            reason = "what takes its place is unsafe; a borrowed descriptor stays what it is"
        )]
        let readable = |fd| AsyncFd::with_interest(fd, Interest::READABLE).context("watch for signals");
        let interrupt = interrupt.map(readable).transpose()?;
        drop(guard);
        let pull = Pull {
            store,
            progress,
            wanted: options.platform.as_deref().map(str::parse).transpose()?,
            registries: registries_files::load(store.dirs())?,
            connector: Connector::new(store.dirs(), options),
            clients: RefCell::default(),
            begun: RefCell::default(),
            wanted_again: RefCell::default(),
        };
        Ok(Puller { runtime, pull, interrupt })
    }

    /// Pull `name` from the first place that has it.
    ///
    /// # Errors
    /// One that tells for each place why it had to be given up; or [`Interrupted`].
    pub fn pull(&self, name: &str) -> Result<Image> {
        let places = short_names::to_pull(name, &self.pull.registries)?;
        // What the store has now, it has until the image is published.
        let _hold = self.pull.store.hold()?;
        self.run(self.pull.try_all(name, &places))
    }

    /// What `name` means in the store, if it has the platform that is wanted.
    pub fn here(&self, name: &str) -> Result<Option<Image>> {
        let store = self.pull.store;
        let fits = |image: &Image| local::fits(image, self.pull.wanted.as_ref());
        Ok(local::find(store, store.dirs(), name)?.filter(fits))
    }

    /// All tags of the repository `name`, each with it, at the first place that lists them.
    ///
    /// # Errors
    /// As those of [`Puller::pull`]; or `name` has a tag.
    pub fn tagged(&self, name: &str) -> Result<Vec<Reference>> {
        if reference::has_target(name) {
            return Err(anyhow!("{name:?} has a tag or a digest, which --all-tags can't have"))
                .hint("leave out the tag, or --all-tags");
        }
        let places = short_names::to_pull(name, &self.pull.registries)?;
        self.run(self.pull.tags(name, &places))
    }

    /// Blobs of pulls that have failed or were interrupted, but not for good.
    pub fn wanted_again(&self) -> Vec<Digest> {
        [self.pull.wanted_again.take(), self.pull.begun.take()].concat()
    }

    fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.interrupted() => Err(Interrupted.into()),
                outcome = work => outcome,
            }
        })
    }

    async fn interrupted(&self) {
        match &self.interrupt {
            // Whoever it is for reads the signal: here only that it came counts.
            Some(interrupt) if interrupt.readable().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }
}

struct Pull<'a> {
    store: &'a Store,
    progress: &'a dyn Progress,
    wanted: Option<Platform>,
    registries: Registries,
    connector: Connector<'a>,
    /// By repository.
    clients: RefCell<HashMap<String, Rc<Client>>>,
    /// Blobs of layers that the current pull has asked for.
    begun: RefCell<Vec<Digest>>,
    /// Those of pulls that failed and may succeed another time.
    wanted_again: RefCell<Vec<Digest>>,
}

/// The manifest that was chosen.
struct Chosen {
    index: Option<Received>,
    received: Received,
    manifest: Manifest,
    /// As the index says.
    platform: Option<Platform>,
}

impl Pull<'_> {
    async fn try_all(&self, name: &str, places: &[Reference]) -> Result<Image> {
        let outcome =
            self.at_first(name, places, async |place, source| self.fetch_from(place, source).await).await;
        let begun = self.begun.take();
        match &outcome {
            Ok(_) => {}
            Err(failed) if failed.may_go_on => self.wanted_again.borrow_mut().extend(begun),
            Err(_) => begun.iter().for_each(|blob| self.store.forget_partial(blob)),
        }
        outcome.map_err(|failed| failed.cause)
    }

    async fn tags(&self, name: &str, places: &[Reference]) -> Result<Vec<Reference>> {
        let list = async |place: &Reference, source: &Source| {
            let tags = search::tags_of(&*self.client(source)?, TAGS_LIMIT + 1).await?;
            if tags.len() > TAGS_LIMIT {
                self.progress
                    .note(&format!("{} has more than {TAGS_LIMIT} tags: the first are pulled", place.name()));
            }
            let all = tags
                .into_iter()
                .take(TAGS_LIMIT)
                .map(|tag| Reference { target: Target::Tag(tag), ..place.clone() });
            Ok(all.collect())
        };
        self.at_first(name, places, list).await.map_err(|failed| failed.cause)
    }

    /// What `work` finds at the first place that has it.
    async fn at_first<T>(
        &self,
        name: &str,
        places: &[Reference],
        work: impl AsyncFn(&Reference, &Source) -> Result<T, Failure>,
    ) -> Result<T, Failed> {
        let mut given_up = Vec::new();
        for place in places {
            for source in self.registries.sources(place).map_err(Failed::for_good)? {
                self.progress.trying(&source.reference.to_string());
                match work(place, &source).await {
                    Ok(found) => return Ok(found),
                    Err(Failure { kind: Kind::Ours, cause }) => {
                        return Err(Failed::for_good(cause.context(format!("pull {place}"))));
                    }
                    Err(failure) => given_up.push((source.reference.to_string(), failure)),
                }
            }
        }
        let passing = |kind| matches!(kind, Kind::Passing(_) | Kind::Unreachable | Kind::Denied);
        let may_go_on = given_up.iter().any(|(_, failure)| passing(failure.kind));
        Err(Failed { may_go_on, cause: failure::all_of(name, given_up) })
    }

    fn client(&self, source: &Source) -> Result<Rc<Client>, Failure> {
        let key = format!("{} {}", source.reference.name(), source.insecure);
        if let Some(client) = self.clients.borrow().get(&key) {
            return Ok(client.clone());
        }
        let client = Rc::new(self.connector.client(source).map_err(ours)?);
        self.clients.borrow_mut().insert(key, client.clone());
        Ok(client)
    }

    async fn fetch_from(&self, place: &Reference, source: &Source) -> Result<Image, Failure> {
        let client = self.client(source)?;
        let target = &source.reference.target;
        if let Some(image) = self.unchanged(&client, place, target).await? {
            return Ok(image);
        }
        let chosen = self.manifest(&client, target).await?;
        let (bytes, config) = self.config(&client, &chosen.manifest).await?;
        let platform = self.check_platform(config.platform.clone().refined(chosen.platform.as_ref()))?;
        let layers = layer::distinct(&chosen.manifest, &config);
        self.layers(&client, &layers).await?;
        let image = Image {
            reference: place.to_string(),
            manifest: chosen.received.digest,
            index: chosen.index.as_ref().map(|index| index.digest),
            config: chosen.manifest.config.digest,
            size: self.size(&layers).map_err(ours)?,
            layers: config.diff_ids,
            blobs: chosen.manifest.layers.iter().map(|layer| layer.digest).collect(),
            platform,
            pulled: jiff::Timestamp::now(),
            created: None,
            former: Vec::new(),
        };
        let documents = chosen.index.iter().chain([&chosen.received]).map(|received| &received.bytes);
        self.publish(documents.chain([&bytes]), &image).map_err(ours)?;
        Ok(image)
    }

    /// The image of the store, when it is whole and what `target` still points to.
    async fn unchanged(
        &self,
        client: &Client,
        place: &Reference,
        target: &Target,
    ) -> Result<Option<Image>, Failure> {
        let Some(image) = self.store.image(&place.to_string()).map_err(ours)? else { return Ok(None) };
        let fits = local::fits(&image, self.wanted.as_ref());
        if !fits || !self.is_whole(&image) {
            return Ok(None);
        }
        let current = match target {
            Target::Digest(digest) => Some(*digest),
            Target::Tag(_) => match client.peek(target).await {
                // Not every registry answers HEAD: then the manifest itself will tell.
                Err(Failure { kind: Kind::NotFound | Kind::Broken, .. }) => None,
                current => current?,
            },
        };
        Ok((current.is_some() && [Some(image.manifest), image.index].contains(&current)).then_some(image))
    }

    fn is_whole(&self, image: &Image) -> bool {
        let blobs = [&image.manifest, &image.config].into_iter().chain(&image.index).chain(&image.blobs);
        image.layers.iter().all(|layer| self.store.has_layer(layer))
            && blobs.into_iter().all(|blob| self.store.has_blob(blob))
    }

    /// Follow `target` through indexes to the manifest for our platform.
    async fn manifest(&self, client: &Client, target: &Target) -> Result<Chosen, Failure> {
        let host = Platform::host();
        let wanted = self.wanted.as_ref().unwrap_or(&host);
        let mut index = None;
        let mut target = target.clone();
        let mut declared = None;
        let mut platform = None;
        for _ in 0..=INDEX_DEPTH {
            let received = client.manifest(&target, MANIFEST_LIMIT).await?;
            let length = received.bytes.len() as u64;
            if let Some(size) = declared
                && size != length
            {
                return Err(broken(anyhow!(
                    "manifest {target} has {length} bytes, its index declares {size}"
                )));
            }
            let document = manifest::parse(&received.bytes, received.content_type.as_deref());
            match document.with_context(|| format!("manifest {}", received.digest)).map_err(broken)? {
                Document::Image(manifest) => {
                    return Ok(Chosen { index, received, manifest, platform });
                }
                Document::Index(offers) => {
                    let offer = manifest::choose(&offers, wanted).map_err(broken)?;
                    target = Target::Digest(offer.content.digest);
                    declared = Some(offer.content.size);
                    platform = offer.platform.clone().or(platform);
                    index = index.or(Some(received));
                }
            }
        }
        Err(broken(anyhow!("indexes lie within indexes, more than {INDEX_DEPTH} deep")))
    }

    async fn config(&self, client: &Client, manifest: &Manifest) -> Result<(Vec<u8>, Config), Failure> {
        let Content { digest, size } = manifest.config;
        if size > CONFIG_LIMIT {
            let limit = CONFIG_LIMIT >> 20;
            return Err(broken(anyhow!("the image config declares {size} bytes, {limit} MiB are allowed")));
        }
        // One that a power cut has emptied before any image named it is as good as none.
        let bytes = match self.store.read_blob(&digest, CONFIG_LIMIT) {
            Ok(bytes) => bytes,
            Err(_) => client.config(&digest, size).await?,
        };
        if bytes.len() as u64 != size {
            return Err(broken(anyhow!(
                "image config {digest} has {} bytes, not the declared {size}",
                bytes.len()
            )));
        }
        let config = manifest::parse_config(&bytes, manifest).map_err(broken)?;
        Ok((bytes, config))
    }

    fn check_platform(&self, found: Platform) -> Result<String, Failure> {
        match &self.wanted {
            Some(wanted) if wanted.distance(&found).is_none() => {
                let what = format!("the image has no platform {wanted}, only {found}");
                return Err(failure::failure(
                    Kind::Broken,
                    what,
                    format!("choose it with --platform {found}"),
                ));
            }
            None if Platform::host().distance(&found).is_none() => {
                self.progress
                    .note(&format!("the image is made for {found}, this machine is {}", Platform::host()));
            }
            _ => {}
        }
        Ok(found.to_string())
    }

    /// All layers that the store lacks, some at a time. The first failure ends them all.
    async fn layers(&self, client: &Client, layers: &[Layer]) -> Result<(), Failure> {
        let is_there =
            |layer: &&Layer| self.store.has_layer(&layer.diff_id) && self.store.has_blob(&layer.blob.digest);
        let (there, missing): (Vec<&Layer>, Vec<&Layer>) = layers.iter().partition(is_there);
        for layer in there {
            self.progress.present(&layer.blob.digest);
        }
        self.begun.borrow_mut().extend(missing.iter().map(|layer| layer.blob.digest));
        let publisher = Publisher::new(missing.len());
        let fetches = missing.into_iter().map(|layer| layer::fetch(client, self.store, layer, self.progress));
        let coming = stream::iter(fetches).buffer_unordered(LAYERS_AT_ONCE);
        let publishing = coming.map(async |draft| publisher.publish(draft?).await);
        publishing.buffer_unordered(LAYERS_LIMIT).try_collect().await
    }

    /// Bytes unpacked; a layer that the image stacks twice is there once.
    fn size(&self, layers: &[Layer]) -> Result<u64> {
        layers
            .iter()
            .try_fold(0u64, |sum, layer| Ok(sum.saturating_add(self.store.layer_size(&layer.diff_id)?)))
    }

    fn publish<'a>(&self, blobs: impl Iterator<Item = &'a Vec<u8>>, image: &Image) -> Result<()> {
        for blob in blobs {
            self.store.put_blob(blob)?;
        }
        self.store.publish_image(image)
    }
}

/// Why no place would do.
struct Failed {
    /// What has come is worth keeping for another try.
    may_go_on: bool,
    cause: anyhow::Error,
}

impl Failed {
    fn for_good(cause: anyhow::Error) -> Failed {
        Failed { may_go_on: false, cause }
    }
}
