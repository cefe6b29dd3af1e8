//! The nameserver that members ask. What it doesn't know it asks the host's nameservers, as they are at that moment: each
//! question from a socket of its own and under an identifier that nobody can guess.

use super::{
    dns::{self, Answer},
    emit,
    world::{Source, World},
};
use crate::network::wire::Questions;
use rustix::{
    event::epoll::EventFlags,
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with},
    rand::{GetRandomFlags, getrandom},
};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

/// The nameserver.
#[derive(Debug, Default)]
pub struct Nameserver {
    queries: HashMap<u64, Query>,
    /// Questions that wait to hear who the host's nameservers are.
    waiting: Vec<Question>,
    heard: Option<Instant>,
    /// How members ask who said so.
    ways: HashMap<u64, Questions>,
    /// Questions that a monitor looks for an answer to in other networks, with ours in case that it has none.
    asked: HashMap<u64, (Question, Option<Vec<u8>>)>,
}

/// What a member wants to know.
#[derive(Debug)]
pub struct Question {
    /// Who asks.
    pub member: u64,
    /// How it is answered.
    pub way: Way,
    /// A DNS message.
    pub message: Vec<u8>,
}

/// How a question came.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// As a datagram.
    Datagram {
        /// From where.
        from: (IpAddr, u16),
        /// Where to.
        to: (IpAddr, u16),
    },
    /// Over the stream of this number.
    Stream(u64),
}

/// A question that a nameserver of the host's was asked.
#[derive(Debug)]
struct Query {
    question: Question,
    socket: OwnedFd,
    id: u16,
    attempt: usize,
    deadline: Instant,
}

impl Nameserver {
    /// `message` is asked by `member`.
    pub fn ask(
        &mut self,
        world: &mut World,
        member: u64,
        from: (IpAddr, u16),
        to: (IpAddr, u16),
        message: &[u8],
    ) {
        let question = Question { member, way: Way::Datagram { from, to }, message: message.to_vec() };
        let ours = match dns::answer(message, &world.network) {
            Answer::Known(reply) => Some(reply),
            Answer::Forward => None,
            Answer::Ignore => return,
        };
        if self.may_be_elsewhere(member, ours.as_deref()) {
            self.look_elsewhere(world, question, ours);
        } else {
            self.settle(world, question, ours);
        }
    }

    /// Whether other networks of `member` may know more than `ours` says.
    pub fn may_be_elsewhere(&self, member: u64, ours: Option<&[u8]>) -> bool {
        self.ways.get(&member).is_some_and(|ways| ways.elsewhere) && ours.is_none_or(dns::denies)
    }

    /// How `member` asks from now on.
    pub fn set_ways(&mut self, member: u64, ways: Questions) {
        self.ways.insert(member, ways);
    }

    /// Another network of who asked says this to question `number`; nothing if none knows.
    pub fn found(&mut self, world: &mut World, member: u64, number: u64, reply: Vec<u8>) {
        if self.asked.get(&number).is_none_or(|(question, _)| question.member != member) {
            return;
        }
        let Some((question, ours)) = self.asked.remove(&number) else { return };
        self.settle(world, question, Some(reply).filter(|reply| !reply.is_empty()).or(ours));
    }

    /// `reply` is the answer to `question`; without one others are asked.
    fn settle(&mut self, world: &mut World, question: Question, reply: Option<Vec<u8>>) {
        match (question.way, reply) {
            (Way::Stream(number), reply) => world.stream_replies.push((number, question.message, reply)),
            (Way::Datagram { .. }, Some(reply)) => say(world, &question, &reply),
            (Way::Datagram { .. }, None) => self.pass_on(world, question),
        }
    }

    /// Whom `member`'s questions go to.
    pub fn resolvers<'a>(&'a self, world: &'a World, member: u64) -> &'a [IpAddr] {
        let own = self.ways.get(&member).filter(|ways| !ways.resolvers.is_empty());
        own.map_or(&world.resolvers, |ways| &ways.resolvers)
    }

    fn asked_by(&self, member: u64) -> usize {
        self.asked.values().filter(|(question, _)| question.member == member).count()
    }

    /// To the monitor, which knows the other networks of who asks; `ours`: our own answer.
    pub fn look_elsewhere(&mut self, world: &mut World, question: Question, ours: Option<Vec<u8>>) {
        if self.asked_by(question.member) >= MOST_WAITING {
            return self.settle(world, question, ours);
        }
        let number = world.number();
        world.timers.set(world.now + PATIENCE, Source::Query(number));
        world.wants_names.push((question.member, number, question.message.clone()));
        self.asked.insert(number, (question, ours));
    }

    /// To the nameservers of the world outside, once it is known who they are.
    fn pass_on(&mut self, world: &mut World, question: Question) {
        let fresh = self.heard.is_some_and(|heard| world.now.saturating_duration_since(heard) < FRESH);
        let own = self.ways.get(&question.member).is_some_and(|ways| !ways.resolvers.is_empty());
        if fresh || own {
            self.forward(world, question, 0);
        } else if self.waiting.iter().filter(|one| one.member == question.member).count() < MOST_WAITING {
            if self.waiting.is_empty() {
                // One question to the monitor, however many there are to us.
                world.timers.set(world.now + PATIENCE, Source::Query(0));
                world.wants_resolvers = Some(question.member);
            }
            self.waiting.push(question);
        }
    }

