//! One repository of one registry over HTTP (OCI distribution-spec): reading manifests and blobs, with retries,
//! authentication and limits.

use super::{
    auth::Auth,
    failure::{Failure, Kind, broken, failure, ours, refused, transport},
    manifest::ACCEPT,
    reference::Target,
};
use crate::{storage::Digest, weakened};
use anyhow::{Result, anyhow};
use jiff::Timestamp;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT as ACCEPT_HEADER, AUTHORIZATION, CONTENT_TYPE, HeaderMap, LINK, RANGE, RETRY_AFTER},
};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::Deserialize;
use std::{cell::Cell, time::Duration};

/// A registry that asks for a longer pause than this is told to the user instead.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// The first pause before another try; each is twice as long as the one before (podman-pull(1), `--retry-delay`).
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// So much of an error's text is read, in bytes.
const ERROR_LIMIT: u64 = 64 << 10;

/// Speaks with one repository.
pub struct Client {
    http: reqwest::Client,
    /// For requests with a long body: nothing is to be read while they are on their way.
    bulk: reqwest::Client,
    /// `host[:port]` as in the URL.
    host: String,
    repository: String,
    /// May fall back from https to http, until one of them has answered.
    undecided: Cell<bool>,
    scheme: Cell<&'static str>,
    auth: Auth,
    retry: Retry,
    /// The image as users write it, for messages.
    name: String,
}

/// What a client is made of.
pub struct Parts {
    /// For requests that are answered soon.
    pub http: reqwest::Client,
    /// For requests with a long body.
    pub bulk: reqwest::Client,
    /// `host[:port]` as in the URL.
    pub host: String,
    /// The path of the repository.
    pub repository: String,
    /// Whether plain http will do.
    pub insecure: bool,
    /// Who we are there.
    pub auth: Auth,
    /// What to do about its failures.
    pub retry: Retry,
    /// The image as users write it, for messages.
    pub name: String,
}

/// A manifest as it came.
pub struct Received {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Of the bytes.
    pub digest: Digest,
    /// As the server says.
    pub content_type: Option<String>,
}

/// Counts down failures that another try may mend.
pub struct Patience {
    retry: Retry,
    failures: u32,
}

/// What to do about a failure that may pass.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// How often to try again.
    pub count: u32,
    /// The pause before each time, in place of growing ones.
    pub delay: Option<Duration>,
}

impl Default for Retry {
    /// podman-pull(1), `--retry`.
    fn default() -> Retry {
        Retry { count: 3, delay: None }
    }
}

impl Client {
    /// Nothing is connected yet.
    pub fn new(parts: Parts) -> Client {
        let Parts { http, bulk, host, repository, insecure, auth, retry, name } = parts;
        let (undecided, scheme) = (Cell::new(insecure), Cell::new("https"));
        Client { http, bulk, host, repository, undecided, scheme, auth, retry, name }
    }

    /// What `target` points to now, without fetching it; for nothing but the question whether it changed.
    pub async fn peek(&self, target: &Target) -> Result<Option<Digest>, Failure> {
        let response =
            self.ask(Method::HEAD, &format!("manifests/{}", target.in_url()), manifest_headers()).await?;
        Ok(digest_header(&response))
    }

    /// Fetch a manifest or an index.
    ///
    /// # Errors
    /// Besides those of the network: it is longer than `limit` bytes, or isn't what its digest says.
    pub async fn manifest(&self, target: &Target, limit: u64) -> Result<Received, Failure> {
        let path = format!("manifests/{}", target.in_url());
        let (bytes, response) = self.whole("manifest", &path, manifest_headers(), limit).await?;
        let digest = Digest::of(&bytes);
        let promised = match target {
            Target::Digest(digest) => Some(*digest),
            Target::Tag(_) => response.digest,
        };
        match promised {
            Some(promised) if promised != digest && !weakened::is("digests") => {
                Err(broken(anyhow!("{} sends the manifest {digest} in place of {promised}", self.host)))
            }
            _ => Ok(Received { bytes, digest, content_type: response.content_type }),
        }
    }

