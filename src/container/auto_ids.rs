//! `--userns=auto`: ids of the host that no other container has (podman-run(1)).

use super::{
    create::Base,
    state,
    users::{self, UserSpec, Who},
};
use crate::{
    error::Explain,
    namespaces::{
        IdMaps, Mapping,
        idmap::{self, Entry},
        subid::Owner,
        user::IdRange,
    },
    storage::Store,
};
use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, open};
use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
};

/// The maps of a new container over `base` that runs as `user`: `size` ids, or as many as its files of users name; `entries` are
/// to be part of them. The caller holds [`Store::lock_ids`] until the container is recorded.
///
/// # Errors
/// Nobody has subordinate ids, or not enough are left.
pub fn choose(
    store: &Store,
    base: &Base,
    user: Option<&UserSpec>,
    own: &Mapping,
    size: Option<u32>,
    entries: &[Entry],
) -> Result<IdMaps> {
    let default = own.maps();
    let pool = match own.is_rootless() {
        true => IdMaps { uids: default.uids[1..].to_vec(), gids: default.gids[1..].to_vec() },
        false => {
            let of = |file: &str| Owner::named("containers").ranges(Path::new(file), u32::MAX);
            let both = || {
                Ok(IdMaps { uids: of("/etc/subuid")?[1..].to_vec(), gids: of("/etc/subgid")?[1..].to_vec() })
            };
            both().map_err(|e: anyhow::Error| e).hint(
                "`echo containers:2147483647:2147483648 | sudo tee -a /etc/subuid /etc/subgid` gives containers ids of their own",
            )?
        }
    };
    let taken: Vec<IdMaps> = state::list(store)?
        .0
        .into_iter()
        .filter(|container| container.record.userns == "auto")
        .filter_map(|container| container.record.ids)
        .collect();
    let size = size.unwrap_or_else(|| {
        let (passwd, group) = files(store, base);
        let of = |who: Option<&Who>| match who {
            Some(Who::Id(id)) => *id,
            _ => 0,
        };
        let named = of(user.map(|user| &user.user)).max(of(user.and_then(|user| user.group.as_ref())));
        // 65534 is nobody's: Podman leaves it out, too.
        let found = passwd.lines().chain(group.lines()).filter(|line| !line.contains(":65534:"));
        let found = found.map(|line| format!("{line}\n")).collect::<String>();
        users::largest_id(&found, &found).max(named).saturating_add(1).max(LEAST)
    });
    let forced = |users: bool, own: &[IdRange]| {
        let entries = entries.iter().filter(|entry| if users { entry.uids } else { entry.gids });
        let entries = entries.copied().collect::<Vec<_>>();
        let option = if users { "uidmapping" } else { "gidmapping" };
        idmap::apply(&entries, own).with_context(|| format!("--userns=auto:{option}"))
    };
    let pick = |pool: &[IdRange], of: fn(&IdMaps) -> &Vec<IdRange>, forced: Vec<IdRange>| {
        let taken = taken.iter().flat_map(|maps| of(maps).clone()).collect::<Vec<_>>();
        idmap::allocate(pool, &taken, size, &forced)
    };
    let both = || {
        Ok(IdMaps {
            uids: pick(&pool.uids, |maps| &maps.uids, forced(true, &default.uids)?)?,
            gids: pick(&pool.gids, |maps| &maps.gids, forced(false, &default.gids)?)?,
        })
    };
    both()
        .map_err(|e: anyhow::Error| e.context("--userns=auto"))
        .hint("choose fewer with --userns=auto:size=1024, or `ctr rm` containers that have some")
}

/// Podman's, where nothing asks for more.
const LEAST: u32 = 1024;

/// /etc/passwd and /etc/group of `base`, as far as they can be read before anything is mounted.
fn files(store: &Store, base: &Base) -> (String, String) {
    let places: Vec<PathBuf> = match base {
        Base::Image(image, _) => image.layers.iter().rev().map(|layer| store.layer_path(layer)).collect(),
        Base::Rootfs(rootfs) => vec![rootfs.dir.clone()],
        Base::Nothing => Vec::new(),
    };
    let find = |path: &str| {
        places.iter().find_map(|place| {
            let root = open(place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
            users::read_below(root.as_fd(), path).ok().filter(|text| !text.is_empty())
        })
    };
    (find("etc/passwd").unwrap_or_default(), find("etc/group").unwrap_or_default())
}
