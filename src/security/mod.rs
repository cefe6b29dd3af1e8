//! (room security)
