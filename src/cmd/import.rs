//! `ctr import`: a root file system as an image of one layer (podman-import(1)).

use super::{Globals, commit::times, output, run_args::takes_a_truth_value};
use crate::{
    container::events,
    error::Explain,
    namespaces::{Mapping, run_inside},
    registry::Platform,
    transports::{self, Base, Flavour, Instruction, Recipe},
};
use anyhow::{Context, Result, anyhow};
use rustix::{io::fcntl_dupfd_cloexec, stdio::stdin};
use serde_json::Map;
use std::{fs::File, io::IsTerminal};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// What it runs on, in place of this machine's architecture
    #[arg(long)]
    arch: Option<String>,
    /// Change the configuration: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<Instruction>,
    /// Why, for the image's history
    #[arg(short, long, value_name = "MESSAGE")]
    message: Option<String>,
    /// The operating system, in place of linux
    #[arg(long)]
    os: Option<String>,
    /// Show nothing but the image's id, which is so anyway
    #[arg(short, long)]
    quiet: bool,
    /// The architecture's variant
    #[arg(long)]
    variant: Option<String>,
    /// A tar archive, plain or compressed; `-`: standard input
    #[arg(value_name = "FILE")]
    file: String,
    /// The image's name
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
}

/// Make it and print its id.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let name = args.image.as_deref().map(transports::local).transpose()?;
    let recipe = Recipe {
        name,
        flavour: Flavour::Oci,
        author: None,
        comment: Some(args.message.clone().unwrap_or_else(|| "imported from tarball".into())),
        created: times(None)?.1,
        created_by: None,
        fields: Map::new(),
        instructions: args.change.clone(),
    };
    let host = Platform::host();
    let (os, arch) = (args.os.as_deref().unwrap_or("linux"), args.arch.as_deref());
    let arch = arch.unwrap_or_else(|| host.architecture());
    let file = open(&args.file)?;
    let store = globals.store()?;
    // As in `load`.
    run_inside(&Mapping::detect(), || {
        let base = Base::Scratch(os, arch, args.variant.as_deref());
        let imported = transports::import(&store, file, base, &recipe);
        if imported.is_err() {
            let _ = store.collect_garbage();
        }
        let image = imported
            .with_context(|| format!("import {}", args.file))
            .hint("`ctr import` reads a tar archive of a root file system, as `ctr export` writes it")?;
        events::image(&store, "import", &image.reference, &image.config);
        output::line(image.config)
    })?;
    Ok(0)
}

fn open(name: &str) -> Result<File> {
    if ["http://", "https://", "ftp://"].iter().any(|scheme| name.starts_with(scheme)) {
        return Err(anyhow!("import from a URL is not built: {name:?}"))
            .hint(format!("curl -fL {name} | ctr import - IMAGE"));
    }
    if name != "-" {
        let file = File::open(name).with_context(|| format!("open {name}"));
        return file.hint("name a tar archive, or - for standard input");
    }
    if std::io::stdin().is_terminal() {
        return Err(anyhow!("cannot read from terminal"))
            .hint("redirect an archive: `ctr import - IMAGE <FILE`");
    }
    Ok(File::from(fcntl_dupfd_cloexec(stdin(), 3).context("open standard input")?))
}
