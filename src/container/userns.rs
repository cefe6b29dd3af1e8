//! `--userns`, `--uidmap`, `--gidmap` and `--subuidname`: from what was asked for to the maps of one container
//! (podman-run(1)).

use super::{
    auto_ids,
    create::Base,
    entries::HostUser,
    record::Record,
    users::{self, UserSpec, Who},
};
use crate::{
    error::{Explain, OURS},
    namespaces::{
        IdMaps, Mapping,
        idmap::{self, Entry},
        subid::Owner,
        user::IdRange,
    },
    storage::{ContainerId, IdsLock, Store},
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{getgid, getuid};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Which user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Userns {
    /// The default one: rootless, the user as 0 and the subordinate ids after it; root has none.
    #[default]
    Host,
    /// The user as itself.
    KeepId {
        /// As this user instead.
        uid: Option<u32>,
        /// As this group instead.
        gid: Option<u32>,
        /// So many ids.
        size: Option<u32>,
    },
    /// Without the user.
    NoMap,
    /// Ids that no other container has.
    Auto {
        /// How many.
        size: Option<u32>,
        /// These are to be part of it.
        entries: Vec<Entry>,
    },
    /// That of a running container.
    Container(String),
    /// One that is there.
    Path(PathBuf),
    /// As `--uidmap` and `--gidmap` say.
    Maps(Vec<Entry>),
    /// The ranges of these names in /etc/subuid and /etc/subgid.
    Names {
        /// In /etc/subuid.
        uids: String,
        /// In /etc/subgid.
        gids: String,
    },
}

/// A namespace that is there already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Join {
    /// Of this container.
    Container(ContainerId),
    /// At this path.
    Path(PathBuf),
}

/// The ids of one container.
#[derive(Debug)]
pub struct Settled {
    /// How they map.
    pub mapping: Mapping,
    /// The user's default mapping: that of what the store holds.
    pub own: Mapping,
    /// Its maps, where they are not the default ones.
    pub maps: Option<IdMaps>,
    /// The namespace, where it is there already.
    pub join: Option<Join>,
    /// As `inspect` shows it.
    pub mode: String,
    /// keep-id: who runs it, unless somebody was named, whatever the image says.
    pub user: Option<UserSpec>,
    /// keep-id: how the container knows that user.
    pub host_user: Option<HostUser>,
    /// Nobody else chooses ids while this lives.
    _lock: Option<IdsLock>,
}

/// `--userns`.
pub fn parse(text: &str) -> Result<Userns> {
    let (mode, rest) = text.split_once(':').map_or((text, None), |(mode, rest)| (mode, Some(rest)));
    let plain = |userns| match rest {
        None => Ok(userns),
        Some(_) => Err(anyhow!("{mode} takes no options")),
    };
    match mode {
        "" | "host" => plain(Userns::Host),
        "nomap" => plain(Userns::NoMap),
        "keep-id" => {
            let (mut uid, mut gid, mut size) = (None, None, None);
            for option in options(rest) {
                let (key, value) = pair(option)?;
                match key {
                    "uid" => uid = Some(id(value)?),
                    "gid" => gid = Some(id(value)?),
                    "size" => size = Some(id(value)?).filter(|size| *size > 0),
                    _ => bail!("keep-id has no option {key:?}; it has uid, gid and size"),
                }
            }
            Ok(Userns::KeepId { uid, gid, size })
        }
        "auto" => {
            let (mut size, mut entries) = (None, Vec::new());
            for option in options(rest) {
                let (key, value) = pair(option)?;
                match key {
                    "size" => size = Some(id(value)?).filter(|size| *size > 0),
                    "uidmapping" => entries.push(Entry { uids: true, gids: false, ..value.parse()? }),
                    "gidmapping" => entries.push(Entry { uids: false, gids: true, ..value.parse()? }),
                    _ => bail!("auto has no option {key:?}; it has size, uidmapping and gidmapping"),
                }
            }
            Ok(Userns::Auto { size, entries })
        }
        "container" => {
            Ok(Userns::Container(rest.filter(|name| !name.is_empty()).context("whose?")?.to_owned()))
        }
        "ns" => {
            let path = rest
                .filter(|path| path.starts_with('/'))
                .context("the path of the namespace is not absolute")?;
            Ok(Userns::Path(path.into()))
        }
        "private" => bail!("private is for pods"),
        _ => bail!("there is no mode {mode:?}"),
    }
}

