//! Reading tar archives: ustar, GNU and PAX (GNU tar manual, "Basic Tar Format"; POSIX.1-2017, pax, "ustar Interchange
//! Format"). An archive that GNU tar and Go's archive/tar read differently is refused: nothing can be smuggled past one
//! of them.

use super::{
    blocks::{Blocks, number, signed},
    pax::{self, Pax},
    sparse::{MAX_SEGMENTS, MapReader, Segment, SparseMap},
};
use crate::weakened;
use anyhow::{Context, Result, bail};
use std::io::BufRead;
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

/// One member of the archive.
#[derive(Debug)]
pub struct Entry {
    /// As the archive spells it: not trusted, not normalised.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// The permission bits, 07777.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    /// Names and values, none trusted.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug)]
pub enum Kind {
    File { sparse: Option<SparseMap> },
    HardLink { target: Vec<u8> },
    Symlink { target: Vec<u8> },
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
    Directory,
}

/// Whether a file that begins with `head` may be a tar archive.
pub fn begins_with(head: &[u8]) -> bool {
    head.get(..512).is_some_and(|block| Blocks::new(block).header().is_ok())
}

/// An archive that is read once, from front to back.
pub struct Archive<R> {
    blocks: Blocks<R>,
}

impl<R: BufRead> Archive<R> {
    pub fn new(reader: R) -> Archive<R> {
        Archive { blocks: Blocks::new(reader) }
    }

    /// The next entry; what is left of the data before it is skipped. `None` at the archive's end.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        let (mut long_name, mut long_link, mut records) = (None, None, None::<Vec<u8>>);
        loop {
            self.blocks.skip_data()?;
            let Some(header) = self.blocks.header()? else {
                if long_name.is_some() || long_link.is_some() || records.is_some() {
                    bail!("archive ends between an extended header and its entry");
                }
                return Ok(None);
            };
            let size = number(&header.as_old().size).context("size")?;
            let slot = match header.entry_type() {
                EntryType::GNULongName => &mut long_name,
                EntryType::GNULongLink => &mut long_link,
                EntryType::XHeader => &mut records,
                EntryType::XGlobalHeader => {
                    pax::check_global(&self.blocks.extension(size)?)?;
                    continue;
                }
                // A volume label names the tape; what describes the label describes nothing after it.
                _ if header.as_old().linkflag == *b"V" && size == 0 => {
                    (long_name, long_link, records) = (None, None, None);
                    continue;
                }
                _ => {
                    let pax = records.as_deref().map(pax::parse).transpose()?.unwrap_or_default();
                    return self.entry(&header, size, pax, long_name, long_link).map(Some);
                }
            };
            if slot.is_some() {
                bail!("two extended headers of one kind describe one entry");
            }
            *slot = Some(self.blocks.extension(size)?);
        }
    }

    /// Bytes of the current file's data that nobody has read.
    pub fn data_left(&self) -> u64 {
        self.blocks.data_left()
    }

    /// Some more data of the current file, or nothing at its end.
    pub fn read_data(&mut self) -> Result<&[u8]> {
        self.blocks.read_data()
    }

    /// Have done with `length` bytes of what [`Archive::read_data`] returned.
    pub fn consume(&mut self, length: usize) {
        self.blocks.consume(length);
    }

    /// Whether the archive said that it ends, and not the stream.
    pub fn is_ended(&self) -> bool {
        self.blocks.is_ended()
    }

    /// Read to the very end of the stream, which is at most `limit` bytes away.
    pub fn drain(self, limit: u64) -> Result<()> {
        self.blocks.drain(limit)
    }

