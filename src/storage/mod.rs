//! The store: blobs, layers, images and containers as plain directories. A listing is a readdir, publishing is a rename,
//! liveness is a held lock.

mod digest;
mod dirs;
mod id;

pub use digest::Digest;
pub use dirs::Dirs;
pub use id::{ContainerId, Name};
mod registry_stub;
pub use registry_stub::{Compression, Hold, Image, LayerIngest, LayerSource, Store};
