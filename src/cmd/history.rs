//! `ctr history`: the steps that made an image (podman-history(1)).

use super::{
    Globals, image_entry, images, output,
    run_args::takes_a_truth_value,
    tag,
    template::{Columns, Format},
};
use crate::storage::{Image, Store};
use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Value, json};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// `json` or a Go template
    #[arg(long)]
    format: Option<Format>,
    /// Sizes and times for people [default: true]
    #[arg(short = 'H', long, default_value = "true", hide_default_value = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL", hide_possible_values = true)]
    human: bool,
    /// Whole ids and commands
    #[arg(long, alias = "notruncate")]
    no_trunc: bool,
    /// Nothing but ids
    #[arg(short, long)]
    quiet: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

const ROW: &str = r"{{.ID}}\t{{.Created}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
/// Characters of a command.
const COMMAND: usize = 45;

/// One step, the last one first.
struct Step<'i> {
    /// Of the image that ends here.
    id: Option<String>,
    tags: Vec<&'i str>,
    said: &'i Value,
    size: u64,
}

/// Print them.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let image = tag::find(&store, &args.image)?;
    let config = images::config(&store, &image)?;
    let images: Vec<Image> = image_entry::all(&store)?.into_iter().map(|entry| entry.image).collect();
    let steps = steps(&store, &image, &config, &images);
    let id = |step: &Step| match &step.id {
        Some(id) if args.no_trunc => id.clone(),
        Some(id) => id.chars().take(12).collect(),
        None => "<missing>".to_owned(),
    };
    if args.quiet && args.format.is_none() {
        return output::print(&steps.iter().map(|step| id(step) + "\n").collect::<String>()).map(|()| 0);
    }
    let format = args.format.clone().unwrap_or_default();
    let rows: Vec<Value> = match format {
        Format::Json => steps.iter().map(as_json).collect(),
        _ => steps.iter().map(|step| row(step, id(step), args)).collect(),
    };
    format.print(&rows, &Columns { row: ROW, headings: &[], noheading: false })?;
    Ok(0)
}

fn steps<'i>(store: &Store, image: &Image, config: &'i Value, images: &'i [Image]) -> Vec<Step<'i>> {
    let said = config["history"].as_array().map_or(&[][..], Vec::as_slice);
    let mut layers = image.layers.as_slice();
    let mut told: Vec<String> = Vec::new();
    let mut steps = Vec::new();
    for (at, said) in said.iter().rev().enumerate() {
        let empty = said["empty_layer"].as_bool().unwrap_or(false);
        let here = |other: &&Image| !layers.is_empty() && other.layers == layers;
        // The image itself ends with its last step, others wherever their layers do.
        let first = images.iter().find(|other| at == 0 && other.config == image.config);
        let ending = first.into_iter().chain(images.iter().filter(here)).next();
        let id = ending.map(|other| other.config.hex()).filter(|id| !told.contains(id));
        let tags = images.iter().filter(here).filter_map(Image::name).collect();
        let size = match layers.last() {
            Some(layer) if !empty => store.layer_size(layer).unwrap_or(0),
            _ => 0,
        };
        if !empty {
            layers = layers.split_last().map_or(&[], |(_, below)| below);
        }
        told.extend(id.clone());
        steps.push(Step { id, tags, said, size });
    }
    steps
}

fn created(step: &Step) -> Option<Timestamp> {
    step.said["created"].as_str()?.parse().ok()
}

fn row(step: &Step, id: String, args: &Args) -> Value {
    let text = |key: &str| step.said[key].as_str().unwrap_or_default();
    let by = text("created_by");
    let since = created(step).map(|time| format!("{} ago", output::since(time))).unwrap_or_default();
    let at = |format| created(step).map(|time| time.strftime(format).to_string()).unwrap_or_default();
    json!({
        "ID": id,
        "Created": if args.human { since.clone() } else { at("%Y-%m-%dT%H:%M:%SZ") },
        "CreatedAt": at("%Y-%m-%d %H:%M:%S +0000 UTC"),
        "CreatedBy": if args.no_trunc { by.to_owned() } else { shortened(by) },
        "CreatedSince": since,
        "Size": if args.human { output::size(step.size) } else { step.size.to_string() },
        "Comment": text("comment"),
        "Tags": step.tags,
    })
}

fn as_json(step: &Step) -> Value {
    let mut value = json!({
        "id": step.id.as_deref().unwrap_or("<missing>"),
        "created": step.said["created"],
        "CreatedBy": step.said["created_by"].as_str().unwrap_or_default(),
        "size": step.size,
    });
    if let Some(comment) = step.said["comment"].as_str().filter(|comment| !comment.is_empty()) {
        value["comment"] = comment.into();
    }
    value
}

fn shortened(command: &str) -> String {
    if command.chars().count() > COMMAND { output::clip(command, COMMAND - 3) } else { command.to_owned() }
}