    fn entry(
        &mut self,
        header: &Header,
        header_size: u64,
        pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let own_path = || header.path_bytes().into_owned();
        let path = one_name(long_name, pax.path)?.unwrap_or_else(own_path);
        let own_link = || header.link_name_bytes().unwrap_or_default().into_owned();
        let target = || -> Result<_> { Ok(one_name(long_link, pax.linkpath)?.unwrap_or_else(own_link)) };
        let size = pax.size.unwrap_or(header_size);
        let device = || -> Result<(u32, u32)> {
            let ustar = header.as_ustar().map(|header| (header.dev_major, header.dev_minor));
            let fields = ustar.or_else(|| header.as_gnu().map(|header| (header.dev_major, header.dev_minor)));
            let (major, minor) = fields.context("device in an archive older than devices")?;
            Ok((u32::try_from(number(&major)?)?, u32::try_from(number(&minor)?)?))
        };
        let mut stored = 0;
        let kind = match header.entry_type() {
            // Before ustar a directory was a file whose name ends in a slash.
            EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => {
                stored = size;
                Kind::File { sparse: None }
            }
            EntryType::GNUSparse => {
                stored = size;
                Kind::File { sparse: Some(self.old_sparse_map(header, size)?) }
            }
            EntryType::Link => Kind::HardLink { target: target()? },
            EntryType::Symlink => Kind::Symlink { target: target()? },
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char => device().map(|(major, minor)| Kind::Char { major, minor })?,
            EntryType::Block => device().map(|(major, minor)| Kind::Block { major, minor })?,
            other => {
                bail!("{:?} is of the unknown type {:?}", lossy(&path), char::from(other.as_byte()));
            }
        };
        // A hard link's size is that of its target; readers agree that no data follows. For the rest they don't.
        if stored == 0 && size != 0 && !matches!(kind, Kind::HardLink { .. } | Kind::File { .. }) {
            bail!("{:?} is no file and yet has {size} bytes of data", lossy(&path));
        }
        self.blocks.begin_data(stored);
        let kind = match (kind, pax.sparse) {
            (Kind::File { sparse: None }, Some(header)) => {
                let (size, segments) = match (header.major, header.minor) {
                    (1, 0) => (header.size, self.sparse_map_in_front()?),
                    (0, 0 | 1) => (header.size, header.segments),
                    (major, minor) => bail!("sparse format {major}.{minor} is unknown"),
                };
                let size = size.context("sparse file without a size")?;
                Kind::File { sparse: Some(SparseMap::new(size, segments, self.blocks.data_left())?) }
            }
            (_, Some(_)) => bail!("{:?} is no file and yet sparse", lossy(&path)),
            (kind, None) => kind,
        };
        let old = header.as_old();
        Ok(Entry {
            path,
            kind,
            mode: (number(&old.mode).context("mode")? & 0o7777) as u32,
            uid: pax.uid.map_or_else(|| number(&old.uid).context("uid"), Ok)?,
            gid: pax.gid.map_or_else(|| number(&old.gid).context("gid"), Ok)?,
            mtime: pax.mtime.map_or_else(|| signed(&old.mtime).context("mtime").map(|s| (s, 0)), Ok)?,
            xattrs: pax.xattrs,
        })
    }

    /// Old GNU format: four segments in the header, 21 in each block that follows.
    fn old_sparse_map(&mut self, header: &Header, stored: u64) -> Result<SparseMap> {
        let gnu = header.as_gnu().context("sparse entry without a GNU header")?;
        let size = number(&gnu.realsize).context("size of a sparse file")?;
        let mut segments = Vec::new();
        add_segments(&mut segments, &gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            if !self.blocks.block(block.as_mut_bytes())? {
                bail!("archive ends within a sparse map");
            }
            add_segments(&mut segments, block.sparse())?;
            more = block.is_extended();
        }
        SparseMap::new(size, segments, stored)
    }

    fn sparse_map_in_front(&mut self) -> Result<Vec<Segment>> {
        let mut reader = MapReader::default();
        loop {
            let block = self.blocks.data_block()?.context("sparse map is larger than its entry")?;
            if let Some(segments) = reader.feed(&block)? {
                return Ok(segments);
            }
        }
    }
}

/// GNU tar and Go disagree about which of the two names counts.
fn one_name(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax && !weakened::is("two-names") => {
            bail!("one entry has two names: {:?} and {:?}", lossy(&gnu), lossy(&pax))
        }
        (gnu, pax) => Ok(gnu.or(pax)),
    }
}

fn add_segments(segments: &mut Vec<Segment>, headers: &[GnuSparseHeader]) -> Result<()> {
    for header in headers.iter().filter(|header| !header.is_empty()) {
        if segments.len() == MAX_SEGMENTS {
            bail!("sparse map has more than {MAX_SEGMENTS} segments");
        }
        let (offset, length) = (number(&header.offset)?, number(&header.numbytes)?);
        segments.push(Segment { offset, length });
    }
    Ok(())
}

