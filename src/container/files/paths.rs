//! Paths in tar streams. Pure.

use crate::{error::Explain, storage::archive::lossy};
use anyhow::{Result, anyhow, bail};

/// Bytes of one path (limits.h, PATH_MAX, less its NUL).
pub const MAX_PATH: usize = 4095;

/// The components of a path that stays where it is.
pub fn components(path: &[u8]) -> Result<Vec<&[u8]>> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let parts: Vec<_> = parts.collect();
    if path.len() > MAX_PATH || path.contains(&0) {
        bail!("the path is too long or has a NUL byte");
    }
    if parts.contains(&&b".."[..]) {
        return Err(anyhow!("the path {:?} climbs out of the directory", lossy(path)))
            .hint("don't trust this archive; see what is in it with `tar -t`");
    }
    Ok(parts)
}

/// The directory and the last component of a path without superfluous slashes.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// `name` in `directory`, which may be empty.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, expected) in [
            ("a/b", Some("a/b")),
            ("/./a//b/", Some("a/b")),
            ("", Some("")),
            ("..", None),
            ("a/../b", None),
            ("a\0", None),
            ("..a/b..", Some("..a/b..")),
        ] {
            let joined = components(path.as_bytes()).ok().map(|parts| parts.join(&b'/'));
            assert_eq!(joined.as_deref(), expected.map(str::as_bytes), "{path:?}");
        }
    }
}
