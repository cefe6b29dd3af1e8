//! One file of containers-registries.conf(5). Pure: text in, settings out; the files are found by
//! [`super::registries_files`] and laid over each other by [`super::registries`].

use serde::Deserialize;
use std::{collections::BTreeMap, fmt};
use toml::Spanned;

/// What one file says.
#[derive(Clone, Debug)]
pub struct Fragment {
    pub(super) search: Option<Vec<String>>,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) mode: Option<ShortNameMode>,
    pub(super) tables: Vec<Table>,
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
pub(super) struct Table {
    pub(super) prefix: String,
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    pub(super) mirrors: Vec<Mirror>,
}

#[derive(Clone, Debug)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) when: MirrorFor,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum MirrorFor {
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
