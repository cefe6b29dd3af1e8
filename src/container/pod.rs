//! Pods (podman-pod(1)): containers that have namespaces in common. A pod is one more container, without an image, whose only
//! process is ours and waits: it holds the namespaces, and its name and id are the pod's.

use super::{
    find,
    record::Record,
    sharing::{Sharing, Whose},
    state::{self, Container, Status},
};
use crate::{
    error::Explain,
    storage::{ContainerDir, ContainerId, Store},
};
use anyhow::{Result, anyhow, bail};
use serde::{Deserialize, Serialize};

/// What makes a container a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// What its members have in common, unless they say otherwise.
    pub share: Vec<Kind>,
    /// It ends with the last of its members.
    #[serde(default)]
    pub ends_with_members: bool,
}

/// A namespace of a pod. The user namespace always is in common, as the kernel wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Shared memory and message queues.
    Ipc,
    /// The network.
    Net,
    /// Processes.
    Pid,
    /// The host name.
    Uts,
}

/// A container's part in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It is the pod.
    Itself(Pod),
    /// It belongs to this one.
    Member(ContainerId),
    /// It is to belong to this one, as the user wrote it, but for the namespaces that were chosen otherwise.
    Asked {
        /// Name or id.
        pod: String,
        /// Those.
        chosen: Vec<Kind>,
    },
}

/// `ipc,net,uts`, `none`, or `+pid` beside those three.
pub fn parse_share(text: &str) -> Result<Vec<Kind>> {
    let (mut share, names) = match text.strip_prefix('+') {
        Some(more) => (DEFAULT.to_vec(), more),
        None => (Vec::new(), text),
    };
    for name in names.split(',').filter(|name| !matches!(*name, "" | "none")) {
        share.push(match name {
            "ipc" => Kind::Ipc,
            "net" => Kind::Net,
            "pid" => Kind::Pid,
            "uts" => Kind::Uts,
            // Always so.
            "user" => continue,
            "cgroup" => bail!("each container has a control group of its own"),
            _ => bail!("there is no namespace {name:?}"),
        });
    }
    share.sort();
    share.dedup();
    Ok(share)
}

/// As podman-pod-create(1) has it.
pub const DEFAULT: [Kind; 3] = [Kind::Ipc, Kind::Net, Kind::Uts];

impl Kind {
    /// As `--share` spells it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Ipc => "ipc",
            Kind::Net => "net",
            Kind::Pid => "pid",
            Kind::Uts => "uts",
        }
    }
}

/// The pod that `given` names.
///
/// # Errors
/// There is none, with exit status 1 (podman-pod-rm(1), "Exit Status"): the words are Podman's.
pub fn find(store: &Store, given: &str) -> Result<Container> {
    let found = match find::lookup(store, given)? {
        Some(dir) => Container::read(dir)?,
        None => None,
    };
    let pod = found.filter(|container| container.record.pod.is_some());
    pod.ok_or_else(|| anyhow!("no pod with name or ID {given} found: no such pod"))
        .hint("`ctr pod ls` lists all pods")
        .status(1)
}

/// A pod and its members.
pub type Together = (Container, Vec<Container>);

/// Every pod with its members, newest first; and what could not be read.
pub fn list(store: &Store) -> Result<(Vec<Together>, Vec<anyhow::Error>)> {
    let (all, damaged) = state::list(store)?;
    let (pods, others): (Vec<Container>, Vec<Container>) =
        all.into_iter().partition(|container| container.record.pod.is_some());
    let mut pods: Vec<_> = pods.into_iter().map(|pod| (pod, Vec::new())).collect();
    for container in others {
        let of = |(pod, _): &&mut Together| container.record.member_of.as_ref() == Some(&pod.record.id);
        if let Some((_, members)) = pods.iter_mut().find(of) {
            members.push(container);
        }
    }
    Ok((pods, damaged))
}

/// The members of one.
pub fn members(store: &Store, id: &ContainerId) -> Result<Vec<Container>> {
    let (all, _) = state::list(store)?;
    Ok(all.into_iter().filter(|container| container.record.member_of.as_ref() == Some(id)).collect())
}

/// The pod `id`, if it is to end because none of its members runs any more.
pub fn left_alone(store: &Store, id: &ContainerId) -> Option<ContainerDir> {
    let dir = store.container(id);
    let ends = Record::read(&dir).ok()??.pod?.ends_with_members;
    let lives = |member: &Container| {
        member.status.process().is_some() || matches!(member.status, Status::Restarting(_))
    };
    (ends && !members(store, id).ok()?.iter().any(lives)).then_some(dir)
}

/// Let a new container have what `pod` shares, where `sharing` is nobody's choice: `chosen` says of which kinds it is.
pub fn join(sharing: &mut Sharing, pod: &Container, chosen: impl Fn(Kind) -> bool) {
    let share = pod.record.pod.as_ref().map(|pod| pod.share.as_slice()).unwrap_or_default();
    for kind in share.iter().copied().filter(|kind| !chosen(*kind)) {
        let whose = match kind {
            Kind::Ipc => &mut sharing.ipc,
            Kind::Net => &mut sharing.network,
            Kind::Pid => &mut sharing.pid,
            Kind::Uts => &mut sharing.uts,
        };
        *whose = Whose::Container(pod.record.id.as_str().to_owned());
    }
}

/// podman-pod-ps(1), "status".
pub fn status(pod: &Container, members: &[Container]) -> &'static str {
    let words: Vec<&str> = members.iter().chain([pod]).map(|container| container.status.word()).collect();
    let all = |word: &str| words.iter().all(|one| *one == word);
    let any = |word: &str| words.contains(&word);
    match &pod.status {
        _ if all("running") => "Running",
        _ if all("paused") => "Paused",
        _ if all("created") => "Created",
        Status::Exited(_) if all("exited") => "Exited",
        _ if any("running") => "Degraded",
        _ => "Stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared() {
        use Kind::{Ipc, Net, Pid, Uts};
        for (text, expected) in [
            ("", &[][..]),
            ("none", &[]),
            ("ipc,net,uts", &[Ipc, Net, Uts]),
            ("pid,user,pid", &[Pid]),
            ("+pid", &[Ipc, Net, Pid, Uts]),
        ] {
            assert_eq!(parse_share(text).unwrap(), expected, "{text}");
        }
        for bad in ["x", "cgroup", "ipc net", "+x"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
    }
}
