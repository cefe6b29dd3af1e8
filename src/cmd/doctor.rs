//! `ctr doctor`: of each ladder the rung that this user stands on here, why it is no higher one, and the one command that
//! reaches the next.

use super::{Globals, StorageDriver, output, template::Format};
use crate::{
    cgroups::{self, Choice, Place},
    container::{
        fuse,
        rootfs::{FUSE, OVERLAY, PLAIN},
    },
    error,
    namespaces::{self, Mapping, probe, run_inside},
    network,
    storage::Store,
};
use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value, json};

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
    let found = [
        ids(&mapping, tried(run_inside(&mapping, || Ok(())))),
        storage(&store, &mapping, globals.storage_driver()?),
        proc(tried(probe::proc(&mapping))),
        network(network::missing()),
        control_groups(cgroups::find(Choice::Enabled, None)),
    ];
    match &args.format {
        Some(format) => {
            let found: Map<String, Value> =
                found.into_iter().map(|found| (found.ladder.to_owned(), json!(found))).collect();
            format.print_one(&Value::Object(found), output::yaml)?;
        }
        None => {
            for Finding { ladder, rung, rungs, why, next } in found {
                output::line(format_args!("{ladder:9} {rung}"))?;
                for (word, text) in [("why", why), ("next", next)] {
                    text.map_or(Ok(()), |text| output::line(format_args!("{:9}   {word}: {text}", "")))?;
                }
                output::line(format_args!("{:9}   of: {}", "", rungs.join(", ")))?;
            }
        }
    }
    Ok(0)
}

/// One ladder.
#[derive(Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What it is about.
    #[serde(skip)]
    ladder: &'static str,
    /// Where we stand.
    pub rung: String,
    /// All that there are, best first.
    rungs: &'static [&'static str],
    /// Why not higher.
    pub why: Option<String>,
    /// What gets there.
    pub next: Option<String>,
}

/// What failed, and what mends it.
type Tried = Result<(), (String, Option<String>)>;

fn tried(outcome: Result<()>) -> Tried {
    outcome.map_err(|failure| (format!("{failure:#}"), error::hint(&failure).map(str::to_owned)))
}

