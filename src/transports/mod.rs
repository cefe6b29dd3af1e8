//! Images outside of registries (containers-transports(5)): archives and directories in the layouts of OCI and Docker, read
//! into the store as they stream by, and written from its blobs; and new images, made of a layer.

mod build;
mod docker_archive;
mod input;
mod instructions;
mod intake;
mod load;
mod names;
mod oci_layout;
mod output;
mod plan;
mod save;

pub use build::{Base, Flavour, Recipe, build, import};
pub use input::{Source, compression};
pub use instructions::Instruction;
pub use load::{Loaded, load};
pub use names::local;
pub use output::{Output, Target};
pub use save::{Format, Selected, save};
