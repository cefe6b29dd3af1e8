//! Namespaces of a container: made, mapped, entered.

pub mod user;
