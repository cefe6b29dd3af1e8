//! `ctr push`: an image, or a list of images, from the store to a registry.

use super::{Globals, progress, registry_args::RegistryArgs, run_args::takes_a_truth_value};
use crate::{
    container::{events, health::parse_duration},
    error::Explain,
    registry::{self, Format, Packing, Parcel, PushOptions, Reference, lists},
    storage::{Compression, Digest, Store},
};
use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use std::{collections::HashMap, fs, path::PathBuf, time::Duration};

/// Push an image to a registry
#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// The whole index that the image was chosen from, not the one image
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    how: PushArgs,
    /// What to push
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Where to, when it isn't the image's own name
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

// No docs: a verb that flattens it would show them as its own help.
#[derive(clap::Args, Debug)]
pub struct PushArgs {
    /// Show nothing
    #[arg(short, long)]
    quiet: bool,
    /// Pack the layers so: gzip or zstd; as they are without it
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    compression_format: Option<CompressionFormat>,
    /// The compressor's level: 1 to 9 for gzip, 1 to 20 for zstd
    #[arg(long, value_name = "LEVEL", requires = "compression_format")]
    compression_level: Option<u32>,
    /// Pack also those layers anew that are packed so
    #[arg(long, requires = "compression_format")]
    force_compression: bool,
    /// Write the digest of what was pushed to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// The manifest's format: oci or v2s2; as it is without it
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Accepted; images are kept without signatures
    #[arg(long)]
    remove_signatures: bool,
    /// Accepted, as in Docker
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    /// How often to begin again after a failure that may pass
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    retry: u32,
    /// The pause before that: 2s, 1m
    #[arg(long, value_name = "TIME", value_parser = pause)]
    retry_delay: Option<Duration>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// `--compression-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CompressionFormat {
    Gzip,
    Zstd,
}

/// Push it.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let options = args.how.options()?;
    let store = globals.store()?;
    let Some(image) = registry::find(&store, store.dirs(), &args.image)? else {
        let list = lists::find_list(&store, &args.image)?
            .ok_or_else(|| anyhow!("no image has the name or id {:?}", args.image))
            .hint("`ctr images` lists all images")?;
        let destination = destination(args.destination.as_deref(), &list.reference)?;
        args.how.push(&store, &lists::parcel(&list, false)?, &destination, &options)?;
        return Ok(0);
    };
    let destination = destination(args.destination.as_deref(), &image.reference)?;
    let root = image.index.filter(|_| args.all).unwrap_or(image.manifest);
    let parcel = Parcel { root, elsewhere: HashMap::new(), alone: false };
    args.how.push(&store, &parcel, &destination, &options)?;
    events::image(&store, "push", &image.reference, &image.config);
    Ok(0)
}

impl PushArgs {
    /// As the registry room takes them.
    ///
    /// # Errors
    /// They contradict each other.
    pub fn options(&self) -> Result<PushOptions> {
        let compression = self.compression_format.map(|format| match format {
            CompressionFormat::Gzip => Compression::Gzip,
            CompressionFormat::Zstd => Compression::Zstd,
        });
        let highest = if compression == Some(Compression::Zstd) { 20 } else { 9 };
        if let Some(level) = self.compression_level.filter(|level| !(1..=highest).contains(level)) {
            return Err(anyhow!("--compression-level {level} is not one of this format"))
                .hint(format!("--compression-level 1 to {highest}"));
        }
        if (compression, self.format) == (Some(Compression::Zstd), Some(Format::V2s2)) {
            return Err(anyhow!("an image of format v2s2 has no zstd layers"))
                .hint("--format oci, or --compression-format gzip");
        }
        Ok(PushOptions {
            access: self.registry.options()?,
            packing: Packing {
                format: self.format,
                compression,
                level: self.compression_level,
                force: self.force_compression || self.compression_level.is_some(),
            },
            retry: self.retry,
            retry_delay: self.retry_delay,
        })
    }

    /// Push `parcel`, and write its digest where that was asked for.
    pub fn push(
        &self,
        store: &Store,
        parcel: &Parcel,
        destination: &Reference,
        options: &PushOptions,
    ) -> Result<Digest> {
        let progress = progress::of_push(self.quiet);
        // Here: the user's own process, in the user's namespaces, no thread yet: blobs are the user's own files, and a
        // credential helper finds the session that it needs. tokio and all threads live and end in there.
        let digest = registry::push(store, parcel, destination, options, progress.as_ref())?;
        if let Some(file) = &self.digestfile {
            fs::write(file, digest.to_string()).with_context(|| format!("write {}", file.display()))?;
        }
        Ok(digest)
    }
}

/// Where to push: `text`, or else `name`, the image's own.
pub fn destination(text: Option<&str>, name: &str) -> Result<Reference> {
    let Some(text) = text else {
        return Reference::parse(name)
            .map_err(|_| anyhow!("the image has no name to push it to"))
            .hint("name a place: ctr push IMAGE REGISTRY/NAME:TAG");
    };
    let others =
        ["dir", "docker-archive", "docker-daemon", "oci", "oci-archive", "containers-storage", "ostree"];
    if let Some((transport, _)) = text.split_once(':').filter(|(transport, _)| others.contains(transport)) {
        return Err(anyhow!("a push to {transport}: is not built"))
            .hint("`ctr save` writes archives and directories");
    }
    Ok(match registry::reference::parse(text)? {
        registry::reference::Named::Full(reference) => reference,
        // As Podman and Docker: what names no registry goes to Docker's.
        registry::reference::Named::Short { path, target } => {
            Reference::at(registry::reference::DOCKER_HUB, &path, target)
        }
    })
}

pub(super) fn pause(text: &str) -> Result<Duration> {
    Ok(Duration::from_nanos(parse_duration(text)?))
}
