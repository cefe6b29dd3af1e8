//! Credentials as Podman and Docker keep them: containers-auth.json(5) and ~/.docker/config.json, with the credential helpers
//! that these name.

use super::{credential_helper, reference::DOCKER_HUB};
use crate::{error::Explain, storage::Dirs, weakened};
use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    env, fmt, fs, io,
    path::{Path, PathBuf},
};

/// How to prove who we are. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User and password (or access token).
    Password(String, String),
    /// An OAuth2 refresh token, for the token server alone.
    Identity(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// The credentials for `registry/repository` in `file`, else in the first file that Podman would read and that has some.
///
/// # Errors
/// A file can't be read or isn't what it should be.
pub fn find(
    dirs: &Dirs,
    file: Option<&PathBuf>,
    registry: &str,
    repository: &str,
) -> Result<Option<Credentials>> {
    let (files, must_exist) = match chosen_file(file) {
        Some(file) => (vec![file], true),
        None => (usual_files(dirs), false),
    };
    for path in files {
        let text = match fs::read(&path) {
            Err(error) if !must_exist && absent(&error) => continue,
            text => text.with_context(|| format!("read credentials from {}", path.display()))?,
        };
        let found = File::parse(&text)
            .and_then(|file| file.find(&path, registry, repository))
            .with_context(|| format!("read credentials from {}", path.display()))
            .hint(mend(&path))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// What to do about a file that is not of the expected form.
pub fn mend(path: &Path) -> String {
    format!("mend or remove {}; man containers-auth.json describes it", path.display())
}

/// The file that login and logout change (podman-login(1)).
pub fn own_file(dirs: &Dirs, file: Option<&PathBuf>) -> PathBuf {
    chosen_file(file).or_else(|| runtime_file(dirs)).unwrap_or_else(|| {
        // No login session: what dies with the boot is here.
        dirs.runtime.parent().unwrap_or(&dirs.runtime).join("containers/auth.json")
    })
}

/// Whether the user names one file, in place of all usual ones.
pub fn is_chosen(file: Option<&PathBuf>) -> bool {
    chosen_file(file).is_some()
}

fn chosen_file(file: Option<&PathBuf>) -> Option<PathBuf> {
    file.cloned().or_else(|| path_in("REGISTRY_AUTH_FILE", ""))
}

/// The credentials for `registry/repository` in the text of such a file: the entry with the longest matching path wins.
/// Pure.
pub fn parse(text: &[u8], registry: &str, repository: &str) -> Result<Option<Credentials>> {
    File::parse(text)?.entry(registry, repository)
}

fn matched(whole: &str, key: &str) -> Option<usize> {
    if weakened::is("credential-hosts") {
        return Some(0);
    }
    // Docker writes `https://index.docker.io/v1/`; a path after a scheme says nothing.
    let key = match key.split_once("://") {
        Some((_, rest)) => rest.split('/').next().unwrap_or(rest),
        None => key.trim_end_matches('/'),
    };
    let (host, path) = key.split_once('/').map_or((key, None), |(host, path)| (host, Some(path)));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        host => host,
    };
    let rest = whole.strip_prefix(host)?.strip_prefix('/')?;
    let Some(path) = path else { return Some(host.len()) };
    let after = rest.strip_prefix(path)?;
    (after.is_empty() || after.starts_with('/')).then_some(host.len() + 1 + path.len())
}

fn usual_files(dirs: &Dirs) -> Vec<PathBuf> {
    let user = dirs.config.parent().unwrap_or(&dirs.config);
    let files = [
        Some(own_file(dirs, None)),
        Some(user.join("containers/auth.json")),
        path_in("HOME", ".config/containers/auth.json"),
        path_in("DOCKER_CONFIG", "config.json").or_else(|| path_in("HOME", ".docker/config.json")),
    ];
    files.into_iter().flatten().collect()
}

fn runtime_file(dirs: &Dirs) -> Option<PathBuf> {
    match dirs.runtime.parent() {
        // As root, Podman keeps them below /run.
        Some(run) if run == Path::new("/run") => Some(run.join("containers/0/auth.json")),
        _ => path_in("XDG_RUNTIME_DIR", "containers/auth.json"),
    }
}

fn path_in(variable: &str, below: &str) -> Option<PathBuf> {
    let dir = PathBuf::from(env::var_os(variable).filter(|value| !value.is_empty())?);
    Some(if below.is_empty() { dir } else { dir.join(below) })
}

fn absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

impl File {
    fn parse(text: &[u8]) -> Result<File> {
        // serde_json's message could quote a secret: only the place is told.
        serde_json::from_slice(text)
            .map_err(|error| anyhow::anyhow!("line {} is not of the expected form", error.line()))
    }

    /// Like Podman, a helper for this registry first; then an entry; then Docker's helper for everything.
    fn find(&self, path: &Path, registry: &str, repository: &str) -> Result<Option<Credentials>> {
        if let Some((helper, server)) = self.helper(registry)
            && let Some(found) = credential_helper::get(helper, server)?
        {
            return Ok(Some(found));
        }
        let entry = self.entry(registry, repository)?;
        let Some(helper) = self.store().filter(|_| entry.is_none()) else { return Ok(entry) };
        // Docker's settings are often copied to where its desktop is not.
        credential_helper::get_if_installed(helper, server_at(path, registry))
    }

    /// The helper for `registry` alone, and by which name it knows it.
    fn helper<'a>(&'a self, registry: &'a str) -> Option<(&'a str, &'a str)> {
        let mut names = vec![registry];
        if registry == DOCKER_HUB {
            names.extend([DOCKER_KEY, "index.docker.io"]);
        }
        names.into_iter().find_map(|name| {
            let helper = self.cred_helpers.get(name).filter(|helper| !helper.is_empty())?;
            // Docker asks for its Hub by the key of its own file.
            Some((
                helper.as_str(),
                if name == DOCKER_HUB {
                    name
                } else if registry == DOCKER_HUB {
                    DOCKER_KEY
                } else {
                    name
                },
            ))
        })
    }

    fn store(&self) -> Option<&str> {
        self.creds_store.as_deref().filter(|helper| !helper.is_empty())
    }

    fn entry(&self, registry: &str, repository: &str) -> Result<Option<Credentials>> {
        let whole = format!("{registry}/{repository}");
        let mut best: Option<(usize, &Entry)> = None;
        for (key, entry) in &self.auths {
            let Some(length) = matched(&whole, key) else { continue };
            if !entry.is_empty() && best.is_none_or(|(longest, _)| length > longest) {
                best = Some((length, entry));
            }
        }
        best.map(|(_, entry)| entry.credentials()).transpose()
    }
}

/// How Docker files its Hub.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// What the helper for everything in the file `path` calls `registry`.
pub fn server_at<'a>(path: &Path, registry: &'a str) -> &'a str {
    let docker = path.file_name().is_some_and(|name| name == "config.json");
    if docker && registry == DOCKER_HUB { DOCKER_KEY } else { registry }
}