impl Userns {
    /// The mapping that [`Userns::settle`] is going to choose, where neither the image nor another container has a say in it.
    pub fn foreseen(&self, own: &Mapping) -> Option<Mapping> {
        match self {
            Userns::Host => Some(own.clone()),
            Userns::KeepId { uid, gid, size } => {
                let uid = uid.unwrap_or_else(|| getuid().as_raw());
                let gid = gid.unwrap_or_else(|| getgid().as_raw());
                Some(own.with(&keep(&own.maps(), uid, gid, *size)))
            }
            _ => None,
        }
    }

    /// The ids for a new container over `base`, which runs as `user`. `own`: the user's default mapping.
    ///
    /// # Errors
    /// Ids that the user doesn't have, ids that overlap, a container that doesn't run.
    pub fn settle(
        &self,
        store: &Store,
        base: &Base,
        user: Option<&UserSpec>,
        own: Mapping,
    ) -> Result<Settled> {
        let default = own.maps();
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        let mut settled = Settled {
            mapping: own.clone(),
            own: own.clone(),
            maps: None,
            join: None,
            mode: mode(&own).to_owned(),
            user: None,
            host_user: None,
            _lock: None,
        };
        let root = !own.is_rootless();
        let maps = match self {
            Userns::Host => return Ok(settled),
            Userns::KeepId { uid: as_uid, gid: as_gid, size } => {
                settled.mode = "keep-id".to_owned();
                if root {
                    ensure!(
                        (as_uid, as_gid, size) == (&None, &None, &None),
                        "keep-id has options for rootless users only"
                    );
                    default
                } else {
                    let (uid, gid) = (as_uid.unwrap_or(uid), as_gid.unwrap_or(gid));
                    settled.user = Some(UserSpec { user: Who::Id(uid), group: Some(Who::Id(gid)) });
                    settled.host_user = Some(caller(uid, gid));
                    keep(&default, uid, gid, *size)
                }
            }
            Userns::NoMap if root => {
                return Err(anyhow!("nomap is for rootless users"))
                    .hint("--userns=auto gives a container ids of its own");
            }
            Userns::NoMap => {
                settled.mode = "nomap".to_owned();
                IdMaps { uids: idmap::without_user(&default.uids), gids: idmap::without_user(&default.gids) }
            }
            Userns::Auto { size, entries } => {
                settled.mode = "auto".to_owned();
                settled._lock = Some(store.lock_ids()?);
                auto_ids::choose(store, base, user, &own, *size, entries)?
            }
            Userns::Container(name) => {
                let dir = super::find::find(store, name)
                    .with_context(|| format!("--userns container:{name}"))
                    .status(OURS)?;
                let record =
                    Record::read(&dir)?.ok_or_else(|| anyhow!("container {name} was never finished"))?;
                settled.mode = format!("container:{}", dir.id());
                settled.join = Some(Join::Container(dir.id().clone()));
                match record.ids {
                    Some(maps) => maps,
                    None if root => return Ok(Settled { join: None, ..settled }),
                    None => default,
                }
            }
            Userns::Path(path) => {
                settled.mode = format!("ns:{}", path.display());
                settled.join = Some(Join::Path(path.clone()));
                crate::namespaces::maps_of(path)
                    .with_context(|| format!("look into {}", path.display()))
                    .hint(
                        "name a user namespace that you own, such as /proc/PID/ns/user of a process in it",
                    )?
            }
            Userns::Maps(entries) => {
                settled.mode = "private".to_owned();
                written(entries, &default)?
            }
            Userns::Names { uids, gids } => {
                settled.mode = "private".to_owned();
                let of = |name: &str, file: &str| -> Result<Vec<IdRange>> {
                    let ranges = Owner::named(name).ranges(Path::new(file), u32::MAX).hint(format!(
                        "`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}` adds some"
                    ))?;
                    Ok(idmap::without_user(&ranges))
                };
                IdMaps { uids: of(uids, "/etc/subuid")?, gids: of(gids, "/etc/subgid")? }
            }
        };
        if maps.uids.is_empty() || maps.gids.is_empty() {
            return Err(anyhow!("--userns={}: this needs subordinate ids, and you have none", settled.mode))
                .hint(
                    "`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER` adds some",
                );
        }
        settled.mapping = own.with(&maps);
        settled.maps = (maps != own.maps() || root).then_some(maps);
        let usable =
            settled.mapping.has_caller() || settled.mapping.has_user(0) && settled.mapping.has_group(0);
        if !usable {
            return Err(anyhow!(
                "the container would have neither a user 0 nor you as a user, so nobody could set it up"
            ))
            .hint("map user and group 0, as in --uidmap 0:1:1000");
        }
        Ok(settled)
    }
}

