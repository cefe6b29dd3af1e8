//! `--filter` of the verbs that choose containers (podman-ps(1)).

use super::images::is_called;
use crate::{
    container::{
        find, networks,
        state::{Container, Status},
    },
    storage::Store,
};
use anyhow::{Context, Result, anyhow, bail};
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use regex::Regex;
use std::{mem::discriminant, str::FromStr};

/// One condition.
#[derive(Clone, Debug)]
pub enum Filter {
    Name(Regex),
    Id(String),
    Status(String),
    Exited(u8),
    Health(String),
    Ancestor(String),
    Label(String, Option<String>),
    NotLabel(String, Option<String>),
    Network(String),
    /// It is this pod, or belongs to it.
    Pod(String),
    Command(Regex),
    RestartPolicy(String),
    /// It mounts this volume, or something at this place.
    Volume(String),
    /// Made before this container.
    Before(String),
    /// Made after this container.
    Since(String),
    /// Made before this moment.
    Until(Timestamp),
    /// Made after this moment.
    After(Timestamp),
}

/// `filters` with the containers that they name looked up.
///
/// # Errors
/// There is no such container.
pub fn resolve(filters: &[Filter], store: &Store) -> Result<Vec<Filter>> {
    let made = |name: &str| -> Result<Timestamp> {
        let container = Container::read(find::find(store, name)?)?;
        Ok(container.with_context(|| format!("container {name} is gone"))?.record.created)
    };
    let resolved = filters.iter().map(|filter| match filter {
        Filter::Before(name) => Ok(Filter::Until(made(name)?)),
        Filter::Since(name) => Ok(Filter::After(made(name)?)),
        // What there is none of, nobody is in.
        Filter::Network(name) => Ok(Filter::Network(
            networks::find(store, name).map_or_else(|_| name.clone(), |network| network.name),
        )),
        Filter::Pod(name) => {
            let pod = find::lookup(store, name)?;
            Ok(Filter::Pod(pod.map_or_else(|| name.clone(), |dir| dir.id().as_str().to_owned())))
        }
        other => Ok(other.clone()),
    });
    resolved.collect()
}

/// Of one key any value will do (of labels and times all), of several keys all must.
pub fn passes(filters: &[Filter], container: &Container) -> bool {
    filters.iter().all(|filter| match filter {
        Filter::Label(..) | Filter::NotLabel(..) | Filter::Until(_) => filter.matches(container),
        _ => filters
            .iter()
            .filter(|other| discriminant(*other) == discriminant(filter))
            .any(|other| other.matches(container)),
    })
}

impl Filter {
    /// It asks for containers that don't run.
    pub fn is_of_status(&self) -> bool {
        matches!(self, Filter::Status(_))
    }

    fn matches(&self, container: &Container) -> bool {
        let record = &container.record;
        let labelled = |key: &String, value: &Option<String>| {
            record.labels.get(key).is_some_and(|have| value.as_ref().is_none_or(|value| value == have))
        };
        match self {
            Filter::Name(pattern) => pattern.is_match(record.name.as_str()),
            Filter::Id(start) => record.id.as_str().starts_with(start),
            Filter::Status(word) => container.status.word() == word,
            Filter::Exited(code) => matches!(&container.status, Status::Exited(exit) if exit.code == *code),
            Filter::Health(word) => super::ps::health(container).as_deref().unwrap_or("none") == word,
            Filter::Ancestor(image) => {
                let id = image.strip_prefix("sha256:").unwrap_or(image);
                let by_id = id.len() >= 4 && record.image_id.is_some_and(|d| d.hex().starts_with(id));
                by_id || is_called(&record.image, image)
            }
            Filter::Label(key, value) => labelled(key, value),
            Filter::NotLabel(key, value) => !labelled(key, value),
            Filter::Network(name) => {
                record.network == *name || record.networks.iter().any(|one| one.network == *name)
            }
            Filter::Pod(id) => {
                let pod = if record.pod.is_some() { Some(&record.id) } else { record.member_of.as_ref() };
                pod.is_some_and(|pod| pod.as_str() == id)
            }
            Filter::Command(pattern) => record.args.first().is_some_and(|program| pattern.is_match(program)),
            Filter::RestartPolicy(name) => super::inspect_container::restart_policy(record).0 == name,
            Filter::Volume(volume) => super::inspect_container::mounts(record).any(|mount| {
                mount["Name"] == *volume || mount["Source"] == *volume || mount["Destination"] == *volume
            }),
            Filter::Until(moment) => record.created < *moment,
            Filter::After(moment) => record.created > *moment,
            // They are resolved before anything is compared.
            Filter::Before(_) | Filter::Since(_) => false,
        }
    }
}

