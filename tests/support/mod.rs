//! The test ground: `ctr` run as each kind of user, against Debian's own registry.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

mod ctr;
mod fault;
mod http;
mod image;
mod layout;
mod live;
mod payload;
mod probe;
mod proxy;
mod pulled;
mod registry;
mod spoiled;
mod subject;
mod terminal;
mod token;

pub use ctr::{Ctr, Outcome, User};
pub use fault::{Fault, Faults, Seen};
pub use image::{Compression, Flavour, Layer, Pushed, TestImage, digest, index};
pub use layout::{Layout, config, packed_by, unchanged};
pub use live::{Live, wait_gone};
pub use probe::{compile, probe_layer};
pub use proxy::Proxy;
pub use pulled::{ids, layer, tiny};
pub use registry::Registry;
pub use spoiled::{
    MANIFEST, first_blob, ground, manifest, noise, partials, refused, spoiled, without_partials,
};
pub use subject::{Subject, feed, names};
pub use terminal::Terminal;
