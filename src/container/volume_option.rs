//! `--volume [[SOURCE-VOLUME|HOST-DIR:]CONTAINER-DIR[:OPTIONS]]` and `--volumes-from CONTAINER[:OPTIONS]` (podman-run(1)). Pure:
//! a relative path stays one.

use super::user_mount::{Source, UserMount, complete, parse_target};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// One `--volume`.
pub fn parse(text: &str) -> Result<UserMount> {
    let parts = split(text);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => bail!("not of the form [SOURCE:]DESTINATION[:OPTIONS]"),
    };
    if source == Some("") {
        bail!("the source is empty");
    }
    let target = parse_target(target)?;
    let words: Vec<&str> = options.split(',').filter(|word| !word.is_empty()).collect();
    let path = source.filter(|source| source.starts_with(['/', '.'])).map(PathBuf::from);
    let overlay = words.contains(&"O");
    let source = match (path, source) {
        (Some(path), _) if overlay => return overlaid(path, target, &words),
        (_, Some(_)) | (None, None) if overlay => {
            bail!("an overlay is made over a directory of the host, not over a volume")
        }
        (Some(path), _) => Source::Bind { path },
        (None, name) => {
            let name = name.map(str::parse).transpose()?;
            Source::Volume { anonymous: name.is_none(), name, subpath: None, path: PathBuf::new() }
        }
    };
    let overlay_word =
        words.iter().find(|word| word.starts_with("upperdir=") || word.starts_with("workdir="));
    if let Some(word) = overlay_word {
        bail!("{word} needs the option O");
    }
    let propagates = |word: &&&str| {
        let word = word.strip_prefix('r').unwrap_or(word);
        matches!(word, "shared" | "slave" | "unbindable")
    };
    if let (Source::Volume { .. }, Some(word)) = (&source, words.iter().find(propagates)) {
        bail!("{word}: only mounts of the host are propagated, not volumes");
    }
    let options = complete(&words, matches!(source, Source::Volume { .. }))?;
    Ok(UserMount { source, target, options })
}

fn overlaid(path: PathBuf, target: PathBuf, words: &[&str]) -> Result<UserMount> {
    let dir = |key: &str| {
        words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).map(PathBuf::from)
    };
    let other = words.iter().find(|word| {
        !matches!(**word, "O" | "U") && !word.starts_with("upperdir=") && !word.starts_with("workdir=")
    });
    if let Some(other) = other {
        bail!("O can't be used with {other}: only with U, upperdir and workdir");
    }
    let upper = match (dir("upperdir"), dir("workdir")) {
        (None, None) => None,
        (Some(upper), Some(work)) => Some((upper, work)),
        _ => bail!("upperdir and workdir need each other"),
    };
    // Their syntax is that of the others.
    complete(words, false)?;
    let options = words.iter().filter(|word| **word == "U").map(|word| (*word).to_owned()).collect();
    Ok(UserMount { source: Source::Overlay { path, upper }, target, options })
}

/// One `--volumes-from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumesFrom {
    /// Name or id.
    pub container: String,
    /// In place of what they have there.
    pub read_only: Option<bool>,
}

/// `CONTAINER[:ro|rw][,z]`.
pub fn parse_from(text: &str) -> Result<VolumesFrom> {
    let (container, options) = text.split_once(':').unwrap_or((text, ""));
    if container.is_empty() {
        bail!("it names no container");
    }
    let mut from = VolumesFrom { container: container.to_owned(), read_only: None };
    for word in options.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" | "rw" if from.read_only.is_none() => from.read_only = Some(word == "ro"),
            "ro" | "rw" => bail!("only one of rw and ro can be given"),
            "z" => {}
            _ => bail!("{word:?}: invalid option: ro, rw and z are"),
        }
    }
    Ok(from)
}

/// What becomes of the VOLUMEs of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageVolumes {
    /// Anonymous volumes.
    #[default]
    Bind,
    /// Kept in memory, and gone with the container.
    Tmpfs,
    /// Directories like all others.
    Ignore,
}

