//! The networks of a container that starts, seen from its monitor: sockets for its ports, lines to the processes of its
//! networks, or pasta.

use super::control::{Tell, Told};
use crate::{
    container::{create::Container, networks, record::Record},
    error::Explain,
    network::{
        self, Connection, Pasta,
        device::Interface,
        networks::{Attachment, Network},
        plug::Inside,
        ports::Port,
        private,
        process::{self, Line},
        wire::{Member, Published, Questions},
    },
    storage::{ContainerDir, Store},
    sys::fork::Child,
};
use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

/// What it takes, and then what has to stay beside the container. Dropped, the container has left its networks.
#[derive(Debug)]
pub struct Networks {
    connection: Connection,
    memberships: Vec<Membership>,
    /// So many of them were joined.
    joined: usize,
    /// For the process of the first: what each leads to, and the socket.
    sockets: Vec<(Published, OwnedFd)>,
    _pasta: Option<Pasta>,
}

/// One network that the container is in.
#[derive(Debug, Default)]
pub struct Membership {
    /// `None`: that of the container alone.
    place: Option<Place>,
    /// To its process, while that lives.
    line: Option<Line>,
    /// inotify(7): readable when somebody has brought it back.
    awaited: Option<OwnedFd>,
}

/// A place in a network that others may be in.
#[derive(Debug)]
struct Place {
    attachment: Attachment,
    network: Network,
    /// Where the network's process is found.
    runtime: PathBuf,
}

impl Networks {
    /// Those of `container`. Its ports are taken from here on.
    ///
    /// # Errors
    /// What a network takes is missing; a network is gone; a port is another's.
    pub fn of(store: &Store, container: &Container) -> Result<Networks> {
        let connection = network::connection(&container.record.network)?;
        let mut memberships = Vec::new();
        if let Connection::Private { .. } = connection {
            memberships.push(Membership::default());
        }
        for attachment in &container.record.networks {
            memberships.push(Membership::of(store, attachment)?);
        }
        let sockets = published(container)?;
        Ok(Networks { connection, memberships, joined: 0, sockets, _pasta: None })
    }

    /// The interfaces that the container `id` makes.
    pub fn interfaces(&self, id: &str) -> Vec<Interface> {
        let out = self.way_out();
        let all = self.memberships.iter().enumerate();
        all.map(|(at, membership)| match &membership.place {
            Some(place) => networks::interface(&place.attachment, &place.network, out == Some(at)),
            None => private::interface(id),
        })
        .collect()
    }

    /// The one whose gateway is the default one.
    fn way_out(&self) -> Option<usize> {
        self.memberships.iter().position(|one| one.place.as_ref().is_none_or(|place| !place.network.internal))
    }

    /// Let the networks' processes be there, while the container goes on.
    pub fn begin(&mut self) -> Result<()> {
        // There may have been a try before, with another storage driver.
        self.joined = 0;
        self.memberships.iter_mut().for_each(|membership| membership.line = None);
        for at in 0..self.memberships.len() {
            self.memberships[at].line = Some(self.process(at)?);
        }
        Ok(())
    }

    /// A line to the process of a network, which is made if there is none.
    fn process(&self, at: usize) -> Result<Line> {
        match (&self.memberships[at].place, &self.connection) {
            (Some(place), _) => process::of_network(&place.network.settings(), &place.runtime),
            (None, Connection::Private { host_loopback }) => {
                process::private(&private::settings(*host_loopback))
            }
            (None, _) => bail!("a network without a name"),
        }
    }

    /// The container of `record` has made the next of [`Networks::interfaces`]. What is published leads to the first.
    pub fn join(&mut self, record: &Record, tap: OwnedFd) -> Result<()> {
        let sockets = if self.joined == 0 { self.own_sockets()? } else { Vec::new() };
        let membership = self.memberships.get(self.joined).context("an interface without a network")?;
        let line = membership.line.as_ref().context("an interface without a network")?;
        self.joined += 1;
        membership.enter(line, record, tap, sockets)
    }

    fn own_sockets(&self) -> Result<Vec<(Published, OwnedFd)>> {
        let own = |(leads, socket): &(Published, OwnedFd)| Ok((*leads, socket.try_clone()?));
        self.sockets.iter().map(own).collect::<std::io::Result<_>>().context("share a socket")
    }

