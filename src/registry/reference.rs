//! Names of images (distribution's reference grammar, as Docker and Podman write them): `ubuntu`, `ubuntu:24.04`,
//! `localhost:5000/team/app@sha256:…`. Pure; the big regular expression that libraries use for this would cost every
//! start of a container a millisecond.

use crate::{error::Explain, storage::Digest};
use anyhow::{Result, anyhow};
use std::fmt;

/// An image in one place: a registry, a repository there, and which of its manifests. Prints in the canonical form that
/// the store is keyed by, `docker.io/library/ubuntu:latest` or `…@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `host` or `host:port`.
    pub registry: String,
    /// The path of the repository, without tag.
    pub repository: String,
    /// Tag or digest.
    pub target: Target,
}

/// Which manifest of a repository. With both in a name, the digest wins, as in Docker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// May move.
    Tag(String),
    /// Never moves.
    Digest(Digest),
}

/// What a user typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// The registry is named.
    Full(Reference),
    /// No registry is named: registries.conf decides.
    Short {
        /// The repository as typed: without `library/`.
        path: String,
        /// Tag or digest.
        target: Target,
    },
}

/// Docker Hub's name in references.
pub const DOCKER_HUB: &str = "docker.io";

/// At most this many bytes of registry and repository together.
const NAME_LIMIT: usize = 255;
const TAG_LIMIT: usize = 128;
const FORMS: &str = "names look like ubuntu, ubuntu:24.04 or registry.example.com:5000/team/app@sha256:…";

/// Parse what a user typed. Pure.
///
/// # Errors
/// The name is outside the grammar; the message says where.
pub fn parse(text: &str) -> Result<Named> {
    match split(text) {
        Ok(named) => Ok(named),
        Err(_) if is_of_transport(text) => Err(of_transport(text)),
        Err(reason) => {
            let shown: String = text.chars().take(80).collect();
            Err(anyhow!("{shown:?} is not an image name: {}", reason.what))
                .hint(reason.hint.unwrap_or_else(|| FORMS.to_owned()))
        }
    }
}

/// Whether `name` says a tag or a digest. Pure.
pub fn has_target(name: &str) -> bool {
    let name = name.strip_prefix("docker://").unwrap_or(name);
    name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']))
}

/// Whether `tag` is one. Pure.
pub fn is_tag(tag: &str) -> bool {
    check_tag(tag).is_ok()
}

/// Where images can be besides registries (containers-transports(5)).
const TRANSPORTS: [&str; 9] = [
    "containers-storage",
    "dir",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "ostree",
    "sif",
    "tarball",
];

/// Whether `name` begins with a transport other than docker://. Pure.
pub fn is_of_transport(name: &str) -> bool {
    name.split_once(':').is_some_and(|(transport, _)| TRANSPORTS.contains(&transport))
}

/// That it does.
pub fn of_transport(name: &str) -> anyhow::Error {
    let (transport, rest) = name.split_once(':').unwrap_or((name, ""));
    let shown: String = name.chars().take(80).collect();
    // `docker-archive:PATH:NAME`, `oci:PATH:NAME`.
    let path: String = rest.split(':').next().unwrap_or(rest).chars().take(200).collect();
    let hint = match transport {
        "oci-archive" | "docker-archive" | "oci" | "dir" => format!("ctr load -i {path}"),
        _ => format!("skopeo copy {shown} oci-archive:FILE, then ctr load -i FILE"),
    };
    let Err(error) = Err::<std::convert::Infallible, _>(anyhow!(
        "{shown:?} is in no registry, and {transport}: is not read"
    ))
    .hint(hint);
    error
}

impl Reference {
    /// Parse a name that says its registry, such as the value of an alias or the location of a mirror. Pure.
    pub fn parse(text: &str) -> Result<Reference> {
        match parse(text)? {
            Named::Full(reference) => Ok(reference),
            Named::Short { .. } => {
                Err(anyhow!("{text:?} names no registry")).hint(format!("write docker.io/library/{text}"))
            }
        }
    }

