//! What a verb does that stays beside a container: `run`, `start --attach`, `attach`.

use crate::{
    container::record::Record,
    error::Explain,
    monitor::{self, Attendance, Begun, DETACH_KEYS, Keys, Outcome, Readiness},
};
use anyhow::{Context, Result, anyhow};
use std::io;

/// Stay with what was just started; its exit status.
pub fn attend(
    begun: Begun,
    record: &Record,
    stdin: bool,
    sig_proxy: bool,
    readiness: &Readiness,
) -> Result<u8> {
    let attendance = Attendance {
        line: begun.line,
        pidfd: Some(begun.pidfd),
        input: begun.input,
        tty: record.tty,
        stdin,
        sig_proxy,
        foreground: true,
        keys: keys(record.detach_keys.as_deref())?,
        monitor: Some(begun.monitor),
        service: begun.service,
        manager: begun.manager,
    };
    status(monitor::attend(attendance, readiness)?)
}

/// The exit status that stands for an outcome.
pub fn status(outcome: Outcome) -> Result<u8> {
    match outcome {
        Outcome::Detached => Ok(0),
        Outcome::Untold => Err(anyhow!("the container's monitor was killed")),
        Outcome::Exited { code, lost: None } => Ok(code),
        Outcome::Exited { lost: Some(errno), .. } => Err(io::Error::from(errno))
            .context("pass on what the container printed")
            .hint("df -h: free space where the output goes"),
    }
}

/// `--detach-keys`.
pub fn keys(text: Option<&str>) -> Result<Keys> {
    let text = text.unwrap_or(DETACH_KEYS);
    Keys::parse(text)
        .with_context(|| format!("--detach-keys {text}"))
        .hint("write them as --detach-keys ctrl-p,ctrl-q")
}
