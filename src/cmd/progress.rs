//! How a pull or a push shows itself on stderr: a bar for each layer on its way on a terminal, one line for each that has arrived
//! elsewhere, nothing with `--quiet`.
#![expect(clippy::print_stderr, reason = "this is a place that prints")]

use crate::{registry::Progress, storage::Digest};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use std::{cell::RefCell, collections::HashMap, io::IsTerminal};

/// What suits this stderr.
pub fn choose(quiet: bool) -> Box<dyn Progress> {
    in_words(quiet, Words { trying: "Pulling", present: "already here" })
}

/// The same for a push.
pub fn of_push(quiet: bool) -> Box<dyn Progress> {
    in_words(quiet, Words { trying: "Pushing", present: "already there" })
}

/// What differs between a pull and a push.
#[derive(Clone, Copy)]
struct Words {
    trying: &'static str,
    present: &'static str,
}

fn in_words(quiet: bool, words: Words) -> Box<dyn Progress> {
    if quiet {
        Box::new(Silent)
    } else if std::io::stderr().is_terminal() {
        Box::new(Bars { words, all: MultiProgress::new(), coming: RefCell::default() })
    } else {
        Box::new(Lines { words, sizes: RefCell::default() })
    }
}

struct Silent;

impl Progress for Silent {
    fn trying(&self, _: &str) {}
    fn present(&self, _: &Digest) {}
    fn begin(&self, _: &Digest, _: u64) {}
    fn advance(&self, _: &Digest, _: u64) {}
    fn done(&self, _: &Digest) {}
    fn note(&self, text: &str) {
        eprintln!("warning: {text}");
    }
}

struct Lines {
    words: Words,
    sizes: RefCell<HashMap<Digest, u64>>,
}

impl Progress for Lines {
    fn trying(&self, reference: &str) {
        eprintln!("{} {reference}", self.words.trying);
    }

    fn present(&self, blob: &Digest) {
        eprintln!("{} {}", blob.short(), self.words.present);
    }

    fn begin(&self, blob: &Digest, size: u64) {
        self.sizes.borrow_mut().insert(*blob, size);
    }

    fn advance(&self, _: &Digest, _: u64) {}

    fn done(&self, blob: &Digest) {
        let size = self.sizes.borrow_mut().remove(blob).unwrap_or_default();
        eprintln!("{} {}", blob.short(), HumanBytes(size));
    }

    fn note(&self, text: &str) {
        eprintln!("warning: {text}");
    }
}

/// Layers that have arrived move up as plain lines; below them are the bars of the few that are coming.
struct Bars {
    words: Words,
    all: MultiProgress,
    coming: RefCell<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    fn say(&self, line: &str) {
        self.all.suspend(|| eprintln!("{line}"));
    }
}

impl Progress for Bars {
    fn trying(&self, reference: &str) {
        self.say(&format!("{} {reference}", self.words.trying));
    }

    fn present(&self, blob: &Digest) {
        self.say(&format!("  {}  {}", blob.short(), self.words.present));
    }

    fn begin(&self, blob: &Digest, size: u64) {
        let style = "  {prefix}  {bar:32.cyan/dim} {bytes:>10} of {total_bytes}  {bytes_per_sec:.dim}";
        let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.all.add(ProgressBar::new(size).with_style(style.progress_chars("━╸━")));
        bar.set_prefix(blob.short());
        self.coming.borrow_mut().insert(*blob, bar);
    }

    fn advance(&self, blob: &Digest, received: u64) {
        if let Some(bar) = self.coming.borrow().get(blob) {
            bar.set_position(received);
        }
    }

    fn done(&self, blob: &Digest) {
        if let Some(bar) = self.coming.borrow_mut().remove(blob) {
            bar.finish_and_clear();
            self.all.remove(&bar);
            self.say(&format!("  {}  {}", blob.short(), HumanBytes(bar.length().unwrap_or_default())));
        }
    }

    fn note(&self, text: &str) {
        self.say(&format!("warning: {text}"));
    }
}