    /// `path` at `registry`; on Docker Hub a single word lies under `library/`.
    pub fn at(registry: &str, path: &str, target: Target) -> Reference {
        let registry = if registry == "index.docker.io" { DOCKER_HUB } else { registry };
        let repository = match registry == DOCKER_HUB && !path.contains('/') {
            true => format!("library/{path}"),
            false => path.to_owned(),
        };
        Reference { registry: registry.to_owned(), repository, target }
    }

    /// Registry and repository, without tag or digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl Target {
    /// As it stands in `/v2/<name>/manifests/<target>`.
    pub fn in_url(&self) -> String {
        match self {
            Target::Tag(tag) => tag.clone(),
            Target::Digest(digest) => digest.to_string(),
        }
    }
}

/// With its separator: `:tag` or `@sha256:…`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tag(tag) => write!(f, ":{tag}"),
            Target::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.target)
    }
}

struct Reason {
    what: String,
    hint: Option<String>,
}

fn because<T>(what: impl Into<String>) -> Result<T, Reason> {
    Err(Reason { what: what.into(), hint: None })
}

fn split(text: &str) -> Result<Named, Reason> {
    let text = text.strip_prefix("docker://").unwrap_or(text);
    if text.is_empty() {
        return because("it is empty");
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let hint = format!("leave out {:?}: ctr pull {rest}", format!("{scheme}://"));
        return Err(Reason { what: "an image name has no URL scheme".into(), hint: Some(hint) });
    }
    let (rest, digest) = match text.split_once('@') {
        None => (text, None),
        Some((rest, digest)) => match digest.parse::<Digest>() {
            Ok(digest) => (rest, Some(digest)),
            Err(error) => return because(error.to_string()),
        },
    };
    // A colon after the last slash begins the tag; before it, a port.
    let after_slash = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[after_slash..].rfind(':') {
        None => (rest, None),
        Some(colon) => (&rest[..after_slash + colon], Some(&rest[after_slash + colon + 1..])),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    if name.len() > NAME_LIMIT {
        return because(format!(
            "registry and repository have {} bytes, the limit is {NAME_LIMIT}",
            name.len()
        ));
    }
    let target = match (digest, tag) {
        (Some(digest), _) => Target::Digest(digest),
        (None, tag) => Target::Tag(tag.unwrap_or("latest").to_owned()),
    };
    match name.split_once('/') {
        Some((registry, path)) if is_registry(registry) => {
            check_registry(registry)?;
            check_path(path)?;
            Ok(Named::Full(Reference::at(registry, path, target)))
        }
        _ => {
            check_path(name)?;
            if name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
                return because("64 hex digits are an image id");
            }
            Ok(Named::Short { path: name.to_owned(), target })
        }
    }
}

/// Docker's rule: the first component is a registry when it has a dot or a colon, or is `localhost`.
fn is_registry(component: &str) -> bool {
    component.contains(['.', ':']) || component == "localhost"
}

fn check_registry(registry: &str) -> Result<(), Reason> {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    };
    if let Some(port) = port
        && (port.parse::<u16>().is_err() || !port.bytes().all(|b| b.is_ascii_digit()))
    {
        return because(format!("{port:?} is not a port"));
    }
    let sound = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        }),
    };
    if !sound {
        return because(format!("{host:?} is not a host name"));
    }
    Ok(())
}

/// `path-component ["/" path-component]*`, each `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn check_path(path: &str) -> Result<(), Reason> {
    for component in path.split('/') {
        let bytes = component.as_bytes();
        if bytes.iter().any(u8::is_ascii_uppercase) {
            let hint = Some(format!("write {}", path.to_ascii_lowercase()));
            return Err(Reason { what: format!("{component:?} has upper-case letters"), hint });
        }
        if bytes.is_empty() {
            return because("a component between slashes is empty");
        }
        if let Some(other) = component.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-'))
        {
            return because(format!("{other:?} can't stand in a repository"));
        }
        let separators = component.split(|c: char| c.is_ascii_alphanumeric()).enumerate();
        let last = component.split(|c: char| c.is_ascii_alphanumeric()).count() - 1;
        for (n, run) in separators {
            let inner = n != 0 && n != last;
            let sound = run.is_empty()
                || inner && (matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-'));
            if !sound {
                return because(format!(
                    "{component:?}: separators stand between letters or digits, one dot, one or two underscores or any dashes"
                ));
            }
        }
    }
    Ok(())
}

