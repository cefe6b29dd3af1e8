//! A conversation of two processes on one machine: JSON in the packets of a local socket, descriptors alongside (unix(7),
//! SCM_RIGHTS). What is waited for is a packet; nobody waits for a listener.

use crate::weakened;
use anyhow::{Context, Result};
use rustix::{
    fs::{Mode, OFlags, open},
    io::{Errno, IoSlice, IoSliceMut},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
        listen, recvmsg, sendmsg, socket_with, socketpair, sockopt::socket_peercred,
    },
    process::geteuid,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// One end of a conversation.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub fn pair() -> Result<(Channel, Channel)> {
        let ends = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (one, other) = ends.context("make a pair of sockets")?;
        Ok((Channel(one), Channel(other)))
    }

    /// To who listens at `file`; `None` when nobody does.
    pub fn through(file: &Path) -> Result<Option<Channel>> {
        let socket = make()?;
        match by_directory(file, |address| connect(&socket, address)) {
            Ok(()) => Ok(Some(Channel(socket))),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            Err(errno) => Err(errno).with_context(|| format!("connect to {}", file.display())),
        }
    }

    /// Say `message`, with `descriptors`. Never waits: who doesn't listen is as good as gone.
    pub fn say(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let bytes = serde_json::to_vec(message).context("encode a message")?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, flags).context("send a message")?;
        Ok(())
    }

    /// The next message and the descriptors that came along; `None` when the other end is closed. Waits for it.
    pub fn hear<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = loop {
            let flags = RecvFlags::CMSG_CLOEXEC;
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
                Ok(message) => break message.bytes,
                // The other end was closed with messages of ours unread; what it said before is still to be heard.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(errno) => return Err(errno).context("receive a message"),
            }
        };
        if length == 0 {
            return Ok(None);
        }
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors = descriptors.flatten().collect();
        let message = serde_json::from_slice(&bytes[..length]).context("understand a message")?;
        Ok(Some((message, descriptors)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where others of the same user come in.
#[derive(Debug)]
pub struct Door(OwnedFd);

impl Door {
    /// A socket at `file`, in a directory of ours; what is there is of a dead process.
    pub fn at(file: &Path) -> Result<Door> {
        let socket = make()?;
        let _ = std::fs::remove_file(file);
        by_directory(file, |address| bind(&socket, address))
            .and_then(|()| listen(&socket, 64))
            .with_context(|| format!("listen at {}", file.display()))?;
        Ok(Door(socket))
    }

    /// The next who came in, if it is still there.
    pub fn next(&self) -> Option<Channel> {
        let client = accept_with(&self.0, SocketFlags::CLOEXEC).ok()?;
        // The directory keeps others out; should somebody open it, they still have no orders to give.
        let uid = socket_peercred(&client).ok()?.uid;
        (uid == geteuid() || uid.is_root() || weakened::is("peer-uid")).then_some(Channel(client))
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Bytes of a message; the kernel takes somewhat more (net.core.wmem_default).
const LONGEST: usize = 128 << 10;
/// Descriptors of a message: as many as the kernel takes (SCM_MAX_FD of linux/include/net/scm.h).
pub const DESCRIPTORS: usize = 253;

fn make() -> Result<OwnedFd> {
    let made = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    made.context("make a socket")
}

/// [`act`] with the address of `file`. A socket's address holds 107 bytes; by the descriptor of its directory it is always short enough.
pub fn by_directory(
    file: &Path,
    act: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let (Some(parent), Some(name)) = (file.parent(), file.file_name()) else { return Err(Errno::INVAL) };
    let parent = open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{}", parent.as_raw_fd(), name.to_string_lossy());
    act(&SocketAddrUnix::new(path)?)
}
