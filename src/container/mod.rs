//! A container: asked for, specified, planned, brought to life, found again, removed.

pub mod create;
pub mod devices;
pub mod environment;
pub mod etc_files;
pub mod find;
pub mod fuse;
pub mod grammar;
pub mod image_defaults;
pub mod init;
pub mod limits;
pub mod link;
pub mod mounts;
mod names;
pub mod plan;
mod profile;
mod reaper;
pub mod record;
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
