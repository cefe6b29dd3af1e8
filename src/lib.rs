//! `ctr`: a daemonless, rootless container runner. ARCHITECTURE.md is the map of these rooms; imports go downwards only
//! and tests/tidy.rs holds them to it.

pub mod cgroups;
pub mod cmd;
pub mod container;
pub mod error;
pub mod monitor;
pub mod namespaces;
pub mod network;
pub mod quadlet;
pub mod registry;
pub mod security;
pub mod storage;
pub mod sys;
pub mod transports;
pub mod weakened;
