//! `ctr system df`: what the store takes on the disk, as du(1) counts it (podman-system-df(1)).

use super::{
    Globals, answer, images, output,
    run_args::takes_a_truth_value,
    template::{Columns, Format},
};
use crate::{
    container::state::{self, Container, Status},
    error::Explain,
    storage::{Accounts, ContainerId, Digest, Image, Store, VolumeName},
};
use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// `json` or a Go template
    #[arg(long)]
    format: Option<Format>,
    /// Each image, container and volume
    #[arg(short, long)]
    verbose: bool,
}

const ROW: &str = r"{{.Type}}\t{{.Total}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const IMAGES: [&str; 8] =
    ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"];
const CONTAINERS: [&str; 8] =
    ["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"];

/// Print it.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    if args.verbose && args.format.is_some() {
        return Err(anyhow!("cannot combine --format and --verbose flags")).hint("leave one of them away");
    }
    let store = globals.store()?;
    let found = Found::look(&store)?;
    if args.verbose {
        return output::print(&found.each()).map(|()| 0);
    }
    let format = args.format.clone().unwrap_or_default();
    format.print(&found.sums(), &Columns { row: ROW, headings: &[], noheading: false })?;
    Ok(0)
}

struct Found {
    accounts: Accounts,
    images: Vec<Image>,
    containers: Vec<Container>,
    /// Who uses each volume.
    users: HashMap<VolumeName, Vec<ContainerId>>,
}

/// A part of the store, by its name there: layer or blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Layer(Digest),
    Blob(Digest),
}

impl Found {
    fn look(store: &Store) -> Result<Found> {
        let accounts = answer::ask(|| store.measure())?;
        let (containers, users) = (state::list(store)?.0, store.volume_users()?);
        Ok(Found { accounts, images: store.images()?, containers, users })
    }

    fn sums(&self) -> Vec<Value> {
        let ids: BTreeSet<Digest> = self.images.iter().map(|image| image.config).collect();
        let used: BTreeSet<Digest> = self
            .containers
            .iter()
            .filter_map(|container| container.record.image_id)
            .filter(|id| ids.contains(id))
            .collect();
        let images = self.accounts.of_images();
        let kept = self.parts().into_iter().filter(|(_, by)| !by.is_disjoint(&used));
        let kept: u64 = kept.map(|(part, _)| self.size(part)).sum();
        let (running, at_rest): (Vec<&Container>, Vec<_>) = self
            .containers
            .iter()
            .partition(|container| !matches!(container.status, Status::Created | Status::Exited(_)));
        let containers = self.accounts.of_containers();
        let idle = at_rest.iter().map(|container| self.container(container)).sum();
        // A layer that only a container keeps is no image's.
        let unused = if used.is_empty() { images } else { images - kept.min(images) };
        vec![
            sum("Images", ids.len(), used.len(), images, unused),
            sum("Containers", self.containers.len(), running.len(), containers, idle),
            self.volumes(),
        ]
    }

    fn volumes(&self) -> Value {
        let volumes = &self.accounts.volumes;
        let (used, idle): (Vec<_>, Vec<_>) = volumes.iter().partition(|(name, _)| self.links(name) > 0);
        let idle = idle.iter().map(|(_, size)| **size).sum();
        sum("Local Volumes", volumes.len(), used.len(), self.accounts.of_volumes(), idle)
    }

    /// Containers that use volume `name`.
    fn links(&self, name: &str) -> usize {
        let users = name.parse::<VolumeName>().ok().and_then(|name| self.users.get(&name));
        users.map_or(0, Vec::len)
    }

    /// Every part of every image, and the images that need it.
    fn parts(&self) -> BTreeMap<Part, BTreeSet<Digest>> {
        let mut parts: BTreeMap<Part, BTreeSet<Digest>> = BTreeMap::new();
        for image in &self.images {
            let blobs = [&image.manifest, &image.config].into_iter().chain(&image.index).chain(&image.blobs);
            let blobs = blobs.map(|digest| Part::Blob(*digest));
            for part in image.layers.iter().map(|layer| Part::Layer(*layer)).chain(blobs) {
                parts.entry(part).or_default().insert(image.config);
            }
        }
        parts
    }

    fn size(&self, part: Part) -> u64 {
        let size = match part {
            Part::Layer(digest) => self.accounts.layers.get(&digest.hex()),
            Part::Blob(digest) => self.accounts.blobs.get(&digest.hex()),
        };
        size.copied().unwrap_or(0)
    }

    fn container(&self, container: &Container) -> u64 {
        self.accounts.containers.get(container.dir.id().as_str()).copied().unwrap_or(0)
    }

    fn each(&self) -> String {
        let parts = self.parts();
        let image = |image: &Image| {
            let of_it = |(part, by): (&Part, &BTreeSet<Digest>)| {
                by.contains(&image.config).then(|| (self.size(*part), by.len() > 1))
            };
            let (shared, unique): (Vec<_>, Vec<_>) =
                parts.iter().filter_map(of_it).partition(|(_, shared)| *shared);
            let total = |parts: &[(u64, bool)]| parts.iter().map(|(size, _)| size).sum::<u64>();
            let (shared, unique) = (total(&shared), total(&unique));
            let (repository, tag) = images::split(&image.reference);
            let users = self.containers.iter().filter(|c| c.record.image_id == Some(image.config)).count();
            vec![
                repository.to_owned(),
                tag.to_owned(),
                image.config.short(),
                output::since(image.created.unwrap_or(image.pulled)),
                output::short_size(shared + unique),
                output::short_size(shared),
                output::short_size(unique),
                users.to_string(),
            ]
        };
        let container = |container: &Container| {
            let record = &container.record;
            vec![
                record.id.short().to_owned(),
                record.image_id.map(|id| id.short()).unwrap_or_default(),
                output::clip(&record.args.join(" "), 17),
                self.users.values().filter(|users| users.contains(&record.id)).count().to_string(),
                output::short_size(self.container(container)),
                output::since(record.created),
                container.status.word().to_owned(),
                record.name.to_string(),
            ]
        };
        let images = output::table(&IMAGES, &self.images.iter().map(image).collect::<Vec<_>>());
        let containers =
            output::table(&CONTAINERS, &self.containers.iter().map(container).collect::<Vec<_>>());
        let volume = |(name, size): (&String, &u64)| {
            vec![name.clone(), self.links(name).to_string(), output::short_size(*size)]
        };
        let volumes: Vec<_> = self.accounts.volumes.iter().map(volume).collect();
        let volumes = output::table(&["VOLUME NAME", "LINKS", "SIZE"], &volumes);
        format!(
            "Images space usage:\n\n{images}\nContainers space usage:\n\n{containers}\nLocal Volumes space usage:\n\n{volumes}"
        )
    }
}

fn sum(kind: &str, total: usize, active: usize, size: u64, reclaimable: u64) -> Value {
    let percent = if size == 0 { 0.0 } else { 100.0 * reclaimable as f64 / size as f64 };
    json!({
        "Type": kind,
        "Total": total,
        "Active": active,
        "Size": output::short_size(size),
        "Reclaimable": format!("{} ({percent:.0}%)", output::short_size(reclaimable)),
        "RawSize": size,
        "RawReclaimable": reclaimable,
        "TotalCount": total,
    })
}