impl FromStr for Filter {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Filter> {
        const STATUSES: &[&str] = &[
            "created",
            "initialized",
            "running",
            "stopping",
            "paused",
            "restarting",
            "exited",
            "removing",
            "unknown",
        ];
        // `label!=x` is the key `label!`.
        let Some((key, value)) = text.split_once('=') else { bail!("a filter is written KEY=VALUE") };
        let pattern = || Regex::new(value).map_err(|_| anyhow!("{value:?} is no regular expression"));
        match key {
            "name" => pattern().map(Filter::Name),
            "command" => pattern().map(Filter::Command),
            "id" => Ok(Filter::Id(value.to_owned())),
            "status" => match if value == "stopped" { "exited" } else { value } {
                word if STATUSES.contains(&word) => Ok(Filter::Status(word.to_owned())),
                _ => bail!("no container has the status {value:?}: there are {}", STATUSES.join(", ")),
            },
            "exited" => {
                Ok(Filter::Exited(value.parse().with_context(|| format!("{value:?} is no exit status"))?))
            }
            "ancestor" => Ok(Filter::Ancestor(value.to_owned())),
            "label" => Ok(label(value, Filter::Label)),
            "label!" => Ok(label(value, Filter::NotLabel)),
            "network" => Ok(Filter::Network(value.to_owned())),
            "pod" => Ok(Filter::Pod(value.to_owned())),
            "restart-policy" => match if value == "none" { "no" } else { value } {
                word @ ("no" | "on-failure" | "always" | "unless-stopped") => {
                    Ok(Filter::RestartPolicy(word.to_owned()))
                }
                _ => bail!(
                    "{value:?} is no restart policy: there are no, on-failure, always and unless-stopped"
                ),
            },
            "health" => match value {
                "starting" | "healthy" | "unhealthy" | "none" => Ok(Filter::Health(value.to_owned())),
                _ => bail!("health {value:?} is none of starting, healthy, unhealthy and none"),
            },
            "volume" => Ok(Filter::Volume(value.to_owned())),
            "before" => Ok(Filter::Before(value.to_owned())),
            "since" => Ok(Filter::Since(value.to_owned())),
            "until" => moment(value).map(Filter::Until),
            _ => bail!(
                "the filter {key:?} is not built: name, id, status, health, exited, ancestor, label, label!, network, pod, command, \
                 restart-policy, volume, before, since and until are"
            ),
        }
    }
}

fn label(value: &str, filter: fn(String, Option<String>) -> Filter) -> Filter {
    let (key, value) =
        value.split_once('=').map_or((value, None), |(key, value)| (key, Some(value.to_owned())));
    filter(key.to_owned(), value)
}

/// A moment: so long ago (`10m`, `1h30m`), RFC 3339, a date and time of this time zone, or seconds since 1970.
pub fn moment(text: &str) -> Result<Timestamp> {
    let seconds = || Timestamp::from_second(text.parse().ok()?).ok();
    let ago = || Timestamp::now().checked_sub(text.parse::<SignedDuration>().ok()?).ok();
    let local = || {
        let time: civil::DateTime = text.parse().ok()?;
        Some(time.to_zoned(TimeZone::system()).ok()?.timestamp())
    };
    let found = text.parse().ok().or_else(seconds).or_else(ago).or_else(local);
    found
        .with_context(|| format!("{text:?} is no time: write 10m, 1h30m, 2026-01-31 or 2026-01-31T10:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for (text, good) in [
            ("name=^web$", true),
            ("name=(", false),
            ("status=stopped", true),
            ("status=asleep", false),
            ("label=a=b=c", true),
            ("label!=a", true),
            ("ancestor=x=y", true),
            ("exited=3", true),
            ("exited=x", false),
            ("until=10m", true),
            ("until=soon", false),
            ("pod=x", true),
            ("ports=x", false),
            ("health=healthy", true),
            ("health=good", false),
            ("name", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<Filter>().is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn moments() {
        let now = Timestamp::now().as_second();
        let near = |text: &str, then: i64| (moment(text).unwrap().as_second() - then).abs() <= 2;
        assert!(near("10m", now - 600) && near("1h30m", now - 5400) && near("0s", now));
        assert!(near("1700000000", 1_700_000_000) && near("2023-11-14T22:13:20Z", 1_700_000_000));
        assert!(near("2023-11-14T22:13:20+01:00", 1_699_996_400) && moment("2023-11-14").is_ok());
        for text in ["", "x", "10", "99999999999999999999"] {
            assert!(text == "10" || moment(text).is_err(), "{text}");
        }
    }
}
