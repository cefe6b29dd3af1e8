//! What all parts of the engine share: the network, its members' devices, what is watched, the clock.

use super::{
    emit,
    frame::{LONGEST, Mac},
    stack::Wire,
    switch::Network,
    timers::Timers,
};
use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    io::{Errno, Result, write},
};
use std::{
    collections::HashMap,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

/// What a watched descriptor or a timer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Where monitors come in.
    Door,
    /// A monitor's line.
    Line(u64),
    /// A member's device.
    Tap(u64),
    /// A TCP connection.
    Tcp(u64),
    /// A UDP or echo flow.
    Datagram(u64),
    /// A published port.
    Published(u64),
    /// A question that a nameserver of the host was asked.
    Query(u64),
    /// A member's question over TCP, or a nameserver's answer to it.
    Stream(u64),
    /// Pieces of datagrams.
    Pieces,
}

impl Source {
    fn token(self) -> u64 {
        let (kind, number) = match self {
            Source::Door => (0, 0),
            Source::Line(number) => (1, number),
            Source::Tap(number) => (2, number),
            Source::Tcp(number) => (3, number),
            Source::Datagram(number) => (4, number),
            Source::Published(number) => (5, number),
            Source::Query(number) => (6, number),
            Source::Stream(number) => (7, number),
            Source::Pieces => (8, 0),
        };
        kind << 56 | number
    }

    /// The inverse of what [`World::watch`] was told.
    pub fn of(event: &epoll::Event) -> Source {
        let token = event.data.u64();
        let number = token & ((1 << 56) - 1);
        match token >> 56 {
            0 => Source::Door,
            1 => Source::Line(number),
            2 => Source::Tap(number),
            3 => Source::Tcp(number),
            4 => Source::Datagram(number),
            5 => Source::Published(number),
            6 => Source::Query(number),
            7 => Source::Stream(number),
            _ => Source::Pieces,
        }
    }
}

/// What all parts share.
#[derive(Debug)]
pub struct World {
    /// Who is in.
    pub network: Network,
    /// What is due when.
    pub timers: Timers,
    /// When the events at hand came.
    pub now: Instant,
    /// Where a frame is put together.
    pub out: Vec<u8>,
    /// The host's nameservers, as last heard.
    pub resolvers: Vec<IpAddr>,
    /// Whose monitor is to say what they are now.
    pub wants_resolvers: Option<u64>,
    /// Whose monitor is to look in its other networks, for which question.
    pub wants_names: Vec<(u64, u64, Vec<u8>)>,
    /// What became of questions that came over a stream: which one, the question, and the answer unless others are to be asked.
    pub stream_replies: Vec<(u64, Vec<u8>, Option<Vec<u8>>)>,
    /// Who asks for names over TCP, where that connection leads.
    pub name_streams: Vec<(u64, OwnedFd)>,
    start: Instant,
    taps: HashMap<u64, OwnedFd>,
    epoll: OwnedFd,
    last: u64,
    /// Below zero when published ports took more than there were.
    free: isize,
    of_each: usize,
    held: HashMap<u64, usize>,
}

impl World {
    /// For `network`, with room for so many sockets; `shared`: one member can't have them all.
    pub fn new(network: Network, sockets: usize, shared: bool) -> Result<World> {
        Ok(World {
            network,
            timers: Timers::default(),
            now: Instant::now(),
            start: Instant::now(),
            wants_resolvers: None,
            wants_names: Vec::new(),
            stream_replies: Vec::new(),
            name_streams: Vec::new(),
            out: vec![0; emit::payload_at(false) + LONGEST],
            resolvers: Vec::new(),
            taps: HashMap::new(),
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            last: 0,
            free: sockets.cast_signed(),
            of_each: if shared { sockets / 4 } else { sockets },
            held: HashMap::new(),
        })
    }

    /// Since the engine began.
    pub fn elapsed(&self) -> Duration {
        self.now.saturating_duration_since(self.start)
    }