    /// Connect the network of `child` by pasta, if that was asked for; as `user` of its user namespace. `scratch`: a directory of
    /// ours.
    pub fn connect(&mut self, child: &Child, user: Option<(u32, u32)>, scratch: &Path) -> Result<()> {
        if let Connection::Pasta(pasta, options) = &self.connection {
            self._pasta = Some(Pasta::connect(pasta, options, child.pid, user, scratch)?);
        }
        Ok(())
    }

    /// It has started: its ports are its networks' alone.
    pub fn settled(mut self) -> Networks {
        self.sockets.clear();
        self
    }

    /// What is to be watched of them.
    pub fn memberships(&self) -> &[Membership] {
        &self.memberships
    }

    /// Some of them asked for attention: their processes are gone, or are there again.
    pub fn attend(&mut self, dir: &ContainerDir, inside: Inside<'_>) {
        // The ports are those that were chosen at the start.
        let Ok(record) = Record::finished(dir) else { return };
        for at in 0..self.memberships.len() {
            if self.memberships[at].is_back() {
                // Who wants to know what is in the way asks for a reload.
                let _ = self.bring_back(at, &record, inside);
            }
        }
    }

    /// [`Networks::follow`] the record of the container in `dir`; what to answer to who wants that.
    pub fn obey(&mut self, store: &Store, dir: &ContainerDir, inside: Inside<'_>) -> Tell {
        let followed = Record::finished(dir).and_then(|record| self.follow(store, &record, inside));
        followed.map_or_else(|failure| Tell::Failed(Told::of(&failure)), |()| Tell::Done)
    }

    /// Be in the networks that `record` names, and in no other; those whose processes are gone are brought back.
    ///
    /// # Errors
    /// The first of what failed; all else is done.
    fn follow(&mut self, store: &Store, record: &Record, inside: Inside<'_>) -> Result<()> {
        if let Connection::Pasta(..) = self.connection {
            if self._pasta.as_ref().is_some_and(Pasta::is_alive) {
                return Ok(());
            }
            return Err(anyhow!("what pasta connects can't be brought back while the container runs"))
                .hint(format!("ctr restart {}", record.name));
        }
        let (first, out) = (self.name_of(Some(0)), self.name_of(self.way_out()));
        let mut done = Ok(());
        let named = |one: &mut Membership| {
            one.place.as_ref().is_some_and(|place| !record.networks.contains(&place.attachment))
        };
        for gone in self.memberships.extract_if(.., named) {
            // Before the interface: whoever writes to it next has no other end.
            drop(gone.line);
            done = done.and(gone.place.map_or(Ok(()), |place| inside.unplug(&place.attachment.interface)));
        }
        for attachment in &record.networks {
            let has = |one: &Membership| one.place.as_ref().is_some_and(|has| has.attachment == *attachment);
            if !self.memberships.iter().any(has) {
                self.memberships.push(Membership::of(store, attachment)?);
            }
        }
        let ports = !record.ports.is_empty() && first != self.name_of(Some(0));
        if let (true, Some(heir)) = (ports, self.memberships.first_mut()) {
            // Sockets come along with its device.
            heir.line = None;
        }
        for at in 0..self.memberships.len() {
            if !self.memberships[at].lives() {
                done = done.and(self.bring_back(at, record, inside));
            }
        }
        for membership in &self.memberships {
            let Some(line) = &membership.line else { continue };
            if let Some(place) = &membership.place {
                done = done.and(line.set_questions(place.questions(record)));
            }
            done = done.and(line.set_names(membership.member(record).names));
        }
        if let Some(at) = self.way_out().filter(|at| self.name_of(Some(*at)) != out) {
            done = done.and(inside.settle(&self.interfaces(record.id.as_str())[at]));
        }
        done
    }

    fn name_of(&self, at: Option<usize>) -> Option<String> {
        let place = self.memberships.get(at?)?.place.as_ref();
        Some(place.map_or_else(String::new, |place| place.attachment.network.clone()))
    }

    /// Join a network anew, with a process of its own if it has none.
    fn bring_back(&mut self, at: usize, record: &Record, inside: Inside<'_>) -> Result<()> {
        self.memberships[at].line = None;
        let line = self.process(at)?;
        let sockets = match at {
            // They are held from before the start until it is over.
            0 if !self.sockets.is_empty() => self.own_sockets()?,
            0 => bound(&mut record.ports.clone())?,
            _ => Vec::new(),
        };
        let tap = inside.plug(&self.interfaces(record.id.as_str())[at])?;
        let membership = &mut self.memberships[at];
        membership.enter(&line, record, tap, sockets)?;
        (membership.line, membership.awaited) = (Some(line), None);
        Ok(())
    }
}

