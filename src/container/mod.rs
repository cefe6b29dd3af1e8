//! A container: asked for, specified, planned, brought to life, found again, removed.

pub mod devices;
pub mod environment;
pub mod etc_files;
pub mod find;
pub mod image_defaults;
pub mod init;
pub mod limits;
pub mod link;
pub mod mounts;
pub mod plan;
mod profile;
mod reaper;
pub mod remove;
pub mod request;
pub mod rootfs;
pub mod signal;
pub mod spec;
pub mod state;
pub mod sysctl;
pub mod timezone;
pub mod tmpfs;
pub mod users;
