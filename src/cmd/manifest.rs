//! `ctr manifest`: lists of images for several platforms, put together here and pushed.

use super::{
    Globals, each, output,
    push::{PushArgs, destination},
    registry_args::RegistryArgs,
    run_args::takes_a_truth_value,
    verbs::Group,
    warn,
};
use crate::{
    error::Explain,
    namespaces::{Mapping, run_inside},
    registry::{Marks, lists},
    storage::{Digest, ManifestList, Store},
};
use anyhow::{Context, Result, anyhow};
use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;

#[derive(Subcommand)]
#[command(defer = true)]
pub enum Verb {
    /// Make a list
    Create(CreateArgs),
    /// Add images to a list
    Add(AddArgs),
    /// Change what a list says of an image
    Annotate(AnnotateArgs),
    /// Take an image out of a list
    Remove(RemoveArgs),
    /// Show a list, of the store or of a registry, as JSON
    Inspect(InspectArgs),
    /// Send a list and its images to a registry
    Push(PushListArgs),
    /// Remove lists
    Rm(RmArgs),
    /// Whether there is such a list: status 0 or 1
    Exists(ExistsArgs),
}

/// Make a list of images
#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct CreateArgs {
    /// All images of each index, not the one for this machine
    #[arg(long)]
    all: bool,
    /// Add to a list that there is
    #[arg(short, long)]
    amend: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Its name
    #[arg(value_name = "LIST")]
    list: String,
    /// What to add
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// Add images to a list
#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct AddArgs {
    /// All images of each index, not the one for this machine
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    marks: MarkArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
    /// What to add; docker:// or containers-storage: in front says from where
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Change what a list says of an image
#[derive(clap::Args, Debug)]
pub struct AnnotateArgs {
    #[command(flatten)]
    marks: MarkArgs,
    /// The features that the operating system has to have
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    os_features: Vec<String>,
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
    /// The digest of its manifest, or its name
    #[arg(value_name = "IMAGE")]
    image: String,
}

// No docs: a verb that flattens it would show them as its own help.
#[derive(clap::Args, Clone, Debug)]
struct MarkArgs {
    /// Annotate its entry
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Its architecture, in place of what it says itself
    #[arg(long)]
    arch: Option<String>,
    /// The features that the processor has to have
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    features: Vec<String>,
    /// Its operating system, in place of what it says itself
    #[arg(long)]
    os: Option<String>,
    /// The version of that
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
    /// The variant of its architecture
    #[arg(long)]
    variant: Option<String>,
}

