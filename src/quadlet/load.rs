//! Reads Quadlet files and their drop-ins.

use super::{
    unit::{Kind, Source},
    unit_file::UnitFile,
};
use anyhow::{Context, Error, Result, bail};
use rustix::fs::{Mode, OFlags, open};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// Bytes that a unit file may have.
const LIMIT: u64 = 1 << 20;

/// All units of `dirs`: of one name the first counts. What can't be read is in the second list.
pub fn load(dirs: &[PathBuf]) -> (Vec<Source>, Vec<Error>) {
    let (mut sources, mut failures) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for path in dirs.iter().flat_map(|dir| entries(dir)) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let loaded = match Kind::of(&name) {
            Ok(None) => continue,
            _ if path.is_dir() || !seen.insert(name) => continue,
            Ok(Some(_)) => from_file(&path, dirs),
            Err(failure) => Err(failure),
        };
        match loaded {
            Ok(source) => sources.extend(source),
            Err(failure) => failures.push(failure),
        }
    }
    (sources, failures)
}

/// The unit in the file `path`, with its drop-ins in `dirs`; none of a link to /dev/null, which hides others of its name.
pub fn from_file(path: &Path, dirs: &[PathBuf]) -> Result<Option<Source>> {
    read(path)?.map(|text| from_text(path, &text, dirs)).transpose()
}

/// The unit that `text` would be in the file `path`.
pub fn from_text(path: &Path, text: &str, dirs: &[PathBuf]) -> Result<Source> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(kind) = Kind::of(&name)? else { bail!("{name} is no Quadlet file") };
    let mut source = Source { name, kind, path: path.to_owned(), file: parse(path, text)? };
    let mut drop_ins = BTreeMap::new();
    for below in source.drop_ins() {
        for path in dirs.iter().flat_map(|dir| entries(&dir.join(&below))) {
            if path.extension().is_some_and(|extension| extension == "conf") {
                drop_ins.entry(path.file_name().map(ToOwned::to_owned)).or_insert(path);
            }
        }
    }
    for path in drop_ins.values() {
        if let Some(text) = read(path)? {
            source.file.merge(parse(path, &text)?);
        }
    }
    Ok(source)
}

/// The text of a unit file; `None` of /dev/null.
///
/// # Errors
/// No regular file, larger than 1 MiB, or not UTF-8.
pub fn read(path: &Path) -> Result<Option<String>> {
    if fs::canonicalize(path).is_ok_and(|real| real == Path::new("/dev/null")) {
        return Ok(None);
    }
    let mut text = String::new();
    // NONBLOCK: a FIFO in its place must not hold up the boot.
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
    let file = File::from(file.with_context(|| format!("open {}", path.display()))?);
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        bail!("{} is no regular file", path.display());
    }
    file.take(LIMIT + 1).read_to_string(&mut text).with_context(|| format!("read {}", path.display()))?;
    if text.len() as u64 > LIMIT {
        bail!("{} is larger than {LIMIT} bytes", path.display());
    }
    Ok(Some(text))
}

fn parse(path: &Path, text: &str) -> Result<UnitFile> {
    UnitFile::parse(text).with_context(|| path.display().to_string())
}

/// In a fixed order; nothing of a directory that isn't there.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
