//! `ctr image tree`: the layers of an image, or all that is built upon it (podman-image-tree(1)).

use super::{Globals, output, run_args::takes_a_truth_value, tag};
use crate::storage::{Digest, Image, Store};
use anyhow::Result;
use std::collections::BTreeSet;

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// All layers that are built upon the image, in place of its own
    #[arg(long)]
    whatrequires: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Print it.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let image = tag::find(&store, &args.image)?;
    output::line(tree(&store, &store.images()?, &image, args.whatrequires)).map(|()| 0)
}

/// The layers of `image`, one of `images`; or, `upwards`, all that is built upon it.
pub fn tree(store: &Store, images: &[Image], image: &Image, upwards: bool) -> String {
    let forest = Forest { store, images };
    let names = images.iter().filter(|other| other.config == image.config).filter_map(Image::name);
    let mut text = format!(
        "Image ID: {}\nTags:     [{}]\nSize:     {}\n",
        image.config.short(),
        names.collect::<Vec<_>>().join(" "),
        output::short_size(image.size)
    );
    text.push_str(if image.layers.is_empty() { "No Image Layers\n" } else { "Image Layers\n" });
    let mut lines = Vec::new();
    if upwards {
        forest.upwards(&image.layers, &mut lines);
    } else {
        lines = (1..=image.layers.len()).map(|end| Line::new(forest.label(&image.layers[..end]))).collect();
    }
    draw(&lines, "", &mut text);
    text
}

/// One layer, and what is shown below it.
struct Line {
    label: String,
    below: Vec<Line>,
}

impl Line {
    fn new(label: String) -> Line {
        Line { label, below: Vec::new() }
    }
}

/// All layers of the store as the images stack them.
struct Forest<'s> {
    store: &'s Store,
    images: &'s [Image],
}

impl Forest<'_> {
    /// The layer at the top of `stack`, then those upon it; levels that have only one layer are not indented.
    fn upwards(&self, stack: &[Digest], lines: &mut Vec<Line>) {
        let (Some(_), mut at) = (stack.last(), stack.to_vec()) else { return };
        loop {
            let label = self.label(&at);
            let alone = self.upon(&at[..at.len() - 1]).len() < 2;
            let mut upon = self.upon(&at);
            lines.push(Line::new(label));
            if !alone && let Some(line) = lines.last_mut() {
                for next in upon {
                    self.upwards(&[at.as_slice(), &[next]].concat(), &mut line.below);
                }
                return;
            }
            match (upon.pop_first(), upon.is_empty()) {
                (Some(next), true) => at.push(next),
                (Some(first), false) => {
                    for next in [first].into_iter().chain(upon) {
                        self.upwards(&[at.as_slice(), &[next]].concat(), lines);
                    }
                    return;
                }
                (None, _) => return,
            }
        }
    }

    fn upon(&self, stack: &[Digest]) -> BTreeSet<Digest> {
        let above = |image: &Image| image.layers.strip_prefix(stack)?.first().copied();
        self.images.iter().filter_map(above).collect()
    }

    fn label(&self, stack: &[Digest]) -> String {
        let size = stack.last().map_or(0, |layer| self.store.layer_size(layer).unwrap_or(0));
        let ending = self.images.iter().filter(|image| image.layers == stack).filter_map(Image::name);
        let ending = ending.collect::<Vec<_>>().join(" ");
        let top = if ending.is_empty() { String::new() } else { format!(" Top Layer of: [{ending}]") };
        format!("ID: {} Size: {:>7}{top}", chain_id(stack).short(), output::short_size(size))
    }
}

/// OCI image-spec, config.md, "Layer ChainID".
fn chain_id(stack: &[Digest]) -> Digest {
    let mut layers = stack.iter();
    let first = layers.next().copied().unwrap_or_else(|| Digest::of(b""));
    layers.fold(first, |chain, layer| Digest::of(format!("{chain} {layer}").as_bytes()))
}

fn draw(lines: &[Line], before: &str, text: &mut String) {
    for (at, line) in lines.iter().enumerate() {
        let last = at + 1 == lines.len();
        let (branch, indent) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        *text += &format!("{before}{branch}{}\n", line.label);
        draw(&line.below, &format!("{before}{indent}"), text);
    }
}
