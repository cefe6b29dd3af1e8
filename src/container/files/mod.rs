//! The files of a container, running or stopped: copied in and out, exported, compared with its image, mounted.
//!
//! A process of ours goes into the container's root ([`enter`]) and speaks tar over one pipe; whoever is outside never
//! resolves a path of the container.

mod change;
mod changes;
mod destination;
mod enter;
mod extract;
mod framed;
mod image_changes;
pub mod image_mounts;
mod layer;
mod lower;
mod member;
pub mod mounts;
mod pack;
mod paths;
mod segments;
mod transfer;
pub mod volume;

pub use change::{Change, Kind};
pub use changes::changes;
pub use enter::Reached;
pub use extract::Skipped;
pub use framed::read_frames;
pub use image_changes::{Stack, compare};
pub use layer::{Packer, layer};
pub use lower::read_lower;
pub use transfer::{End, Options, copy, export};
