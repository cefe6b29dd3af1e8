//! Quadlet: from `.container`, `.volume`, `.network`, `.image`, `.build` and `.pod` files to services of systemd, as
//! podman-systemd.unit(5) has it. Reads unit files, writes unit files, and touches neither network nor store.

mod build;
mod bundle;
mod container;
mod directories;
mod draft;
mod generate;
mod image;
mod installed;
mod keys;
mod load;
mod network;
mod pod;
pub mod quote;
mod unit;
pub mod unit_file;
mod volume;
mod write;

pub use bundle::{Part, split};
pub use directories::{install_dir, search};
pub use draft::{Accepts, Refusal, Settings};
pub use generate::{Plan, Service, plan};
pub use installed::{Installed, Item};
pub use load::{from_text, load, read};
pub use unit::{Kind, Source, is_unit_name};
pub use write::write;
