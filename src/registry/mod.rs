//! (room registry)
