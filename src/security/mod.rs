//! stub until merged
pub mod capset;
pub use capset::CapSet;
