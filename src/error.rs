//! What a failure tells its reader: the operation that failed, once, and the one command that mends it; and the exit
//! status that scripts see.

use std::fmt;

/// `ctr` itself failed: bad usage, bad input, a missing resource (podman-run(1), "Exit status").
pub const OURS: u8 = 125;
/// The container's command was found but could not be invoked.
pub const CANNOT_INVOKE: u8 = 126;
/// The container's command was not found.
pub const NOT_FOUND: u8 = 127;

/// Adds what a reader needs beside the message: a hint, or an exit status other than [`OURS`].
pub trait Explain<T> {
    /// Attach the one command that mends the failure; the innermost hint wins.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
    /// Exit with `status` instead of [`OURS`].
    fn status(self, status: u8) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Explain<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|cause| Explained { cause: cause.into(), hint: Some(hint.into()), status: None }.into())
    }

    fn status(self, status: u8) -> anyhow::Result<T> {
        self.map_err(|cause| Explained { cause: cause.into(), hint: None, status: Some(status) }.into())
    }
}

/// The hint attached closest to the cause, if any.
pub fn hint(error: &anyhow::Error) -> Option<&str> {
    explanations(error).filter_map(|e| e.hint.as_deref()).last()
}

/// The exit status that `error` asks for; [`OURS`] unless one was attached.
pub fn status(error: &anyhow::Error) -> u8 {
    explanations(error).find_map(|e| e.status).unwrap_or(OURS)
}

/// A failure that a child process of ours has already told the user: exit, print nothing.
pub fn already_reported() -> anyhow::Error {
    AlreadyReported.into()
}

/// Whether `error` has been told.
pub fn is_reported(error: &anyhow::Error) -> bool {
    error.is::<AlreadyReported>()
}

/// All causes of `error`, also those behind what [`Explain`] has added.
pub fn causes(error: &anyhow::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    error.chain().chain(explanations(error).flat_map(|explained| explained.cause.chain()))
}

#[derive(Debug)]
struct AlreadyReported;

impl std::error::Error for AlreadyReported {}

impl fmt::Display for AlreadyReported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("see above")
    }
}

struct Explained {
    cause: anyhow::Error,
    hint: Option<String>,
    status: Option<u8>,
}

// The cause is printed by Display itself, so it is not offered as a `source`: the chain names each operation once.
impl std::error::Error for Explained {}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.cause)
    }
}

impl fmt::Debug for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.cause)
    }
}

fn explanations(error: &anyhow::Error) -> impl Iterator<Item = &Explained> {
    let mut found = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.chain().find_map(|e| e.downcast_ref::<Explained>());
        found.extend(inner);
        next = inner.map(|e| &e.cause);
    }
    found.into_iter()
}
