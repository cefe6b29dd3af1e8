//! `ctr info`: what this machine offers to this user, and what would mend what it lacks.

use super::{Globals, StorageDriver, doctor, output, template::Format, version};
use crate::{
    cgroups::{self, Place},
    container::state::{self, Status},
    namespaces::{self, Mapping, run_inside, user::IdRange},
    storage::Store,
};
use anyhow::Result;
use rustix::system::uname;
use serde_json::{Value, json};
use std::{fs, path::Path};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// `json` or a Go template
    #[arg(short, long)]
    format: Option<Format>,
}

/// Print it.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let mapping = Mapping::detect();
    let info = json!({
        "host": host(&mapping),
        "store": stored(&store, &mapping, globals.storage_driver()?)?,
        "version": {"Version": env!("CARGO_PKG_VERSION"), "OsArch": format!("linux/{}", version::architecture())},
    });
    args.format.clone().unwrap_or_default().print_one(&info, output::yaml)?;
    Ok(0)
}

fn host(mapping: &Mapping) -> Value {
    let system = uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    json!({
        "arch": version::architecture(),
        "os": "linux",
        "kernel": text(system.release()),
        "hostname": text(system.nodename()),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "cgroupVersion": if cgroups::is_version_2() { "v2" } else { "v1" },
        "cgroupManager": match cgroups::find(cgroups::Choice::Enabled, None) {
            Ok(Place::Below(group)) => format!("cgroupfs: below {}", group.path()),
            Ok(Place::Scope(socket)) => format!("systemd: scopes by way of {}", socket.display()),
            Ok(Place::Nowhere(why)) => format!("none: {why}"),
            Err(failure) => format!("none: {failure:#}"),
        },
        "idMappings": id_mappings(mapping),
        "security": {
            "rootless": mapping.is_rootless(),
            "userNamespaces": user_namespaces(mapping),
            "seccompEnabled": Path::new("/proc/sys/kernel/seccomp").exists(),
            "apparmorEnabled": read("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
            "selinuxEnabled": Path::new("/sys/fs/selinux/enforce").exists(),
        },
        "helpers": {
            "newuidmap": helper("newuidmap", "uidmap", "containers have one user id"),
            "newgidmap": helper("newgidmap", "uidmap", "containers have one group id"),
            "fuse-overlayfs": helper("fuse-overlayfs", "fuse-overlayfs", "needed only where the kernel refuses overlay"),
            "pasta": helper("pasta", "passt", "needed only for --network=pasta"),
        },
    })
}

fn id_mappings(mapping: &Mapping) -> Value {
    let ranges = |ranges: &[IdRange]| -> Value {
        ranges.iter().map(|r| json!({"container_id": r.inside, "host_id": r.host, "size": r.count})).collect()
    };
    match mapping {
        Mapping::Root => json!({"kind": "root"}),
        Mapping::Ranges { uids, gids, .. } => {
            json!({"kind": "ranges", "uidmap": ranges(uids), "gidmap": ranges(gids)})
        }
        Mapping::Single { why, .. } => json!({
            "kind": "single",
            "why": why,
            "hint": "`sudo apt install uidmap; sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER`",
        }),
    }
}

fn user_namespaces(mapping: &Mapping) -> Value {
    if !mapping.is_rootless() {
        return json!("not needed");
    }
    match run_inside(mapping, || Ok(())) {
        Ok(()) => json!("work"),
        Err(e) => {
            json!({"error": format!("{e:#}"), "hint": crate::error::hint(&e).map_or_else(namespaces::mend, str::to_owned)})
        }
    }
}

fn helper(name: &str, package: &str, without: &str) -> Value {
    match crate::sys::path::find(name) {
        Some(file) => json!(file),
        None => json!({"missing": without, "hint": format!("sudo apt install {package}")}),
    }
}

fn stored(store: &Store, mapping: &Mapping, asked: Option<StorageDriver>) -> Result<Value> {
    let (containers, damaged) = state::list(store)?;
    let count = |what: fn(&Status) -> bool| containers.iter().filter(|c| what(&c.status)).count();
    let dirs = store.dirs();
    Ok(json!({
        "graphRoot": dirs.data,
        "runRoot": dirs.runtime,
        "configDir": dirs.config,
        "cacheDir": dirs.cache,
        "driver": driver(store, mapping, asked),
        "otherMappings": other_mappings(store, mapping),
        "imageStore": {"number": store.images()?.len()},
        "containerStore": {
            "number": containers.len(),
            "running": count(|s| s.word() == "running"),
            "stopped": count(|s| s.word() == "exited"),
            "damaged": damaged.len(),
        },
    }))
}

fn driver(store: &Store, mapping: &Mapping, asked: Option<StorageDriver>) -> Value {
    let found = doctor::storage(store, mapping, asked);
    let mut driver = json!({"name": found.rung});
    for (key, text) in [("why", found.why), ("hint", found.next)] {
        text.into_iter().for_each(|text| driver[key] = json!(text));
    }
    driver
}

/// How an image is shown to containers with `--userns` or `--uidmap`.
fn other_mappings(store: &Store, mapping: &Mapping) -> Value {
    match mapping {
        Mapping::Root => json!({"name": "idmapped mounts", "needs": "Linux 5.19"}),
        Mapping::Single { .. } => json!({"name": "none", "why": "there is one user id only"}),
        Mapping::Ranges { .. } => match store.probe_views(mapping) {
            Ok(()) => json!({"name": "data-only layers"}),
            Err(e) => json!({
                "name": "one copy of the image for each mapping",
                "why": format!("{e:#}"),
                "hint": "Linux 6.16 or later needs no copies; a file system with reflinks (btrfs, xfs) makes them free",
            }),
        },
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
