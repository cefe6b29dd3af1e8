//! What images a registry has: `/v1/search` where there is one (Docker's index), else its catalogue; and the tags of one
//! repository. Lists come in pages, of which a bounded number is read.

use super::{
    PullOptions,
    client::Client,
    connector::Connector,
    failure::{Failure, broken},
    reference::{DOCKER_HUB, Named, Reference, Target, is_tag, parse},
    registries::Source,
    registries_files,
};
use crate::{error::Explain, storage::Dirs};
use anyhow::{Context, Result, anyhow};
use reqwest::{Url, header::HeaderMap};
use serde::Deserialize;

/// No page is longer, in bytes.
const PAGE_LIMIT: u64 = 8 << 20;
/// Nor does a list have more pages.
const PAGES: usize = 500;
/// Entries asked for at once.
const PAGE: usize = 1000;
/// Docker's index of its Hub.
const DOCKER_INDEX: &str = "index.docker.io";

/// An image that was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The registry.
    pub index: String,
    /// With the registry.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// How many like it.
    pub stars: u64,
    /// Docker looks after it.
    pub official: bool,
    /// The registry built it.
    pub automated: bool,
}

/// Search for `term`, in the registry that it begins with, else in all unqualified-search registries; what each of them has,
/// at most `limit` that `keep` likes.
///
/// # Errors
/// The term or registries.conf is wrong.
pub fn search(
    dirs: &Dirs,
    options: &PullOptions,
    term: &str,
    limit: usize,
    keep: &dyn Fn(&Found) -> bool,
) -> Result<Vec<Result<Vec<Found>>>> {
    let registries = registries_files::load(dirs)?;
    let (places, term) = match term.split_once('/') {
        Some((host, rest)) if Reference::parse(&format!("{host}/x")).is_ok() => (vec![host.to_owned()], rest),
        _ => (registries.search(), term),
    };
    let connector = Connector::new(dirs, options);
    let runtime = runtime()?;
    let one = |place: &String| -> Result<Vec<Found>> {
        let source = registries.own(&Reference::at(place, "x", Target::Tag(String::new())))?;
        let found = runtime.block_on(in_registry(&connector, &source, place, term, limit, keep));
        found.map_err(|failure| failure.cause).with_context(|| format!("search {place} for {term:?}"))
    };
    Ok(places.iter().map(one).collect())
}

/// The repository that `name` is in, and at most `limit` of its tags.
///
/// # Errors
/// It is no full name; or the registry doesn't list them.
pub fn tags(dirs: &Dirs, options: &PullOptions, name: &str, limit: usize) -> Result<(String, Vec<String>)> {
    let Named::Full(reference) = parse(name)? else {
        return Err(anyhow!("{name:?} names no registry"))
            .hint(format!("ctr search --list-tags docker.io/library/{name}"));
    };
    let source = registries_files::load(dirs)?.own(&reference)?;
    let connector = Connector::new(dirs, options);
    let client = connector.client(&source)?;
    let tags = runtime()?.block_on(tags_of(&client, limit)).map_err(|failure| failure.cause);
    Ok((reference.name(), tags.with_context(|| format!("list the tags of {}", reference.name()))?))
}

/// At most `limit` tags of the client's repository.
pub async fn tags_of(client: &Client, limit: usize) -> Result<Vec<String>, Failure> {
    list(client, "tags/list", limit, |page: Tags| page.tags.unwrap_or_default(), &is_tag).await
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the search")
}

