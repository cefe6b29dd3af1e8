//! What a container's processes may ask of the kernel: capabilities and system calls.

pub mod apparmor;
pub mod capabilities;
mod capset;
pub mod seccomp;

pub use capset::CapSet;
