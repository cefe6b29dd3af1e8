//! Identifiers that become file names: a value of these types can't leave its directory.

use super::digest::hex;
use crate::weakened;
use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustix::rand::{GetRandomFlags, getrandom};
use std::{fmt, path::Path, str::FromStr};

/// A container's id: 64 lower-case hex digits, random.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// A new random id (getrandom(2)).
    pub fn random() -> Result<ContainerId> {
        let mut bytes = [0; 32];
        getrandom(&mut bytes, GetRandomFlags::empty()).context("get 32 random bytes")?;
        Ok(ContainerId(hex(&bytes)))
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the target of a symbolic link: the same 32 bytes in 43 characters, so that the link needs no block of its own
    /// (ext4 keeps up to 59 in the inode).
    pub(super) fn to_link(&self) -> String {
        let digit = |b: u8| (b as char).to_digit(16).unwrap_or_default() as u8;
        let bytes: Vec<u8> =
            self.0.as_bytes().chunks(2).map(|two| digit(two[0]) << 4 | digit(two[1])).collect();
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Back from a link's target, which may also be the 64 digits.
    pub(super) fn from_link(link: &Path) -> Option<ContainerId> {
        let link = link.to_str()?;
        let decoded = || BASE64_URL_SAFE_NO_PAD.decode(link).ok().filter(|bytes| bytes.len() == 32);
        link.parse().ok().or_else(|| decoded().map(|bytes| ContainerId(hex(&bytes))))
    }

    /// The 12 digits that listings, the host name and the prompt show.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for ContainerId {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<ContainerId> {
        if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            bail!("{:?} is not a container id of 64 hex digits", text.chars().take(80).collect::<String>());
        }
        Ok(ContainerId(text.to_owned()))
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<ContainerId> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

/// A name that a user gives: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 255 bytes (podman-run(1), `--name`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Name> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if text.parse::<ContainerId>().is_ok() {
            bail!("{text:?} is the form of a container's id, which no name may have");
        }
        if (!first || !rest || text.len() > 255) && !weakened::is("names") {
            let shown: String = text.chars().take(80).collect();
            bail!(
                "{shown:?} is not a name: names match [a-zA-Z0-9][a-zA-Z0-9_.-]* and have at most 255 bytes"
            );
        }
        Ok(Name(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Name> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_fits_into_a_link() {
        let id = ContainerId::random().unwrap();
        assert_eq!(id.to_link().len(), 43);
        for link in [id.to_link(), id.to_string()] {
            assert_eq!(ContainerId::from_link(Path::new(&link)), Some(id.clone()));
        }
        for other in ["", "x", &id.to_link()[1..], &id.as_str()[1..]] {
            assert_eq!(ContainerId::from_link(Path::new(other)), None);
        }
    }
}
