//! Questions about names that members ask over TCP (RFC 7766): a connection with the nameserver leads here by a pair of sockets. What
//! we know is answered; all else goes on to a nameserver of the host's over a connection of its own.

use super::{
    dns::{self, Answer},
    nameserver::{Nameserver, Question, Way},
    world::{Source, World},
};
use rustix::{
    event::epoll::EventFlags,
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, connect, recv, send,
        shutdown, socket_with,
    },
};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

/// All of them, by number.
#[derive(Debug, Default)]
pub struct NameStreams {
    streams: HashMap<u64, Stream>,
}

#[derive(Debug)]
struct Stream {
    member: u64,
    asker: End,
    /// To a nameserver of the host's, once there is something to ask it.
    resolver: Option<End>,
    /// Questions that other networks of the member's are asked.
    elsewhere: usize,
}

#[derive(Debug)]
struct End {
    socket: OwnedFd,
    /// What has come, and is no whole message yet.
    come: Vec<u8>,
    /// What is to go.
    leaving: Vec<u8>,
    /// Nothing more comes.
    ended: bool,
    /// Nothing more goes.
    shut: bool,
}

impl NameStreams {
    /// `socket` leads to `member`, who asks. Both are closed when there is no room.
    pub fn admit(&mut self, world: &mut World, member: u64, socket: OwnedFd) {
        // One for this, and one for a nameserver.
        if self.streams.len() >= MOST || !world.take_room(member) {
            return;
        }
        if !world.take_room(member) {
            return world.give_room(member);
        }
        let number = world.number();
        let watched = world.watch(&socket, Source::Stream(number << 1), ALL);
        self.streams.insert(number, Stream { member, asker: End::new(socket), resolver: None, elsewhere: 0 });
        if watched.is_err() {
            self.remove(world, number);
        }
    }

    /// Something happened to one of the sockets of a stream.
    pub fn event(&mut self, world: &mut World, nameserver: &mut Nameserver, source: u64, flags: EventFlags) {
        let (number, asker) = (source >> 1, source & 1 == 0);
        let Some(stream) = self.streams.get_mut(&number) else { return };
        // Whoever asked hears nothing more.
        let gone = asker && flags.contains(EventFlags::HUP);
        if gone || stream.pump(world, nameserver, number).is_err() || stream.is_over() {
            self.remove(world, number);
        }
    }

    /// What became of `message`, a question that came over stream `number`; without a reply a nameserver is asked.
    pub fn settle(
        &mut self,
        world: &mut World,
        nameserver: &mut Nameserver,
        number: u64,
        message: &[u8],
        reply: Option<Vec<u8>>,
    ) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.elsewhere = stream.elsewhere.saturating_sub(1);
        let said = match reply {
            Some(reply) => {
                stream.asker.say(&reply);
                Ok(())
            }
            None => stream.forward(world, nameserver, number, message),
        };
        if said.and_then(|()| stream.pump(world, nameserver, number)).is_err() || stream.is_over() {
            self.remove(world, number);
        }
    }

    /// `member` has left.
    pub fn leave(&mut self, world: &mut World, member: u64) {
        let of_member = |(number, stream): (&u64, &Stream)| (stream.member == member).then_some(*number);
        for number in self.streams.iter().filter_map(of_member).collect::<Vec<_>>() {
            self.remove(world, number);
        }
    }

    fn remove(&mut self, world: &mut World, number: u64) {
        if let Some(stream) = self.streams.remove(&number) {
            world.give_room(stream.member);
            world.give_room(stream.member);
        }
    }
}