/// Take an image out of a list
#[derive(clap::Args, Debug)]
pub struct RemoveArgs {
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
    /// The digest of its manifest, or its name
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Show a list as JSON
#[derive(clap::Args, Debug)]
pub struct InspectArgs {
    #[command(flatten)]
    registry: RegistryArgs,
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
}

/// Push a list
#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct PushListArgs {
    /// Its images, too
    #[arg(long, default_value = "true")]
    all: bool,
    /// Remove the list when it is there
    #[arg(long)]
    rm: bool,
    #[command(flatten)]
    how: PushArgs,
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
    /// Where to, when it isn't the list's own name
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

/// Remove lists
#[derive(clap::Args, Debug)]
pub struct RmArgs {
    /// Don't complain about lists that don't exist
    #[arg(short, long)]
    ignore: bool,
    /// The lists
    #[arg(value_name = "LIST", required = true)]
    lists: Vec<String>,
}

/// Whether there is such a list
#[derive(clap::Args, Debug)]
pub struct ExistsArgs {
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
}

/// Do it.
pub fn run(Group { verb }: Group<Verb>, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    match verb {
        Verb::Create(args) => create(&args, &store),
        Verb::Add(args) => add(&args, &store),
        Verb::Annotate(args) => annotate(&args, &store),
        Verb::Remove(args) => remove(&args, &store),
        Verb::Inspect(args) => inspect(&args, &store),
        Verb::Push(args) => push(&args, &store),
        Verb::Rm(args) => rm(&args, &store),
        Verb::Exists(args) => Ok(u8::from(lists::find_list(&store, &args.list)?.is_none())),
    }
}

fn create(args: &CreateArgs, store: &Store) -> Result<u8> {
    let reference = lists::list_reference(&args.list)?;
    let choice = lists::Choice { all: args.all, ..lists::Choice::default() };
    let additions = gather(store, &args.images, &choice, &args.registry)?;
    let list = lists::add(store, &reference, args.amend, additions, &choice.marks)?;
    output::line(list.index.hex()).map(|()| 0)
}

fn add(args: &AddArgs, store: &Store) -> Result<u8> {
    let list = existing(store, &args.list)?;
    let choice = lists::Choice { all: args.all, marks: args.marks.marks(&[])? };
    let additions = gather(store, &args.images, &choice, &args.registry)?;
    let list = lists::add(store, &list.reference, true, additions, &choice.marks)?;
    output::line(list.index.hex()).map(|()| 0)
}

fn gather(
    store: &Store,
    images: &[String],
    choice: &lists::Choice,
    registry: &RegistryArgs,
) -> Result<Vec<lists::Addition>> {
    let options = registry.options()?;
    let mut additions = Vec::new();
    for image in images {
        additions.extend(lists::additions(store, image, choice, &options)?);
    }
    Ok(additions)
}

fn annotate(args: &AnnotateArgs, store: &Store) -> Result<u8> {
    let list = existing(store, &args.list)?;
    let manifest = member(store, &list, &args.image)?;
    let list = lists::annotate(store, &list.reference, &manifest, &args.marks.marks(&args.os_features)?)?;
    output::line(list.index.hex()).map(|()| 0)
}

fn remove(args: &RemoveArgs, store: &Store) -> Result<u8> {
    let list = existing(store, &args.list)?;
    let manifest = member(store, &list, &args.image)?;
    let list = lists::remove(store, &list.reference, &manifest)?;
    output::line(format_args!("{}: {manifest}", list.index.hex())).map(|()| 0)
}

fn inspect(args: &InspectArgs, store: &Store) -> Result<u8> {
    let bytes = match lists::find_list(store, &args.list)? {
        Some(list) => store.read_blob(&list.index, lists::INDEX_LIMIT)?,
        None => lists::remote_manifest(store, &args.list, &args.registry.options()?)?,
    };
    let value: Value = serde_json::from_slice(&bytes).context("read the manifest as JSON")?;
    if !value["manifests"].is_array() {
        warn(&anyhow!("{} is not a list, but a single image", args.list));
    }
    // As Podman: indented by four.
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.serialize(&mut serializer).context("encode the manifest")?;
    output::line(String::from_utf8_lossy(&text)).map(|()| 0)
}

fn push(args: &PushListArgs, store: &Store) -> Result<u8> {
    let options = args.how.options()?;
    let list = existing(store, &args.list)?;
    let destination = destination(args.destination.as_deref(), &list.reference)?;
    args.how.push(store, &lists::parcel(&list, !args.all)?, &destination, &options)?;
    if args.rm {
        store.remove_list(&list.reference)?;
    }
    Ok(0)
}

fn rm(args: &RmArgs, store: &Store) -> Result<u8> {
    let status = each(&args.lists, |name| {
        let Some(list) = lists::find_list(store, name)? else {
            return if args.ignore { Ok(()) } else { Err(missing(name)).hint(MAKE).status(1) };
        };
        forget(store, &list)
    });
    // Inside, as root of the namespace that owns the layers' files.
    run_inside(&Mapping::detect(), || store.collect_garbage().map(drop))?;
    Ok(status)
}

/// Remove `list`, and say so as of an image.
pub fn forget(store: &Store, list: &ManifestList) -> Result<()> {
    store.remove_list(&list.reference)?;
    output::line(format_args!("Untagged: {}", list.reference))?;
    output::line(format_args!("Deleted: {}", list.index.hex()))
}

const MAKE: &str = "`ctr manifest create LIST` makes one";

fn missing(name: &str) -> anyhow::Error {
    anyhow!("there is no manifest list {name:?}")
}

fn existing(store: &Store, name: &str) -> Result<ManifestList> {
    lists::find_list(store, name)?.ok_or_else(|| missing(name)).hint(MAKE)
}

/// The manifest that `name` means: a digest, or an image of the store.
fn member(store: &Store, list: &ManifestList, name: &str) -> Result<Digest> {
    if let Ok(digest) = name.parse() {
        return Ok(digest);
    }
    let image = crate::registry::find(store, store.dirs(), name)?.map(|image| image.manifest);
    image
        .filter(|digest| list.members.iter().any(|member| member.manifest == *digest))
        .ok_or_else(|| anyhow!("{} has no image {name:?}", list.reference))
        .hint(format!("name its digest: ctr manifest inspect {}", list.reference))
}

impl MarkArgs {
    fn marks(&self, os_features: &[String]) -> Result<Marks> {
        let annotation = |text: &String| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(anyhow!("the annotation {text:?} is not of the form KEY=VALUE"))
                .hint("--annotation KEY=VALUE"),
        };
        Ok(Marks {
            architecture: self.arch.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            variant: self.variant.clone(),
            features: self.features.clone(),
            os_features: os_features.to_vec(),
            annotations: self.annotation.iter().map(annotation).collect::<Result<_>>()?,
        })
    }
}
