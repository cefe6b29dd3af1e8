//! What a directory holds, so that two can be compared: contents, modes, owners, links, devices, extended attributes.

use rustix::fs::{lgetxattr, llistxattr};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Path to what is there.
pub type Tree = BTreeMap<PathBuf, String>;

/// All below `root`, and itself; empty when it doesn't exist. `times`: also when files and links were changed.
pub fn tree(root: &Path, times: bool) -> Tree {
    let mut found = BTreeMap::new();
    walk(root, Path::new(""), times, &mut found);
    found
}

/// What of `other` is not as in `tree`, a line each; empty when nothing.
pub fn difference(tree: &Tree, other: &Tree) -> String {
    let mut lines = String::new();
    for (path, was) in tree.iter().filter(|(path, was)| other.get(*path) != Some(was)) {
        let is = other.get(path).map_or("missing", String::as_str);
        let _ = writeln!(lines, "  {}: {is}, not {was}", path.display());
    }
    for (path, is) in other.iter().filter(|(path, _)| !tree.contains_key(*path)) {
        let _ = writeln!(lines, "  {}: {is}, not missing", path.display());
    }
    lines
}

/// `sha256:` is left out.
pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn walk(root: &Path, below: &Path, times: bool, found: &mut Tree) {
    let path = root.join(below);
    let Ok(meta) = fs::symlink_metadata(&path) else { return };
    let kind = meta.file_type();
    let mut what = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
    if kind.is_symlink() {
        let _ = write!(what, " -> {}", fs::read_link(&path).unwrap_or_default().display());
    } else if kind.is_file() {
        let content = fs::read(&path).unwrap_or_default();
        let _ = write!(what, " {} bytes {} links {}", content.len(), hex(&content), meta.nlink());
    } else if !kind.is_dir() {
        let _ = write!(what, " device {:x}", meta.rdev());
    }
    if times && (kind.is_file() || kind.is_symlink()) {
        let _ = write!(what, " at {}.{}", meta.mtime(), meta.mtime_nsec());
    }
    for name in attributes(&path) {
        let mut value = [0; 4096];
        let length = lgetxattr(&path, &name, &mut value[..]).unwrap_or(0);
        let _ = write!(what, " {name}={:?}", String::from_utf8_lossy(&value[..length]));
    }
    found.insert(below.to_owned(), what);
    if kind.is_dir() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            walk(root, &below.join(entry.file_name()), times, found);
        }
    }
}

fn attributes(path: &Path) -> Vec<String> {
    let mut list = [0; 4096];
    let length = llistxattr(path, &mut list[..]).unwrap_or(0);
    let mut names: Vec<String> = list[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    names.sort();
    names
}
