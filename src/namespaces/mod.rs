//! Namespaces of a container: made, mapped, entered.

mod copyup;
mod inside;
pub mod mount;
pub mod root;
pub mod subid;
pub mod target;
pub mod user;

pub use inside::{Inside, run_inside, start_beside, start_here, start_inside};
pub use user::Mapping;

/// What to do where the kernel or an administrator refuses user namespaces.
pub const NO_USER_NAMESPACES: &str = "allow user namespaces: `sudo sysctl user.max_user_namespaces=65536` (Debian before 11: \
    kernel.unprivileged_userns_clone=1; Ubuntu 24.04 and later: kernel.apparmor_restrict_unprivileged_userns=0; \
    inside another container: start that one with --security-opt seccomp=unconfined)";

/// unshare(2): this process leaves for new namespaces of these kinds.
#[expect(deprecated, reason = "rustix's replacement is unsafe only for CLONE_FILES, which is not asked for")]
pub fn unshare(namespaces: rustix::thread::UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(namespaces)
}
