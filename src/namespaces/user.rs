//! User namespaces: which ids this user may map, and running a piece of work as root of such a namespace.

use anyhow::{Result, bail};

/// A run of ids: `count` ids from `host` on appear as `inside` and on (user_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside the namespace.
    pub inside: u32,
    /// First id outside.
    pub host: u32,
    /// How many ids.
    pub count: u32,
}

/// How ids of a container map to ids of the host.
#[derive(Clone, Debug)]
pub enum Mapping {
    /// We are root: no user namespace, ids are the host's.
    Root,
    /// The user's own id as 0 and all subordinate ids after it, written by newuidmap(1) and newgidmap(1).
    Ranges {
        /// For /proc/PID/uid_map.
        uids: Vec<IdRange>,
        /// For /proc/PID/gid_map.
        gids: Vec<IdRange>,
    },
    /// The user's own id as 0, nothing else.
    Single {
        /// What was missing for the full mapping.
        why: String,
    },
}

impl Mapping {
    /// The best mapping this user can have.
    pub fn detect() -> Result<Mapping> {
        bail!("not built yet")
    }
}

/// Run `work` as root of a user namespace with `mapping`, in a mount namespace of its own; directly when we are root.
pub fn run_inside(_mapping: &Mapping, _work: impl FnOnce() -> Result<()>) -> Result<()> {
    bail!("not built yet")
}
