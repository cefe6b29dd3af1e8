//! One reader that takes an archive for something else than the others do is how a layer that was checked differs from the
//! one that runs: random archives, whole and spoiled, read by us, by GNU tar and by Python's tarfile.

use super::ground::{Ground, is_root};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
    process::Command,
};

/// Type, mode, time, and target or digest.
type Node = (char, u32, i64, String);

#[test]
fn the_same_entries_as_other_readers_or_a_refusal() {
    if !is_root() {
        return;
    }
    let seeds = if std::env::var_os("CTR_TEST_NIGHTLY").is_some() { 5000 } else { 300 };
    let temp = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unpack/generate.py");
    let made = Command::new("python3").arg(script).arg(seeds.to_string()).arg(temp.path()).status().unwrap();
    assert!(made.success());
    let mut taken = 0;
    for seed in 0..seeds {
        let archive = temp.path().join(format!("{seed}.tar"));
        let other = temp.path().join("other");
        fs::create_dir(&other).unwrap();
        let gnu = Command::new("tar").arg("-C").arg(&other).arg("-xpf").arg(&archive).output().unwrap();
        let ground = Ground::new();
        let ours = ground.unpack(&fs::read(&archive).unwrap());
        ground.assert_unharmed(&format!("seed {seed}"));
        if gnu.status.success() && seed % 2 == 0 {
            assert!(ours.is_ok(), "seed {seed}: {:#}", ours.as_ref().unwrap_err());
        }
        if ours.is_ok() {
            taken += 1;
            let ours = nodes(&ground.path(""));
            if gnu.status.success() {
                assert_eq!(ours, nodes(&other), "seed {seed}, and GNU tar");
            }
            for (path, node) in python(&temp.path().join(format!("{seed}.txt"))) {
                // A file system has room for one of two members of a path, and none for one below a file.
                if let Some(found) = ours.get(&path).filter(|found| found.0 == node.0) {
                    assert_eq!(*found, node, "seed {seed}, and tarfile: {path}");
                }
            }
        }
        fs::remove_dir_all(&other).unwrap();
    }
    assert!(taken > seeds / 3, "only {taken} of {seeds} were taken");
}

fn nodes(root: &Path) -> BTreeMap<String, Node> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let kind = meta.file_type();
            let (letter, tail) = if kind.is_dir() {
                waiting.push(path.clone());
                ('d', Vec::new())
            } else if kind.is_symlink() {
                ('l', fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
            } else if kind.is_fifo() {
                ('p', Vec::new())
            } else if !kind.is_file() {
                ('n', meta.rdev().to_string().into_bytes())
            } else {
                let digest = Sha256::digest(fs::read(&path).unwrap());
                ('f', digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes())
            };
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
            found.insert(printable(name), node(letter, meta.mode() & 0o7777, meta.mtime(), &tail));
        }
    }
    found
}

/// A link has no mode of its own; the time of a directory that several members name is nobody's in particular, nor is the
/// set-group-id bit of one that none names and that is made in one that has it.
fn node(kind: char, mode: u32, time: i64, tail: &[u8]) -> Node {
    let (mode, time) = match kind {
        'l' => (0, time),
        'd' => (mode & !0o2000, 0),
        _ => (mode, time),
    };
    (kind, mode, time, printable(tail))
}

fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn python(file: &Path) -> Vec<(String, Node)> {
    let text = fs::read(file).unwrap();
    if text.starts_with(b"refused: ") {
        return Vec::new();
    }
    let mut fields = text.split(|byte| *byte == 0);
    let mut nodes = Vec::new();
    loop {
        // The first of each but the first line follows a line feed.
        let path = fields.next().unwrap();
        let path = if nodes.is_empty() { path } else { path.strip_prefix(b"\n").unwrap() };
        let Some(kind) = fields.next() else { return nodes };
        let mut text = || std::str::from_utf8(fields.next().unwrap()).unwrap().to_owned();
        let mode = u32::from_str_radix(&text(), 8).unwrap();
        let time = text().parse().unwrap();
        nodes.push((printable(path), node(char::from(kind[0]), mode, time, fields.next().unwrap())));
    }
}
