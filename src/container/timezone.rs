//! `--tz`: the host's description of a time zone becomes the container's /etc/localtime, whatever the image has.

use crate::error::Explain;
use anyhow::{Result, anyhow, bail};
use std::{fs::File, io::Read, path::PathBuf};

/// A time zone, in the format of tzfile(5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timezone(pub Vec<u8>);

const LIMIT: u64 = 64 << 10;

/// Read the zone `name` (`Europe/Berlin`), or the host's own (`local`), from the host's time zone database. The host's
/// own may be unset, which means UTC.
pub fn read(name: &str) -> Result<Timezone> {
    let path = file_of(name)?;
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(LIMIT).read_to_end(&mut text));
    match read {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound && name == "local" => return read("UTC"),
        Err(cause) => Err(anyhow!("read {}: {cause}", path.display()))
            .hint("`timedatectl list-timezones` names the zones; tzdata is the package that has them")?,
        Ok(_) if !text.starts_with(b"TZif") => bail!("{} describes no time zone", path.display()),
        Ok(_) => {}
    }
    Ok(Timezone(text))
}

fn file_of(name: &str) -> Result<PathBuf> {
    if name == "local" {
        return Ok("/etc/localtime".into());
    }
    // No dots: a name can't leave the database.
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+'))
    };
    if !name.split('/').all(part) {
        bail!("not the name of a time zone");
    }
    Ok(PathBuf::from("/usr/share/zoneinfo").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_database() {
        assert_eq!(file_of("Europe/Berlin").unwrap().to_str(), Some("/usr/share/zoneinfo/Europe/Berlin"));
        assert_eq!(file_of("Etc/GMT+5").unwrap().to_str(), Some("/usr/share/zoneinfo/Etc/GMT+5"));
        assert_eq!(file_of("local").unwrap().to_str(), Some("/etc/localtime"));
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a\nb", "."] {
            assert!(file_of(bad).is_err(), "{bad}");
        }
    }
}
