//! The store: blobs, layers, images and containers as plain directories. A listing is a readdir, publishing is a rename,
//! liveness is a held lock.

mod containers;
mod delete;
mod digest;
mod dirs;
mod id;
mod store;

pub use containers::{ContainerDir, Lock};
pub use delete::delete_tree;
pub use digest::Digest;
pub use dirs::Dirs;
pub use id::{ContainerId, Name};
pub use store::{Freed, Hold, Image, Store};
