//! `ctr commit`: a new image of what a container has changed (podman-commit(1)).

use super::{Globals, output, run_args::takes_a_truth_value};
use crate::{
    container::{
        commit::{self, Options},
        events, find,
        record::Record,
    },
    error::Explain,
    namespaces::{Mapping, run_inside},
    storage::replace_small_file,
    transports::{self, Flavour, Instruction, Recipe},
};
use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Map;
use std::{fs, path::PathBuf};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// Who made it
    #[arg(short, long, value_name = "AUTHOR", default_value = "", hide_default_value = true)]
    author: String,
    /// Change the configuration: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<Instruction>,
    /// Merge this JSON into the configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whose media types it has: oci or docker
    #[arg(short, long, value_name = "FORMAT", default_value = "oci")]
    format: Flavour,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Make the places of the container's volumes the image's volumes
    #[arg(long)]
    include_volumes: bool,
    /// Why, for the image's history
    #[arg(short, long, value_name = "MESSAGE")]
    message: Option<String>,
    /// Stop the container's processes meanwhile
    #[arg(short, long)]
    pause: bool,
    /// Print nothing but the image's id, which is so anyway
    #[arg(short, long)]
    quiet: bool,
    /// Make one layer of the image's and the new one
    #[arg(short, long)]
    squash: bool,
    /// When it was made, in seconds since 1970; no file in the layer is younger [default: SOURCE_DATE_EPOCH, else now]
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<i64>,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The image's name
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
}

/// Make it and print its id.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let name = args.image.as_deref().map(transports::local).transpose()?;
    let (latest, created) = times(args.timestamp)?;
    let fields = match &args.config {
        None => Map::new(),
        Some(path) => {
            let text = fs::read(path).with_context(|| format!("read {}", path.display()));
            let text = text.hint("name a file with a configuration as JSON")?;
            serde_json::from_slice(&text)
                .with_context(|| format!("read {} as a JSON object", path.display()))?
        }
    };
    let store = globals.store()?;
    let dir = find::find(&store, &args.container)?;
    let record = Record::read(&dir)?;
    let created_by = record.as_ref().map(|record| record.args.join(" "));
    let places = record.iter().filter(|_| args.include_volumes).flat_map(|record| &record.mounts);
    let places: Vec<String> = places.map(|mount| mount.target.to_string_lossy().into_owned()).collect();
    let volumes = (!places.is_empty()).then_some(Instruction::Volume(places));
    let recipe = Recipe {
        name,
        flavour: args.format,
        author: (!args.author.is_empty()).then(|| args.author.clone()),
        comment: args.message.clone(),
        created,
        created_by,
        fields,
        instructions: volumes.into_iter().chain(args.change.iter().cloned()).collect(),
    };
    let options = Options { pause: args.pause, squash: args.squash, latest, recipe };
    let committed = commit::commit(&store, dir, &options, |image| {
        let id = image.config.hex();
        if let Some(path) = &args.iidfile {
            replace_small_file(path, id.as_bytes())?;
        }
        record.iter().for_each(|record| events::record(&store, "commit", record));
        output::line(id)
    });
    if committed.is_err() {
        // What it left is garbage, which root of the namespace that owns it collects.
        let _ = run_inside(&Mapping::detect(), || store.collect_garbage().map(drop));
    }
    committed.map(|()| 0)
}

/// The latest time of a file, and the time of the image (reproducible-builds.org, SOURCE_DATE_EPOCH).
pub fn times(given: Option<i64>) -> Result<(Option<i64>, Timestamp)> {
    let of_environment = || match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if !text.is_empty() => text
            .parse::<i64>()
            .map(Some)
            .with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}"))
            .hint("set it to a number of seconds since 1970, or not at all"),
        _ => Ok(None),
    };
    let latest = given.map_or_else(of_environment, |seconds| Ok(Some(seconds)))?;
    let created = match latest {
        Some(seconds) => Timestamp::from_second(seconds).context("read the time")?,
        None => Timestamp::now(),
    };
    Ok((latest, created))
}
