//! `--filter` of the verbs that choose images (podman-images(1)).

use super::{container_filter::moment, image_entry::Entry, images::is_called};
use crate::{error::Explain, registry, storage::Store};
use anyhow::{Result, anyhow, bail};
use jiff::Timestamp;
use regex::Regex;
use std::{mem::discriminant, str::FromStr};

/// One condition.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Name or pattern.
    Reference(String, Regex),
    Id(String),
    Digest(String),
    Label(String, Option<String>),
    NotLabel(String, Option<String>),
    /// It has no name, and nothing was built from it.
    Dangling(bool),
    /// It has no name, and others were built from it.
    Intermediate(bool),
    /// What no image here is: in a store that can't be written.
    Never(bool),
    /// A list of manifests.
    Manifest(bool),
    /// A container uses it.
    Containers(bool),
    /// Built before this image.
    Before(String),
    /// Built after this image.
    Since(String),
    /// Built before this moment.
    Until(Timestamp),
    /// Built after this moment.
    After(Timestamp),
}

/// `filters` with the images that they name looked up among `all`.
///
/// # Errors
/// There is no such image.
pub fn resolve(filters: &[Filter], store: &Store, all: &[Entry]) -> Result<Vec<Filter>> {
    let built = |name: &str| -> Result<Timestamp> {
        let image = registry::find(store, store.dirs(), name)?;
        let entry = image.and_then(|image| all.iter().find(|entry| entry.image.config == image.config));
        let missing = || anyhow!("no image has the name or id {name:?}");
        Ok(entry.ok_or_else(missing).hint("`ctr images` lists all images")?.created)
    };
    let resolved = filters.iter().map(|filter| match filter {
        Filter::Before(name) => Ok(Filter::Until(built(name)?)),
        Filter::Since(name) => Ok(Filter::After(built(name)?)),
        other => Ok(other.clone()),
    });
    resolved.collect()
}

/// Of one key any value will do (of labels and times all), of several keys all must.
pub fn passes(filters: &[Filter], entry: &Entry, all: &[Entry]) -> bool {
    filters.iter().all(|filter| match filter {
        Filter::Label(..) | Filter::NotLabel(..) | Filter::Until(_) => filter.matches(entry, all),
        _ => filters
            .iter()
            .filter(|other| discriminant(*other) == discriminant(filter))
            .any(|other| other.matches(entry, all)),
    })
}

impl Filter {
    fn matches(&self, entry: &Entry, all: &[Entry]) -> bool {
        let image = &entry.image;
        let labelled = |key: &String, value: &Option<String>| {
            let have = entry.config()["config"]["Labels"].get(key).and_then(|have| have.as_str());
            have.is_some_and(|have| value.as_ref().is_none_or(|value| value == have))
        };
        match self {
            Filter::Reference(name, pattern) => {
                is_called(&image.reference, name) || pattern.is_match(&image.reference)
            }
            Filter::Id(start) => {
                image.config.hex().starts_with(start.strip_prefix("sha256:").unwrap_or(start))
            }
            Filter::Digest(start) => image.manifest.to_string().starts_with(start),
            Filter::Label(key, value) => labelled(key, value),
            Filter::NotLabel(key, value) => !labelled(key, value),
            Filter::Dangling(wanted) => entry.is_dangling(all) == *wanted,
            Filter::Intermediate(wanted) => entry.is_intermediate(all) == *wanted,
            Filter::Never(wanted) => !wanted,
            Filter::Manifest(wanted) => entry.is_list == *wanted,
            Filter::Containers(wanted) => (entry.containers > 0) == *wanted,
            Filter::Until(moment) => entry.created < *moment,
            Filter::After(moment) => entry.created > *moment,
            // They are resolved before anything is compared.
            Filter::Before(_) | Filter::Since(_) => false,
        }
    }
}

impl FromStr for Filter {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Filter> {
        // `label!=x` is the key `label!`.
        let Some((key, value)) = text.split_once('=') else { bail!("a filter is written KEY=VALUE") };
        let truth = || match value.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Ok(true),
            "false" | "f" | "0" => Ok(false),
            _ => bail!("{key} is true or false, not {value:?}"),
        };
        let label = |filter: fn(String, Option<String>) -> Filter| {
            let (key, value) = value.split_once('=').map_or((value, None), |(k, v)| (k, Some(v.to_owned())));
            filter(key.to_owned(), value)
        };
        match key {
            "reference" => Ok(Filter::Reference(value.to_owned(), wildcards(value)?)),
            "id" => Ok(Filter::Id(value.to_owned())),
            "digest" => Ok(Filter::Digest(value.to_owned())),
            "label" => Ok(label(Filter::Label)),
            "label!" => Ok(label(Filter::NotLabel)),
            "dangling" => truth().map(Filter::Dangling),
            "intermediate" => truth().map(Filter::Intermediate),
            "readonly" => truth().map(Filter::Never),
            "manifest" => truth().map(Filter::Manifest),
            "containers" => truth().map(Filter::Containers),
            "before" => Ok(Filter::Before(value.to_owned())),
            "since" | "after" => Ok(Filter::Since(value.to_owned())),
            "until" => moment(value).map(Filter::Until),
            _ => bail!(
                "the filter {key:?} is not built: reference, id, digest, label, label!, dangling, \
                 intermediate, readonly, manifest, containers, before, since and until are"
            ),
        }
    }
}

/// A pattern for a whole name, or its end after a slash, with or without the tag: `*` and `?` stop at slashes.
fn wildcards(pattern: &str) -> Result<Regex> {
    let escaped = regex::escape(pattern).replace(r"\*", "[^/]*").replace(r"\?", "[^/]");
    Regex::new(&format!("^(?:.*/)?{escaped}(?::[^/]*)?$"))
        .map_err(|_| anyhow!("{pattern:?} is too long a pattern"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for (text, good) in [
            ("reference=*ubuntu*", true),
            ("label!=a=b", true),
            ("dangling=true", true),
            ("dangling=x", false),
            ("intermediate=true", true),
            ("manifest=x", false),
            ("pod=x", false),
            ("before=x", true),
            ("x", false),
        ] {
            assert_eq!(text.parse::<Filter>().is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn patterns() {
        let reference = "docker.io/library/ubuntu:24.04";
        for (pattern, found) in [
            ("ubu*", true),
            ("*:24*", true),
            ("library/*", true),
            ("docker.io/*/ubuntu", true),
            ("docker*", false),
            ("bunt", false),
            ("ub.ntu", false),
        ] {
            assert_eq!(wildcards(pattern).unwrap().is_match(reference), found, "{pattern}");
        }
    }
}
