//! The one line between a container's first process and the process that started it: a seqpacket socket, fixed-size
//! messages, descriptors alongside. Nothing here allocates, so the child may use all of it.

use crate::sys::exec::{Failure, Payload};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, IoSlice, IoSliceMut, Result},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
    },
};
use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// What the child says.
#[derive(Debug)]
pub enum Report {
    /// It is about to mount its root and waits for [`Link::go_on`]: the time for fuse-overlayfs.
    BeforeRoot,
    /// It has mounted all but its control groups and waits for [`Link::go_on`]: the time for systemd's scope.
    BeforeCgroup,
    /// The root, mounted: the user is looked up through it.
    Root(OwnedFd),
    /// The master side of its terminal.
    Terminal(OwnedFd),
    /// One of the plan's interfaces, in order: what it sends is read here.
    Interface(OwnedFd),
    /// A mount that takes long to close, and that nobody needs.
    Unneeded(OwnedFd),
    /// A step failed; it has ended.
    Failed(Failure),
    /// The line was closed: the payload runs, if nothing failed before.
    Closed,
}

/// Who the payload is, as it goes over the wire.
#[derive(Debug)]
pub struct Identity {
    /// User id inside the container.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    groups: [u32; Identity::GROUPS_MAX],
    groups_len: usize,
    home: [u8; Payload::HOME_MAX],
    home_len: usize,
    /// For /etc/passwd and /etc/group.
    lines: [[u8; Identity::LINE_MAX]; 2],
    lines_len: [usize; 2],
}

impl Identity {
    /// Supplementary groups beyond these are left out.
    pub const GROUPS_MAX: usize = 256;

    /// Cut to what the wire carries.
    pub fn new(uid: u32, gid: u32, groups: &[u32], home: &[u8]) -> Identity {
        let mut identity = Identity {
            uid,
            gid,
            groups: [0; _],
            groups_len: groups.len().min(Identity::GROUPS_MAX),
            home: [0; _],
            home_len: home.len().min(Payload::HOME_MAX),
            lines: [[0; _]; 2],
            lines_len: [0; 2],
        };
        identity.groups[..identity.groups_len].copy_from_slice(&groups[..identity.groups_len]);
        identity.home[..identity.home_len].copy_from_slice(&home[..identity.home_len]);
        identity
    }

    /// Lines for the container's /etc/passwd and /etc/group; those too long are left out.
    pub fn with_lines(mut self, lines: [&[u8]; 2]) -> Identity {
        for (at, line) in lines.into_iter().enumerate().filter(|(_, line)| line.len() <= Identity::LINE_MAX) {
            self.lines[at][..line.len()].copy_from_slice(line);
            self.lines_len[at] = line.len();
        }
        self
    }

    /// What to add to /etc/passwd and /etc/group.
    pub fn lines(&self) -> [&[u8]; 2] {
        [0, 1].map(|at| &self.lines[at][..self.lines_len[at]])
    }

    /// Bytes of lines for one file.
    pub const LINE_MAX: usize = 4096;

    /// Supplementary group ids.
    pub fn groups(&self) -> &[u32] {
        &self.groups[..self.groups_len]
    }

    /// The home directory.
    pub fn home(&self) -> &[u8] {
        &self.home[..self.home_len]
    }

    const WORDS: usize = 4 * (6 + Identity::GROUPS_MAX);
    const WIRE: usize = Identity::WORDS + Payload::HOME_MAX + 2 * Identity::LINE_MAX;

    fn to_wire(&self) -> [u8; Identity::WIRE] {
        let mut wire = [0; Identity::WIRE];
        let [passwd, group] = self.lines_len.map(|length| length as u32);
        let head = [self.uid, self.gid, self.groups_len as u32, self.home_len as u32, passwd, group];
        for (slot, word) in wire.chunks_exact_mut(4).zip(head.iter().chain(&self.groups)) {
            slot.copy_from_slice(&word.to_ne_bytes());
        }
        let (home, lines) = wire[Identity::WORDS..].split_at_mut(Payload::HOME_MAX);
        home.copy_from_slice(&self.home);
        for (slot, line) in lines.chunks_exact_mut(Identity::LINE_MAX).zip(&self.lines) {
            slot.copy_from_slice(line);
        }
        wire
    }

    fn from_wire(wire: &[u8; Identity::WIRE]) -> Identity {
        let word = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&wire[4 * at..4 * at + 4]);
            u32::from_ne_bytes(bytes)
        };
        let (home, lines) = wire[Identity::WORDS..].split_at(Payload::HOME_MAX);
        let mut identity = Identity::new(word(0), word(1), &[], home);
        for (at, line) in lines.chunks_exact(Identity::LINE_MAX).enumerate() {
            identity.lines[at].copy_from_slice(line);
            identity.lines_len[at] = (word(4 + at) as usize).min(Identity::LINE_MAX);
        }
        identity.groups_len = (word(2) as usize).min(Identity::GROUPS_MAX);
        identity.home_len = (word(3) as usize).min(Payload::HOME_MAX);
        for (at, group) in identity.groups.iter_mut().enumerate() {
            *group = word(6 + at);
        }
        identity
    }
}

