//! The files that a user wants process ids in.

use crate::{container::record::Record, error::Explain, weakened};
use anyhow::{Context, Result};
use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// `--conmon-pidfile`: the monitor's own, which we are.
pub fn of_monitor(record: &Record) -> Result<()> {
    let Some(file) = &record.monitor_pidfile else { return Ok(()) };
    create(file)
        .and_then(|mut file| write!(file, "{}", rustix::process::getpid().as_raw_pid()))
        .with_context(|| format!("write the monitor's process id to {}", file.display()))
        .hint("name a file in a directory of yours with --conmon-pidfile")
}

/// `--pidfile`, to be filled once the payload is there.
pub fn of_payload(record: &Record) -> Result<Option<File>> {
    let Some(file) = &record.pidfile else { return Ok(None) };
    let creating = || format!("write the process id to {}", file.display());
    create(file).map(Some).with_context(creating).hint("choose a file that you may write with --pidfile")
}

/// A container that was given its directory may have put a link there since the last start.
fn create(path: &Path) -> io::Result<File> {
    let follow = if weakened::is("pidfile-link") { 0 } else { libc::O_NOFOLLOW };
    File::options().write(true).create(true).truncate(true).custom_flags(follow).open(path)
}
