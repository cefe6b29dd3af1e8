//! One TCP connection: the container's half in a [`Stack`], the other half a socket of the host, and bytes pumped between
//! them. Neither side is read faster than the other takes it, so a full buffer here is a closed window there.

use super::{stack::Stack, world::World};
use rustix::{
    event::epoll::EventFlags,
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt::set_socket_linger},
};
use smoltcp::{socket::tcp::State, time::Instant};
use std::{net::SocketAddr, os::fd::OwnedFd, time::Duration};

/// Which connection: the container's port, and the other end as the container sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whose.
    pub member: u64,
    /// In the container.
    pub port: u16,
    /// The other end.
    pub remote: SocketAddr,
}

/// A connection.
#[derive(Debug)]
pub struct Flow {
    /// Which.
    pub key: Key,
    socket: OwnedFd,
    half: Half,
    readable: bool,
    writable: bool,
    /// The host's side has said its last word, or is about to.
    ending: bool,
    /// It has said it, and so has our side to the container.
    ended: bool,
    /// The container's last word was passed on.
    shut: bool,
    /// It came.
    heard_last: bool,
    /// The container knows that it did, and nothing is left to say.
    lingers: bool,
    /// It waits to be pumped.
    pub touched: bool,
    deadline: Option<std::time::Instant>,
    /// Since when the container owes an answer.
    unanswered: Option<std::time::Instant>,
}

/// The container's half.
#[derive(Debug)]
enum Half {
    /// It waits until the host's half is connected; its SYN was this.
    Waiting(Vec<u8>),
    /// It talks.
    Talking(Box<Stack>),
}

/// What pumping came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// It goes on when something happens.
    Waits,
    /// There is more to do at once, when others had their turn.
    More,
    /// It is over.
    Over,
}

impl Flow {
    /// The container's SYN is kept until `socket` is connected.
    pub fn waiting(key: Key, socket: OwnedFd, syn: Vec<u8>) -> Flow {
        Flow::new(key, socket, Half::Waiting(syn))
    }

    /// `socket` was accepted; the container is connected to at `inside`. `None`: it has left.
    pub fn inwards(
        key: Key,
        socket: OwnedFd,
        inside: SocketAddr,
        buffer: usize,
        world: &mut World,
    ) -> Option<Flow> {
        let now = clock(world);
        let mut wire = world.wire(key.member, None)?;
        let stack = Stack::connect(key.remote, inside, buffer, now, &mut wire);
        Some(Flow { writable: true, ..Flow::new(key, socket, Half::Talking(Box::new(stack))) })
    }

    fn new(key: Key, socket: OwnedFd, half: Half) -> Flow {
        Flow {
            key,
            socket,
            half,
            readable: false,
            writable: false,
            ending: false,
            ended: false,
            shut: false,
            heard_last: false,
            lingers: false,
            touched: false,
            deadline: None,
            unanswered: None,
        }
    }

    /// The host's socket.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// The SYN of one that is not connected yet.
    pub fn syn(&self) -> Option<&[u8]> {
        match &self.half {
            Half::Waiting(syn) => Some(syn),
            Half::Talking(_) => None,
        }
    }

    /// The host's half is connected: the container's SYN is answered.
    pub fn connected(&mut self, buffer: usize, world: &mut World) {
        let Half::Waiting(syn) = &self.half else { return };
        let now = clock(world);
        if let Some(mut wire) = world.wire(self.key.member, Some(syn)) {
            let stack = Stack::accept(self.key.remote, buffer, now, &mut wire);
            self.half = Half::Talking(Box::new(stack));
        }
    }

    /// The host's socket has something to say.
    pub fn event(&mut self, flags: EventFlags) {
        let last = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        self.ending |= flags.intersects(last);
        self.readable |= flags.intersects(last | EventFlags::IN);
        self.writable |= flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
    }

    /// A segment of the container's.
    pub fn segment(&mut self, packet: &[u8], world: &mut World) {
        let now = clock(world);
        self.unanswered = None;
        if let (Half::Talking(stack), Some(mut wire)) =
            (&mut self.half, world.wire(self.key.member, Some(packet)))
        {
            stack.take(now, &mut wire);
        }
    }

