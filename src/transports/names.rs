//! What an image is called: by the user, in an OCI layout, in a Docker archive. Pure.

use crate::{
    error::Explain,
    registry::reference::{self, DOCKER_HUB, Named, Reference, Target},
    storage::Digest,
};
use anyhow::{Result, anyhow};

/// The name of an image that is made here: without a registry it is `localhost`'s.
///
/// # Errors
/// It is malformed, or has a digest, which nobody can choose.
pub fn local(text: &str) -> Result<String> {
    let reference = at("localhost", text)?;
    match reference.target {
        Target::Tag(_) => Ok(reference.to_string()),
        Target::Digest(_) => {
            Err(anyhow!("{text:?} has a digest, and a new image has its own")).hint("give it a tag: NAME:TAG")
        }
    }
}

/// The name that Docker gives an image in an archive: without a registry it is Docker Hub's.
pub fn of_repo_tag(text: &str) -> Result<String> {
    Ok(at(DOCKER_HUB, text)?.to_string())
}

/// The name of an image that an annotation of its descriptor says, if it is one. OCI allows any text there.
pub fn of_annotation(text: &str, digests: &[Digest]) -> Option<String> {
    let reference = at("localhost", text).ok()?;
    match &reference.target {
        Target::Digest(digest) if !digests.contains(digest) => None,
        _ => Some(reference.to_string()),
    }
}

fn at(registry: &str, text: &str) -> Result<Reference> {
    Ok(match reference::parse(text)? {
        Named::Full(reference) => reference,
        Named::Short { path, target } => Reference::at(registry, &path, target),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_where_they_stand() {
        let hex = "0".repeat(64);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        let pinned = format!("a.b/c@{digest}");
        for (text, made, tagged, annotated) in [
            ("x", Some("localhost/x:latest"), Some("docker.io/library/x:latest"), Some("localhost/x:latest")),
            ("a/b:1", Some("localhost/a/b:1"), Some("docker.io/a/b:1"), Some("localhost/a/b:1")),
            ("q.io/x:1", Some("q.io/x:1"), Some("q.io/x:1"), Some("q.io/x:1")),
            (&pinned, None, Some(&pinned), Some(&pinned)),
            ("V1.0+x", None, None, None),
            ("../x", None, None, None),
        ] {
            assert_eq!(local(text).ok().as_deref(), made, "{text}");
            assert_eq!(of_repo_tag(text).ok().as_deref(), tagged, "{text}");
            assert_eq!(of_annotation(text, &[digest]).as_deref(), annotated, "{text}");
        }
        assert_eq!(of_annotation(&pinned, &[]), None);
    }
}
