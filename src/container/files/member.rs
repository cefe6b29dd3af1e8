//! Writing the members of a tar archive: ustar, with PAX records for what it has no room for (POSIX.1-2017, pax, "pax
//! Extended Header"; GNU tar manual, "Storing Sparse Files"). Pure.

use crate::storage::sparse::Segment;
use std::io::{Result, Write};
use tar::{EntryType, Header};

/// One member, as its header tells of it. What follows is its data, padded to [`BLOCK`].
#[derive(Debug)]
pub struct Member<'a> {
    pub path: &'a [u8],
    pub kind: EntryType,
    /// Of a link.
    pub target: &'a [u8],
    /// The permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    /// Of the file.
    pub size: u64,
    /// Where the data that follows belongs, when that is not everywhere.
    pub segments: Option<&'a [Segment]>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// Names and values.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Bytes of a header, and what data is padded to.
pub const BLOCK: u64 = 512;

impl Member<'_> {
    /// Write the header with all that precedes the data; how many bytes of data have to follow.
    pub fn write(&self, out: &mut impl Write) -> Result<u64> {
        let map = self.segments.map(sparse_map);
        let data = self.segments.map_or(self.size, |segments| segments.iter().map(|s| s.length).sum());
        let stored = data + map.as_ref().map_or(0, |map| map.len() as u64);
        let records = self.records(stored);
        if !records.is_empty() {
            let mut header = self.header(EntryType::XHeader, b"PaxHeaders/x", b"", records.len() as u64);
            header.set_mtime(0);
            finish(header, out)?;
            out.write_all(&records)?;
            pad(records.len() as u64, out)?;
        }
        finish(self.header(self.kind, self.path, self.target, stored), out)?;
        out.write_all(map.as_deref().unwrap_or_default())?;
        Ok(data)
    }

    fn header(&self, kind: EntryType, path: &[u8], target: &[u8], size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(self.mode);
        // Numbers that don't fit are in the records, and win.
        let fits = |number: u64, bits: u32| if number >> bits == 0 { number } else { 0 };
        header.set_uid(fits(self.uid.into(), 21));
        header.set_gid(fits(self.gid.into(), 21));
        header.set_mtime(fits(u64::try_from(self.mtime.0).unwrap_or(0), 33));
        header.set_size(fits(size, 33));
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.set_device_major(self.device.0);
            ustar.set_device_minor(self.device.1);
        }
        let old = header.as_old_mut();
        for (field, text) in [(&mut old.name, path), (&mut old.linkname, target)] {
            let length = text.len().min(field.len());
            field[..length].copy_from_slice(&text[..length]);
        }
        header
    }

    fn records(&self, stored: u64) -> Vec<u8> {
        let mut records = Vec::new();
        let mut number = |key: &str, value: u64, bits: u32| {
            if value >> bits != 0 {
                record(&mut records, key.as_bytes(), value.to_string().as_bytes());
            }
        };
        number("uid", self.uid.into(), 21);
        number("gid", self.gid.into(), 21);
        number("size", stored, 33);
        match self.mtime {
            (seconds, 0) if (0..1 << 33).contains(&seconds) => {}
            (seconds, nanoseconds) => {
                record(&mut records, b"mtime", time(seconds, nanoseconds).as_bytes());
            }
        }
        if self.segments.is_some() {
            let size = self.size.to_string();
            for (key, value) in
                [("major", &b"1"[..]), ("minor", b"0"), ("name", self.path), ("realsize", size.as_bytes())]
            {
                record(&mut records, format!("GNU.sparse.{key}").as_bytes(), value);
            }
        } else if self.path.len() > 100 {
            record(&mut records, b"path", self.path);
        }
        if self.target.len() > 100 {
            record(&mut records, b"linkpath", self.target);
        }
        for (name, value) in self.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        records
    }
}

/// What follows `length` bytes of data.
pub fn pad(length: u64, out: &mut impl Write) -> Result<()> {
    out.write_all(&[0; BLOCK as usize][..(length.wrapping_neg() % BLOCK) as usize])
}

/// The end of an archive.
pub fn end(out: &mut impl Write) -> Result<()> {
    out.write_all(&[0; 2 * BLOCK as usize])
}

fn finish(mut header: Header, out: &mut impl Write) -> Result<()> {
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// Its length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length += 1;
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn time(seconds: i64, nanoseconds: u32) -> String {
    match (seconds, nanoseconds) {
        (_, 0) => seconds.to_string(),
        // -1.25 is 750 million nanoseconds after -2.
        (..0, _) => format!("-{}.{:09}", seconds.unsigned_abs() - 1, 1_000_000_000 - nanoseconds),
        _ => format!("{seconds}.{nanoseconds:09}"),
    }
}

/// One number a line: how many segments, then offset and length of each.
fn sparse_map(segments: &[Segment]) -> Vec<u8> {
    let mut map = format!("{}\n", segments.len()).into_bytes();
    for segment in segments {
        map.extend_from_slice(format!("{}\n{}\n", segment.offset, segment.length).as_bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK as usize), 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::archive::{Archive, Kind};

    #[test]
    fn what_is_written_is_read() {
        let long = [b'x'; 300];
        let xattrs = vec![(b"user.comment".to_vec(), b"a\nb\0c".to_vec())];
        let plain = || Member {
            path: b"dir/file",
            kind: EntryType::Regular,
            target: b"",
            mode: 0o4755,
            uid: 7,
            gid: 8,
            mtime: (1_700_000_000, 5),
            size: 3,
            segments: None,
            device: (0, 0),
            xattrs: &[],
        };
        let segments = [Segment { offset: 4096, length: 3 }, Segment { offset: 1 << 40, length: 0 }];
        let mut stream = Vec::new();
        for member in [
            plain(),
            Member { path: &long, uid: 3_000_000, mtime: (-2, 750_000_000), xattrs: &xattrs, ..plain() },
            Member { size: 1 << 40, segments: Some(&segments), ..plain() },
        ] {
            assert_eq!(member.write(&mut stream).unwrap(), 3);
            stream.extend(b"abc");
            pad(3, &mut stream).unwrap();
        }
        Member { path: b"l", kind: EntryType::Symlink, target: &long, size: 0, ..plain() }
            .write(&mut stream)
            .unwrap();
        end(&mut stream).unwrap();

        let mut archive = Archive::new(stream.as_slice());
        let first = archive.next().unwrap().unwrap();
        assert_eq!(
            (first.path.as_slice(), first.mode, first.mtime),
            (&b"dir/file"[..], 0o4755, (1_700_000_000, 5))
        );
        assert_eq!(archive.read_data().unwrap(), b"abc");
        let second = archive.next().unwrap().unwrap();
        assert_eq!(
            (second.path.as_slice(), second.uid, second.mtime),
            (&long[..], 3_000_000, (-2, 750_000_000))
        );
        assert_eq!(second.xattrs, xattrs);
        let Kind::File { sparse: Some(map) } = archive.next().unwrap().unwrap().kind else {
            panic!("not sparse")
        };
        assert_eq!((map.size, map.segments.as_slice()), (1 << 40, &segments[..]));
        assert_eq!(archive.read_data().unwrap(), b"abc");
        let Kind::Symlink { target } = archive.next().unwrap().unwrap().kind else { panic!("no link") };
        assert!(target == long && archive.next().unwrap().is_none());
    }
}
