//! What all registries.conf files together say: where the images of a registry really are, and which registries a short
//! name may mean (containers-registries.conf(5)). Pure.

use super::{
    reference::{DOCKER_HUB, Reference, Target},
    registries_conf::{Fragment, MirrorFor, ShortNameMode, Table},
};
use crate::error::Explain;
use anyhow::{Result, anyhow};
use std::collections::BTreeMap;

/// What all files together say.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    search: Option<Vec<String>>,
    aliases: BTreeMap<String, String>,
    mode: ShortNameMode,
    tables: Vec<Table>,
}

/// One place to fetch an image from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What to ask for there.
    pub reference: Reference,
    /// May be plain http or have any certificate.
    pub insecure: bool,
}

impl Registries {
    /// Lay a file over those before it: its settings win, its tables replace those of the same prefix.
    pub fn add(&mut self, fragment: Fragment) {
        self.search = fragment.search.or(self.search.take());
        self.mode = fragment.mode.unwrap_or(self.mode);
        self.aliases.extend(fragment.aliases);
        for table in fragment.tables {
            self.tables.retain(|earlier| earlier.prefix != table.prefix);
            self.tables.push(table);
        }
    }

    /// Registries that a short name is looked for in; Docker Hub when no file says, as Docker users expect.
    pub fn search(&self) -> Vec<String> {
        self.search.clone().unwrap_or_else(|| vec![DOCKER_HUB.to_owned()])
    }

    /// What the alias `path` stands for; an empty value takes an alias back.
    pub fn alias(&self, path: &str) -> Option<&str> {
        self.aliases.get(path).map(String::as_str).filter(|place| !place.is_empty())
    }

    /// How to treat short names.
    pub fn short_name_mode(&self) -> ShortNameMode {
        self.mode
    }

    /// Where `reference` itself is, without mirrors: where it is pushed to.
    ///
    /// # Errors
    /// As those of [`Registries::sources`].
    pub fn own(&self, reference: &Reference) -> Result<Source> {
        let own = self.sources(reference)?.pop();
        own.ok_or_else(|| anyhow!("{reference} has no place"))
    }

    /// Where to fetch `reference` from, in order: the mirrors, then its own registry, rewritten as the longest matching
    /// prefix says.
    ///
    /// # Errors
    /// The registry is blocked, or a rewritten name is outside the grammar.
    pub fn sources(&self, reference: &Reference) -> Result<Vec<Source>> {
        let name = reference.name();
        let whole = reference.to_string();
        let matching = self.tables.iter().filter_map(|table| {
            let length = matched(&whole, &table.prefix)?;
            Some((length, table))
        });
        let Some((length, table)) = matching.max_by_key(|(length, _)| *length) else {
            return Ok(vec![Source { reference: reference.clone(), insecure: false }]);
        };
        if table.blocked {
            return Err(anyhow!("registry {:?} is blocked in registries.conf", table.prefix))
                .hint("take away `blocked = true` there, or choose another registry");
        }
        let rest = name.get(length..).unwrap_or_default();
        let moved = |location: &str| -> Result<Reference> {
            if location.is_empty() {
                return Ok(reference.clone());
            }
            let mut moved = Reference::parse(&format!("{location}{rest}"))?;
            moved.target = reference.target.clone();
            Ok(moved)
        };
        let by_digest = matches!(reference.target, Target::Digest(_));
        let mut sources = Vec::new();
        for mirror in &table.mirrors {
            let applies = match mirror.when {
                MirrorFor::All => true,
                MirrorFor::DigestOnly => by_digest,
                MirrorFor::TagOnly => !by_digest,
            };
            if applies {
                sources.push(Source { reference: moved(&mirror.location)?, insecure: mirror.insecure });
            }
        }
        sources.push(Source { reference: moved(&table.location)?, insecure: table.insecure });
        Ok(sources)
    }
}

/// How many bytes of `whole` the prefix covers, when it covers whole components.
fn matched(whole: &str, prefix: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        // `*.example.com`: any host below it, and never a part of the path.
        let host = whole.split('/').next()?;
        let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
        return [host, bare].into_iter().find(|host| host.ends_with(domain)).map(str::len);
    }
    let rest = whole.strip_prefix(prefix)?;
    let whole_host = prefix.contains('/') || !rest.starts_with(':');
    (rest.is_empty() || whole_host && rest.starts_with(['/', ':', '@'])).then_some(prefix.len())
}

#[cfg(test)]
mod tests {
    use super::{super::registries_conf::parse, *};

