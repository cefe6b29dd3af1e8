//! A new image of what a container has changed (podman-commit(1)).

use super::{
    files::{self, Reached, read_frames},
    pause,
    record::Record,
    state::{Container, Status},
};
use crate::{
    error::Explain,
    namespaces::{Mapping, run_inside},
    storage::{Compression, ContainerDir, Expected, Gzip, Image, LayerDraft, Store},
    transports::{self, Base, Recipe},
};
use anyhow::{Context, Result, anyhow};
use oci_spec::image::ImageConfiguration;
use serde_json::{Map, Value, json};
use std::{fs::File, io::Write};

/// How to commit.
#[derive(Clone, Debug)]
pub struct Options {
    /// Stop its processes meanwhile.
    pub pause: bool,
    /// One layer in place of the image's and the new one.
    pub squash: bool,
    /// Nothing in the layer is younger, in seconds since the epoch.
    pub latest: Option<i64>,
    /// What the image is, apart from what the container says.
    pub recipe: Recipe,
}

/// Make the image, and hand it to `published`. Must be called before any thread exists, and with SIGPIPE ignored.
///
/// # Errors
/// The container has no image; a file of it can't be read, or the store not be written. Nothing has changed then.
pub fn commit(
    store: &Store,
    dir: ContainerDir,
    options: &Options,
    published: impl FnOnce(&Image) -> Result<()>,
) -> Result<()> {
    let id = dir.id().clone();
    let container =
        Container::read(dir)?.ok_or_else(|| anyhow!("container {} was never finished", id.short()))?;
    let record = container.record.clone();
    if record.rootfs.is_some() {
        return Err(anyhow!(
            "container {} has a directory of the user's as its root, and no image",
            record.name
        ))
        .hint(format!("`ctr export {0} | ctr import - NAME` makes one", record.name));
    }
    let paused = options.pause && matches!(container.status, Status::Running(_));
    if paused {
        pause::pause(&container)?;
    }
    let _unpause = paused.then(|| Unpause(&container));
    let reached = Reached::find(store, id.as_str())?;
    let (packer, stream) = files::layer(store, &reached, options.squash, options.latest)?;
    // Here: the caller's own process, no thread yet; the packer is a child of it, confined. Inside: root of the user namespace
    // that owns the layers' files; the threads that hash, compress and unpack live and end there.
    let taken = run_inside(&Mapping::detect(), || {
        let _hold = store.hold()?;
        let base = base(store, &record)?;
        let recipe = Recipe { fields: fields(store, &base, &record, options)?, ..options.recipe.clone() };
        let draft = receive(store, stream)?;
        let base = if options.squash { Base::Squashed(&base) } else { Base::Over(&base) };
        published(&transports::build(store, base, draft, &recipe)?)
    });
    // What could not be read is the cause of what did not come.
    packer.wait().and(taken).with_context(|| format!("commit container {}", record.name))
}

struct Unpause<'a>(&'a Container);

impl Drop for Unpause<'_> {
    fn drop(&mut self) {
        // It may have ended meanwhile.
        let _ = pause::unpause(self.0);
    }
}

/// What comes from the packer, compressed and unpacked again: what is run is what is pushed.
fn receive(store: &Store, stream: File) -> Result<LayerDraft> {
    let (compression, bounded) = (Compression::Gzip, false);
    let mut ingest =
        store.receive(Expected { blob: None, size: None, bounded, compression, diff_id: None })?;
    let mut encoder = Gzip::new(Vec::new(), None);
    read_frames(stream, |frame| {
        encoder.write_all(frame).context("compress the layer")?;
        let ready = encoder.take();
        if ready.is_empty() { Ok(()) } else { ingest.push(ready) }
    })?;
    ingest.push(encoder.finish().context("compress the layer")?)?;
    ingest.settle()
}

/// The image that the container was made from, under whatever name.
fn base(store: &Store, record: &Record) -> Result<Image> {
    let is_it = |image: &Image| {
        Some(image.config) == record.image_id
            && record.image_digest.is_none_or(|manifest| manifest == image.manifest)
    };
    store
        .images()?
        .into_iter()
        .find(is_it)
        .ok_or_else(|| anyhow!("its image {} is gone from the store", record.image))
        .hint(format!("ctr pull {}", record.image))
}

/// How the container was run. Its host name, and what it got because it is a container, are not the image's.
fn fields(store: &Store, base: &Image, record: &Record, options: &Options) -> Result<Map<String, Value>> {
    let config = store.read_blob(&base.config, 8 << 20)?;
    let config =
        ImageConfiguration::from_reader(config.as_slice()).context("read the image's configuration")?;
    let defaults = config.config().clone().unwrap_or_default();
    let of_image = defaults.env().clone().unwrap_or_default();
    let ours = [
        Some("container=ctr".to_owned()),
        Some(format!("HOSTNAME={}", record.hostname)),
        record.tty.then(|| "TERM=xterm".to_owned()),
    ];
    let env: Vec<&String> = record
        .env
        .iter()
        .filter(|variable| {
            of_image.contains(variable) || !ours.iter().flatten().any(|ours| ours == *variable)
        })
        .collect();
    let list = |words: &[String]| if words.is_empty() { Value::Null } else { json!(words) };
    // What nobody asked for stays open.
    let text = |text: &str, preset: &str, of_image: &Option<String>| {
        if text == preset && of_image.is_none() { Value::Null } else { json!(text) }
    };
    let command = record.args.get(record.entrypoint.len()..).unwrap_or_default();
    let labels = if record.labels.is_empty() { Value::Null } else { json!(record.labels) };
    let mut fields = Map::from_iter(
        [
            ("Cmd", list(command)),
            ("Entrypoint", list(&record.entrypoint)),
            ("Env", json!(env)),
            ("Labels", labels),
            ("User", text(&record.user, "0", defaults.user())),
            ("WorkingDir", text(&record.workdir, "/", defaults.working_dir())),
        ]
        .map(|(field, value)| (field.to_owned(), value)),
    );
    fields.extend(options.recipe.fields.clone());
    Ok(fields)
}
