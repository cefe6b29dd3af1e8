//! Reading a container's entries of the journal, through journalctl(1): the journal's files are systemd's own business.

use super::{
    journal::mark,
    log_line::{Clock, Entry, Format, Kind},
};
use crate::{error::Explain, storage::ContainerId};
use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde::Deserialize;
use std::{
    io::{BufRead, BufReader, ErrorKind},
    os::fd::{AsFd, BorrowedFd},
    process::{Child, ChildStdout, Command, Stdio},
};

/// A running journalctl. Dropped, it ends.
#[derive(Debug)]
pub struct JournalReader {
    child: Child,
    output: BufReader<ChildStdout>,
    line: Vec<u8>,
    ended: bool,
    clock: Clock,
    id: ContainerId,
    /// What stands behind the last entry, once that is there.
    mark: Option<String>,
}

#[derive(Deserialize)]
struct Fields {
    #[serde(rename = "MESSAGE")]
    message: Option<Text>,
    #[serde(rename = "PRIORITY")]
    priority: Option<String>,
    #[serde(rename = "CONTAINER_PARTIAL_MESSAGE")]
    partial: Option<String>,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    microseconds: Option<String>,
    #[serde(rename = "CTR_MARK")]
    mark: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Bytes(Vec<u8>),
}

impl JournalReader {
    /// What container `id` has printed; with `follow`, what it prints from now on, too, until this is dropped.
    pub fn open(id: &ContainerId, follow: bool, tail: Option<u64>) -> Result<JournalReader> {
        let mut command = Command::new("journalctl");
        command.args(["--quiet", "--no-pager", "--output=json", "--all"]);
        command.arg(format!("--lines={}", tail.map_or("all".to_owned(), |tail| tail.to_string())));
        command.args(follow.then_some("--follow")).arg(format!("CONTAINER_ID_FULL={id}"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.context("run journalctl").hint(
            "the container logs to systemd's journal, which journalctl reads; --log-driver=k8s-file needs no systemd",
        )?;
        let output = child.stdout.take().ok_or_else(|| anyhow!("journalctl has no output"))?;
        if follow {
            let flags = fcntl_getfl(&output).context("read the flags of a pipe")?;
            fcntl_setfl(&output, flags | OFlags::NONBLOCK).context("set the flags of a pipe")?;
        }
        let output = BufReader::new(output);
        Ok(JournalReader {
            child,
            output,
            line: Vec::new(),
            ended: false,
            clock: Clock::of(Format::Kubernetes),
            id: id.clone(),
            mark: None,
        })
    }

    /// The container has ended: nothing comes after what is on its way through the journal.
    pub fn finish(&mut self) {
        if self.mark.is_none() && !self.ended {
            let own = format!("{}-{}", std::process::id(), Timestamp::now().as_nanosecond());
            self.ended = mark(&self.id, &own).is_err();
            self.mark = Some(own);
        }
    }

    /// Readable when there is more; None when there never is.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.ended).then(|| self.output.get_ref().as_fd())
    }

    /// The next entry into `entry`; false when there is no more just now.
    pub fn next(&mut self, entry: &mut Entry) -> Result<bool> {
        loop {
            match self.output.read_until(b'\n', &mut self.line) {
                Ok(_) if self.line.ends_with(b"\n") => {}
                Ok(_) => {
                    self.ended = true;
                    return Ok(false);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e).context("read what journalctl says"),
            }
            let fields = serde_json::from_slice::<Fields>(&self.line);
            self.line.clear();
            match fields {
                Ok(Fields { mark: Some(mark), .. }) if Some(&mark) == self.mark.as_ref() => {
                    self.ended = true;
                    return Ok(false);
                }
                Ok(Fields { mark: None, .. }) => {
                    self.translate(fields?, entry);
                    return Ok(true);
                }
                // Another reader's, or no entry.
                _ => {}
            }
        }
    }

    fn translate(&mut self, fields: Fields, entry: &mut Entry) {
        let time = fields.microseconds.and_then(|text| Timestamp::from_microsecond(text.parse().ok()?).ok());
        entry.kind = if fields.priority.as_deref() == Some("3") { Kind::Stderr } else { Kind::Stdout };
        entry.whole = fields.partial.is_none();
        entry.stamp.clear();
        entry.stamp.push_str(self.clock.write(time.unwrap_or_default()));
        entry.text = match fields.message {
            Some(Text::Plain(text)) => text.into_bytes(),
            Some(Text::Bytes(bytes)) => bytes,
            None => Vec::new(),
        };
    }
}

impl Drop for JournalReader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
