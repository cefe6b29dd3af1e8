//! One blob into one repository (distribution-spec, "Push"): it is there already, or mounted from another repository, or it is
//! sent and, after a break, goes on where the registry stopped.

use super::{
    Progress,
    client::{Client, Patience},
    failure::{Failure, Kind, broken, failure, ours},
    hop,
    manifest::Content,
};
use crate::storage::Outgoing;
use anyhow::{Result, anyhow};
use futures_util::stream;
use reqwest::{
    Body, Method, Response, StatusCode, Url,
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval};

/// Up to so many bytes a blob goes along with the request that ends its upload.
const SMALL: u64 = 1 << 20;
/// Bytes read and handed over at once.
const PIECE: usize = 256 << 10;
/// No upload stands still for longer.
const STALL: Duration = Duration::from_secs(60);
/// A registry may move a blob to its place before it answers.
const SETTLING: Duration = Duration::from_secs(600);
/// An upload that got so far, in bytes, before it broke, has earned new patience.
const WORTHWHILE: u64 = 1 << 20;
const TICK: Duration = Duration::from_millis(100);
const BYTES: &str = "application/octet-stream";

/// What it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It was there.
    Present,
    /// The registry took it from another repository.
    Mounted,
    /// It was sent.
    Sent,
}

/// Bring `content` into the repository of `client`, from repository `from` of the same registry if that will do, else from
/// what `supply` gives.
pub async fn upload(
    client: &Client,
    content: Content,
    from: Option<&str>,
    supply: impl AsyncFn() -> Result<Outgoing, Failure>,
    progress: &dyn Progress,
) -> Result<Way, Failure> {
    let mut upload = Upload { client, content, from, place: None, taken: 0, progress };
    let mut blob = None;
    let mut patience = Patience::new();
    loop {
        let before = upload.taken;
        let way = match upload.begin_or_resume().await {
            Ok(Some(way)) => Ok(way),
            Ok(None) => match &blob {
                None => match supply().await {
                    Ok(supplied) => upload.send(blob.insert(supplied)).await,
                    Err(failure) => Err(failure),
                },
                Some(blob) => upload.send(blob).await,
            },
            Err(failure) => Err(failure),
        };
        match way {
            Ok(way) => return Ok(way),
            Err(mut failure) => {
                failure.cause = failure.cause.context(format!("blob {}", content.digest));
                if upload.taken >= before + WORTHWHILE {
                    patience = Patience::new();
                }
                patience.pause(failure).await?;
            }
        }
    }
}

struct Upload<'a> {
    client: &'a Client,
    content: Content,
    from: Option<&'a str>,
    /// Where the rest goes, once the registry has said so.
    place: Option<Url>,
    /// Bytes that the registry is known to have.
    taken: u64,
    progress: &'a dyn Progress,
}