impl Stream {
    /// Move what can be moved.
    fn pump(&mut self, world: &mut World, nameserver: &mut Nameserver, number: u64) -> Result<(), Errno> {
        loop {
            let mut moved = self.asker.send()?;
            if self.resolver.as_ref().is_none_or(End::has_room) && self.asker.has_room() {
                moved |= self.asker.receive()?;
            }
            while let Some(message) = self.asker.message() {
                let ours = match dns::answer(&message, &world.network) {
                    Answer::Known(reply) => Some(reply),
                    Answer::Forward => None,
                    Answer::Ignore => return Err(Errno::PROTO),
                };
                let member = self.member;
                match ours {
                    ours if nameserver.may_be_elsewhere(member, ours.as_deref()) => {
                        self.elsewhere += 1;
                        let question = Question { member, way: Way::Stream(number), message };
                        nameserver.look_elsewhere(world, question, ours);
                    }
                    Some(reply) => self.asker.say(&reply),
                    None => self.forward(world, nameserver, number, &message)?,
                }
            }
            if let Some(resolver) = &mut self.resolver {
                moved |= resolver.send()?;
                if self.asker.has_room() {
                    moved |= resolver.receive()?;
                    self.asker.leaving.append(&mut resolver.come);
                }
                if self.asker.ended && self.elsewhere == 0 {
                    resolver.shut();
                }
            }
            if !moved {
                return Ok(());
            }
        }
    }

    /// To a nameserver of the host's.
    fn forward(
        &mut self,
        world: &World,
        nameserver: &Nameserver,
        number: u64,
        message: &[u8],
    ) -> Result<(), Errno> {
        if self.resolver.is_none() {
            let to = nameserver.resolvers(world, self.member).first().copied();
            self.resolver = Some(End::new(start(world, to.ok_or(Errno::CONNREFUSED)?, number)?));
        }
        self.resolver.iter_mut().for_each(|resolver| resolver.say(message));
        Ok(())
    }

    /// All that was asked is answered.
    fn is_over(&self) -> bool {
        let asks = self.resolver.as_ref().is_some_and(|resolver| !resolver.ended);
        let last = self.asker.ended || self.resolver.is_some();
        last && !asks && self.elsewhere == 0 && self.asker.leaving.is_empty()
    }
}

impl End {
    fn new(socket: OwnedFd) -> End {
        End { socket, come: Vec::new(), leaving: Vec::new(), ended: false, shut: false }
    }

    fn has_room(&self) -> bool {
        self.leaving.len() < LONGEST
    }

    /// Whether something came, or the end.
    fn receive(&mut self) -> Result<bool, Errno> {
        let mut bytes = [0; 4096];
        if self.ended || self.come.len() > LONGEST {
            return Ok(false);
        }
        match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((length, _)) => {
                self.come.extend_from_slice(&bytes[..length]);
                self.ended = length == 0;
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Whether something went.
    fn send(&mut self) -> Result<bool, Errno> {
        if self.leaving.is_empty() {
            return Ok(false);
        }
        match send(&self.socket, &self.leaving, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(length) => {
                self.leaving.drain(..length);
                Ok(length > 0)
            }
            // On its way to be connected, too.
            Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Say no more, when all is said.
    fn shut(&mut self) {
        if self.leaving.is_empty() && !std::mem::replace(&mut self.shut, true) {
            let _ = shutdown(&self.socket, Shutdown::Write);
        }
    }

    /// The next whole message: its length in two bytes, and then that (RFC 1035, 4.2.2).
    fn message(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes(*self.come.first_chunk()?));
        let message = self.come.get(2..2 + length)?.to_vec();
        self.come.drain(..2 + length);
        Some(message)
    }

    fn say(&mut self, message: &[u8]) {
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        self.leaving.extend(length.to_be_bytes());
        self.leaving.extend(&message[..length.into()]);
    }
}

/// Streams of a network.
const MOST: usize = 256;
/// Bytes that wait in one direction, roughly: as long as a message can be.
const LONGEST: usize = 64 << 10;

const ALL: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// A socket on its way to `resolver`.
fn start(world: &World, resolver: IpAddr, number: u64) -> Result<OwnedFd, Errno> {
    let family = if resolver.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match connect(&socket, &SocketAddr::new(resolver, 53)) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno),
    }
    world.watch(&socket, Source::Stream(number << 1 | 1), ALL)?;
    Ok(socket)
}