/// The helper that keeps the password for `registry` in the file with this text, and by which name.
pub fn keeper(text: &[u8], path: &Path, registry: &str) -> Result<Option<(String, String)>> {
    let file = File::parse(text)?;
    let own = file.helper(registry);
    let keeper = own.or_else(|| Some((file.store()?, server_at(path, registry))));
    Ok(keeper.map(|(helper, server)| (helper.to_owned(), server.to_owned())))
}

/// All registries that have a helper of their own in the file with this text, and their helpers.
pub fn keepers(text: &[u8]) -> Result<Vec<(String, String)>> {
    Ok(File::parse(text)?.cred_helpers.into_iter().collect())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl Entry {
    fn is_empty(&self) -> bool {
        let texts = [&self.auth, &self.username, &self.identitytoken];
        texts.into_iter().flatten().all(String::is_empty)
    }

    fn credentials(&self) -> Result<Credentials> {
        if let Some(token) = self.identitytoken.clone().filter(|token| !token.is_empty()) {
            return Ok(Credentials::Identity(token));
        }
        if let Some(auth) = self.auth.as_deref().filter(|auth| !auth.is_empty()) {
            let decoded =
                BASE64_STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            // Docker once padded the password with NUL.
            if let Some((user, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) {
                return Ok(Credentials::Password(
                    user.to_owned(),
                    password.trim_end_matches('\0').to_owned(),
                ));
            }
            bail!("an \"auth\" is not the base64 of user:password");
        }
        Ok(Credentials::Password(
            self.username.clone().unwrap_or_default(),
            self.password.clone().unwrap_or_default(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, registry: &str, repository: &str) -> String {
        match parse(text.as_bytes(), registry, repository) {
            Ok(None) => "none".into(),
            Ok(Some(Credentials::Password(user, password))) => format!("{user} {password}"),
            Ok(Some(Credentials::Identity(token))) => format!("token {token}"),
            Err(error) => format!("error {error:#}"),
        }
    }

    #[test]
    fn entries() {
        let file = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "a.b": {"auth": "YTpiOmM="},
            "a.b/team": {"username": "u", "password": "p"},
            "a.b:5000": {"identitytoken": "t", "auth": "eDo="},
            "http://old.example.com": {"auth": "b2xkOnB3AAA="},
            "helper.example.com": {},
            "broken.example.com": {"auth": "%%"}
          }, "credHelpers": {"x": "y"}, "credsStore": "z"}"#;
        for (registry, repository, expected) in [
            ("docker.io", "library/ubuntu", "hub pw"),
            ("a.b", "x", "a b:c"),
            ("a.b", "team/x", "u p"),
            ("a.b", "team", "u p"),
            ("a.b", "teams", "a b:c"),
            ("a.b:5000", "x", "token t"),
            ("a.b.c", "x", "none"),
            ("evil-a.b", "x", "none"),
            ("old.example.com", "x", "old pw"),
            ("helper.example.com", "x", "none"),
        ] {
            assert_eq!(shown(file, registry, repository), expected, "{registry}/{repository}");
        }
        assert!(shown(file, "broken.example.com", "x").contains("base64"));
        assert_eq!(shown("{}", "a.b", "x"), "none");
        assert_eq!(
            shown("{\n\"auths\": {\"secret\": 1}}", "a.b", "x"),
            "error line 2 is not of the expected form"
        );
    }
}
