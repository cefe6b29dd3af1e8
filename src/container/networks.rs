//! User networks as containers see them: found by name, and a place in them for a new container.

use super::state;
use crate::{
    error::{Explain, OURS},
    network::{
        device::Interface,
        engine::reach,
        networks::{Attachment, DEFAULT, Network, Wish},
        wire::Member,
    },
    storage::{Name, Store},
};
use anyhow::{Context, Result, anyhow};
use std::{collections::HashMap, net::IpAddr};

/// The network called `given`, or whose id begins so.
///
/// # Errors
/// There is none, with exit status 1 (podman-network-rm(1), "Exit Status").
pub fn find(store: &Store, given: &str) -> Result<Network> {
    if let Ok(name) = given.parse::<Name>()
        && let Some(network) = read(store, &name)?
    {
        return Ok(network);
    }
    let by_id = |network: &Network| given.len() >= 4 && network.id.starts_with(given);
    let shown: String = given.chars().take(80).collect();
    list(store)?
        .into_iter()
        .find(by_id)
        .ok_or_else(|| anyhow!("unable to find network with name or ID {shown}: network not found"))
        .hint("`ctr network ls` lists all; `ctr network create NAME` makes one")
        .status(1)
}

fn read(store: &Store, name: &Name) -> Result<Option<Network>> {
    match store.network(name)? {
        Some(json) => {
            let network = serde_json::from_slice(&json);
            network
                .map(Some)
                .with_context(|| format!("read network {name}"))
                .hint(format!("ctr network rm -f {name}"))
        }
        None => Ok((name.as_str() == DEFAULT).then(Network::default_one)),
    }
}

/// All networks by name, the default one among them.
pub fn list(store: &Store) -> Result<Vec<Network>> {
    let mut names = store.network_names()?;
    names.extend(DEFAULT.parse().ok().filter(|default| !names.contains(default)));
    names.sort();
    names.iter().filter_map(|name| read(store, name).transpose()).collect()
}

/// Ids of containers, and where they are, by network.
pub type Members = HashMap<String, Vec<(String, Attachment)>>;

/// Who is in which network.
pub fn members(store: &Store) -> Result<Members> {
    let mut all = Members::new();
    for container in state::list(store)?.0 {
        for attachment in &container.record.networks {
            let entry = (container.record.id.as_str().to_owned(), attachment.clone());
            all.entry(attachment.network.clone()).or_default().push(entry);
        }
    }
    Ok(all)
}

/// Places for the container `id` in the networks that it wishes to be in.
///
/// # Errors
/// There is no such network, or no such place in it. The caller holds [`Store::lock_networks`].
pub fn attach(store: &Store, id: &str, wishes: &[Wish]) -> Result<Vec<Attachment>> {
    let members = members(store)?;
    let mut attachments: Vec<Attachment> = Vec::new();
    for wish in wishes {
        attachments.push(place(store, &members, id, &attachments, wish)?);
    }
    Ok(attachments)
}

/// One more place for the container `id`, which has those of `own`.
///
/// # Errors
/// As of [`attach`].
pub fn attach_more(store: &Store, id: &str, own: &[Attachment], wish: &Wish) -> Result<Attachment> {
    place(store, &members(store)?, id, own, wish)
}

fn place(store: &Store, members: &Members, id: &str, own: &[Attachment], wish: &Wish) -> Result<Attachment> {
    let network = find(store, &wish.network).status(OURS)?;
    let taken: Vec<&Attachment> =
        members.get(&network.name).into_iter().flatten().map(|(_, taken)| taken).collect();
    let free = |number: &usize| !own.iter().any(|one| one.interface == format!("eth{number}"));
    let number = (0..=own.len()).find(free).unwrap_or(own.len());
    let attachment = network
        .attach(wish, id, number, &taken)
        .hint("`ctr network inspect NAME` shows who has which address")?;
    let twice = own.iter().find_map(|one| {
        let network = (one.network == attachment.network).then(|| format!("network {}", one.network));
        network.or_else(|| {
            (one.interface == attachment.interface).then(|| format!("interface {}", one.interface))
        })
    });
    match twice {
        Some(twice) => {
            Err(anyhow!("{twice} is named twice")).hint("name each network once: --network a --network b")
        }
        None => Ok(attachment),
    }
}

/// What the network's process is told of the container `id`, called `name`.
pub fn member(attachment: &Attachment, id: &str, name: &str) -> Member {
    let own = [name.to_lowercase(), id[..12].to_owned()];
    Member {
        id: id.to_owned(),
        mac: attachment.mac,
        v4: Some(attachment.v4),
        v6: attachment.v6,
        names: own.into_iter().chain(attachment.aliases.clone()).collect(),
        published: Vec::new(),
    }
}

/// The interface in the container; with `leads_out` what is nowhere near goes there.
pub fn interface(attachment: &Attachment, network: &Network, leads_out: bool) -> Interface {
    let settings = network.settings();
    let v4 = settings.v4.map(|net| (attachment.v4, net.prefix, leads_out.then_some(net.gateway)));
    let v6 =
        attachment.v6.zip(settings.v6).map(|(own, net)| (own, net.prefix, leads_out.then_some(net.gateway)));
    Interface { name: attachment.interface.clone(), mac: attachment.mac, mtu: network.mtu, v4, v6 }
}

/// Who answers for names in them: one who knows of the world outside, if there is one.
pub fn nameserver(store: &Store, attachments: &[Attachment]) -> Result<Option<IpAddr>> {
    let mut inner = None;
    for attachment in attachments {
        let network = find(store, &attachment.network)?;
        match (network.dns, network.internal) {
            (true, false) => return Ok(Some(network.v4.gateway)),
            (true, true) => inner = inner.or(Some(network.v4.gateway)),
            (false, _) => {}
        }
    }
    Ok(inner)
}

/// Whether who answers for names in them can ask `servers` on behalf of the container; else it has to ask them itself, as where
/// one of them is a container, too.
pub fn forward_to(store: &Store, attachments: &[Attachment], servers: &[IpAddr]) -> Result<bool> {
    let mut settings = Vec::new();
    for attachment in attachments {
        settings.push(find(store, &attachment.network)?.settings());
    }
    let near = |server: &IpAddr| settings.iter().any(|settings| reach::is_within(settings, *server));
    let out = settings.iter().any(|settings| settings.dns && !settings.internal);
    Ok(out && !servers.iter().any(near))
}

/// Whether one of them leads to the world outside.
pub fn lead_out(store: &Store, attachments: &[Attachment]) -> Result<bool> {
    for attachment in attachments {
        if !find(store, &attachment.network)?.internal {
            return Ok(true);
        }
    }
    Ok(false)
}
