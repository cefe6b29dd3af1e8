//! (room registry)

/// When to ask a registry for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When the store has none.
    Missing,
    /// Never.
    Never,
    /// When the registry's is another.
    Newer,
}