async fn in_registry(
    connector: &Connector<'_>,
    source: &Source,
    place: &str,
    term: &str,
    limit: usize,
    keep: &dyn Fn(&Found) -> bool,
) -> Result<Vec<Found>, Failure> {
    let mut source = source.clone();
    if source.reference.registry == DOCKER_HUB {
        source.reference.registry = DOCKER_INDEX.to_owned();
    }
    // For messages and credentials: a registry as a whole.
    source.reference.repository = String::new();
    let scopes = vec!["registry:catalog:*".to_owned()];
    let client = connector.client_for(&source, scopes).map_err(super::failure::ours)?;
    let named = |name: &str| match place == DOCKER_HUB && !name.contains('/') {
        true => format!("{place}/library/{name}"),
        false => format!("{place}/{name}"),
    };
    if !term.is_empty()
        && let Some(results) = by_index(&client, term, limit).await?
    {
        let found = results.into_iter().map(|result| Found {
            index: place.to_owned(),
            name: named(&result.name),
            description: result.description.unwrap_or_default().replace('\n', " "),
            stars: result.star_count,
            official: result.is_official,
            automated: result.is_automated,
        });
        return Ok(found.filter(|found| keep(found)).take(limit).collect());
    }
    let found = |name: &str| Found { index: place.to_owned(), name: named(name), ..Found::default() };
    let fits = |name: &str| name.contains(term) && keep(&found(name));
    let names = list(&client, "/v2/_catalog", limit, |page: Catalogue| page.repositories, &fits).await?;
    Ok(names.iter().map(|name| found(name)).collect())
}

/// `None` where there is no such index.
async fn by_index(client: &Client, term: &str, limit: usize) -> Result<Option<Vec<Hit>>, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        results: Vec<Hit>,
    }
    let mut url = client.url("/v1/search")?;
    url.query_pairs_mut().append_pair("q", term).append_pair("n", &limit.min(100).to_string());
    // A path: which scheme the registry speaks shows only now.
    let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    let answer = client.exchange(reqwest::Method::GET, &path, |request| request).await?;
    if !answer.status().is_success() {
        return Ok(None);
    }
    let bytes = super::client::body(answer, PAGE_LIMIT, "list of images", client.host()).await?;
    Ok(serde_json::from_slice::<Answer>(&bytes).ok().map(|answer| answer.results))
}

/// The first `limit` entries that fit, of as many pages as that takes.
async fn list<T: for<'a> Deserialize<'a>>(
    client: &Client,
    path: &str,
    limit: usize,
    entries: impl Fn(T) -> Vec<String>,
    fits: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let mut path = format!("{path}?n={PAGE}");
    for _ in 0..PAGES {
        let (bytes, facts) = client.whole("list", &path, HeaderMap::new(), PAGE_LIMIT).await?;
        let list: T = serde_json::from_slice(&bytes)
            .map_err(|error| broken(anyhow!("{} answers with what is no list: {error}", client.host())))?;
        found.extend(entries(list).into_iter().filter(|entry| fits(entry)).take(limit - found.len()));
        let Some(next) = facts.link.as_deref().and_then(next).filter(|_| found.len() < limit) else {
            return Ok(found);
        };
        let page = client.url(&path)?;
        let next = page.join(next).ok().filter(|url: &Url| url.origin() == page.origin() && *url != page);
        let next = next.ok_or_else(|| broken(anyhow!("{}'s list goes on elsewhere", client.host())))?;
        path = next.into();
    }
    Ok(found)
}

/// `</v2/_catalog?last=x>; rel="next"` (RFC 8288).
fn next(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then_some(target)
}

#[derive(Deserialize)]
struct Hit {
    name: String,
    description: Option<String>,
    #[serde(default)]
    star_count: u64,
    #[serde(default)]
    is_official: bool,
    #[serde(default)]
    is_automated: bool,
}

#[derive(Deserialize)]
struct Tags {
    // Some registries answer null for a repository without tags.
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Catalogue {
    #[serde(default)]
    repositories: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        for (text, expected) in [
            ("</v2/_catalog?last=x&n=2>; rel=\"next\"", Some("/v2/_catalog?last=x&n=2")),
            ("<https://a.b/x>;rel=next", Some("https://a.b/x")),
            ("</x>; rel=\"prev\"", None),
            ("/x; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next(text), expected, "{text}");
        }
    }
}