    /// These are the host's nameservers now.
    pub fn set_resolvers(&mut self, world: &mut World, resolvers: Vec<IpAddr>) {
        world.resolvers = resolvers;
        self.heard = Some(world.now);
        self.flush(world);
    }

    /// A nameserver of the host's has said something.
    pub fn event(&mut self, world: &mut World, number: u64) {
        let Some(query) = self.queries.get(&number) else { return };
        let Way::Datagram { from, to } = query.question.way else { return };
        let at = emit::payload_at(from.0.is_ipv4());
        match recv(&query.socket, &mut world.out[at..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => {
                let answer = &mut world.out[at..at + length];
                let message = &query.question.message;
                if !dns::answers(answer, query.id, message) {
                    return;
                }
                answer[..2].copy_from_slice(&message[..2]);
                world.deliver_udp(query.question.member, to, from, length);
                self.remove(world, number);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.next(world, number),
        }
    }

    /// The time that was set for `number` has come.
    pub fn due(&mut self, world: &mut World, number: u64) {
        if number == 0 {
            // Nobody says who they are: those of before will do.
            return self.flush(world);
        }
        if let Some((question, _)) = self.asked.get(&number) {
            let member = question.member;
            return self.found(world, member, number, Vec::new());
        }
        if self.queries.get(&number).is_some_and(|query| query.deadline <= world.now) {
            self.next(world, number);
        }
    }

    /// `member` has left.
    pub fn leave(&mut self, world: &mut World, member: u64) {
        self.waiting.retain(|question| question.member != member);
        self.asked.retain(|_, (question, _)| question.member != member);
        self.ways.remove(&member);
        let of_member =
            |(number, query): (&u64, &Query)| (query.question.member == member).then_some(*number);
        for number in self.queries.iter().filter_map(of_member).collect::<Vec<_>>() {
            self.remove(world, number);
        }
    }

    fn flush(&mut self, world: &mut World) {
        for question in std::mem::take(&mut self.waiting) {
            self.forward(world, question, 0);
        }
    }

    /// Ask the next nameserver, the first one again after the last.
    fn next(&mut self, world: &mut World, number: u64) {
        if let Some(query) = self.remove(world, number) {
            self.forward(world, query.question, query.attempt + 1);
        }
    }

    fn forward(&mut self, world: &mut World, question: Question, attempt: usize) {
        let resolvers = self.resolvers(world, question.member).to_vec();
        for attempt in attempt..ATTEMPTS.max(resolvers.len()) {
            let asked =
                self.queries.values().filter(|query| query.question.member == question.member).count();
            if asked >= MOST || resolvers.is_empty() || !world.take_room(question.member) {
                break;
            }
            let resolver = resolvers[attempt % resolvers.len()];
            let number = world.number();
            if let Ok((socket, id)) = put(world, number, resolver, &question.message) {
                let deadline = world.now + TRY;
                world.timers.set(deadline, Source::Query(number));
                self.queries.insert(number, Query { question, socket, id, attempt, deadline });
                return;
            }
            world.give_room(question.member);
        }
        if let Some(reply) = dns::failure(&question.message) {
            say(world, &question, &reply);
        }
    }

    fn remove(&mut self, world: &mut World, number: u64) -> Option<Query> {
        let query = self.queries.remove(&number)?;
        world.timers.forget(Source::Query(number));
        world.give_room(query.question.member);
        Some(query)
    }
}

/// As long as what was heard of the host's nameservers holds.
const FRESH: Duration = Duration::from_secs(1);
/// As long as a monitor may take to say who they are.
const PATIENCE: Duration = Duration::from_secs(1);
/// As long as a nameserver may take before the next one is asked.
const TRY: Duration = Duration::from_secs(2);
/// How often a question is asked, at least.
const ATTEMPTS: usize = 3;
/// Questions of a member at a time.
const MOST: usize = 256;
const MOST_WAITING: usize = 64;

/// Put `message` to `resolver` under an identifier of our own.
fn put(world: &World, number: u64, resolver: IpAddr, message: &[u8]) -> Result<(OwnedFd, u16), Errno> {
    let family = if resolver.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    connect(&socket, &SocketAddr::new(resolver, 53))?;
    let mut id = [0; 2];
    getrandom(&mut id, GetRandomFlags::NONBLOCK)?;
    let mut message = message.to_vec();
    message.get_mut(..2).ok_or(Errno::INVAL)?.copy_from_slice(&id);
    send(&socket, &message, SendFlags::NOSIGNAL)?;
    world.watch(&socket, Source::Query(number), EventFlags::IN)?;
    Ok((socket, u16::from_be_bytes(id)))
}

fn say(world: &mut World, question: &Question, reply: &[u8]) {
    let Way::Datagram { from, to } = question.way else { return };
    let at = emit::payload_at(from.0.is_ipv4());
    if let Some(room) = world.out.get_mut(at..at + reply.len()) {
        room.copy_from_slice(reply);
        world.deliver_udp(question.member, to, from, reply.len());
    }
}
