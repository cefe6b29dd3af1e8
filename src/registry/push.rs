//! Pushes what the store has: plans which blobs and manifests those are, brings over the blobs that the repository lacks, side
//! by side, then the manifests, the one that the tag will point to last.

use super::{
    Progress, PullOptions,
    client::{Client, Patience, digest_header},
    connector::Connector,
    convert::Sendable,
    failure::{Failure, Kind, broken, ours},
    fetch::fetch,
    parcel::{Node, Packing, Parcel, Plan, Planned, Supply},
    reference::{Reference, Target},
    registries::{Registries, Source},
    registries_files,
    upload::{Way, upload},
};
use crate::storage::{Digest, Store};
use anyhow::{Context, Result, anyhow};
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap},
};
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

/// So many blobs are on their way at once.
const BLOBS_AT_ONCE: usize = 4;
/// Tokens are asked for so many other repositories to mount from.
const NEIGHBOURS: usize = 4;

/// How to push (podman-push(1)).
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// TLS and credentials.
    pub access: PullOptions,
    /// In which form.
    pub packing: Packing,
    /// How often to begin again after a failure that may pass.
    pub retry: u32,
    /// The pause before that; from two seconds on, twice as long each time, without it.
    pub retry_delay: Option<Duration>,
}

/// Push `parcel` to `destination`; the digest of what its tag points to now. Runs as the user, outside of any namespace of
/// ours, and starts a current-thread tokio of its own.
///
/// # Errors
/// The store lacks a part of it, the registry refuses it, or the connection fails.
pub fn push(
    store: &Store,
    parcel: &Parcel,
    destination: &Reference,
    options: &PushOptions,
    progress: &dyn Progress,
) -> Result<Digest> {
    let registries = registries_files::load(store.dirs())?;
    let source = registries.own(destination)?;
    // What is to be sent stays until it has been.
    let _hold = store.hold()?;
    let connector = Connector::new(store.dirs(), &options.access);
    let push = Push { store, parcel, options, progress, registries: &registries, connector: &connector };
    let root = parcel.gather(store).with_context(|| format!("push {destination}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOBS_AT_ONCE + 2)
        .build()
        .context("start the push")?;
    progress.trying(&source.reference.to_string());
    let pushed = runtime.block_on(push.with_retries(&source, &root));
    pushed.map_err(|failure| failure.cause.context(format!("push {destination}")))
}

struct Push<'a> {
    store: &'a Store,
    parcel: &'a Parcel,
    options: &'a PushOptions,
    progress: &'a dyn Progress,
    registries: &'a Registries,
    connector: &'a Connector<'a>,
}

impl Push<'_> {
    async fn with_retries(&self, source: &Source, root: &Node) -> Result<Digest, Failure> {
        let mut delay = self.options.retry_delay.unwrap_or(Duration::from_secs(2));
        for _ in 0..self.options.retry {
            match self.once(source, root).await {
                Err(Failure { kind: Kind::Passing(_) | Kind::Unreachable, cause }) => {
                    self.progress.note(&format!("{cause:#}; again in {delay:?}"));
                    tokio::time::sleep(delay).await;
                    if self.options.retry_delay.is_none() {
                        delay = delay.saturating_mul(2);
                    }
                }
                outcome => return outcome,
            }
        }
        self.once(source, root).await
    }

    async fn once(&self, source: &Source, root: &Node) -> Result<Digest, Failure> {
        let neighbours = self.neighbours(source, root).map_err(ours)?;
        let own = format!("repository:{}:pull,push", source.reference.repository);
        let others: BTreeSet<&String> = neighbours.values().collect();
        let others = others.into_iter().map(|repository| format!("repository:{repository}:pull"));
        let scopes = [own].into_iter().chain(others).collect();
        let client = self.connector.client_for(source, scopes).map_err(ours)?;
        // Whether we may is known before work begins.
        client.ask(Method::GET, "/v2/", HeaderMap::new()).await?;
        let mut plan = Plan::default();
        let last = root.pack(self.store, &self.options.packing, &mut plan).map_err(ours)?;
        let uploads = plan.blobs.iter().map(|blob| self.bring(&client, blob, &neighbours));
        stream::iter(uploads).buffer_unordered(BLOBS_AT_ONCE).try_collect::<()>().await?;
        for member in &plan.members {
            put(&client, member, &Target::Digest(member.digest)).await?;
        }
        if let Target::Digest(wanted) = &source.reference.target
            && *wanted != last.digest
        {
            return Err(ours(anyhow!("what is pushed has the digest {}, not {wanted}", last.digest)));
        }
        put(&client, &last, &source.reference.target).await?;
        Ok(last.digest)
    }

    async fn bring(
        &self,
        client: &Client,
        blob: &Planned,
        neighbours: &HashMap<Digest, String>,
    ) -> Result<(), Failure> {
        let supply = async || match &blob.supply {
            Supply::Here(outgoing) => Ok(outgoing.clone()),
            Supply::Elsewhere(place) => {
                let source = self.registries.own(place).map_err(ours)?;
                let there = self.connector.client(&source).map_err(ours)?;
                fetch(&there, self.store, blob.content).await
            }
        };
        let from = neighbours.get(&blob.content.digest).map(String::as_str);
        match upload(client, blob.content, from, supply, self.progress).await? {
            Way::Present | Way::Mounted => self.progress.present(&blob.content.digest),
            Way::Sent => {}
        }
        Ok(())
    }

    /// For each blob another repository of the same registry that has it, as far as our images' names tell.
    fn neighbours(&self, source: &Source, root: &Node) -> Result<HashMap<Digest, String>> {
        let wanted = root.blobs();
        let mut found = HashMap::new();
        let own = &source.reference;
        let mut add = |blobs: &mut dyn Iterator<Item = Digest>, reference: &str| {
            let Ok(named) = Reference::parse(reference) else { return };
            let Ok(there) = self.registries.own(&named) else { return };
            let there = there.reference;
            if there.registry != own.registry || there.repository == own.repository {
                return;
            }
            for blob in blobs.filter(|blob| wanted.contains(blob)) {
                found.entry(blob).or_insert_with(|| there.repository.clone());
            }
        };
        for image in self.store.images()? {
            let mut blobs = image.blobs.iter().copied().chain([image.config]);
            add(&mut blobs, &image.reference);
        }
        for place in self.parcel.elsewhere.values() {
            add(&mut wanted.iter().copied(), &place.to_string());
        }
        let mut repositories: Vec<&String> = found.values().collect();
        repositories.sort();
        repositories.dedup();
        let kept: BTreeSet<String> = repositories.into_iter().take(NEIGHBOURS).cloned().collect();
        found.retain(|_, repository| kept.contains(repository));
        Ok(found)
    }
}

/// Put a manifest, unless it is what `target` points to already.
async fn put(client: &Client, manifest: &Sendable, target: &Target) -> Result<(), Failure> {
    match client.peek(target).await {
        Ok(Some(there)) if there == manifest.digest => return Ok(()),
        Err(failure) if failure.kind == Kind::Ours => return Err(failure),
        _ => {}
    }
    let path = format!("manifests/{}", target.in_url());
    let mut patience = Patience::new();
    loop {
        let answer = client
            .exchange(Method::PUT, &path, |request| {
                request.header(CONTENT_TYPE, &manifest.media_type).body(manifest.bytes.clone())
            })
            .await;
        let answer = match answer {
            Ok(answer) => client.success(answer).await,
            Err(failure) => Err(failure),
        };
        match answer {
            Err(mut failure) => {
                failure.cause = failure.cause.context(format!("manifest {}", manifest.digest));
                patience.pause(failure).await?;
            }
            Ok(answer) => {
                return match digest_header(&answer) {
                    Some(other) if other != manifest.digest => Err(broken(anyhow!(
                        "{} made {other} of the manifest {}",
                        client.host(),
                        manifest.digest
                    ))),
                    _ => Ok(()),
                };
            }
        }
    }
}