    /// Fetch an image config, at most `limit` bytes.
    pub async fn config(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Failure> {
        let (bytes, _) = self.whole("config", &format!("blobs/{digest}"), HeaderMap::new(), limit).await?;
        match Digest::of(&bytes) {
            found if found == *digest || weakened::is("digests") => Ok(bytes),
            found => Err(broken(anyhow!("{} sends the config {found} in place of {digest}", self.host))),
        }
    }

    /// Start to read a blob at byte `from`; one try. The answer begins at `from` (206) or at 0 (200).
    pub async fn blob(&self, digest: &Digest, from: u64) -> Result<Response, Failure> {
        let mut headers = HeaderMap::new();
        if from > 0 {
            let range = format!("bytes={from}-").try_into();
            headers.insert(RANGE, range.map_err(|error| ours(anyhow!("range from {from}: {error}")))?);
        }
        self.ask_once(Method::GET, &format!("blobs/{digest}"), &headers).await
    }

    /// For a request of the caller's own.
    pub fn patience(&self) -> Patience {
        self.retry.patience()
    }

    /// The host that answers, for messages.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// An answer of at most `limit` bytes, and what its head says; `what` is for messages.
    pub async fn whole(
        &self,
        what: &str,
        path: &str,
        headers: HeaderMap,
        limit: u64,
    ) -> Result<(Vec<u8>, Facts), Failure> {
        let mut patience = self.patience();
        loop {
            let response = self.ask(Method::GET, path, headers.clone()).await?;
            let link = response.headers().get(LINK).and_then(|link| link.to_str().ok()).map(str::to_owned);
            let facts =
                Facts { digest: digest_header(&response), content_type: content_type(&response), link };
            match body(response, limit, what, &self.host).await {
                Ok(bytes) => return Ok((bytes, facts)),
                Err(failure) => patience.pause(failure).await?,
            }
        }
    }

    /// A request without a body, tried again as long as that may help; `path` as [`Client::exchange`] takes it.
    pub async fn ask(&self, method: Method, path: &str, headers: HeaderMap) -> Result<Response, Failure> {
        let mut patience = self.patience();
        loop {
            match self.ask_once(method.clone(), path, &headers).await {
                Ok(response) => return Ok(response),
                Err(failure) => patience.pause(failure).await?,
            }
        }
    }

    async fn ask_once(&self, method: Method, path: &str, headers: &HeaderMap) -> Result<Response, Failure> {
        let response = self.exchange(method, path, |request| request.headers(headers.clone())).await?;
        self.success(response).await
    }

    /// One request to `path`: below the repository; at the registry with a leading `/`; or a whole URL, which hears of our
    /// credentials only where it is the registry's own. The answer, whatever its status; a pass that is refused is renewed.
    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        shape: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        self.exchange_by(&self.http, method, path, shape).await
    }

    /// The same for a request with a long body, which may be silent for any time: the caller has to watch it.
    pub async fn exchange_bulk(
        &self,
        method: Method,
        path: &str,
        shape: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        self.exchange_by(&self.bulk, method, path, shape).await
    }

    async fn exchange_by(
        &self,
        http: &reqwest::Client,
        method: Method,
        path: &str,
        shape: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let mut renewed = false;
        loop {
            let pass = self.auth.pass().await;
            let request = |url: Url| {
                // Only the registry itself may ask for credentials, not a host it redirects to.
                let own = self.url("/").is_ok_and(|own| own.origin() == url.origin());
                let request = shape(http.request(method.clone(), url));
                match pass.header.as_ref().filter(|_| own) {
                    Some(header) => request.header(AUTHORIZATION, header),
                    None => request,
                }
            };
            let response = self.send(request, path).await?;
            let url = self.url("/")?;
            if response.status() == StatusCode::UNAUTHORIZED
                && !renewed
                && response.url().origin() == url.origin()
            {
                renewed = true;
                self.auth.renew(&self.http, &url, response.headers(), &pass).await?;
                continue;
            }
            return Ok(response);
        }
    }