    /// A number that nothing had before.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Be told of `flags` on `descriptor`, until it is closed.
    pub fn watch(&self, descriptor: impl AsFd, source: Source, flags: EventFlags) -> Result<()> {
        epoll::add(&self.epoll, descriptor, EventData::new_u64(source.token()), flags)
    }

    /// Be told no more of `descriptor`: another process may hold it open.
    pub fn unwatch(&self, descriptor: impl AsFd) {
        let _ = epoll::delete(&self.epoll, descriptor);
    }

    /// What has happened, waiting for it until a timer is due, or not at all when there is more to do at once.
    pub fn wait<'a>(
        &mut self,
        events: &'a mut Vec<epoll::Event>,
        at_once: bool,
    ) -> Result<&'a [epoll::Event]> {
        let timeout = if at_once {
            Some(rustix::time::Timespec::default())
        } else {
            self.timers.timeout(Instant::now())
        };
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        self.now = Instant::now();
        Ok(events)
    }

    /// A member's device is there, or no longer.
    pub fn set_tap(&mut self, member: u64, tap: Option<OwnedFd>) {
        let old = match tap {
            Some(tap) => self.taps.insert(member, tap),
            None => self.taps.remove(&member),
        };
        if let Some(old) = old {
            self.unwatch(old);
        }
    }

    /// A member's device.
    pub fn tap(&self, member: u64) -> Option<&OwnedFd> {
        self.taps.get(&member)
    }

    /// A member's hardware address.
    pub fn mac(&self, member: u64) -> Option<Mac> {
        Some(self.network.members.get(&member)?.mac)
    }

    /// Hand `member` the first `length` bytes of [`World::out`]. A device that takes nothing loses it, as a link does.
    pub fn deliver(&self, member: u64, length: usize) {
        if let (Some(tap), Some(frame)) = (self.taps.get(&member), self.out.get(..length)) {
            let _ = write(tap, frame);
        }
    }

    /// Hand `member` another one's frame as it came, segments unsplit, checksums uncomputed.
    pub fn forward(&self, member: u64, frame: &[u8]) {
        if let Some(tap) = self.taps.get(&member) {
            let _ = write(tap, frame);
        }
    }

    /// Hand `member` the datagram whose `length` bytes of payload stand at [`emit::payload_at`]; at once, however large: a link's
    /// largest packet is what it sends, and what comes in is taken whole.
    pub fn deliver_udp(
        &mut self,
        member: u64,
        source: (IpAddr, u16),
        destination: (IpAddr, u16),
        length: usize,
    ) {
        let most = if source.0.is_ipv4() { 65507 } else { 65527 };
        if let (Some(mac), true) = (self.mac(member), length <= most) {
            let length = emit::udp(&mut self.out, mac, source, destination, length);
            self.deliver(member, length);
        }
    }

    /// What a TCP stack talks to `member` through.
    pub fn wire<'a>(&'a mut self, member: u64, incoming: Option<&'a [u8]>) -> Option<Wire<'a>> {
        Some(Wire {
            incoming,
            mac: self.network.members.get(&member)?.mac,
            tap: self.taps.get(&member)?,
            out: &mut self.out,
            mtu: self.network.settings.mtu.into(),
        })
    }

    /// A socket that nobody is asked about is there (`1`), or no longer (`-1`).
    pub fn count(&mut self, more: isize) {
        self.free -= more;
    }

    /// Whether `member` has all the sockets that one may have.
    pub fn has_its_share(&self, member: u64) -> bool {
        self.held.get(&member).is_some_and(|held| *held >= self.of_each)
    }

    /// A socket for `member`, if there is room for one.
    pub fn take_room(&mut self, member: u64) -> bool {
        let held = self.held.entry(member).or_default();
        let room = self.free > 0 && *held < self.of_each;
        if room {
            *held += 1;
            self.free -= 1;
        }
        room
    }

    /// A socket that [`World::take_room`] made room for is closed.
    pub fn give_room(&mut self, member: u64) {
        if let Some(held) = self.held.get_mut(&member) {
            *held -= 1;
            self.free += 1;
            if *held == 0 {
                self.held.remove(&member);
            }
        }
    }
}
