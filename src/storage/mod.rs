//! The store: blobs, layers, images and containers as plain directories. A listing is a readdir, publishing is a rename,
//! liveness is a held lock.

pub(crate) mod archive;
mod attributes;
mod blobs;
mod blocks;
mod container_dir;
mod containers;
pub(crate) mod decompress;
pub(crate) mod delete;
mod digest;
mod dirs;
mod disk;
mod gc;
mod id;
mod image_names;
mod images;
mod ingest;
mod layers;
mod names;
pub(crate) mod ownership;
mod pax;
pub(crate) mod skeleton;
mod small_file;
pub(crate) mod sparse;
mod store;
mod tree;
pub mod unpack;
mod usage;
mod whiteout;
pub(crate) mod xattr;

pub use container_dir::{ContainerDir, Lock};
pub use decompress::Compression;
pub use delete::delete_tree;
pub use digest::Digest;
pub use dirs::Dirs;
pub use disk::ByErrno;
pub use gc::Freed;
pub use id::{ContainerId, Name};
pub use images::{Image, Listing};
pub use ingest::expanded;
pub use layers::{Expected, LayerDraft, LayerIngest, LayerSource};
pub use small_file::{read as read_small_file, replace as replace_small_file};
pub use store::{Hold, Store};
pub use usage::usage;
