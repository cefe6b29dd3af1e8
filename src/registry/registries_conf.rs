//! containers-registries.conf(5): which registries a short name may mean, and where the images of a registry really are.
//! Pure: text in, settings out; the files are found by [`super::registries_files`].

use super::reference::{DOCKER_HUB, Reference, Target};
use crate::error::Explain;
use anyhow::{Result, anyhow};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt};
use toml::Spanned;

/// What all files together say.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    search: Option<Vec<String>>,
    aliases: BTreeMap<String, String>,
    mode: ShortNameMode,
    tables: Vec<Table>,
}

/// What one file says.
#[derive(Clone, Debug)]
pub struct Fragment {
    search: Option<Vec<String>>,
    aliases: BTreeMap<String, String>,
    mode: Option<ShortNameMode>,
    tables: Vec<Table>,
}

/// Whether a short name may be looked for in several registries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShortNameMode {
    /// Never when there is more than one.
    Enforcing,
    /// One after the other.
    #[default]
    Permissive,
    /// One after the other.
    Disabled,
}

/// One place to fetch an image from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What to ask for there.
    pub reference: Reference,
    /// May be plain http or have any certificate.
    pub insecure: bool,
}

/// A mistake in a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where, from 1; 0 when it is nowhere in particular.
    pub line: usize,
    /// What.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}

/// One `[[registry]]` table.
#[derive(Clone, Debug)]
struct Table {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
}

#[derive(Clone, Debug)]
struct Mirror {
    location: String,
    insecure: bool,
    when: MirrorFor,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum MirrorFor {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

/// Parse one file, of version 2 or of version 1. Pure. Keys we have no use for are passed over, as Podman does.
pub fn parse(text: &str) -> Result<Fragment, Mistake> {
    let file: File = toml::from_str(text).map_err(|error| Mistake {
        line: error.span().map_or(0, |span| line_at(text, span.start)),
        message: error.message().trim().replace('\n', ", "),
    })?;
    let mistake = |at: usize, message: String| Mistake { line: line_at(text, at), message };
    let mut fragment = Fragment {
        search: file.search,
        aliases: file.aliases,
        mode: file.mode,
        tables: Vec::with_capacity(file.registry.len()),
    };
    for spanned in file.registry {
        let at = spanned.span().start;
        let table = table(spanned.into_inner()).map_err(|message| mistake(at, message))?;
        fragment.tables.push(table);
    }
    if let Some(v1) = file.registries {
        let at = v1.span().start;
        if fragment.search.is_some() || !fragment.tables.is_empty() {
            return Err(mistake(
                at,
                "[registries] is version 1 of the format and can't be mixed with version 2".into(),
            ));
        }
        add_version_1(&mut fragment, v1.into_inner());
    }
    Ok(fragment)
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

fn table(raw: RawTable) -> Result<Table, String> {
    let place = |text: Option<String>| -> Result<String, String> {
        let text = text.unwrap_or_default();
        match text.contains("://") {
            true => Err(format!("location {text:?}: a location has no URL scheme")),
            false => Ok(text.trim_end_matches('/').to_owned()),
        }
    };
    let mut location = place(raw.location)?;
    let prefix = match place(raw.prefix)? {
        prefix if prefix.is_empty() => location.clone(),
        prefix => prefix,
    };
    if prefix.is_empty() {
        return Err("[[registry]] has neither prefix nor location".into());
    }
    if prefix.contains('*') && (!prefix.starts_with("*.") || prefix[1..].contains(['*', '/'])) {
        return Err(format!("prefix {prefix:?}: a wildcard has the form *.example.com"));
    }
    if location.is_empty() && !prefix.starts_with('*') {
        location.clone_from(&prefix);
    }
    let mut mirrors = Vec::with_capacity(raw.mirror.len());
    for mirror in raw.mirror {
        let when = match (raw.mirror_by_digest_only, mirror.when) {
            (true, Some(_)) => {
                return Err("mirror-by-digest-only and pull-from-mirror exclude each other".into());
            }
            (true, None) => MirrorFor::DigestOnly,
            (false, when) => when.unwrap_or_default(),
        };
        let location = place(mirror.location)?;
        if location.is_empty() {
            return Err("[[registry.mirror]] has no location".into());
        }
        mirrors.push(Mirror { location, insecure: mirror.insecure, when });
    }
    Ok(Table { prefix, location, insecure: raw.insecure, blocked: raw.blocked, mirrors })
}

fn add_version_1(fragment: &mut Fragment, v1: Version1) {
    fragment.search = v1.search.map(|list| list.registries);
    let insecure = v1.insecure.unwrap_or_default().registries;
    let blocked = v1.block.unwrap_or_default().registries;
    for prefix in insecure.iter().chain(blocked.iter().filter(|name| !insecure.contains(name))) {
        fragment.tables.push(Table {
            prefix: prefix.clone(),
            location: prefix.clone(),
            insecure: insecure.contains(prefix),
            blocked: blocked.contains(prefix),
            mirrors: Vec::new(),
        });
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(rename = "unqualified-search-registries")]
    search: Option<Vec<String>>,
    #[serde(rename = "short-name-mode")]
    mode: Option<ShortNameMode>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    #[serde(default)]
    registry: Vec<Spanned<RawTable>>,
    registries: Option<Spanned<Version1>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawTable {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<RawMirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(rename = "pull-from-mirror")]
    when: Option<MirrorFor>,
}

#[derive(Deserialize)]
struct Version1 {
    search: Option<List>,
    insecure: Option<List>,
    block: Option<List>,
}

#[derive(Default, Deserialize)]
struct List {
    #[serde(default)]
    registries: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn mistakes_have_a_line() {
        for (text, line, part) in [
            ("a = 1\nb =", 2, ""),
            ("unqualified-search-registries = 'x'", 1, "expected"),
            ("short-name-mode = 'maybe'", 1, "maybe"),
            ("\n[[registry]]\nblocked = true", 2, "neither prefix nor location"),
            ("\n[[registry]]\nlocation = 'https://a.b'", 2, "no URL scheme"),
            ("[[registry]]\nprefix = 'a.*.b'", 1, "wildcard"),
            ("[[registry]]\nprefix = '*.b/x'", 1, "wildcard"),
            ("[[registry]]\nlocation = 'a.b'\n[[registry.mirror]]\ninsecure = true", 1, "no location"),
            (
                "[[registry]]\nlocation = 'a.b'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'c'\npull-from-mirror = 'all'",
                1,
                "exclude",
            ),
            ("unqualified-search-registries = []\n[registries.search]\nregistries = []", 2, "version 1"),
        ] {
            let mistake = parse(text).unwrap_err();
            assert!(mistake.line == line && mistake.message.contains(part), "{text}: {mistake:?}");
        }
    }
}