fn finding(ladder: &'static str, rungs: &'static [&'static str], rung: &str) -> Finding {
    Finding { ladder, rung: rung.to_owned(), rungs, why: None, next: None }
}

fn ids(mapping: &Mapping, namespace: Tried) -> Finding {
    let rungs = &["root", "ranges", "single", "none"];
    if let Err((why, next)) = namespace {
        let next = next.unwrap_or_else(namespaces::mend);
        return Finding { why: Some(why), next: Some(next), ..finding("mapping", rungs, "none") };
    }
    match mapping {
        Mapping::Root => finding("mapping", rungs, "root"),
        Mapping::Ranges { .. } => finding("mapping", rungs, "ranges"),
        Mapping::Single { why, .. } => {
            let next = "sudo apt install uidmap; sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER";
            Finding {
                why: Some(why.clone()),
                next: Some(next.to_owned()),
                ..finding("mapping", rungs, "single")
            }
        }
    }
}

/// The driver that a container gets here.
pub fn storage(store: &Store, mapping: &Mapping, asked: Option<StorageDriver>) -> Finding {
    let overlay = tried(store.probe_overlay(mapping));
    let fuse = tried(fuse::probe().map(drop));
    choose_storage(asked.map(StorageDriver::word), overlay, fuse, || store.probe_clone())
}

fn choose_storage(
    asked: Option<&str>,
    overlay: Tried,
    fuse: Tried,
    clones: impl FnOnce() -> bool,
) -> Finding {
    let rungs = &[OVERLAY, FUSE, PLAIN];
    if let Some(asked) = asked {
        return Finding { why: Some("it was asked for".to_owned()), ..finding("storage", rungs, asked) };
    }
    let Err((no_overlay, _)) = overlay else { return finding("storage", rungs, OVERLAY) };
    let next =
        "--root DIR, on ext4, xfs, btrfs or tmpfs and not in an overlay, as a volume is; and Linux 5.11";
    match fuse {
        Ok(()) => {
            Finding { why: Some(no_overlay), next: Some(next.to_owned()), ..finding("storage", rungs, FUSE) }
        }
        Err((no_fuse, next)) => Finding {
            why: Some(format!(
                "{no_overlay}; {no_fuse}; each container gets {} of its image",
                if clones() { "a clone" } else { "a copy" }
            )),
            next,
            ..finding("storage", rungs, PLAIN)
        },
    }
}

fn proc(own: Tried) -> Finding {
    let rungs = &["own", "outer"];
    match own {
        Ok(()) => finding("proc", rungs, "own"),
        Err((why, _)) => Finding {
            why: Some(format!("{why}: containers see the one that is here, with what covers it")),
            next: Some(
                "start the outer container with --privileged, or in Podman with --security-opt unmask=ALL"
                    .to_owned(),
            ),
            ..finding("proc", rungs, "outer")
        },
    }
}

fn network(missing: Option<String>) -> Finding {
    let rungs = &["private", "none"];
    let rung = if missing.is_none() { "private" } else { "none" };
    let next = missing.as_ref().map(|_| {
        "sudo modprobe tun && sudo chmod 0666 /dev/net/tun; in a container: --device /dev/net/tun".to_owned()
    });
    Finding { why: missing, next, ..finding("network", rungs, rung) }
}

fn control_groups(place: Result<Place>) -> Finding {
    let rungs = &["delegated", "systemd", "none"];
    let none = |why: String| Finding {
        why: Some(why),
        next: Some(match cgroups::is_version_2() {
            true => "systemd-run --user --scope -p Delegate=yes $SHELL".to_owned(),
            false => "boot with systemd.unified_cgroup_hierarchy=1".to_owned(),
        }),
        ..finding("cgroups", rungs, "none")
    };
    match place {
        Ok(Place::Below(_)) => finding("cgroups", rungs, "delegated"),
        Ok(Place::Scope(_)) => finding("cgroups", rungs, "systemd"),
        Ok(Place::Nowhere(why)) => none(why.to_string()),
        Err(failure) => none(format!("{failure:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no(why: &str) -> Tried {
        Err((why.to_owned(), Some(format!("mend {why}"))))
    }

    #[test]
    fn the_best_storage_that_works() {
        let rung = |overlay, fuse, clones| {
            let found = choose_storage(None, overlay, fuse, || clones);
            (found.rung, found.why.unwrap_or_default(), found.next.unwrap_or_default())
        };
        assert_eq!(rung(Ok(()), no("f"), false), (OVERLAY.to_owned(), String::new(), String::new()));
        let (found, why, next) = rung(no("o"), Ok(()), false);
        assert!(found == FUSE && why == "o" && next.contains("--root"), "{found} {why} {next}");
        let (found, why, next) = rung(no("o"), no("f"), true);
        assert!(found == PLAIN && why.starts_with("o; f; ") && why.contains("clone") && next == "mend f");
        assert_eq!(choose_storage(Some(PLAIN), Ok(()), Ok(()), || true).rung, PLAIN);
    }

    #[test]
    fn what_is_missing_is_said_with_what_mends_it() {
        let single = Mapping::Single { why: "nobody".to_owned(), inside: (0, 0) };
        for (found, rung) in [
            (ids(&single, Ok(())), "single"),
            (ids(&single, no("refused")), "none"),
            (proc(no("covered")), "outer"),
            (network(Some("no device".to_owned())), "none"),
            (control_groups(Err(anyhow::anyhow!("no group"))), "none"),
        ] {
            assert_eq!(found.rung, rung);
            assert!(found.why.is_some() && found.next.is_some(), "{found:?}");
            assert!(found.rungs.contains(&rung), "{found:?}");
        }
        assert_eq!(proc(Ok(())), finding("proc", &["own", "outer"], "own"));
    }
}
