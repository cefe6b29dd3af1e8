//! What a container's processes may ask of the kernel: capabilities and system calls.

pub mod capabilities;
mod capset;

pub use capset::CapSet;
