//! Who is connected to a monitor, where each wants the output, and what each is told.

use super::{
    control::{Channel, Tell},
    streams::Stream,
};
use anyhow::{Context, Result};
use rustix::io::fcntl_dupfd_cloexec;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// All of them, in the order in which they came.
#[derive(Debug, Default)]
pub struct Clients {
    /// Those who are there.
    pub all: Vec<Client>,
    count: u64,
}

/// One of them.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub id: u64,
    /// The line to it.
    pub channel: Channel,
    /// The one who started the container in the foreground: without it the container ends.
    pub foreground: bool,
    /// It is told of each start and each end.
    pub watches: bool,
    /// It wants the way to stdin.
    pub input: bool,
    /// Where its output goes, for the streams of the next start.
    outputs: [Option<OwnedFd>; 2],
}

impl Clients {
    /// Take one in; its number.
    pub fn admit(&mut self, channel: Channel, foreground: bool) -> u64 {
        self.count += 1;
        let (id, watches) = (self.count, foreground);
        self.all.push(Client { id, channel, foreground, watches, input: false, outputs: [None, None] });
        id
    }

    /// Client `id` wants what comes out of `streams` there.
    pub fn attach(&mut self, id: u64, outputs: [Option<OwnedFd>; 2], input: bool, streams: &mut [Stream]) {
        if let Some(client) = self.all.iter_mut().find(|client| client.id == id) {
            (client.outputs, client.input) = (outputs, input);
            streams.iter_mut().for_each(|stream| client.connect(stream));
        }
    }

    /// All want what comes out of `stream`, which is new.
    pub fn connect(&self, stream: &mut Stream) {
        self.all.iter().for_each(|client| client.connect(stream));
    }

    /// Tell client `id`; one that doesn't hear is gone. What follows from that in the foreground is for whoever sees its line
    /// closed.
    pub fn tell(&mut self, id: u64, message: &Tell, descriptors: &[BorrowedFd<'_>], streams: &mut [Stream]) {
        let client = self.all.iter().find(|client| client.id == id);
        if client
            .is_some_and(|client| client.channel.say(message, descriptors).is_err() && !client.foreground)
        {
            self.dismiss(id, streams);
        }
    }

    /// Forget client `id`.
    pub fn dismiss(&mut self, id: u64, streams: &mut [Stream]) {
        self.all.retain(|client| client.id != id);
        streams.iter_mut().for_each(|stream| stream.detach(id));
    }
}

impl Client {
    fn connect(&self, stream: &mut Stream) {
        if let Some(Ok(to)) = self.outputs[stream.kind as usize].as_ref().map(duplicate) {
            stream.attach(self.id, to, self.foreground);
        }
    }
}

/// Another descriptor of the same.
pub fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    fcntl_dupfd_cloexec(fd, 3).context("duplicate a descriptor")
}