/// As a record names a mapping.
pub fn mode(mapping: &Mapping) -> &'static str {
    match mapping {
        Mapping::Root => "root",
        Mapping::Ranges { .. } => "ranges",
        Mapping::Single { .. } => "single",
    }
}

/// A user of the host, by name or number.
pub fn host_user(text: &str) -> Result<HostUser> {
    let passwd = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let line = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() > 5 && (fields[0] == text || fields[2] == text));
    let fields = line.ok_or_else(|| anyhow!("the host has no user {text}"))?;
    let (uid, gid) = (fields[2].parse()?, fields[3].parse()?);
    Ok(HostUser {
        name: fields[0].to_owned(),
        uid,
        gid,
        gecos: fields[4].to_owned(),
        group: group_of_host(gid),
    })
}

/// keep-id: the user who runs us is `uid` and `gid` there.
fn keep(default: &IdMaps, uid: u32, gid: u32, size: Option<u32>) -> IdMaps {
    IdMaps { uids: idmap::keep(&default.uids, uid, size), gids: idmap::keep(&default.gids, gid, size) }
}

/// The user who runs us, who is `uid` and `gid` in the container.
fn caller(uid: u32, gid: u32) -> HostUser {
    let known = host_user(&getuid().as_raw().to_string()).unwrap_or_else(|_| {
        let name = std::env::var("USER").ok().filter(|name| !name.is_empty());
        let group = group_of_host(getgid().as_raw());
        HostUser { name: name.unwrap_or_else(|| uid.to_string()), uid, gid, gecos: String::new(), group }
    });
    HostUser { uid, gid, group: group_of_host(getgid().as_raw()), ..known }
}

fn group_of_host(gid: u32) -> String {
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    users::group_name(&group, gid).map_or_else(|| gid.to_string(), str::to_owned)
}

fn written(entries: &[Entry], default: &IdMaps) -> Result<IdMaps> {
    let of = |users: bool| {
        entries.iter().filter(|e| if users { e.uids } else { e.gids }).copied().collect::<Vec<_>>()
    };
    let hint = "`ctr info` lists your ids under idMappings; write it as --uidmap CONTAINER:FROM:AMOUNT, FROM counting in them";
    let map = |option: &str, entries: &[Entry], own: &[IdRange]| {
        idmap::apply(entries, own).with_context(|| option.to_owned()).hint(hint)
    };
    Ok(IdMaps {
        uids: map("--uidmap", &of(true), &default.uids)?,
        gids: map("--gidmap", &of(false), &default.gids)?,
    })
}

fn options(rest: Option<&str>) -> impl Iterator<Item = &str> {
    rest.into_iter().flat_map(|rest| rest.split(','))
}

fn pair(option: &str) -> Result<(&str, &str)> {
    option.split_once('=').with_context(|| format!("{option:?} is not NAME=VALUE"))
}

fn id(text: &str) -> Result<u32> {
    match text.parse()? {
        Who::Id(id) => Ok(id),
        Who::Name(_) => bail!("{text:?} is no number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let keep = |uid, gid, size| Userns::KeepId { uid, gid, size };
        for (text, expected) in [
            ("", Userns::Host),
            ("host", Userns::Host),
            ("keep-id", keep(None, None, None)),
            ("keep-id:uid=5,gid=6", keep(Some(5), Some(6), None)),
            ("keep-id:size=70", keep(None, None, Some(70))),
            ("nomap", Userns::NoMap),
            ("auto", Userns::Auto { size: None, entries: vec![] }),
            ("auto:size=8192", Userns::Auto { size: Some(8192), entries: vec![] }),
            ("container:web", Userns::Container("web".into())),
            ("ns:/proc/1/ns/user", Userns::Path("/proc/1/ns/user".into())),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        let Userns::Auto { entries, .. } = parse("auto:uidmapping=0:1000:1,gidmapping=5:6:7").unwrap() else {
            panic!("not auto");
        };
        assert!(entries[0].uids && !entries[0].gids && !entries[1].uids && entries[1].count == 7);
        for bad in [
            "private",
            "keepid",
            "host:x",
            "nomap:x",
            "keep-id:",
            "keep-id:x=1",
            "keep-id:uid=root",
            "keep-id:uid=-1",
            "keep-id:uid",
            "auto:size=x",
            "auto:what=1",
            "auto:uidmapping=0",
            "container:",
            "container",
            "ns:",
            "ns:x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
