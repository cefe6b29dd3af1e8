//! An archive, and a place to unpack it.

use ctr::storage::unpack::{Policy, Unpacked, unpack};
use std::{
    fs::{self, File},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::PathBuf,
};
use tempfile::TempDir;

/// An archive, written byte by byte: the tar crate refuses to write what these tests need.
#[derive(Default)]
pub struct Archive(pub Vec<u8>);

impl Archive {
    pub fn add(
        mut self,
        name: &str,
        kind: u8,
        link: &str,
        data: &[u8],
        set: impl FnOnce(&mut tar::Header),
    ) -> Archive {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        set(&mut header);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, data: &str) -> Archive {
        self.add(name, b'0', "", data.as_bytes(), |_| {})
    }

    pub fn dir(self, name: &str) -> Archive {
        self.add(name, b'5', "", b"", |_| {})
    }

    pub fn symlink(self, name: &str, target: &str) -> Archive {
        self.add(name, b'2', target, b"", |_| {})
    }

    pub fn hard_link(self, name: &str, target: &str) -> Archive {
        self.add(name, b'1', target, b"", |_| {})
    }

    pub fn owned(self, name: &str, kind: u8, uid: u64, mode: u32) -> Archive {
        self.add(name, kind, "", b"", |header| {
            header.set_uid(uid);
            header.set_mode(mode);
        })
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Archive {
        let mut all = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest + 1..).find(|n| n.to_string().len() + rest == *n).unwrap();
            all.extend(format!("{length} {key}=").bytes());
            all.extend(*value);
            all.push(b'\n');
        }
        self.add("pax", b'x', "", &all, |_| {})
    }
}

/// A directory to unpack into, beside a canary that must survive.
pub struct Ground {
    pub temp: TempDir,
    policy: Policy,
}

impl Ground {
    pub fn new() -> Ground {
        Ground::with(Policy::of_process().unwrap())
    }

    /// As if only root had an id.
    pub fn single() -> Ground {
        Ground::with(Policy::from_maps("0 1000 1\n", "0 1000 1\n").unwrap())
    }

    pub fn with(policy: Policy) -> Ground {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("root")).unwrap();
        fs::create_dir(temp.path().join("canary")).unwrap();
        fs::write(temp.path().join("canary/file"), "unharmed").unwrap();
        Ground { temp, policy }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join("root").join(name)
    }

    pub fn unpack(&self, archive: &[u8]) -> anyhow::Result<Unpacked> {
        unpack(archive, File::open(self.path("")).unwrap().as_fd(), &self.policy)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn xattr(&self, name: &str, xattr: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 256];
        let length = rustix::fs::lgetxattr(self.path(name), xattr, &mut value).ok()?;
        value.truncate(length);
        Some(value)
    }

    pub fn opaque(&self, name: &str) -> bool {
        ["user.overlay.opaque", "trusted.overlay.opaque"]
            .iter()
            .any(|x| self.xattr(name, x).as_deref() == Some(b"y"))
    }

    pub fn is_whiteout(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
    }

    pub fn assert_unharmed(&self, what: &str) {
        let names = |dir: PathBuf| {
            let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.temp.path().into()), ["canary", "root"], "{what}");
        assert_eq!(names(self.temp.path().join("canary")), ["file"], "{what}");
        let canary = self.temp.path().join("canary/file");
        assert_eq!(fs::read_to_string(&canary).unwrap(), "unharmed", "{what}");
        let meta = fs::metadata(&canary).unwrap();
        assert_eq!((meta.nlink(), meta.mode() & 0o777), (1, 0o644), "{what}");
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