/// For messages: at most 200 bytes, and nothing that a terminal would obey once it is printed with `{:?}`.
pub fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, kind: u8, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(EntryType::new(kind));
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_cksum();
        header
    }

    fn archive(entries: &[(Header, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (header, data) in entries {
            bytes.extend(header.as_bytes());
            bytes.extend(*data);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes
    }

    fn names(bytes: &[u8]) -> Result<Vec<String>> {
        let mut archive = Archive::new(bytes);
        let mut names = Vec::new();
        while let Some(entry) = archive.next()? {
            names.push(lossy(&entry.path));
        }
        Ok(names)
    }

    #[test]
    fn names_in_order() {
        let record = b"14 path=pax/a\n";
        let mut bytes = archive(&[
            (header("plain", b'0', 3), b"abc"),
            (header("long", b'L', 5), b"gnu/b"),
            (header("x", b'0', 600), &[1; 600]),
            (header("pax", b'x', record.len() as u64), record),
            (header("x", b'5', 0), b""),
            (header("old/", 0, 0), b""),
            (header("link", b'1', 77), b""),
        ]);
        let expected = ["plain", "gnu/b", "pax/a", "old/", "link"];
        assert_eq!(names(&bytes).unwrap(), expected);
        bytes.extend([0; 1024]);
        bytes.extend(b"junk that nobody reads");
        assert_eq!(names(&bytes).unwrap(), expected);
        assert!(names(b"").unwrap().is_empty());
        // Without the padding behind the last byte.
        assert_eq!(names(&archive(&[(header("a", b'0', 3), b"abc")])[..515]).unwrap(), ["a"]);
        assert!(names(&archive(&[(header("a", b'0', 3), b"abc")])[..514]).is_err());
    }

    /// A PAX size of an entry counts, for GNU tar and Go too; for the headers between it does not (RUSTSEC-2026-0145).
    #[test]
    fn sizes_that_disagree() {
        let record = b"12 size=512\n";
        let hidden = archive(&[(header("hidden", b'0', 0), b"")]);
        let size = record.len() as u64;
        let bytes = archive(&[
            (header("pax", b'x', size), record),
            (header("long", b'L', 3), b"top"),
            (header("x", b'0', 0), &hidden),
            (header("next", b'0', 0), b""),
        ]);
        assert_eq!(names(&bytes).unwrap(), ["top", "next"]);
    }

    #[test]
    fn refused() {
        let many = [&b"14 path=pax/a\n"[..], b"12 size=512\n"];
        let cases = [
            (archive(&[(header("a", b'2', 5), b"12345")]), "data"),
            (archive(&[(header("a/", b'0', 5), b"12345")]), "data"),
            (archive(&[(header("a", b'Z', 0), b"")]), "unknown type"),
            (archive(&[(header("a", b'0', 1 << 40), b"12345")]), "ends within"),
            (archive(&[(header("a", b'L', 1 << 40), b"")]), "larger than"),
            (archive(&[(header("a", b'x', 14), many[0]), (header("a", b'x', 12), many[1])]), "two extended"),
            (
                archive(&[
                    (header("a", b'x', 14), many[0]),
                    (header("a", b'L', 1), b"b"),
                    (header("a", b'0', 0), b""),
                ]),
                "two names",
            ),
            (archive(&[(header("a", b'x', 14), many[0])]), "ends between"),
            (archive(&[(header("a", b'g', 12), many[1])]), "global"),
            (vec![0xff; 512], "checksum"),
            (vec![b'a'; 100], "ends within"),
            (
                archive(&[(header("a", b'L', 1), b"bcd"), (header("a", b'0', 0), b"")]),
                "goes on after its 1 bytes",
            ),
            ([vec![0; 512], archive(&[(header("a", b'0', 0), b"")])].concat(), "goes on"),
        ];
        for (bytes, message) in cases {
            let error = format!("{:#}", names(&bytes).unwrap_err());
            assert!(error.contains(message), "{error}");
        }
    }
}
