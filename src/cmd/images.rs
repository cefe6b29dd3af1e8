//! `ctr images`: which images there are, as a table, ids, JSON or through a template.

use super::{
    Globals,
    image_filter::{self, Filter},
    output,
    run_args::takes_a_truth_value,
    template::{Columns, Format},
};
use crate::storage::{Digest, Image, Store};
use anyhow::{Context, Result};
use clap::ValueEnum;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use std::collections::HashSet;

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// All images; there are no intermediate ones
    #[arg(short, long)]
    all: bool,
    /// Nothing but ids
    #[arg(short, long)]
    quiet: bool,
    /// The digests of manifests, too
    #[arg(long)]
    digests: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// No line of headings
    #[arg(short, long)]
    noheading: bool,
    /// Only those with KEY=VALUE: reference, id, digest, label, label!, dangling, before, since, until, containers
    #[arg(short, long, value_name = "FILTER", conflicts_with = "name")]
    filter: Vec<Filter>,
    /// Order: created, id, repository, size or tag
    #[arg(
        long,
        value_name = "KEY",
        default_value = "created",
        hide_default_value = true,
        hide_possible_values = true
    )]
    sort: Sort,
    /// `json`, a Go template, or `table` and a template
    #[arg(long)]
    format: Option<Format>,
    /// Only images of this name
    #[arg(value_name = "IMAGE")]
    name: Option<String>,
}

/// `--sort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Created,
    Id,
    Repository,
    Size,
    Tag,
}

const ROW: &str = r"{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Created}}\t{{.Size}}";
const ROW_AND_DIGEST: &str = r"{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.Created}}\t{{.Size}}";
const HEADINGS: &[(&str, &str)] = &[("ID", "IMAGE ID"), ("ReadOnly", "R/O")];

/// An image and what its configuration says.
pub struct Entry {
    /// What the store knows.
    pub image: Image,
    /// When it was built, else pulled.
    pub created: Timestamp,
    /// Its configuration; null when that is damaged, which is no reason to hide an image.
    pub config: Value,
    /// How many containers use it.
    pub containers: usize,
}

/// Print the list.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let all = entries(&store)?;
    let filters = image_filter::resolve(&args.filter, &store, &all)?;
    let called =
        |entry: &Entry| args.name.as_ref().is_none_or(|name| is_called(&entry.image.reference, name));
    let mut shown: Vec<&Entry> =
        all.iter().filter(|entry| called(entry) && image_filter::passes(&filters, entry)).collect();
    sort(&mut shown, args.sort);
    if args.quiet && args.format.is_none() {
        let id = |image: &Image| if args.no_trunc { image.config.to_string() } else { image.config.short() };
        let mut seen = HashSet::new();
        let first = shown.iter().filter(|entry| seen.insert(entry.image.config));
        output::print(&first.map(|entry| id(&entry.image) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let format = args.format.clone().unwrap_or_default();
    let rows: Vec<Value> = match format {
        Format::Json => shown.iter().map(|entry| json_of(entry, &all)).collect(),
        _ => shown.iter().map(|entry| row(entry, &all, args.no_trunc)).collect(),
    };
    let row = if args.digests { ROW_AND_DIGEST } else { ROW };
    format.print(&rows, &Columns { row, headings: HEADINGS, noheading: args.noheading })?;
    Ok(0)
}

fn entries(store: &Store) -> Result<Vec<Entry>> {
    let (containers, _) = crate::container::state::list(store)?;
    let used: Vec<Digest> = containers.iter().filter_map(|c| c.record.image_id).collect();
    let entry = |image: Image| {
        let config = config(store, &image).unwrap_or_default();
        let created = config["created"].as_str().and_then(|time| time.parse().ok()).unwrap_or(image.pulled);
        let containers = used.iter().filter(|id| **id == image.config).count();
        Entry { image, created, config, containers }
    };
    Ok(store.images()?.into_iter().map(entry).collect())
}

fn sort(images: &mut [&Entry], key: Sort) {
    // Where it leaves two alike: the newest first, then by name.
    images.sort_by(|a, b| (b.created, &a.image.reference).cmp(&(a.created, &b.image.reference)));
    match key {
        Sort::Created => {}
        Sort::Id => images.sort_by_cached_key(|entry| entry.image.config.hex()),
        Sort::Repository => images.sort_by_key(|entry| split(&entry.image.reference)),
        Sort::Size => images.sort_by_key(|entry| entry.image.size),
        Sort::Tag => images.sort_by_key(|entry| split(&entry.image.reference).1),
    }
}

/// `docker.io/library/ubuntu:latest` as repository and tag; a reference by digest has no tag, an image without a name
/// neither.
pub fn split(reference: &str) -> (&str, &str) {
    match reference.split_once('@') {
        Some(("", _)) => return ("<none>", "<none>"),
        Some((repository, _)) => return (repository, "<none>"),
        None => {}
    }
    match reference.rsplit_once(':') {
        // Not the port of a registry.
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, "<none>"),
    }
}

/// Whether `name`, with or without tag and leading components, means `reference`.
pub fn is_called(reference: &str, name: &str) -> bool {
    let (repository, _) = split(reference);
    [reference, repository].iter().any(|whole| {
        whole
            .strip_suffix(name)
            .is_some_and(|before| !name.is_empty() && (before.is_empty() || before.ends_with('/')))
    })
}

/// The image's configuration, every field of it (OCI image-spec, config.md).
pub fn config(store: &Store, image: &Image) -> Result<Value> {
    const LIMIT: u64 = 8 << 20;
    let read = || -> Result<Value> { Ok(serde_json::from_slice(&store.read_blob(&image.config, LIMIT)?)?) };
    read().with_context(|| format!("read the configuration of {}", image.reference))
}

fn twins<'a>(entry: &Entry, all: &'a [Entry]) -> impl Iterator<Item = &'a Image> + Clone {
    let id = entry.image.config;
    all.iter().map(|other| &other.image).filter(move |other| other.config == id)
}

