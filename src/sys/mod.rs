//! The only room with `unsafe`: the fork fence and the few calls that nix and rustix lack. Everything above calls these as
//! ordinary safe functions.
#![expect(unsafe_code, reason = "this room exists to keep it here")]

pub mod channel;
pub mod exec;
pub mod fork;
pub mod holder;
pub mod interface;
pub mod keyring;
pub mod memory;
pub mod mount;
pub mod path;
pub mod pktinfo;
mod sealed;
pub mod seccomp;
pub mod signal;
pub mod tap;
pub mod title;
mod trampoline;
pub mod writeback;
