//! Platforms of images (image-index.md, "platform"; GOOS and GOARCH names) and the choice among those an index offers.
//! Pure.

use anyhow::{Result, bail};
use std::{fmt, str::FromStr};

/// `os/architecture[/variant]`, in normal form: `x86_64` is `amd64`, a variant that is its architecture's baseline is
/// left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// The platform that this machine runs.
    pub fn host() -> Platform {
        Platform::new("linux", std::env::consts::ARCH, None)
    }

    /// This machine's, but for what is given (podman-pull(1), `--os`, `--arch`, `--variant`).
    pub fn like_host(os: Option<&str>, architecture: Option<&str>, variant: Option<&str>) -> Platform {
        Platform::new(os.unwrap_or("linux"), architecture.unwrap_or(std::env::consts::ARCH), variant)
    }

    /// From the fields of an image's config or of an index.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let (architecture, implied) = match architecture {
            "x86_64" | "x86-64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "x86" | "i386" | "i686" => ("386", None),
            "armhf" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v6")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        let variant = variant.filter(|variant| !variant.is_empty()).or(implied);
        let baseline = variant.and_then(level).is_some_and(|level| baseline(architecture) == Some(level));
        Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.filter(|_| !baseline).map(str::to_owned),
        }
    }

    /// Its architecture, as GOARCH spells it.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// This, with the variant of `offer` (an entry of an index) where the image itself says none.
    pub fn refined(self, offer: Option<&Platform>) -> Platform {
        let same = |offer: &&Platform| (&offer.os, &offer.architecture) == (&self.os, &self.architecture);
        let variant = offer.filter(same).and_then(|offer| offer.variant.clone());
        Platform { variant: self.variant.or(variant), ..self }
    }

    /// How far `offered` is from what is wanted: 0 is exact; `None` can't run here. A lower level of the same
    /// architecture runs (arm/v6 on arm/v7, amd64 on amd64/v3).
    pub fn distance(&self, offered: &Platform) -> Option<u32> {
        if (&self.os, &self.architecture) != (&offered.os, &offered.architecture) {
            return None;
        }
        if self.variant == offered.variant {
            return Some(0);
        }
        let level = |platform: &Platform| match &platform.variant {
            Some(variant) => level(variant),
            None => baseline(&platform.architecture),
        };
        level(self)?.checked_sub(level(offered)?)
    }
}

/// `v7` is 7.
fn level(variant: &str) -> Option<u32> {
    variant.strip_prefix('v')?.parse().ok()
}

/// The level that is meant when no variant is given.
fn baseline(architecture: &str) -> Option<u32> {
    match architecture {
        "amd64" => Some(1),
        "arm" => Some(7),
        "arm64" => Some(8),
        _ => None,
    }
}

impl FromStr for Platform {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Platform> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            !part.is_empty() && part.len() <= 32 && part.bytes().all(sound)
        };
        match parts.as_slice() {
            all if !all.iter().all(word) => {}
            [os, architecture] => return Ok(Platform::new(os, architecture, None)),
            [os, architecture, variant] => return Ok(Platform::new(os, architecture, Some(variant))),
            _ => {}
        }
        bail!(
            "{:?} is not a platform such as linux/amd64 or linux/arm/v7",
            text.chars().take(80).collect::<String>()
        )
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (typed, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/armhf", "linux/arm"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/s390x", "linux/s390x"),
        ] {
            assert_eq!(typed.parse::<Platform>().unwrap().to_string(), shown);
        }
        for typed in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "linux/amd64/"] {
            assert!(typed.parse::<Platform>().is_err(), "{typed}");
        }
    }

    #[test]
    fn what_runs_where() {
        for (wanted, offered, distance) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v2", None),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/amd64", "linux/arm64", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/amd64", "unknown/unknown", None),
            ("linux/arm", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm/v5", "linux/arm/v5", Some(0)),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/mips/x", "linux/mips/y", None),
        ] {
            let parsed = |text: &str| text.parse::<Platform>().unwrap();
            assert_eq!(parsed(wanted).distance(&parsed(offered)), distance, "{wanted} {offered}");
        }
    }
}