impl Place {
    fn questions(&self, record: &Record) -> Questions {
        let own = [&record.dns, &self.network.nameservers].into_iter().find(|servers| !servers.is_empty());
        Questions { resolvers: own.cloned().unwrap_or_default(), elsewhere: record.networks.len() > 1 }
    }
}

impl Membership {
    fn of(store: &Store, attachment: &Attachment) -> Result<Membership> {
        let network = networks::find(store, &attachment.network)?;
        let runtime = store.network_runtime(&network.name.parse().context("a network's name")?)?;
        let place = Place { attachment: attachment.clone(), network, runtime };
        Ok(Membership { place: Some(place), ..Membership::default() })
    }

    fn enter(
        &self,
        line: &Line,
        record: &Record,
        tap: OwnedFd,
        sockets: Vec<(Published, OwnedFd)>,
    ) -> Result<()> {
        let (published, sockets) = sockets.into_iter().unzip();
        if let Some(place) = &self.place {
            line.set_questions(place.questions(record))?;
        }
        line.join(&Member { published, ..self.member(record) }, tap, sockets)
    }

    fn member(&self, record: &Record) -> Member {
        let (id, name) = (record.id.as_str(), record.name.as_str());
        match &self.place {
            Some(place) => networks::member(&place.attachment, id, name),
            None => private::member(id, vec![name.to_lowercase()]),
        }
    }

    fn lives(&self) -> bool {
        self.line.as_ref().is_some_and(Line::is_alive)
    }

    /// What becomes readable when there is something to [`Membership::serve`].
    pub fn watched(&self) -> Option<BorrowedFd<'_>> {
        let line = self.line.as_ref().filter(|line| line.is_alive());
        line.map(AsFd::as_fd).or(self.awaited.as_ref().map(AsFd::as_fd))
    }

    /// Do what its process asks for. Whether that is gone, or is there again: then [`Networks::attend`] sees to it.
    pub fn serve(&self, all: &[Membership]) -> bool {
        let Some(line) = self.line.as_ref().filter(|line| line.is_alive()) else { return true };
        let others = || all.iter().filter(|other| !std::ptr::eq(*other, self) && other.lives());
        let find = |question: Vec<u8>| {
            let mut found = others().filter_map(|other| other.line.as_ref()?.find(question.clone()).ok());
            found.find(|reply| !reply.is_empty()).unwrap_or_default()
        };
        line.serve_and_find(find).is_err()
    }

    /// It has lost its process, and somebody made another one.
    fn is_back(&mut self) -> bool {
        if self.lives() {
            return false;
        }
        let mut events = [0; 1024];
        if let Some(awaited) = &self.awaited {
            return rustix::io::read(awaited, &mut events).is_ok();
        }
        self.line = None;
        let Some(place) = &self.place else { return false };
        self.awaited = watch_for(&place.runtime).ok();
        // From here on nothing is missed; before it may have happened.
        process::running(&place.runtime).is_ok_and(|line| line.is_some())
    }
}

/// The process of a network makes its door at its birth.
fn watch_for(runtime: &Path) -> rustix::io::Result<OwnedFd> {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&events, runtime, WatchFlags::CREATE)?;
    Ok(events)
}

/// The sockets of its ports. Those that the host chose stay what they are at later starts.
fn published(container: &Container) -> Result<Vec<(Published, OwnedFd)>> {
    let mut ports = container.record.ports.clone();
    let sockets = bound(&mut ports)?;
    if ports != container.record.ports {
        Record::change(&container.dir, |record| Ok(Record { ports, ..record }))?;
    }
    Ok(sockets)
}

/// Sockets for `ports`, whose numbers are then known.
fn bound(ports: &mut [Port]) -> Result<Vec<(Published, OwnedFd)>> {
    let mut sockets = Vec::new();
    for port in ports {
        let (number, bound) = port.bind()?;
        port.host_port = number;
        sockets.extend(bound.into_iter().map(|socket| (port.published(), socket)));
    }
    Ok(sockets)
}
