//! Secrets: `secrets/<name>`, one file of mode 0600 with all there is to know about one, so that it is there or not, and
//! replaced as a whole.

use super::{Name, Store, small_file, store::sync_directory};
use crate::error::Explain;
use anyhow::{Context, Result, anyhow, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, fs, io::ErrorKind};

/// Bytes that a secret has less than (podman-secret-create(1)).
pub const SECRET_LIMIT: usize = 512_000;

/// A secret. Printed for debugging it does not tell its data.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secret {
    /// 25 hex digits.
    pub id: String,
    /// Its name.
    pub name: Name,
    /// When it was made.
    pub created: Timestamp,
    /// When its data was replaced last.
    pub updated: Timestamp,
    /// Metadata for listings.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    data: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.name)
    }
}

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// It is empty, or has [`SECRET_LIMIT`] bytes or more.
    pub fn new(name: Name, data: &[u8], labels: BTreeMap<String, String>) -> Result<Secret> {
        if data.is_empty() || data.len() >= SECRET_LIMIT {
            return Err(anyhow!("secret data must be larger than 0 and less than {SECRET_LIMIT} bytes"))
                .hint("a larger file can be mounted: `ctr run -v FILE:/run/secrets/NAME:ro …`");
        }
        let mut bytes = [0; 13];
        getrandom(&mut bytes, GetRandomFlags::empty()).context("get 13 random bytes")?;
        let id = super::digest::hex(&bytes)[1..].to_owned();
        let now = Timestamp::now();
        Ok(Secret { id, name, created: now, updated: now, labels, data: BASE64_STANDARD.encode(data) })
    }

    /// What is secret.
    pub fn data(&self) -> Result<Vec<u8>> {
        BASE64_STANDARD.decode(&self.data).with_context(|| format!("read secret {}", self.name))
    }
}

impl Store {
    /// Keep `secret`. With `replace` it takes the place of one of its name; else that one is in the way.
    pub fn create_secret(&self, secret: &Secret, replace: bool) -> Result<()> {
        let json = serde_json::to_vec(secret).context("encode a secret")?;
        match self.put_record(SECRETS, &secret.name, &json, replace)? {
            true => Ok(()),
            false => Err(anyhow!("{}: secret name in use", secret.name))
                .hint(format!("`ctr secret create --replace {}` replaces it", secret.name)),
        }
    }

    /// The secret that `given` names: its name, its id, or the beginning of its id.
    ///
    /// # Errors
    /// There is none.
    pub fn find_secret(&self, given: &str) -> Result<Secret> {
        if let Ok(name) = given.parse()
            && let Some(secret) = self.secret(&name)?
        {
            return Ok(secret);
        }
        let mut alike = self.secrets()?.into_iter().filter(|s| !given.is_empty() && s.id.starts_with(given));
        let shown: String = given.chars().take(80).collect();
        match (alike.next(), alike.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => bail!("more than one secret's id begins with {shown:?}"),
            _ => Err(anyhow!("no secret with name or id {shown:?}: no such secret"))
                .hint("`ctr secret ls` lists what there is; `ctr secret create NAME FILE` makes one"),
        }
    }

    /// All secrets by name.
    pub fn secrets(&self) -> Result<Vec<Secret>> {
        let names = self.record_names(SECRETS)?;
        names.iter().filter_map(|name| self.secret(name).transpose()).collect()
    }

    /// Remove the secret `name`; false: there is none.
    pub fn remove_secret(&self, name: &Name) -> Result<bool> {
        match fs::remove_file(self.secret_path(name)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            removed => {
                removed.with_context(|| format!("remove secret {name}"))?;
                sync_directory(&self.directory(SECRETS))?;
                Ok(true)
            }
        }
    }

    /// The secret called `name`, if there is one.
    pub fn secret(&self, name: &Name) -> Result<Option<Secret>> {
        let doing = || format!("read secret {name}");
        let Some(text) = small_file::read(&self.secret_path(name)).with_context(doing)? else {
            return Ok(None);
        };
        // Never serde's own words: they quote what they could not read.
        serde_json::from_slice(&text).map(Some).map_err(|_| anyhow!("it is damaged")).with_context(doing)
    }

    fn secret_path(&self, name: &Name) -> std::path::PathBuf {
        self.directory(SECRETS).join(name.as_str())
    }
}

const SECRETS: &str = "secrets";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::store::test_store;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn kept_replaced_and_removed() {
        let (_temp, store) = test_store();
        let name: Name = "s".parse().unwrap();
        let secret = |data: &[u8]| Secret::new(name.clone(), data, BTreeMap::new());
        assert!(secret(b"").is_err() && secret(&[0; SECRET_LIMIT]).is_err());
        assert!(secret(&[0; SECRET_LIMIT - 1]).is_ok());
        store.create_secret(&secret(b"\0one").unwrap(), false).unwrap();
        assert!(store.create_secret(&secret(b"two").unwrap(), false).is_err());
        let found = store.find_secret("s").unwrap();
        assert_eq!((found.data().unwrap(), found.id.len()), (b"\0one".to_vec(), 25));
        assert!(!format!("{found:?}").contains("one") && !format!("{found:?}").contains(&found.data));
        assert_eq!(store.find_secret(&found.id[..6]).unwrap().id, found.id);
        store.create_secret(&secret(b"two").unwrap(), true).unwrap();
        assert_eq!(store.find_secret("s").unwrap().data().unwrap(), b"two");
        let mode = fs::metadata(store.secret_path(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert!(store.remove_secret(&name).unwrap() && !store.remove_secret(&name).unwrap());
        assert!(store.secrets().unwrap().is_empty());
    }
}
