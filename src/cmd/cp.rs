//! `ctr cp`: files and directories between a container and the host, or two containers (podman-cp(1)).

use super::{Globals, warn};
use crate::{
    container::files::{self, End, Options},
    error::Explain,
    sys::signal,
};
use anyhow::{Context, Result, anyhow};
use rustix::{
    io::fcntl_dupfd_cloexec,
    stdio::{stdin, stdout},
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::IsTerminal,
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// What is copied into a container belongs to its user [default: true]; else to whom it belonged
    #[arg(
        short,
        long,
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        hide_default_value = true,
        hide_possible_values = true,
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    archive: bool,
    /// Let files replace directories, and directories files
    #[arg(long)]
    overwrite: bool,
    /// [CONTAINER:]PATH; `-`: a tar stream on standard input; `DIR/.`: what is in DIR
    #[arg(value_name = "SOURCE")]
    source: OsString,
    /// [CONTAINER:]PATH; `-`: a tar stream on standard output
    #[arg(value_name = "DESTINATION")]
    destination: OsString,
}

/// Copy.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let (from, to) = (end(&args.source, stdin())?, end(&args.destination, stdout())?);
    if let End::Stream(out) = &to {
        if out.is_terminal() {
            return Err(anyhow!("refusing to write a tar stream to a terminal"))
                .hint("redirect it: `… | tar -t`");
        }
        signal::die_on_broken_pipe();
    }
    let options = Options { archive: args.archive, overwrite: args.overwrite };
    if let Some(words) = files::copy(&globals.store()?, from, to, options)?.words() {
        warn(&anyhow!(words));
    }
    Ok(0)
}

/// What begins with a dot or a slash is a path; elsewhere a colon ends the name of a container (podman-cp(1)).
fn end(text: &OsStr, stream: BorrowedFd<'_>) -> Result<End> {
    let bytes = text.as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':').filter(|_| !bytes.starts_with(b"."));
    match (bytes, colon.filter(|_| !bytes.starts_with(b"/"))) {
        (b"-", _) => Ok(End::Stream(File::from(fcntl_dupfd_cloexec(stream, 3).context("open the stream")?))),
        (_, Some(colon)) if colon + 1 < bytes.len() => {
            let name = String::from_utf8_lossy(&bytes[..colon]).into_owned();
            Ok(End::Container(name, bytes[colon + 1..].to_vec()))
        }
        (b"", _) | (_, Some(_)) => {
            Err(anyhow!("{text:?} names no path")).hint("write CONTAINER:PATH, CONTAINER:/ for all of it")
        }
        (_, None) => Ok(End::Host(bytes.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        for (text, expected) in [
            ("a:/b", "c a /b"),
            ("a:b:c", "c a b:c"),
            ("./a:b", "h ./a:b"),
            ("/a:b", "h /a:b"),
            ("a", "h a"),
            ("a:", "-"),
            ("", "-"),
            (":/x", "c  /x"),
        ] {
            let said = match end(text.as_ref(), stdin()) {
                Ok(End::Host(path)) => format!("h {}", String::from_utf8_lossy(&path)),
                Ok(End::Container(name, path)) => format!("c {name} {}", String::from_utf8_lossy(&path)),
                Ok(End::Stream(_)) => "s".to_owned(),
                Err(_) => "-".to_owned(),
            };
            assert_eq!(said, expected, "{text}");
        }
    }
}
