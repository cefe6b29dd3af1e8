//! Namespaces of a container: made, mapped, entered.

mod ahead;
pub mod copyup;
pub mod id_namespace;
pub mod idmap;
mod inside;
pub mod mount;
pub mod ownership;
pub mod probe;
mod refused;
pub mod root;
pub mod sources;
pub mod subid;
pub mod target;
pub mod user;
pub mod volume;

pub use ahead::{Ahead, Promised};
pub use inside::{Inside, run_inside, start_beside, start_here, start_in, start_inside, start_inside_with};
pub use refused::mend;
pub use user::{IdMaps, Mapping, maps_of};

/// unshare(2): this process leaves for new namespaces of these kinds.
#[expect(deprecated, reason = "rustix's replacement is unsafe only for CLONE_FILES, which is not asked for")]
pub fn unshare(namespaces: rustix::thread::UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(namespaces)
}
