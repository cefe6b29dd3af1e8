//! `ctr images`: which images there are, as a table, ids or JSON.

use super::{Format, Globals, output};
use crate::storage::{Digest, Image, Store};
use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashSet;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// All images; there are no intermediate ones
    #[arg(short, long)]
    all: bool,
    /// Nothing but ids
    #[arg(short, long, conflicts_with = "format")]
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
    /// `json`
    #[arg(long)]
    format: Option<Format>,
    /// Only images of this name
    #[arg(value_name = "IMAGE")]
    name: Option<String>,
}

/// Print the list.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let all = store
        .images()?
        .into_iter()
        .filter(|i| args.name.as_ref().is_none_or(|name| is_called(&i.reference, name)));
    let mut images: Vec<(Timestamp, Image)> = all.map(|image| (created(&store, &image), image)).collect();
    images.sort_by(|(a, x), (b, y)| (b, &x.reference).cmp(&(a, &y.reference)));
    let id = |image: &Image| if args.no_trunc { image.config.to_string() } else { image.config.short() };
    output::print(&if args.quiet {
        let mut seen = HashSet::new();
        let first = images.iter().filter(|(_, image)| seen.insert(image.config));
        first.map(|(_, image)| id(image) + "\n").collect()
    } else if args.format == Some(Format::Json) {
        let used = containers_of(&store)?;
        output::json(&images.iter().map(|(created, image)| entry(image, *created, &images, &used)).collect())
    } else {
        let mut headings = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
        if args.digests {
            headings.insert(2, "DIGEST");
        }
        let row = |(created, image): &(Timestamp, Image)| {
            let (repository, tag) = split(&image.reference);
            let mut row = vec![repository.to_owned(), tag.to_owned()];
            row.extend(args.digests.then(|| image.manifest.to_string()));
            row.extend([id(image), format!("{} ago", output::since(*created)), output::size(image.size)]);
            row
        };
        let rows: Vec<_> = images.iter().map(row).collect();
        output::table(if args.noheading { &[] } else { &headings }, &rows)
    })?;
    Ok(0)
}

/// `docker.io/library/ubuntu:latest` as repository and tag; a reference by digest has no tag.
pub fn split(reference: &str) -> (&str, &str) {
    if let Some((repository, _)) = reference.split_once('@') {
        return (repository, "<none>");
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

/// A damaged configuration is no reason to hide an image.
fn created(store: &Store, image: &Image) -> Timestamp {
    let config = config(store, image).unwrap_or_default();
    config["created"].as_str().and_then(|time| time.parse().ok()).unwrap_or(image.pulled)
}

fn containers_of(store: &Store) -> Result<Vec<Digest>> {
    let (containers, _) = crate::container::state::list(store)?;
    Ok(containers.iter().filter_map(|c| c.record.image_id).collect())
}

fn entry(image: &Image, created: Timestamp, all: &[(Timestamp, Image)], used: &[Digest]) -> Value {
    let twins = || all.iter().map(|(_, other)| other).filter(|other| other.config == image.config);
    json!({
        "Id": image.config.hex(),
        "RepoTags": null,
        "RepoDigests": digests(twins()),
        "Names": twins().map(|i| &i.reference).collect::<Vec<_>>(),
        "Size": image.size,
        "SharedSize": 0,
        "VirtualSize": image.size,
        "Containers": used.iter().filter(|id| **id == image.config).count(),
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
    let mut all: Vec<_> = images.flat_map(of).collect();
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
