//! Sizes and resource limits (getrlimit(2)) as a user writes them.

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType as Type};

/// One `--ulimit`; where the host grants less, it is cut when it is set. [`UNLIMITED`] stands for no limit; soft is never above hard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ulimit {
    /// What is limited.
    pub resource: Type,
    /// The limit in force, in the resource's own unit.
    pub soft: u64,
    /// How far the container may raise it.
    pub hard: u64,
}

/// RLIM_INFINITY.
pub const UNLIMITED: u64 = u64::MAX;

impl Ulimit {
    /// As the runtime specification writes it.
    pub fn to_rlimit(self) -> Result<PosixRlimit> {
        Ok(PosixRlimitBuilder::default().typ(self.resource).soft(self.soft).hard(self.hard).build()?)
    }
}

/// `NAME=SOFT[:HARD]`, a limit being a number, `-1` or `unlimited`; `host` is None: keep the limits that are.
pub fn parse_ulimit(text: &str) -> Result<Option<Ulimit>> {
    if text == "host" {
        return Ok(None);
    }
    let (name, limits) = text.split_once('=').context("no `=` between name and limit")?;
    let resource = resource(name).with_context(|| format!("{name:?} is no resource"))?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (limit(soft)?, limit(hard)?);
    if soft > hard {
        bail!("the soft limit is above the hard limit");
    }
    Ok(Some(Ulimit { resource, soft, hard }))
}

/// Bytes, with an optional unit: b, k, m, g, t or p, powers of 1024, in either case, `kb` and `kib` alike.
pub fn parse_size(text: &str) -> Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start_matches(' ').to_ascii_lowercase();
    let shift = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if !unit.starts_with('i') => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => bail!("{unit:?} is no unit of b, k, m or g"),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let bytes: u64 = whole.parse().with_context(|| format!("{whole:?} is no number"))?;
    let part = match fraction {
        "" => 0.0,
        digits => format!("0.{digits}").parse().with_context(|| format!("{number:?} is no number"))?,
    };
    let scaled = bytes.checked_mul(1 << shift).context("too large")?;
    scaled.checked_add((part * (1u64 << shift) as f64) as u64).context("too large")
}

fn limit(text: &str) -> Result<u64> {
    match text {
        "-1" | "unlimited" => Ok(UNLIMITED),
        digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().with_context(|| format!("limit {digits} is too large"))
        }
        other => bail!("limit {other:?} is neither a number nor `unlimited`"),
    }
}

fn resource(name: &str) -> Option<Type> {
    let lower = name.to_ascii_lowercase();
    Some(match lower.strip_prefix("rlimit_").unwrap_or(&lower) {
        "as" => Type::RlimitAs,
        "core" => Type::RlimitCore,
        "cpu" => Type::RlimitCpu,
        "data" => Type::RlimitData,
        "fsize" => Type::RlimitFsize,
        "locks" => Type::RlimitLocks,
        "memlock" => Type::RlimitMemlock,
        "msgqueue" => Type::RlimitMsgqueue,
        "nice" => Type::RlimitNice,
        "nofile" => Type::RlimitNofile,
        "nproc" => Type::RlimitNproc,
        "rss" => Type::RlimitRss,
        "rtprio" => Type::RlimitRtprio,
        "rttime" => Type::RlimitRttime,
        "sigpending" => Type::RlimitSigpending,
        "stack" => Type::RlimitStack,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ulimits() {
        for (text, soft, hard) in [
            ("nofile=1024", 1024, 1024),
            ("nofile=1024:2048", 1024, 2048),
            ("RLIMIT_NOFILE=1:unlimited", 1, UNLIMITED),
            ("NOFILE=-1", UNLIMITED, UNLIMITED),
        ] {
            let expected = Ulimit { resource: Type::RlimitNofile, soft, hard };
            assert_eq!(parse_ulimit(text).unwrap(), Some(expected), "{text}");
        }
        assert_eq!(parse_ulimit("host").unwrap(), None);
        for bad in [
            "", "nofile", "nofile=", "nofile=a", "files=1", "nofile=2:1", "nofile=-2", "nofile=1:2:3", "nofile=+1",
            "nofile=18446744073709551616", "=1", "nofile=unlimited:1",
        ] {
            assert!(parse_ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("1k", 1024),
            ("65536k", 64 << 20),
            ("64M", 64 << 20),
            ("64mb", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("1 g", 1 << 30),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "m", "-1", "1x", "1.2.3", "1mm", "1ib", ".5g", "17179869184g", "1m ", "0x10", "1e3"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_limit_written_is_a_limit_read(soft: u64, above in 0..u64::MAX) {
            let hard = soft.saturating_add(above);
            let read = parse_ulimit(&format!("core={soft}:{hard}")).unwrap();
            prop_assert_eq!(read, Some(Ulimit { resource: Type::RlimitCore, soft, hard }));
        }

        #[test]
        fn nothing_panics(text: String) {
            let _ = (parse_ulimit(&text), parse_size(&text));
        }
    }
}
