//! `--filter` of the verbs that choose volumes (podman-volume-ls(1)).

use super::container_filter::moment;
use crate::storage::Volume;
use anyhow::{Result, anyhow, bail};
use jiff::Timestamp;
use regex::Regex;
use std::{mem::discriminant, str::FromStr};

/// One condition.
#[derive(Clone, Debug)]
pub enum Filter {
    Name(Regex),
    Label(String, Option<String>),
    NotLabel(String, Option<String>),
    /// No container uses it.
    Dangling(bool),
    Anonymous(bool),
    Driver(String),
    Scope(String),
    Opt(String, Option<String>),
    /// Made before this moment.
    Until(Timestamp),
    /// Made after this moment.
    Since(Timestamp),
}

/// Of one key any value will do (of labels and times all), of several keys all must.
pub fn passes(filters: &[Filter], volume: &Volume, used: bool) -> bool {
    filters.iter().all(|filter| match filter {
        Filter::Label(..) | Filter::NotLabel(..) | Filter::Until(_) => filter.matches(volume, used),
        _ => filters
            .iter()
            .filter(|other| discriminant(*other) == discriminant(filter))
            .any(|other| other.matches(volume, used)),
    })
}

impl Filter {
    fn matches(&self, volume: &Volume, used: bool) -> bool {
        let labelled = |key: &String, value: &Option<String>| {
            volume.labels.get(key).is_some_and(|have| value.as_ref().is_none_or(|value| value == have))
        };
        match self {
            Filter::Name(pattern) => pattern.is_match(volume.name.as_str()),
            Filter::Label(key, value) => labelled(key, value),
            Filter::NotLabel(key, value) => !labelled(key, value),
            Filter::Dangling(wanted) => used != *wanted,
            Filter::Anonymous(wanted) => volume.anonymous == *wanted,
            Filter::Driver(name) | Filter::Scope(name) => name == "local",
            Filter::Opt(key, value) => {
                volume.options.get(key).is_some_and(|have| value.as_ref().is_none_or(|value| value == have))
            }
            Filter::Until(moment) => volume.created < *moment,
            Filter::Since(moment) => volume.created > *moment,
        }
    }
}

impl FromStr for Filter {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Filter> {
        let Some((key, value)) = text.split_once('=') else { bail!("a filter is written KEY=VALUE") };
        let pair =
            || value.split_once('=').map_or((value, None), |(key, value)| (key, Some(value.to_owned())));
        let truth = || match value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => bail!("{value:?} is neither true nor false"),
        };
        Ok(match key {
            "name" => {
                Filter::Name(Regex::new(value).map_err(|_| anyhow!("{value:?} is no regular expression"))?)
            }
            "label" => Filter::Label(pair().0.to_owned(), pair().1),
            "label!" => Filter::NotLabel(pair().0.to_owned(), pair().1),
            "dangling" => Filter::Dangling(truth()?),
            "anonymous" => Filter::Anonymous(truth()?),
            "driver" => Filter::Driver(value.to_owned()),
            "scope" => Filter::Scope(value.to_owned()),
            "opt" => Filter::Opt(pair().0.to_owned(), pair().1),
            "until" => Filter::Until(moment(value)?),
            "since" | "after" => Filter::Since(moment(value)?),
            _ => bail!(
                "the filter {key:?} is not built: name, label, label!, dangling, anonymous, driver, opt, scope, until and since are"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for (text, good) in [
            ("name=^a", true),
            ("name=(", false),
            ("label=a=b", true),
            ("label!=a", true),
            ("dangling=true", true),
            ("dangling=maybe", false),
            ("opt=type=tmpfs", true),
            ("until=10m", true),
            ("until=soon", false),
            ("x=y", false),
            ("name", false),
        ] {
            assert_eq!(text.parse::<Filter>().is_ok(), good, "{text}");
        }
    }
}