/// `bind`, `tmpfs` or `ignore`.
pub fn parse_image_volumes(text: &str) -> Result<ImageVolumes> {
    match text {
        "bind" | "anonymous" => Ok(ImageVolumes::Bind),
        "tmpfs" => Ok(ImageVolumes::Tmpfs),
        "ignore" => Ok(ImageVolumes::Ignore),
        _ => bail!("it is none of bind, tmpfs and ignore"),
    }
}

/// At its colons; `\:` is none.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, parts.last_mut()) {
            (':', _) => parts.push(String::new()),
            ('\\', Some(part)) if rest.peek() == Some(&':') => part.extend(rest.next()),
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    parts
}

/// The size of a file system in memory: `limits::parse_size`, of which the kernel knows fewer units.
pub fn size_option(value: &str) -> Result<String> {
    let percent =
        value.strip_suffix('%').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    match percent {
        true => Ok(format!("size={value}")),
        false => Ok(format!("size={}", super::limits::parse_size(value).context("size")?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String> {
        let mount = parse(text)?;
        let source = match mount.source {
            Source::Bind { path } => format!("bind {}", path.display()),
            Source::Overlay { path, upper: None } => format!("overlay {}", path.display()),
            Source::Overlay { path, upper: Some((upper, work)) } => {
                format!("overlay {} {} {}", path.display(), upper.display(), work.display())
            }
            Source::Volume { name, anonymous, .. } => {
                format!("volume {} {anonymous}", name.map(String::from).unwrap_or_default())
            }
            other => panic!("{other:?}"),
        };
        Ok(format!("{source} on {} {}", mount.target.display(), mount.options.join(",")))
    }

    #[test]
    fn volumes() {
        for (text, expected) in [
            ("/a:/b", "bind /a on /b rw,rprivate,rbind"),
            ("./a:/b/:ro,z", "bind ./a on /b ro,z,rw".strip_suffix(",rw").unwrap_or_default()),
            ("../a:/b", "bind ../a on /b rw,rprivate,rbind"),
            (r"/a\:b:/c\:d", "bind /a:b on /c:d rw,rprivate,rbind"),
            ("v:/b:nocopy", "volume v false on /b nocopy,rw,rprivate,nosuid,nodev,rbind"),
            ("/b", "volume  true on /b rw,rprivate,nosuid,nodev,rbind"),
            ("/a:/b:O", "overlay /a on /b "),
            ("/a:/b:O,U", "overlay /a on /b U"),
            ("/a:/b:O,upperdir=/u,workdir=/w", "overlay /a /u /w on /b "),
        ] {
            let said = shown(text).unwrap();
            assert!(said.starts_with(expected), "{text}: {said}");
        }
        for bad in [
            "",
            ":",
            ":/a",
            "/a:",
            "/a:b",
            "a",
            "v:b",
            "/a:/b:ro:x",
            "/a:/b:ro,rw",
            "/a:/b:foo",
            "v:/b:O",
            "/b:O",
            "a/b:/c",
            "-v:/c",
            "..x/y:/../c",
            "v\n:/c",
            "/a:/b:O,ro",
            "/a:/b:O,upperdir=/u",
            "/a:/b:upperdir=/u",
            "v:/b:shared",
            "v:/b:rslave",
            "/a:/proc",
            "/a:/",
            "/a:/b/../c",
            "/a:/b:O,O",
            "/a:/b:O,upperdir=u,workdir=w",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn of_other_containers() {
        for (text, container, read_only) in
            [("a", "a", None), ("a:ro", "a", Some(true)), ("a:rw,z", "a", Some(false)), ("a:", "a", None)]
        {
            assert_eq!(parse_from(text).unwrap(), VolumesFrom { container: container.into(), read_only });
        }
        for bad in ["", ":ro", "a:ro,rw", "a:Z", "a:nocopy"] {
            assert!(parse_from(bad).is_err(), "{bad}");
        }
        assert!(parse_image_volumes("bind").is_ok() && parse_image_volumes("Bind").is_err());
    }
}
