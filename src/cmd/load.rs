//! `ctr load`: images from archives and directories (podman-load(1)).

use super::{Globals, output, progress, run_args::takes_a_truth_value};
use crate::{
    container::events,
    error::Explain,
    namespaces::{Mapping, run_inside},
    transports::{self, Source},
};
use anyhow::{Context, Result, anyhow};
use rustix::{io::fcntl_dupfd_cloexec, stdio::stdin};
use std::{fs::File, io::IsTerminal, path::PathBuf};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// Read this archive or directory in place of standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Show nothing but the images' names
    #[arg(short, long)]
    quiet: bool,
}

/// Load them and print what they are called.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    // Opened as the caller: inside, supplementary groups are gone.
    let source = source(args)?;
    let store = globals.store()?;
    // Here: the caller's own process, no thread yet. Inside: root of the user namespace that owns the layers' files; all threads
    // live and end there.
    run_inside(&Mapping::detect(), || {
        let loaded = transports::load(&store, source, progress::choose(args.quiet).as_ref());
        if loaded.is_err() {
            let _ = store.collect_garbage();
        }
        let what = args.input.as_ref().map_or("standard input".into(), |path| path.display().to_string());
        for image in loaded.with_context(|| format!("load {what}"))? {
            let name = image.name.unwrap_or_else(|| image.id.to_string());
            events::image(&store, "loadfromarchive", &name, &image.id);
            output::line(format_args!("Loaded image: {}", output::printable(&name)))?;
        }
        Ok(())
    })?;
    Ok(0)
}

fn source(args: &Args) -> Result<Source> {
    let Some(path) = &args.input else {
        if std::io::stdin().is_terminal() {
            return Err(anyhow!(
                "cannot read from terminal, use command-line redirection or the --input flag"
            ))
            .hint("ctr load -i FILE");
        }
        let input = fcntl_dupfd_cloexec(stdin(), 3).context("open standard input")?;
        return Ok(Source::Stream(File::from(input)));
    };
    let file = File::open(path).with_context(|| format!("open {}", path.display()));
    let file = file.hint("name an archive or a directory that `ctr save` could have written")?;
    let is_directory = file.metadata().with_context(|| format!("look at {}", path.display()))?.is_dir();
    Ok(if is_directory { Source::Directory(file.into()) } else { Source::Stream(file) })
}