/// `[\w][\w.-]{0,127}`.
fn check_tag(tag: &str) -> Result<(), Reason> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let first = tag.bytes().next().is_some_and(word);
    if !first || !tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-')) {
        let shown: String = tag.chars().take(80).collect();
        return because(format!("{shown:?} is not a tag"));
    }
    if tag.len() > TAG_LIMIT {
        return because(format!("the tag has {} bytes, the limit is {TAG_LIMIT}", tag.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(Named::Full(reference)) => reference.to_string(),
            Ok(Named::Short { path, target }) => format!("short {path}{target}"),
            Err(error) => format!("error {error:#}"),
        }
    }

    #[test]
    fn names_that_are_accepted() {
        let digest = format!("sha256:{HEX}");
        for (typed, canonical) in [
            ("ubuntu", "short ubuntu:latest"),
            ("ubuntu:24.04", "short ubuntu:24.04"),
            ("team/app", "short team/app:latest"),
            ("docker://ubuntu", "short ubuntu:latest"),
            ("localhost:5000", "short localhost:5000"),
            ("docker.io/ubuntu", "docker.io/library/ubuntu:latest"),
            ("index.docker.io/ubuntu:1", "docker.io/library/ubuntu:1"),
            ("docker.io/team/app", "docker.io/team/app:latest"),
            ("quay.io/app", "quay.io/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("[2001:db8::1]/app:x", "[2001:db8::1]/app:x"),
            ("Registry.Example.com/a", "Registry.Example.com/a:latest"),
            ("a.b/x__y/z--1.2_3", "a.b/x__y/z--1.2_3:latest"),
            ("ubuntu:_A.-", "short ubuntu:_A.-"),
        ] {
            assert_eq!(shown(typed), canonical, "{typed}");
        }
        assert_eq!(shown(&format!("ubuntu@{digest}")), format!("short ubuntu@{digest}"));
        assert_eq!(shown(&format!("a.b:1/c:tag@{digest}")), format!("a.b:1/c@{digest}"));
        assert_eq!(shown(&format!("a.b/{}", "x".repeat(251))), format!("a.b/{}:latest", "x".repeat(251)));
    }

    #[test]
    fn names_that_are_refused() {
        for (typed, part) in [
            ("", "empty"),
            ("Ubuntu", "upper-case"),
            ("docker.io/Team/app", "upper-case"),
            ("https://docker.io/ubuntu", "URL scheme"),
            ("ubuntu:", "not a tag"),
            ("ubuntu:-x", "not a tag"),
            ("ubuntu:a b", "not a tag"),
            ("ubuntu@sha256:0", "sha256"),
            (&format!("ubuntu@sha512:{HEX}{HEX}"), "sha256"),
            (&format!("ubuntu@sha256:{}", HEX.to_uppercase()), "sha256"),
            ("ubuntu@", "sha256"),
            ("../etc", "not a host name"),
            ("..", "separators"),
            ("a/../b", "separators"),
            ("a//b", "empty"),
            ("/a", "empty"),
            ("a/", "empty"),
            ("-a", "separators"),
            ("a-", "separators"),
            ("a..b", "separators"),
            ("a___b", "separators"),
            ("a b", "can't stand"),
            ("a\nb", "can't stand"),
            ("ä", "can't stand"),
            ("a.b:/c", "not a port"),
            ("a.b:70000/c", "not a port"),
            ("a.b:+1/c", "not a port"),
            ("-a.b/c", "not a host name"),
            ("a..b/c", "not a host name"),
            ("[::g]/c", "not a host name"),
            (HEX, "image id"),
        ] {
            assert!(shown(typed).starts_with("error ") && shown(typed).contains(part), "{}", shown(typed));
        }
        assert!(shown(&"a".repeat(256)).contains("limit is 255"));
        assert!(shown(&format!("a:{}", "x".repeat(129))).contains("limit is 128"));
    }
}
