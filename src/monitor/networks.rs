//! The networks of a container that starts, seen from its monitor: sockets for its ports, lines to the processes of its
//! networks, or pasta.

use crate::{
    container::{create::Container, networks, record::Record},
    network::{
        self, Connection, Pasta,
        device::Interface,
        networks::{Attachment, Network},
        private,
        process::{self, Line},
        wire::{Member, Published},
    },
    storage::Store,
    sys::fork::Child,
};
use anyhow::{Context, Result};
use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// What it takes, and then what has to stay beside the container. Dropped, the container has left its networks.
#[derive(Debug)]
pub struct Networks {
    connection: Connection,
    places: Vec<Place>,
    lines: Vec<Line>,
    /// So many of them were joined.
    joined: usize,
    /// For the process of the first: what each leads to, and the socket.
    sockets: Vec<(Published, OwnedFd)>,
    _pasta: Option<Pasta>,
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
        let place = |attachment: &Attachment| {
            let network = networks::find(store, &attachment.network)?;
            let runtime = store.network_runtime(&network.name.parse().context("a network's name")?)?;
            Ok(Place { attachment: attachment.clone(), network, runtime })
        };
        Ok(Networks {
            connection: network::connection(&container.record.network)?,
            places: container.record.networks.iter().map(place).collect::<Result<_>>()?,
            lines: Vec::new(),
            joined: 0,
            sockets: published(container)?,
            _pasta: None,
        })
    }

    /// The interfaces that the container `id` makes.
    pub fn interfaces(&self, id: &str) -> Vec<Interface> {
        if let Connection::Private { .. } = self.connection {
            return vec![private::interface(id)];
        }
        let out = self.places.iter().position(|place| !place.network.internal);
        let all = self.places.iter().enumerate();
        all.map(|(at, place)| networks::interface(&place.attachment, &place.network, out == Some(at)))
            .collect()
    }

    /// Let the networks' processes be there, while the container goes on.
    pub fn begin(&mut self) -> Result<()> {
        // There may have been a try before, with another storage driver.
        (self.lines, self.joined) = (Vec::new(), 0);
        if let Connection::Private { host_loopback } = self.connection {
            self.lines = vec![process::private(&private::settings(host_loopback))?];
        }
        for place in &self.places {
            self.lines.push(process::of_network(&place.network.settings(), &place.runtime)?);
        }
        Ok(())
    }

    /// The container of `record` has made the next of [`Networks::interfaces`]. What is published leads to the first.
    pub fn join(&mut self, record: &Record, tap: OwnedFd) -> Result<()> {
        let (id, name) = (record.id.as_str(), record.name.as_str());
        let own = |(leads, socket): &(Published, OwnedFd)| Ok((*leads, socket.try_clone()?));
        let first = self.sockets.iter().filter(|_| self.joined == 0);
        let sockets = first.map(own).collect::<std::io::Result<Vec<_>>>().context("share a socket")?;
        let (published, sockets) = sockets.into_iter().unzip();
        let member = match self.places.get(self.joined) {
            Some(place) => networks::member(&place.attachment, id, name),
            None => private::member(id, vec![name.to_lowercase()]),
        };
        let line = self.lines.get(self.joined).context("an interface without a network")?;
        self.joined += 1;
        line.join(&Member { published, ..member }, tap, sockets)
    }

    /// Connect the network of `child` by pasta, if that was asked for; as `user` of its user namespace. `scratch`: a directory of
    /// ours.
    pub fn connect(&mut self, child: &Child, user: Option<(u32, u32)>, scratch: &Path) -> Result<()> {
        if let Connection::Pasta(pasta) = &self.connection {
            self._pasta = Some(Pasta::connect(pasta, child.pid, user, scratch)?);
        }
        Ok(())
    }

    /// It has started: its ports are its networks' alone.
    pub fn settled(mut self) -> Networks {
        self.sockets.clear();
        self
    }

    /// To the processes of the networks.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}

/// The sockets of its ports. Those that the host chose stay what they are at later starts.
fn published(container: &Container) -> Result<Vec<(Published, OwnedFd)>> {
    let mut ports = container.record.ports.clone();
    let mut sockets = Vec::new();
    for port in &mut ports {
        let (number, bound) = port.bind()?;
        port.host_port = number;
        sockets.extend(bound.into_iter().map(|socket| (port.published(), socket)));
    }
    if ports != container.record.ports {
        Record::change(&container.dir, |record| Ok(Record { ports, ..record }))?;
    }
    Ok(sockets)
}
