//! Control groups, version 2 alone: a place for a container's processes, what they may use, and what they do use.

mod dbus;
mod group;
mod limits;
mod place;
mod scope;

pub use group::{Group, Usage};
pub use limits::{IoLimit, Limits, Setting};
pub use place::{Choice, Place, SUPERVISOR, divide, find, is_version_2};
pub use scope::{Scope, attach, set_apart};
