//! `ctr images`: which images there are, as a table, ids, JSON or through a template.

use super::{
    Globals,
    image_entry::{self, Entry},
    image_filter::{self, Filter},
    output,
    run_args::takes_a_truth_value,
    template::{Columns, Format},
    tree, warn,
};
use crate::storage::{Image, Store};
use anyhow::{Context, Result};
use clap::ValueEnum;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::HashSet;

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// Those without a name that others were built from, too
    #[arg(short, long)]
    all: bool,
    /// Nothing but ids
    #[arg(short, long)]
    quiet: bool,
    /// The digests of manifests, too
    #[arg(long)]
    digests: bool,
    /// Of each image its layers, as `ctr image tree` shows them
    #[arg(long, conflicts_with_all = ["format", "quiet"])]
    tree: bool,
    /// The names that they had, too
    #[arg(long)]
    history: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// No line of headings
    #[arg(short, long)]
    noheading: bool,
    /// Only those with KEY=VALUE: reference, id, digest, label, label!, dangling, intermediate, readonly, manifest,
    /// before, since, until, containers
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

const HEADINGS: &[(&str, &str)] = &[("ID", "IMAGE ID"), ("ReadOnly", "R/O")];

/// Print the list.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let (mut all, damaged) = image_entry::look(&store)?;
    all.extend(image_entry::lists(&store)?);
    damaged.iter().for_each(|damaged| warn(&damaged.error));
    let filters = image_filter::resolve(&args.filter, &store, &all)?;
    let called =
        |entry: &Entry| args.name.as_ref().is_none_or(|name| is_called(&entry.image.reference, name));
    let asked = args.all || filters.iter().any(|filter| matches!(filter, Filter::Intermediate(_)));
    let mut shown: Vec<&Entry> = all
        .iter()
        .filter(|entry| called(entry) && image_filter::passes(&filters, entry, &all))
        .filter(|entry| asked || !entry.is_intermediate(&all))
        .collect();
    sort(&mut shown, args.sort);
    if args.tree {
        let images: Vec<Image> = all.iter().map(|entry| entry.image.clone()).collect();
        let mut seen = HashSet::new();
        let first = shown.iter().filter(|entry| seen.insert(entry.image.config));
        let trees = first.map(|entry| tree::tree(&store, &images, &entry.image, false));
        return output::print(&trees.collect::<Vec<_>>().join("\n")).map(|()| 0);
    }
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
        Format::Default => shown.iter().map(|entry| row(entry, args.no_trunc)).collect(),
        Format::Template(_) => shown.iter().map(|entry| every_field(entry, &all, args.no_trunc)).collect(),
    };
    let digest = if args.digests { r"\t{{.Digest}}" } else { "" };
    let history = if args.history { r"\t{{.History}}" } else { "" };
    let row = format!(
        r"{{{{.Repository}}}}\t{{{{.Tag}}}}{digest}\t{{{{.ID}}}}\t{{{{.Created}}}}\t{{{{.Size}}}}{history}"
    );
    format.print(&rows, &Columns { row: &row, headings: HEADINGS, noheading: args.noheading })?;
    Ok(0)
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

/// What the table shows, and nothing that would have to be read first.
fn row(entry: &Entry, whole: bool) -> Value {
    let Entry { image, created, .. } = entry;
    let (repository, tag) = split(&image.reference);
    json!({
        "Created": format!("{} ago", output::since(*created)),
        "Digest": image.manifest,
        "History": names_history([image]).join(", "),
        "ID": if whole { image.config.to_string() } else { image.config.short() },
        "Repository": repository,
        "Size": output::size(image.size),
        "Tag": tag,
    })
}

/// What a template sees: the placeholders of podman-images(1), worded for people.
fn every_field(entry: &Entry, all: &[Entry], whole: bool) -> Value {
    let Entry { image, created, containers, .. } = entry;
    let at = created.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S %z UTC").to_string();
    let names: Vec<_> = twins(entry, all).filter_map(Image::name).collect();
    let dangling = entry.is_dangling(all);
    let mut row = row(entry, whole);
    row["History"] = names_history(twins(entry, all)).join(", ").into();
    let more = json!({
        "Containers": containers,
        "CreatedAt": at,
        "CreatedSince": row["Created"],
        "CreatedTime": at,
        "Dangling": dangling,
        "Id": image.config.hex(),
        "IsDangling": dangling,
        "IsManifestList": entry.is_list,
        "IsReadOnly": false,
        "Labels": entry.config()["config"]["Labels"].as_object().cloned().unwrap_or_default(),
        "Names": names,
        "ParentId": parent_id(entry, all),
        "ReadOnly": false,
        "RepoDigests": digests(twins(entry, all)),
        "RepoTags": names,
        "SharedSize": 0,
        "VirtualSize": image.size,
    });
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
        row.extend(more);
    }
    row
}

/// `--format json`.
fn json_of(entry: &Entry, all: &[Entry]) -> Value {
    let Entry { image, created, containers, .. } = entry;
    let (repository, tag) = split(&image.reference);
    let mut row = json!({
        "Id": image.config.hex(),
        "ParentId": parent_id(entry, all),
        "RepoTags": null,
        "RepoDigests": digests(twins(entry, all)),
        "Names": twins(entry, all).filter_map(Image::name).collect::<Vec<_>>(),
        "Repository": repository,
        "Tag": tag,
        "Labels": entry.config()["config"]["Labels"].as_object(),
        "Size": image.size,
        "SharedSize": 0,
        "VirtualSize": image.size,
        "Containers": containers,
        "Dangling": entry.is_dangling(all),
        "Digest": image.manifest,
        "History": names_history(twins(entry, all)),
        "Created": created.as_second(),
        "CreatedAt": created.to_string(),
        "Platform": image.platform,
    });
    if let (true, Some(row)) = (entry.is_list, row.as_object_mut()) {
        row.insert("IsManifestList".to_owned(), true.into());
    }
    row
}

fn parent_id(entry: &Entry, all: &[Entry]) -> String {
    entry.parent(all).map(|parent| parent.image.config.hex()).unwrap_or_default()
}

/// The names that an image has and had, the last one first.
pub fn names_history<'a>(records: impl IntoIterator<Item = &'a Image>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    let mut records: Vec<_> = records.into_iter().collect();
    // Each name that is given comes with those before it.
    records.sort_by_key(|record| std::cmp::Reverse(record.former.len()));
    for record in records {
        let former = record.former.iter().rev().map(String::as_str);
        let new: Vec<_> =
            record.name().into_iter().chain(former).filter(|name| !names.contains(name)).collect();
        names.extend(new);
    }
    names
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
