//! Changes an auth.json (containers-auth.json(5)): one entry put in or taken out, everything else kept byte for byte, the file
//! replaced as a whole and closed to others.

use super::credentials::mend;
use crate::{
    error::Explain,
    storage::{ByErrno, replace_small_file},
};
use anyhow::{Context, Result, anyhow};
use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use serde_json::value::RawValue;
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

type Fields = BTreeMap<String, Box<RawValue>>;

/// What becomes of the entries.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// This key gets user and password.
    Put(&'a str, &'a str, &'a str),
    /// This key goes.
    Remove(&'a str),
    /// All go.
    Clear,
}

/// Change the file `path`, which need not exist; false when there was nothing to remove. Of several at a time each sees what
/// those before it did.
///
/// # Errors
/// It is not what it should be, or can't be written.
pub fn change(path: &Path, change: Change<'_>) -> Result<bool> {
    // A link stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("make directory {}", dir.display()))
        .hint_by_errno()?;
    let lock = open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("open {}", dir.display()))?;
    flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("lock {}", dir.display()))?;
    let before = read(&path)?;
    let changed = changed(before.as_deref(), change)
        .with_context(|| format!("change {}", path.display()))
        .hint(mend(&path))?;
    match &changed {
        Some(text) => replace_small_file(&path, text).map(|()| true),
        None => Ok(false),
    }
}

/// The text of the file, if there is one.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some).with_context(|| format!("read credentials from {}", path.display())),
    }
}

/// The text after the change, `None` when nothing changes. Pure.
fn changed(before: Option<&[u8]>, change: Change<'_>) -> Result<Option<Vec<u8>>> {
    // serde_json's message could quote a secret.
    let place = |error: serde_json::Error| anyhow!("line {} is not of the expected form", error.line());
    let mut file: Fields = match before.filter(|text| !text.trim_ascii().is_empty()) {
        Some(text) => serde_json::from_slice(text).map_err(place)?,
        None => Fields::new(),
    };
    let auths = file.get("auths").map(|auths| serde_json::from_str::<Fields>(auths.get()));
    let mut auths = auths.transpose().map_err(place)?.unwrap_or_default();
    match change {
        Change::Put(key, user, password) => {
            let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
            let entry = serde_json::json!({ "auth": auth });
            auths.insert(key.to_owned(), serde_json::value::to_raw_value(&entry)?);
        }
        Change::Remove(key) => {
            let before = auths.len();
            auths.retain(|other, _| !is_same(other, key));
            if auths.len() == before {
                return Ok(None);
            }
        }
        Change::Clear if auths.is_empty() => return Ok(None),
        Change::Clear => auths.clear(),
    }
    file.insert("auths".to_owned(), serde_json::value::to_raw_value(&auths)?);
    let mut text = serde_json::to_vec_pretty(&file).context("encode the credentials")?;
    text.push(b'\n');
    Ok(Some(text))
}

/// Whether an entry `key` is the one that is called `name`: Docker writes URLs.
fn is_same(key: &str, name: &str) -> bool {
    let bare = match key.split_once("://") {
        Some((_, rest)) => rest.split('/').next().unwrap_or(rest),
        None => key,
    };
    let bare = if bare == "index.docker.io" { "docker.io" } else { bare };
    bare == name
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn after(before: Option<&str>, what: Change<'_>) -> Option<Value> {
        let text = changed(before.map(str::as_bytes), what).unwrap()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    #[test]
    fn one_entry_at_a_time() {
        let put = Change::Put("a.b", "u", "p:q");
        let entry = json!({ "auth": "dTpwOnE=" });
        assert_eq!(after(None, put), Some(json!({ "auths": { "a.b": entry } })));
        assert_eq!(after(Some(""), put), Some(json!({ "auths": { "a.b": entry } })));
        let kept = r#"{"credsStore": "x", "n": 1.50, "auths": {"c.d": {"odd": [1]}, "a.b": {"auth": "old"},
            "https://index.docker.io/v1/": {}}}"#;
        let with = after(Some(kept), put).unwrap();
        assert_eq!(with["auths"]["a.b"], entry);
        assert_eq!(with["auths"]["c.d"]["odd"], json!([1]));
        assert_eq!(with["credsStore"], "x");
        let text = String::from_utf8(changed(Some(kept.as_bytes()), put).unwrap().unwrap()).unwrap();
        assert!(text.contains("1.50"), "numbers are kept as they are written");
        for name in ["a.b", "docker.io"] {
            let without = after(Some(kept), Change::Remove(name)).unwrap();
            assert_eq!(without["auths"].as_object().unwrap().len(), 2, "{name}");
        }
        assert_eq!(after(Some(kept), Change::Remove("x.y")), None);
        assert_eq!(after(Some(kept), Change::Clear).unwrap()["auths"], json!({}));
        assert_eq!(after(Some("{}"), Change::Clear), None);
    }

    #[test]
    fn mistakes_quote_nothing() {
        for text in ["[", "[]", r#"{"auths": "secret"}"#] {
            let error = changed(Some(text.as_bytes()), Change::Clear).unwrap_err();
            assert!(!format!("{error:#}").contains("secret"), "{error:#}");
        }
    }
}
