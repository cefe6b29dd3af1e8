//! Crash consistency: every command is killed at each call that changes something, each such call fails in each way, the
//! power goes, the disk is full, descriptors run out; and after each of it the store is whole, the command can be repeated,
//! and nothing is left when everything is removed.
//!
//! A sample runs each time (CTR_CRASH_SEED chooses it), all points with CTR_TEST_NIGHTLY=1, one with CTR_CRASH_POINT.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::print_stdout, reason = "what was tried is worth reading")]

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod commands;
mod disk;
mod ground;
mod interruptions;
mod limits;
mod points;
mod power;
mod raw;
mod supervisor;
mod tree;
