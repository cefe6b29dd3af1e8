//! (room network)
