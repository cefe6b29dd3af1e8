//! `ctr export`: a container's root file system as a tar archive (podman-export(1)).

use super::Globals;
use crate::{
    container::files::{self, Reached},
    error::Explain,
};
use anyhow::{Context, Result, anyhow};
use rustix::{io::fcntl_dupfd_cloexec, stdio::stdout};
use std::{
    fs::{self, File},
    io::IsTerminal,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Write to FILE in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Write it.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(anyhow!("refusing to export to terminal. Use -o flag or redirect"))
            .hint(format!("ctr export -o FILE.tar {}", args.container));
    }
    let container = Reached::find(&globals.store()?, &args.container)?;
    let Some(path) = &args.output else {
        let out = fcntl_dupfd_cloexec(stdout(), 3).context("open standard output")?;
        return files::export(&container, File::from(out)).map(|()| 0);
    };
    let writing = || format!("write {}", path.display());
    let new = !path.exists();
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = file.with_context(writing).hint("choose a file that you may write with -o")?;
    files::export(&container, file).with_context(writing).inspect_err(|_| {
        // Half an archive is none.
        if new {
            let _ = fs::remove_file(path);
        }
    })?;
    Ok(0)
}