/// One end of the line.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Both ends: the starter's and the child's.
    pub fn pair() -> Result<(Link, Link)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Link(ours), Link(theirs)))
    }

    /// The starter: the child may go on (its root is mounted, it is in its control group).
    pub fn go_on(&self) -> Result<()> {
        send(&self.0, &[1], SendFlags::NOSIGNAL).map(drop)
    }

    /// The starter: the child's ids are mapped; this is its network, if that was promised.
    pub fn go_on_in(&self, network: Option<BorrowedFd<'_>>) -> Result<()> {
        self.event(MAPPED, network)
    }

    /// The starter: this is the root that it waits for.
    pub fn give_root(&self, root: BorrowedFd<'_>) -> Result<()> {
        self.event(ROOT, Some(root))
    }

    /// The starter: the child may become the payload.
    pub fn become_payload(&self, identity: &Identity) -> Result<()> {
        send(&self.0, &identity.to_wire(), SendFlags::NOSIGNAL).map(drop)
    }

    /// The starter: what the child says next.
    pub fn next(&self) -> Result<Report> {
        let mut bytes = [0; 12];
        let (length, descriptor) = self.receive(&mut bytes)?;
        if length == 0 {
            return Ok(Report::Closed);
        }
        let said = Failure::from_bytes(bytes);
        match (said.errno, said.step, descriptor) {
            (0, BEFORE_ROOT, None) => Ok(Report::BeforeRoot),
            (0, BEFORE_CGROUP, None) => Ok(Report::BeforeCgroup),
            (0, ROOT, Some(root)) => Ok(Report::Root(root)),
            (0, TERMINAL, Some(terminal)) => Ok(Report::Terminal(terminal)),
            (0, INTERFACE, Some(tap)) => Ok(Report::Interface(tap)),
            (0, UNNEEDED, Some(mount)) => Ok(Report::Unneeded(mount)),
            (0, ..) => Err(Errno::PROTO),
            _ => Ok(Report::Failed(said)),
        }
    }

    /// The child: whether its starter is still there, else EPIPE.
    pub fn is_open(&self) -> Result<()> {
        let mut ends = [PollFd::new(&self.0, PollFlags::empty())];
        match poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
            0 => Ok(()),
            _ => Err(Errno::PIPE),
        }
    }

    /// The child: wait for [`Link::go_on`].
    pub fn wait(&self) -> Result<()> {
        match self.receive(&mut [0; 1])? {
            (1, _) => Ok(()),
            _ => Err(Errno::PIPE),
        }
    }

    /// The child: wait for [`Link::go_on_in`].
    pub fn wait_for_maps(&self) -> Result<Option<OwnedFd>> {
        match self.receive(&mut [0; 12])? {
            (12, network) => Ok(network),
            _ => Err(Errno::PIPE),
        }
    }

    /// The child: wait for [`Link::give_root`].
    pub fn wait_for_root(&self) -> Result<OwnedFd> {
        match self.receive(&mut [0; 12])? {
            (12, Some(root)) => Ok(root),
            _ => Err(Errno::PIPE),
        }
    }

    /// The child: wait for [`Link::become_payload`].
    pub fn wait_for_identity(&self) -> Result<Identity> {
        let mut wire = [0; Identity::WIRE];
        match self.receive(&mut wire)? {
            (Identity::WIRE, _) => Ok(Identity::from_wire(&wire)),
            _ => Err(Errno::PIPE),
        }
    }

    /// The child: [`Report::BeforeRoot`].
    pub fn before_root(&self) -> Result<()> {
        self.event(BEFORE_ROOT, None)
    }

    /// The child: [`Report::BeforeCgroup`].
    pub fn before_cgroup(&self) -> Result<()> {
        self.event(BEFORE_CGROUP, None)
    }

    /// The child: [`Report::Root`].
    pub fn root(&self, root: BorrowedFd<'_>) -> Result<()> {
        self.event(ROOT, Some(root))
    }

    /// The child: [`Report::Terminal`].
    pub fn terminal(&self, master: BorrowedFd<'_>) -> Result<()> {
        self.event(TERMINAL, Some(master))
    }

    /// The child: [`Report::Interface`].
    pub fn interface(&self, tap: BorrowedFd<'_>) -> Result<()> {
        self.event(INTERFACE, Some(tap))
    }

    /// The child: [`Report::Unneeded`].
    pub fn let_go(&self, mount: BorrowedFd<'_>) -> Result<()> {
        self.event(UNNEEDED, Some(mount))
    }

    /// The child: [`Report::Failed`].
    pub fn failed(&self, failure: Failure) -> Result<()> {
        send(&self.0, &failure.to_bytes(), SendFlags::NOSIGNAL).map(drop)
    }

    /// The child: its end, for [`Payload::execute`].
    pub fn into_descriptor(self) -> OwnedFd {
        self.0
    }

    fn event(&self, code: u32, descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
        let bytes = Failure { step: code, item: 0, errno: 0 }.to_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.map(|d| [d]);
        if let Some(descriptors) = &descriptors {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL).map(drop)
    }

    fn receive(&self, bytes: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = loop {
            let flags = RecvFlags::CMSG_CLOEXEC;
            match recvmsg(&self.0, &mut [IoSliceMut::new(bytes)], &mut control, flags) {
                Ok(message) => break message.bytes,
                // The other end ended with messages of ours unread. This is said once, before what it said last.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(errno) => return Err(errno),
            }
        };
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        Ok((length, descriptor))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

const BEFORE_ROOT: u32 = 1;
const ROOT: u32 = 2;
const TERMINAL: u32 = 3;
const BEFORE_CGROUP: u32 = 4;
const INTERFACE: u32 = 5;
const MAPPED: u32 = 6;
const UNNEEDED: u32 = 7;
