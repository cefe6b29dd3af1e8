//! `ctr save`: images as archives or directories (podman-save(1)).

use super::{Globals, images::is_called, run_args::takes_a_truth_value};
use crate::{
    container::events,
    error::Explain,
    registry,
    storage::{Compression, Image, Store},
    transports::{self, Format, Output, Selected, Target},
};
use anyhow::{Context, Result, anyhow};
use rustix::{io::fcntl_dupfd_cloexec, stdio::stdout};
use std::{
    fs::File,
    io::{IsTerminal, Read},
    path::PathBuf,
};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// docker-dir: layers have to be compressed, as they usually are
    #[arg(long)]
    compress: bool,
    /// docker-archive, oci-archive, oci-dir or docker-dir
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    format: Format,
    /// Further names are images, and not names of the first
    #[arg(short, long)]
    multi_image_archive: bool,
    /// Write to FILE, or to that directory, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show nothing, as without it
    #[arg(short, long)]
    quiet: bool,
    /// Accept layers that are not compressed, as without it
    #[arg(long, conflicts_with = "compress")]
    uncompressed: bool,
    /// Name, id or the beginning of an id
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Save them.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let target = target(args)?;
    let store = globals.store()?;
    let images = if args.multi_image_archive { several(args, &store)? } else { vec![one(args, &store)?] };
    if args.compress {
        for image in &images {
            is_compressed(args, &store, &image.image)?;
        }
    }
    let doing = || format!("save {}", args.images.join(", "));
    transports::save(&store, &images, args.format, Output::begin(target)?).with_context(doing)?;
    for Selected { image, .. } in &images {
        events::image(&store, "save", &image.reference, &image.config);
    }
    Ok(0)
}

fn target(args: &Args) -> Result<Target> {
    if args.compress && args.format != Format::DockerDir {
        return Err(anyhow!("--compress can only be set when --format is docker-dir"))
            .hint("leave it out: layers are saved as they are, compressed or not");
    }
    if args.multi_image_archive && args.format == Format::DockerDir {
        return Err(anyhow!("a docker-dir holds one image")).hint("--format docker-archive holds several");
    }
    match &args.output {
        Some(path) if args.format.is_directory() => Ok(Target::Directory(path.clone())),
        None if args.format.is_directory() => {
            Err(anyhow!("a directory can't be written to standard output")).hint("name it with -o DIRECTORY")
        }
        Some(path) if path.metadata().is_ok_and(|meta| !meta.is_file()) => {
            let file = File::options().write(true).open(path);
            let file = file.with_context(|| format!("write {}", path.display()));
            Ok(Target::Stream(file.hint("choose a file that you may write with -o")?))
        }
        Some(path) => Ok(Target::File(path.clone())),
        None if std::io::stdout().is_terminal() => {
            Err(anyhow!("refusing to save to terminal. Use -o flag or redirect"))
                .hint(format!("ctr save -o FILE.tar {}", args.images.join(" ")))
        }
        None => {
            let out = fcntl_dupfd_cloexec(stdout(), 3).context("open standard output")?;
            Ok(Target::Stream(File::from(out)))
        }
    }
}

/// The first image, under its own name and all further ones.
fn one(args: &Args, store: &Store) -> Result<Selected> {
    let [first, more @ ..] = args.images.as_slice() else { return Err(anyhow!("no image is named")) };
    let mut selected = find(store, first)?;
    for name in more {
        match registry::find(store, store.dirs(), name)? {
            Some(image) if image.config != selected.image.config => {
                return Err(anyhow!("{name:?} is another image than {first:?}"))
                    .hint("with -m each name is an image of its own");
            }
            Some(image) if image.name().is_some() => selected.names.push(image.reference),
            _ => selected.names.push(transports::local(name)?),
        }
    }
    selected.names.dedup();
    Ok(selected)
}

fn several(args: &Args, store: &Store) -> Result<Vec<Selected>> {
    let mut images: Vec<Selected> = Vec::new();
    for name in &args.images {
        let found = find(store, name)?;
        match images.iter_mut().find(|known| known.image.manifest == found.image.manifest) {
            Some(known) => known.names.extend(found.names),
            None => images.push(found),
        }
    }
    images.iter_mut().for_each(|image| image.names.dedup());
    Ok(images)
}

fn find(store: &Store, given: &str) -> Result<Selected> {
    let image = registry::find(store, store.dirs(), given)?;
    let image = image
        .ok_or_else(|| anyhow!("no image has the name or id {given:?}"))
        .hint("`ctr images` lists all images")?;
    // By its id it has no name (podman-save(1)).
    let id = given.strip_prefix("sha256:").unwrap_or(given);
    let by_id = image.config.hex().starts_with(id) && !is_called(&image.reference, given);
    let names = image.name().filter(|_| !by_id).map(str::to_owned);
    Ok(Selected { names: names.into_iter().collect(), image })
}

fn is_compressed(args: &Args, store: &Store, image: &Image) -> Result<()> {
    for blob in &image.blobs {
        let mut head = Vec::new();
        store.open_blob(blob)?.0.take(4).read_to_end(&mut head).context("read a blob")?;
        if Compression::None == transports::compression(&head) {
            return Err(anyhow!("layer {blob} of {} is not compressed", args.images[0]))
                .hint("leave --compress out: layers are saved as they are, and keep their digests");
        }
    }
    Ok(())
}