impl Upload<'_> {
    /// Until there is a place to send bytes to; or the blob is there without a byte of ours.
    async fn begin_or_resume(&mut self) -> Result<Option<Way>, Failure> {
        if self.place.is_some() && self.resume().await? {
            return Ok(None);
        }
        (self.place, self.taken) = (None, 0);
        let path = format!("blobs/{}", self.content.digest);
        let there = self.client.exchange(Method::HEAD, &path, |request| request).await?;
        if there.status() != StatusCode::NOT_FOUND {
            self.client.success(there).await?;
            return Ok(Some(Way::Present));
        }
        self.begin().await
    }

    async fn begin(&mut self) -> Result<Option<Way>, Failure> {
        let post = async |path: &str| {
            self.client.exchange(Method::POST, path, |request| request.header(CONTENT_LENGTH, 0)).await
        };
        let mut answer = None;
        if let Some(from) = self.from.take() {
            let mount = post(&format!("blobs/uploads/?mount={}&from={from}", self.content.digest)).await?;
            if mount.status() == StatusCode::CREATED {
                return Ok(Some(Way::Mounted));
            }
            answer = Some(mount).filter(|mount| mount.status() == StatusCode::ACCEPTED);
        }
        let answer = match answer {
            Some(answer) => answer,
            None => self.client.success(post("blobs/uploads/").await?).await?,
        };
        self.follow(&answer)?;
        if self.place.is_none() {
            return Err(broken(anyhow!("{} names no place for the upload", self.client.host())));
        }
        Ok(None)
    }

    /// Ask how far an upload came. False where there is none to go on with.
    async fn resume(&mut self) -> Result<bool, Failure> {
        let Some(place) = &self.place else { return Ok(false) };
        let answer = self.client.exchange(Method::GET, place.as_str(), |request| request).await?;
        if answer.status().is_client_error() {
            return Ok(false);
        }
        let answer = self.client.success(answer).await?;
        self.follow(&answer)?;
        // `0-0` may stand for no byte and for one: neither is worth the doubt.
        let taken = taken(answer.headers()).filter(|taken| (2..=self.content.size).contains(taken));
        self.taken = taken.unwrap_or(0);
        Ok(taken.is_some())
    }

    async fn send(&mut self, blob: &Outgoing) -> Result<Way, Failure> {
        self.progress.begin(&self.content.digest, self.content.size);
        if self.content.size > SMALL {
            while self.taken < self.content.size {
                self.patch(blob).await?;
            }
        }
        self.commit(blob).await?;
        self.progress.done(&self.content.digest);
        Ok(Way::Sent)
    }

    /// All that is missing, in one request.
    async fn patch(&mut self, blob: &Outgoing) -> Result<(), Failure> {
        let answer = self.put_rest(Method::PATCH, self.place()?, blob).await?;
        if matches!(answer.status(), StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE) {
            let what = format!("{} lost its place in the upload", self.client.host());
            return Err(failure(Kind::Passing(None), what, AGAIN));
        }
        let answer = self.client.success(answer).await?;
        self.follow(&answer)?;
        let now = taken(answer.headers()).unwrap_or(self.content.size);
        if now <= self.taken || now > self.content.size {
            let what = format!("{} says it has {now} of {} bytes", self.client.host(), self.content.size);
            return Err(failure(Kind::Passing(None), what, AGAIN));
        }
        self.taken = now;
        Ok(())
    }

    /// End the upload, with the rest of the bytes.
    async fn commit(&mut self, blob: &Outgoing) -> Result<(), Failure> {
        let mut place = self.place()?;
        place.query_pairs_mut().append_pair("digest", &self.content.digest.to_string());
        let answer = self.put_rest(Method::PUT, place, blob).await?;
        if answer.status() == StatusCode::BAD_REQUEST {
            blob.verify().map_err(ours)?;
        }
        let gone = answer.status() == StatusCode::NOT_FOUND;
        match self.client.success(answer).await {
            Err(Failure { cause, .. }) if gone => Err(Failure { kind: Kind::Passing(None), cause }),
            outcome => outcome.map(drop),
        }
    }

    /// One request with everything that the registry lacks.
    async fn put_rest(&self, method: Method, place: Url, blob: &Outgoing) -> Result<Response, Failure> {
        let (from, size) = (self.taken, self.content.size);
        let handed = Arc::new(AtomicU64::new(from));
        let request = self.client.exchange_bulk(method, place.as_str(), |request| {
            let request = request.header(CONTENT_TYPE, BYTES).header(CONTENT_LENGTH, size - from);
            let request = match from < size {
                true => request.header(CONTENT_RANGE, format!("{from}-{}", size - 1)),
                false => request,
            };
            request.body(rest(blob, from, handed.clone()))
        });
        tokio::pin!(request);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut since) = (from, Instant::now());
        loop {
            tokio::select! {
                answer = &mut request => return answer,
                _ = ticks.tick() => {}
            }
            let now = handed.load(Ordering::Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
                self.progress.advance(&self.content.digest, now);
            }
            if since.elapsed() > if now < size { STALL } else { SETTLING } {
                let what = format!("{} takes no more after {now} of {size} bytes", self.client.host());
                return Err(failure(Kind::Passing(None), what, AGAIN));
            }
        }
    }

    fn place(&self) -> Result<Url, Failure> {
        self.place.clone().ok_or_else(|| ours(anyhow!("the upload has no place")))
    }

    /// Every answer may move the upload elsewhere.
    fn follow(&mut self, answer: &Response) -> Result<(), Failure> {
        let Some(location) = answer.headers().get(LOCATION) else { return Ok(()) };
        let place = location.to_str().ok().and_then(|location| answer.url().join(location).ok());
        let host = self.client.host();
        let place = place.ok_or_else(|| broken(anyhow!("{host} sends the upload to what is no URL")))?;
        let from = self.client.url("/")?;
        hop::allowed(&from, &place).map_err(|why| {
            let place = format!("{}://{}", place.scheme(), place.host_str().unwrap_or_default());
            failure(
                Kind::Broken,
                format!("{host} sends the upload to {place}: {why}"),
                "the registry's administrator has to mend the address that it gives itself (X-Forwarded-Proto, or its host setting)",
            )
        })?;
        self.place = Some(place);
        Ok(())
    }
}

const AGAIN: &str = "run the command again: what has arrived is not sent twice";

/// The bytes of `blob` from `from` on; `handed` is where its reader is.
fn rest(blob: &Outgoing, from: u64, handed: Arc<AtomicU64>) -> Body {
    handed.store(from, Ordering::Relaxed);
    let blob = blob.clone();
    Body::wrap_stream(stream::try_unfold(from, move |at| {
        let (blob, handed) = (blob.clone(), handed.clone());
        async move {
            if at >= blob.size {
                return Ok::<_, anyhow::Error>(None);
            }
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; PIECE.min(usize::try_from(blob.size - at).unwrap_or(PIECE))];
                let read = blob.read_at(&mut piece, at)?;
                piece.truncate(read);
                anyhow::ensure!(read > 0, "blob {} of the store ends at byte {at}", blob.digest);
                Ok(piece)
            });
            let piece = read.await??;
            let next = at + piece.len() as u64;
            handed.store(next, Ordering::Relaxed);
            Ok(Some((piece, next)))
        }
    }))
}

/// How many bytes a registry says it has: `Range: 0-99` is a hundred (distribution-spec, "Pushing a blob in chunks").
fn taken(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(RANGE)?.to_str().ok()?;
    let (start, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    (start == "0").then_some(())?;
    last.parse::<u64>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("0-0", Some(1)),
            ("1-99", None),
            ("0-", None),
            ("0--1", None),
            ("0-18446744073709551615", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_static(text));
            assert_eq!(taken(&headers), expected, "{text}");
        }
    }
}
