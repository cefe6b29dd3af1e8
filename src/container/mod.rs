//! (room container)