    fn all(texts: &[&str]) -> Registries {
        let mut registries = Registries::default();
        for text in texts {
            registries.add(parse(text).unwrap());
        }
        registries
    }

    fn sources(text: &str, reference: &str) -> String {
        match all(&[text]).sources(&Reference::parse(reference).unwrap()) {
            Err(error) => format!("error {error:#}"),
            Ok(list) => {
                let shown =
                    list.iter().map(|s| format!("{}{}", s.reference, if s.insecure { "!" } else { "" }));
                shown.collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn where_an_image_is_fetched_from() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let mirrored = "[[registry]]\nprefix = 'docker.io'\n[[registry.mirror]]\nlocation = '127.0.0.1:5000/hub/'\ninsecure = true";
        let by_digest = "[[registry]]\nlocation = 'a.b'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'm.n'";
        let tag_only = "[[registry]]\nlocation = 'a.b'\n[[registry.mirror]]\nlocation = 'm.n'\npull-from-mirror = 'tag-only'";
        for (text, reference, expected) in [
            ("", "a.b/c", "a.b/c:latest"),
            (
                mirrored,
                "docker.io/ubuntu:1",
                "127.0.0.1:5000/hub/library/ubuntu:1! docker.io/library/ubuntu:1",
            ),
            ("[[registry]]\nlocation = 'a.b:5000'\ninsecure = true", "a.b:5000/c", "a.b:5000/c:latest!"),
            ("[[registry]]\nlocation = 'a.b'\ninsecure = true", "a.b:5000/c", "a.b:5000/c:latest"),
            ("[[registry]]\nprefix = 'a.b/old'\nlocation = 'c.d:1/new'", "a.b/old/x:2", "c.d:1/new/x:2"),
            ("[[registry]]\nprefix = 'a.b/old'\nlocation = 'c.d:1/new'", "a.b/older/x:2", "a.b/older/x:2"),
            ("[[registry]]\nprefix = 'a.b/x'\nlocation = 'c.d/y'", "a.b/x:2", "c.d/y:2"),
            ("[[registry]]\nprefix = '*.b.c'\nlocation = 'd.e'", "a.b.c/x", "d.e/x:latest"),
            ("[[registry]]\nprefix = '*.b.c'\ninsecure = true", "a.b.c:99/x", "a.b.c:99/x:latest!"),
            ("[[registry]]\nprefix = '*.b.c'\nlocation = 'd.e'", "b.c/x", "b.c/x:latest"),
            (
                "[[registry]]\nprefix = 'a.b'\nblocked = true\n[[registry]]\nprefix = 'a.b/ok'",
                "a.b/ok/x",
                "a.b/ok/x:latest",
            ),
            (by_digest, "a.b/x", "a.b/x:latest"),
            (by_digest, &format!("a.b/x@{digest}"), &format!("m.n/x@{digest} a.b/x@{digest}")),
            (tag_only, "a.b/x", "m.n/x:latest a.b/x:latest"),
            (tag_only, &format!("a.b/x@{digest}"), &format!("a.b/x@{digest}")),
        ] {
            assert_eq!(sources(text, reference), expected, "{text}\n{reference}");
        }
        assert!(sources("[[registry]]\nprefix = 'a.b'\nblocked = true", "a.b/x").contains("is blocked"));
        assert!(sources("[[registry]]\nprefix = 'a.b'\nlocation = 'C'", "a.b/x").contains("upper-case"));
    }

    #[test]
    fn files_lie_over_each_other() {
        let registries = all(&[
            "unqualified-search-registries = ['a.b']\n[aliases]\nx = 'a.b/x'\ny = 'a.b/y'\n[[registry]]\nlocation = 'p.q'\nblocked = true",
            "[aliases]\nx = ''\n[[registry]]\nlocation = 'p.q'",
        ]);
        assert_eq!(registries.search(), ["a.b"]);
        assert_eq!((registries.alias("x"), registries.alias("y")), (None, Some("a.b/y")));
        assert!(registries.sources(&Reference::parse("p.q/x").unwrap()).is_ok());
        assert_eq!(all(&[]).search(), ["docker.io"]);
        assert_eq!(all(&["unqualified-search-registries = []"]).search(), [""; 0]);
    }

    #[test]
    fn version_1() {
        let text = "[registries.search]\nregistries = ['a.b']\n[registries.insecure]\nregistries = ['c.d']\n[registries.block]\nregistries = ['e.f']";
        assert_eq!(all(&[text]).search(), ["a.b"]);
        assert_eq!(sources(text, "c.d/x"), "c.d/x:latest!");
        assert!(sources(text, "e.f/x").contains("is blocked"));
    }
}
