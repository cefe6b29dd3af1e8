//! systemd's journal, by its own protocol ("Native Journal Protocol" of systemd's documentation): one datagram an entry,
//! with the fields that conmon gives.

use super::log_line::{Kind, lines};
use crate::{container::record::Record, storage::ContainerId};
use anyhow::{Context, Result};
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::{Errno, IoSlice},
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, connect, send, sendmsg, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use std::{
    io::Write,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// Longer than that the container doesn't wait for the journal; the entry is lost.
const PATIENCE: Duration = Duration::from_millis(200);

/// The way to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: Option<OwnedFd>,
    /// The fields that all entries have.
    fields: Vec<u8>,
    /// Reused.
    entry: Vec<u8>,
}

impl Journal {
    /// For what the container of `record` prints.
    pub fn of(record: &Record) -> Journal {
        let (name, tag) = (record.name.as_str(), record.log.tag.as_str());
        let mut fields = Vec::new();
        for (key, value) in [
            ("CONTAINER_ID", record.id.short()),
            ("CONTAINER_ID_FULL", record.id.as_str()),
            ("CONTAINER_NAME", name),
            ("CONTAINER_TAG", tag),
            ("SYSLOG_IDENTIFIER", if tag.is_empty() { name } else { tag }),
        ] {
            if !value.is_empty() {
                field(&mut fields, key, value.as_bytes());
            }
        }
        Journal { socket: None, fields, entry: Vec::new() }
    }

    /// Keep what `kind` printed just now.
    ///
    /// # Errors
    /// journald is not there, or busy.
    pub fn keep(&mut self, kind: Kind, text: &[u8]) -> Result<()> {
        lines(text).try_for_each(|line| self.keep_line(kind, line)).context("write to the journal")
    }

    fn keep_line(&mut self, kind: Kind, line: &[u8]) -> rustix::io::Result<()> {
        let text = line.strip_suffix(b"\n");
        let entry = &mut self.entry;
        entry.clear();
        entry.extend_from_slice(&self.fields);
        // As syslog(3) numbers them: information, error.
        entry.extend_from_slice(if kind == Kind::Stdout { b"PRIORITY=6\n" } else { b"PRIORITY=3\n" });
        if text.is_none() {
            entry.extend_from_slice(b"CONTAINER_PARTIAL_MESSAGE=true\n");
        }
        field(entry, "MESSAGE", text.unwrap_or(line));
        let fresh = self.socket.is_none();
        match self.send() {
            // journald was started again.
            Err(Errno::CONNREFUSED | Errno::NOTCONN | Errno::PIPE | Errno::CONNRESET) if !fresh => {
                self.socket = None;
                self.send()
            }
            sent => sent,
        }
    }

    fn send(&mut self) -> rustix::io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open()?),
        };
        match send(socket, &self.entry, SendFlags::NOSIGNAL) {
            Err(Errno::MSGSIZE | Errno::NOBUFS) => send_large(socket, &self.entry),
            sent => sent.map(drop),
        }
    }
}

/// A field whose value may be anything: its length comes first.
fn field(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Put an entry behind all that container `id` has printed so far, for a reader who looks out for its `mark`.
///
/// # Errors
/// journald is not there, or busy.
pub fn mark(id: &ContainerId, mark: &str) -> Result<()> {
    let mut entry = Vec::new();
    for (key, value) in [
        ("CONTAINER_ID_FULL", id.as_str()),
        (MARK, mark),
        ("PRIORITY", "7"),
        ("SYSLOG_IDENTIFIER", "ctr"),
        ("MESSAGE", "the container has ended; `ctr logs --follow` has all of it"),
    ] {
        field(&mut entry, key, value.as_bytes());
    }
    open().and_then(|socket| send(&socket, &entry, SendFlags::NOSIGNAL)).context("write to the journal")?;
    Ok(())
}

/// The field of [`mark`].
const MARK: &str = "CTR_MARK";

fn open() -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &SocketAddrUnix::new(SOCKET)?)?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    Ok(socket)
}

/// What no datagram holds goes in a sealed memory file.
fn send_large(socket: &OwnedFd, entry: &[u8]) -> rustix::io::Result<()> {
    let memory = memfd_create("journal-entry", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(memory);
    file.write_all(entry).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [file.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(&[])], &mut control, SendFlags::NOSIGNAL).map(drop)
}