/// What a template sees: the placeholders of podman-images(1), worded for people.
fn row(entry: &Entry, all: &[Entry], whole: bool) -> Value {
    let Entry { image, created, config, containers } = entry;
    let (repository, tag) = split(&image.reference);
    let ago = format!("{} ago", output::since(*created));
    let at = created.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S %z UTC").to_string();
    let names: Vec<_> = twins(entry, all).filter_map(Image::name).collect();
    json!({
        "Containers": containers,
        "Created": ago,
        "CreatedAt": at,
        "CreatedSince": ago,
        "CreatedTime": at,
        "Dangling": image.name().is_none(),
        "Digest": image.manifest,
        "History": image.former.join(", "),
        "ID": if whole { image.config.to_string() } else { image.config.short() },
        "Id": image.config.hex(),
        "IsDangling": image.name().is_none(),
        "IsReadOnly": false,
        "Labels": config["config"]["Labels"].as_object().cloned().unwrap_or_default(),
        "Names": names,
        "ParentId": "",
        "ReadOnly": false,
        "RepoDigests": digests(twins(entry, all)),
        "RepoTags": names,
        "Repository": repository,
        "SharedSize": 0,
        "Size": output::size(image.size),
        "Tag": tag,
        "VirtualSize": image.size,
    })
}

/// `--format json`.
fn json_of(entry: &Entry, all: &[Entry]) -> Value {
    let Entry { image, created, config, containers } = entry;
    let (repository, tag) = split(&image.reference);
    json!({
        "Id": image.config.hex(),
        "ParentId": "",
        "RepoTags": null,
        "RepoDigests": digests(twins(entry, all)),
        "Names": twins(entry, all).filter_map(Image::name).collect::<Vec<_>>(),
        "Repository": repository,
        "Tag": tag,
        "Labels": config["config"]["Labels"].as_object(),
        "Size": image.size,
        "SharedSize": 0,
        "VirtualSize": image.size,
        "Containers": containers,
        "Dangling": image.name().is_none(),
        "Digest": image.manifest,
        "Created": created.as_second(),
        "CreatedAt": created.to_string(),
        "Platform": image.platform,
    })
}

/// `repository@digest` of each image, of the index it came from, too.
pub fn digests<'a>(images: impl Iterator<Item = &'a Image>) -> Vec<String> {
    let of = |image: &'a Image| {
        let digests = [Some(image.manifest), image.index];
        digests.into_iter().flatten().map(|digest| format!("{}@{digest}", split(&image.reference).0))
    };
    let mut all: Vec<_> = images.filter(|image| image.name().is_some()).flat_map(of).collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for (reference, parts) in [
            ("docker.io/library/ubuntu:latest", ("docker.io/library/ubuntu", "latest")),
            ("localhost:5000/a/b:v1", ("localhost:5000/a/b", "v1")),
            ("localhost:5000/a", ("localhost:5000/a", "<none>")),
            ("quay.io/a@sha256:0123", ("quay.io/a", "<none>")),
            ("@sha256:0123", ("<none>", "<none>")),
        ] {
            assert_eq!(split(reference), parts);
        }
    }

    #[test]
    fn names() {
        let reference = "docker.io/library/ubuntu:24.04";
        for (name, called) in [
            ("ubuntu", true),
            ("ubuntu:24.04", true),
            ("library/ubuntu", true),
            (reference, true),
            ("untu", false),
            ("ubuntu:24", false),
            ("debian", false),
            ("", false),
        ] {
            assert_eq!(is_called(reference, name), called, "{name:?}");
        }
    }
}
