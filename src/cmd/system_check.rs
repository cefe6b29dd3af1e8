//! `ctr system check`: damage in the store, found and mended (podman-system-check(1)). Beyond Podman, a layer that its blob
//! gives again is put in the place of the damaged one, so that its image need not go.

use super::{
    Globals, answer, image_entry, output, report, rm,
    rmi::{self, How},
    run_args::takes_a_truth_value,
};
use crate::{
    container::{
        files::{image_mounts, mounts},
        state::Container,
    },
    error::Explain,
    storage::{Digest, Findings, Store, Thoroughness},
};
use anyhow::{Context, Result, anyhow};
use jiff::SignedDuration;
use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// Repair, and remove damaged containers, and damaged images together with their containers
    #[arg(short, long)]
    force: bool,
    /// What nothing uses counts as damage after so long
    #[arg(short, long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    max: Duration,
    /// Read no layer
    #[arg(short, long)]
    quick: bool,
    /// Mend damaged layers, and remove damaged images that no container uses
    #[arg(short, long)]
    repair: bool,
}

/// Print what is damaged, and what became of it.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let repair = args.repair || args.force;
    let findings = look(&store, args, repair)?;
    print(&findings)?;
    if !findings.any() {
        return Ok(0);
    }
    if !repair {
        return Err(anyhow!("damage detected in local storage")).hint(
            "`ctr system check --repair` mends what it can and removes damaged images that nobody uses",
        );
    }
    mend(&store, &findings, args.force)?;
    if look(&store, args, false)?.any() {
        return Err(anyhow!("damage in local storage still present after repair attempt"))
            .hint("`ctr system check --force` removes what is damaged, with its containers");
    }
    Ok(0)
}

fn look(store: &Store, args: &Args, repair: bool) -> Result<Findings> {
    let how = Thoroughness { quick: args.quick, repair, max_age: args.max, mounted: mounted(store)? };
    let mut findings = answer::ask(|| store.check(&how))?;
    for id in store.containers()? {
        if let Err(error) = Container::read(store.container(&id)) {
            findings.containers.entry(id.to_string()).or_default().push(format!("{error:#}"));
        }
    }
    Ok(findings)
}

/// Layers that root has mounted somewhere.
fn mounted(store: &Store) -> Result<HashSet<Digest>> {
    let images: HashSet<Digest> = image_mounts::list(store)?.into_iter().map(|(id, _)| id).collect();
    let images = store.images()?.into_iter().filter(|image| images.contains(&image.config));
    let containers = mounts::list(store)?;
    let containers = containers.iter().flat_map(|(id, _)| store.container(id).layers().unwrap_or_default());
    Ok(images.flat_map(|image| image.layers).chain(containers).collect())
}

fn mend(store: &Store, findings: &Findings, force: bool) -> Result<()> {
    for record in store.list_images()?.damaged {
        if store.untag_file(&record.file)? {
            output::line(format_args!("Deleted damaged image: {}", record.file.to_string_lossy()))?;
        }
    }
    for id in findings.containers.keys().filter(|_| force) {
        let id = id.parse().with_context(|| format!("remove container {id}"))?;
        match rm::remove(store, &store.container(&id), true, false) {
            Err(failure) => report(&failure),
            Ok(()) => output::line(format_args!("Deleted damaged container: {id}"))?,
        }
    }
    let mut all = image_entry::all(store)?;
    for id in findings.images.keys() {
        let id: Digest = format!("sha256:{id}").parse()?;
        let how = How { force, no_prune: true };
        let told =
            |removed: rmi::Removed| output::line(format_args!("Deleted damaged image: {}", removed.id.hex()));
        if let Err(failure) = rmi::remove(store, &mut all, &id, how, &mut { told }) {
            report(&failure);
        }
    }
    rmi::collect(store)?;
    findings.orphans.iter().try_for_each(|path| match path.strip_prefix("layers/") {
        Some(layer) => output::line(format_args!("Deleted damaged layer: {layer}")),
        None => output::line(format_args!("Deleted: {path}")),
    })
}

fn print(findings: &Findings) -> Result<()> {
    let Findings { layers, repaired, images, records, containers, orphans } = findings;
    let list = |what: &str, damaged: &BTreeMap<String, Vec<String>>| {
        damaged.iter().try_for_each(|(id, errors)| tell(what, id, errors))
    };
    list("layer", layers)?;
    for path in orphans {
        match path.strip_prefix("layers/") {
            Some(layer) => tell("layer", layer, &["no image and no container uses it".to_owned()])?,
            None => output::line(format_args!("Unused: {}", output::printable(path)))?,
        }
    }
    repaired.iter().try_for_each(|layer| output::line(format_args!("Repaired layer: {layer}")))?;
    list("image", images)?;
    list("image", records)?;
    list("container", containers)
}

/// As Podman prints lists of errors.
fn tell(what: &str, id: &str, errors: &[String]) -> Result<()> {
    let count = if errors.len() == 1 { "1 error".to_owned() } else { format!("{} errors", errors.len()) };
    let errors: String = errors.iter().map(|error| format!("\t* {}\n", output::printable(error))).collect();
    output::line(format_args!("Damaged {what} {}:\n{count} occurred:\n{errors}", output::printable(id)))
}

fn duration(text: &str) -> Result<Duration> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.with_context(|| format!("{text:?} is no duration: write 10m or 1h30m"))
}
