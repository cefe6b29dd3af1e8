//! A container: asked for, specified, planned, brought to life, found again, removed.

pub mod find;
pub mod init;
pub mod link;
pub mod mounts;
pub mod plan;
mod reaper;
pub mod remove;
pub mod rootfs;
pub mod state;
