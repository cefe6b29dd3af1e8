//! What happened to containers and images: one line of JSON each, with Podman's field names, in a file that begins anew at
//! a size. Nothing depends on it, so a line that can't be written is lost.

use super::record::Record;
use crate::storage::{ContainerDir, Digest, Store};
use anyhow::Result;
use jiff::Timestamp;
use rustix::{
    fs::{CWD, FlockOperation, Mode, OFlags, flock, fstat, openat, stat},
    io::write,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// An event, as `podman events --format json` has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Event {
    /// The exit status of one that died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_exit_code: Option<u8>,
    /// Of the container or the image.
    #[serde(rename = "ID")]
    pub id: String,
    /// The image's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The container's or the image's name.
    pub name: String,
    /// What happened: create, start, died, …
    pub status: String,
    /// Seconds since 1970.
    #[serde(rename = "time")]
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
    /// `container` or `image`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// healthy or unhealthy.
    #[serde(default, rename = "health_status", skip_serializing_if = "String::is_empty")]
    pub health_status: String,
    /// The container's labels.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// `status` is what happened to the container of `record`.
pub fn record(store: &Store, status: &str, record: &Record) {
    keep(store, of_container(status, record));
}

/// The same for the container in `dir`.
pub fn of(store: &Store, status: &str, dir: &ContainerDir) {
    if let Ok(Some(record)) = Record::read(dir) {
        keep(store, of_container(status, &record));
    }
}

/// It ended with exit status `code`.
pub fn died(store: &Store, record: &Record, code: u8) {
    keep(store, Event { container_exit_code: Some(code), ..of_container("died", record) });
}

/// Its health is now `health`.
pub fn health(store: &Store, record: &Record, health: &str) {
    keep(store, Event { health_status: health.to_owned(), ..of_container("health_status", record) });
}

/// `status` is what happened to the image `id`, called `reference`.
pub fn image(store: &Store, status: &str, reference: &str, id: &Digest) {
    let (id, name, status, kind) = (id.hex().to_owned(), reference.into(), status.into(), "image".into());
    keep(store, Event { id, name, status, kind, ..Event::default() });
}

fn of_container(status: &str, record: &Record) -> Event {
    // A line is one write(2), which nobody's can come into; labels of any size are no reason to have long ones.
    let small = record.labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() < LABELS;
    Event {
        id: record.id.to_string(),
        image: record.image.clone(),
        name: record.name.to_string(),
        status: status.to_owned(),
        kind: "container".to_owned(),
        attributes: if small { record.labels.clone() } else { BTreeMap::new() },
        ..Event::default()
    }
}

fn keep(store: &Store, event: Event) {
    let now = Timestamp::now();
    let time_nano = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
    if let Ok(mut line) = serde_json::to_vec(&Event { time: now.as_second(), time_nano, ..event }) {
        line.push(b'\n');
        let _ = append(&store.events_file(), &line);
    }
}

fn append(path: &Path, line: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(CWD, path, flags, Mode::RUSR | Mode::WUSR);
    let mut file = open()?;
    let found = fstat(&file)?;
    if found.st_size as u64 > LIMIT && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        // Whoever comes second finds another file there.
        if stat(path).is_ok_and(|now| now.st_ino == found.st_ino) {
            std::fs::rename(path, path.with_added_extension("1"))?;
        }
        file = open()?;
    }
    write(&file, line)?;
    Ok(())
}

/// Bytes at which a new file is begun; one old one stays.
const LIMIT: u64 = 1 << 20;
/// Bytes of labels.
const LABELS: usize = 16 << 10;