    /// `response` unless it is a refusal.
    pub async fn success(&self, response: Response) -> Result<Response, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let after = retry_after(response.headers());
        Err(refused(status, after, &told(response).await, &self.host, &self.name))
    }

    async fn send(&self, request: impl Fn(Url) -> RequestBuilder, path: &str) -> Result<Response, Failure> {
        let mut outcome = request(self.url(path)?).send().await;
        if self.undecided.get() {
            if outcome.as_ref().is_err_and(reqwest::Error::is_connect) {
                self.scheme.set("http");
                outcome = request(self.url(path)?).send().await;
            }
            self.undecided.set(outcome.is_err());
        }
        outcome.map_err(|error| transport(error, &self.host))
    }

    /// Where `path` is, as [`Client::exchange`] takes it.
    pub fn url(&self, path: &str) -> Result<Url, Failure> {
        let (scheme, host) = (self.scheme.get(), &self.host);
        let text = match path {
            whole if whole.contains("://") => whole.to_owned(),
            at if at.starts_with('/') => format!("{scheme}://{host}{at}"),
            below => format!("{scheme}://{host}/v2/{}/{below}", self.repository),
        };
        Url::parse(&text).map_err(|error| ours(anyhow!("{text:?} is no URL: {error}")))
    }
}

impl Retry {
    /// With nothing failed yet.
    fn patience(self) -> Patience {
        Patience { retry: self, failures: 0 }
    }
}

impl Patience {
    /// For a handful of tries.
    pub fn new() -> Patience {
        Retry::default().patience()
    }

    /// Wait a little longer than the last time, or as long as the server asks for; a failure that no repetition mends,
    /// and the last of many, come back.
    pub async fn pause(&mut self, failure: Failure) -> Result<(), Failure> {
        let Kind::Passing(after) = failure.kind else { return Err(failure) };
        self.failures += 1;
        if self.failures > self.retry.count || after.is_some_and(|after| after > LONGEST_PAUSE) {
            return Err(failure);
        }
        let pause = self.retry.delay.unwrap_or_else(|| self.growing());
        tokio::time::sleep(after.unwrap_or_default().max(pause)).await;
        Ok(())
    }

    fn growing(&self) -> Duration {
        let mut random = [128];
        // Without randomness the pauses are just those of everybody else.
        let _ = getrandom(&mut random, GetRandomFlags::empty());
        let doubled = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(6));
        doubled.mul_f64(0.75 + f64::from(random[0]) / 512.0)
    }
}

/// The body of `response`, at most `limit` bytes; no more is ever held.
pub async fn body(mut response: Response, limit: u64, what: &str, host: &str) -> Result<Vec<u8>, Failure> {
    let too_long = || {
        let what = format!("{host} sends a {what} of more than {} KiB", limit >> 10);
        failure(Kind::Broken, what, "the registry or the image is broken: choose another")
    };
    let limit = if weakened::is("answer-size") { limit << 6 } else { limit };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport(error, host))? {
        if bytes.len() as u64 + chunk.len() as u64 > limit {
            return Err(too_long());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// What headers say.
pub struct Facts {
    /// Of a manifest.
    pub digest: Option<Digest>,
    content_type: Option<String>,
    /// Where a list goes on (RFC 8288).
    pub link: Option<String>,
}

fn manifest_headers() -> HeaderMap {
    let accepted = ACCEPT.iter().filter_map(|kind| kind.parse().ok()).map(|value| (ACCEPT_HEADER, value));
    accepted.fold(HeaderMap::new(), |mut headers, (name, value)| {
        headers.append(name, value);
        headers
    })
}

/// The digest that a registry says its answer is about.
pub fn digest_header(response: &Response) -> Option<Digest> {
    response.headers().get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

fn content_type(response: &Response) -> Option<String> {
    response.headers().get(CONTENT_TYPE)?.to_str().ok().map(str::to_owned)
}

/// RFC 9110 section 10.2.3: seconds, or a date; one that is past asks for no wait.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(then.duration_since(Timestamp::now())).unwrap_or_default())
}

/// The message in an error's body (distribution-spec, "Error Codes"), fit for one line.
async fn told(response: Response) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(bytes) = body(response, ERROR_LIMIT, "", "").await else { return String::new() };
    let Ok(Errors { errors }) = serde_json::from_slice(&bytes) else { return String::new() };
    let Some(One { code, message }) = errors.into_iter().next() else { return String::new() };
    let text = if message.is_empty() { code } else { message };
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