    /// Move what can be moved, and send what is to be sent.
    pub fn pump(&mut self, world: &mut World) -> Pumped {
        let now = clock(world);
        let Flow { half: Half::Talking(stack), .. } = self else { return Pumped::Waits };
        let mut left = TURN;
        let outcome = pass_on(stack, &self.socket, &mut self.writable).and_then(|()| {
            let sides = (&mut self.readable, self.ending, &mut self.ended);
            pass_in(stack, &self.socket, sides, &mut left)
        });
        let since = owes_an_answer(stack).then(|| *self.unanswered.get_or_insert(world.now));
        self.unanswered = since;
        let in_vain = since.is_some_and(|since| world.now.saturating_duration_since(since) > patience(stack));
        if outcome.is_err() || in_vain {
            stack.socket().abort();
        }
        let open = matches!(
            stack.state(),
            State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait
        );
        if open && self.ended {
            // The host's last word follows what it said before.
            stack.socket().close();
        }
        self.heard_last |=
            matches!(stack.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
        if self.heard_last && !self.shut && !stack.socket().can_recv() {
            self.shut = true;
            let _ = shutdown(&self.socket, Shutdown::Write);
        }
        let mut sent_all = true;
        if !self.lingers {
            let Some(mut wire) = world.wire(self.key.member, None) else { return Pumped::Over };
            sent_all = stack.send(now, &mut wire);
        }
        match stack.state() {
            // RFC 9293's TIME-WAIT is for segments that wander about, which there are none of.
            State::TimeWait if self.shut => Pumped::Over,
            State::TimeWait => {
                self.lingers = true;
                Pumped::Waits
            }
            // What it said last is not taken yet.
            State::Closed if self.heard_last && self.ended && !self.shut => Pumped::Waits,
            State::Closed | State::Listen => {
                if !(self.shut && self.ended) {
                    // It was reset; so is the host's side.
                    let _ = set_socket_linger(&self.socket, Some(Duration::ZERO));
                }
                Pumped::Over
            }
            _ if left == 0 || !sent_all => Pumped::More,
            _ => Pumped::Waits,
        }
    }

    /// The container is gone. Whether its last word was heard, and all before it is on its way.
    pub fn has_said_all(&mut self) -> bool {
        let Half::Talking(stack) = &mut self.half else { return false };
        let passed = self.shut || pass_on(stack, &self.socket, &mut true).is_ok();
        passed && self.heard_last && !stack.socket().can_recv()
    }

    /// When it wants to be pumped although nothing happens, if that is sooner than it said before.
    pub fn due(&mut self, world: &World) -> Option<std::time::Instant> {
        let Half::Talking(stack) = &mut self.half else { return None };
        let wait = stack.due(clock(world)).filter(|_| !self.lingers)?;
        let wait = Duration::from_micros(wait.total_micros()).max(TICK);
        let at = world.now + wait;
        let sooner = self.deadline.is_none_or(|deadline| at < deadline || deadline <= world.now);
        sooner.then(|| *self.deadline.insert(at))
    }

    /// The time that [`Flow::due`] gave has come.
    pub fn woken(&mut self) {
        self.deadline = None;
    }
}

/// Whether something that was said to the container waits for its acknowledgement. A timer of the stack runs meanwhile.
fn owes_an_answer(stack: &mut Stack) -> bool {
    let unfinished = matches!(
        stack.state(),
        State::SynSent | State::SynReceived | State::FinWait1 | State::Closing | State::LastAck
    );
    unfinished || stack.socket().send_queue() > 0
}

/// As long as a kernel waits for an answer (tcp(7), `tcp_syn_retries` and `tcp_retries2`).
fn patience(stack: &Stack) -> Duration {
    match stack.state() {
        State::SynSent | State::SynReceived => Duration::from_secs(127),
        _ => Duration::from_secs(924),
    }
}

/// Bytes that one connection moves before others have their turn.
const TURN: usize = 1 << 20;

/// No timer is finer.
const TICK: Duration = Duration::from_millis(1);

/// What the container said goes to the host's socket.
fn pass_on(stack: &mut Stack, socket: &OwnedFd, writable: &mut bool) -> Result<(), Errno> {
    while *writable && stack.socket().can_recv() {
        let taken = stack.socket().recv(|bytes| match send(socket, bytes, QUIETLY) {
            Ok(sent) => (sent, Ok(sent == bytes.len())),
            Err(Errno::AGAIN) => (0, Ok(false)),
            Err(errno) => (0, Err(errno)),
        });
        *writable = taken.unwrap_or(Ok(false))?;
    }
    Ok(())
}

/// What the host's socket has goes to the container.
fn pass_in(
    stack: &mut Stack,
    socket: &OwnedFd,
    (readable, ending, ended): (&mut bool, bool, &mut bool),
    left: &mut usize,
) -> Result<(), Errno> {
    while *readable && !*ended && *left > 0 && stack.socket().can_send() {
        let given = stack.socket().send(|room| {
            let wanted = room.len().min(*left);
            match recv(socket, &mut room[..wanted], RecvFlags::DONTWAIT) {
                Ok((0, _)) if wanted > 0 => (0, Ok((0, false))),
                // A short read has emptied it, unless it is about to end: that is no event of its own any more.
                Ok((read, _)) => (read, Ok((read, read == wanted || ending))),
                Err(Errno::AGAIN) => (0, Ok((usize::MAX, false))),
                Err(errno) => (0, Err(errno)),
            }
        });
        match given.unwrap_or(Ok((usize::MAX, false)))? {
            (0, _) => *ended = true,
            (usize::MAX, more) => *readable = more,
            (read, more) => {
                *left -= read;
                *readable = more;
            }
        }
    }
    Ok(())
}

const QUIETLY: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

fn clock(world: &World) -> Instant {
    Instant::from_micros(world.elapsed().as_micros() as i64)
}
