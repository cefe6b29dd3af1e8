//! What an image is read from: a stream of a tar archive, compressed or not, or a directory. Either is a sequence of
//! members; a name that climbs out of it, or a link that leads out, ends it.

use crate::{
    error::Explain,
    storage::{
        Compression,
        archive::{Archive, Kind, lossy},
        decompress::decoder,
        expanded,
    },
    weakened,
};
use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use std::{
    cell::Cell,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::fd::OwnedFd,
    rc::Rc,
    vec::IntoIter,
};

/// Where members come from.
#[derive(Debug)]
pub enum Source {
    /// A file or a pipe.
    Stream(File),
    /// A directory, open for reading.
    Directory(OwnedFd),
}

/// One file, or another name for one.
#[derive(Debug, PartialEq, Eq)]
pub enum Member {
    /// Its data follows.
    File { name: String, size: u64 },
    /// `target` is a name, too.
    Link { name: String, target: String },
}

/// The members of a source, one after the other.
pub struct Members {
    way: Way,
    count: usize,
}

enum Way {
    Archive(Archive<Stream>),
    Directory { top: OwnedFd, names: IntoIter<String>, file: BufReader<io::Take<File>> },
}

type Stream = BufReader<Box<dyn Read>>;

const BUFFER: usize = 256 << 10;
/// Members that a source may have, and bytes of a name: all names fit into memory.
const MAX_MEMBERS: usize = 1 << 16;
const MAX_NAME: usize = 512;
/// Bytes behind the mark of the archive's end: tar(1) fills up its last record, which may be of 1 MiB.
const MAX_TAIL: u64 = 2 << 20;
/// Memory that an xz stream may ask for, in KiB: xz(1) -9 needs 65 MiB.
const XZ_MEMORY: u32 = 72 << 10;

impl Members {
    /// Those of `source`.
    pub fn open(source: Source) -> Result<Members> {
        let way = match source {
            Source::Stream(file) => {
                Way::Archive(Archive::new(BufReader::with_capacity(BUFFER, plain(file)?)))
            }
            Source::Directory(top) => {
                let names = list(&top).context("list the directory")?.into_iter();
                let nothing = File::open("/dev/null").context("open /dev/null")?;
                Way::Directory { top, names, file: BufReader::with_capacity(BUFFER, nothing.take(0)) }
            }
        };
        Ok(Members { way, count: 0 })
    }

    /// The next one; what is left of the data before it is passed over. `None` at the end, which has been verified.
    pub fn next(&mut self) -> Result<Option<Member>> {
        loop {
            self.count += 1;
            if self.count > MAX_MEMBERS {
                bail!("it has more than {MAX_MEMBERS} members");
            }
            let archive = match &mut self.way {
                Way::Archive(archive) => archive,
                Way::Directory { top, names, file } => {
                    let Some(name) = names.next() else { return Ok(None) };
                    let opened = open_member(top, &name).with_context(|| format!("open {name:?}"))?;
                    let size = opened.metadata().context("look at a file")?.len();
                    *file = BufReader::with_capacity(BUFFER, opened.take(size));
                    return Ok(Some(Member::File { name, size }));
                }
            };
            let Some(entry) = archive.next()? else { return Ok(None) };
            let size = archive.data_left();
            let name = relative(&[], &entry.path)?;
            let member = match entry.kind {
                Kind::File { sparse: None } => Member::File { size, name },
                Kind::Directory => continue,
                Kind::HardLink { target } => Member::Link { target: relative(&[], &target)?, name },
                Kind::Symlink { target } => {
                    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                    let target = relative(directory.as_bytes(), &target)
                        .with_context(|| format!("{name:?} is a link"))?;
                    Member::Link { name, target }
                }
                _ => bail!("{name:?} is neither a file nor a directory nor a link"),
            };
            return Ok(Some(member));
        }
    }

    /// Some more data of the current file; nothing at its end.
    pub fn chunk(&mut self) -> Result<Vec<u8>> {
        match &mut self.way {
            Way::Archive(archive) => {
                let chunk = archive.read_data()?.to_vec();
                archive.consume(chunk.len());
                Ok(chunk)
            }
            Way::Directory { file, .. } => {
                let chunk = file.fill_buf().context("read a file")?.to_vec();
                file.consume(chunk.len());
                if chunk.is_empty() && file.get_ref().limit() > 0 {
                    bail!("a file was cut short while it was read");
                }
                Ok(chunk)
            }
        }
    }

    /// There is no more: whoever writes the stream gets rid of all of it, and its checksums are right.
    pub fn finish(self) -> Result<()> {
        match self.way {
            Way::Archive(archive) if !archive.is_ended() => {
                bail!("the archive ends without the mark of its end")
            }
            Way::Archive(archive) => archive.drain(MAX_TAIL),
            Way::Directory { .. } => Ok(()),
        }
    }
}

/// The plain bytes of `file`, whatever it is compressed with; bounded.
pub fn plain(mut file: impl Read + 'static) -> Result<Box<dyn Read>> {
    let mut head = Vec::new();
    file.by_ref().take(6).read_to_end(&mut head).context("read the archive")?;
    if head.is_empty() {
        return Err(anyhow!("it is empty"))
            .hint("`ctr save IMAGE >FILE` writes an archive, `ctr load <FILE` reads it");
    }
    let taken = Rc::new(Cell::new(0));
    let whole = io::Cursor::new(head.clone()).chain(file);
    let whole = BufReader::with_capacity(BUFFER, Counted { reader: whole, count: taken.clone() });
    let reading = "decompress the archive";
    let plain: Box<dyn Read> = match Packing::of(&head) {
        Packing::None => return Ok(Box::new(whole)),
        Packing::Layer(compression) => decoder(compression, whole).context(reading)?,
        Packing::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(whole, true, XZ_MEMORY)),
        Packing::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
    };
    Ok(Box::new(Bounded { reader: plain, given: 0, taken }))
}

/// How a whole archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    /// As a layer may be, too.
    Layer(Compression),
    Xz,
    Bzip2,
}

impl Packing {
    /// By the first bytes (RFC 1952, RFC 8878, xz-file-format 2.1.1.1, bzip2).
    pub fn of(head: &[u8]) -> Packing {
        match head {
            [0x1f, 0x8b, ..] => Packing::Layer(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Packing::Layer(Compression::Zstd)
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Packing::Bzip2,
            _ => Packing::None,
        }
    }
}

/// What a layer that begins with `head` is compressed with.
pub fn compression(head: &[u8]) -> Compression {
    match Packing::of(head) {
        Packing::Layer(compression) => compression,
        _ => Compression::None,
    }
}

struct Counted<R> {
    reader: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(into)?;
        self.count.set(self.count.get() + length as u64);
        Ok(length)
    }
}

struct Bounded<R> {
    reader: R,
    given: u64,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let damaged = |e| io::Error::other(format!("it is cut short or damaged ({e})"));
        let length = self.reader.read(into).map_err(damaged)?;
        self.given += length as u64;
        let limit = expanded(self.taken.get());
        if self.given > limit && !weakened::is("unpacked-size") {
            let taken = self.taken.get();
            return Err(io::Error::other(format!("{taken} bytes decompress to more than {limit} bytes")));
        }
        Ok(length)
    }
}

/// `path`, seen from `directory`, as one name without dots.
fn relative(directory: &[u8], path: &[u8]) -> Result<String> {
    if path.starts_with(b"/") {
        bail!("{:?} is an absolute path, which leads out of the archive", lossy(path));
    }
    let mut parts: Vec<&[u8]> =
        directory.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.pop().is_none() => bail!("{:?} leads out of the archive", lossy(path)),
            // In the name of a member itself it makes no sense.
            b".." if directory.is_empty() => bail!("{:?} climbs", lossy(path)),
            b".." => {}
            part => parts.push(part),
        }
    }
    let name = String::from_utf8(parts.join(&b'/')).ok().filter(|name| name.len() <= MAX_NAME);
    name.with_context(|| format!("{:?} is longer than {MAX_NAME} bytes or no UTF-8", lossy(path)))
}

/// The files right in `top` and its blobs, sorted.
fn list(top: &OwnedFd) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (directory, required) in [("", true), ("blobs/sha256/", false)] {
        let place = if directory.is_empty() { "." } else { directory };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match openat2(top, place, flags, Mode::empty(), BENEATH) {
            Err(_) if !required => continue,
            opened => opened?,
        };
        for entry in Dir::read_from(&opened)? {
            let entry = entry?;
            let name = entry.file_name().to_str().unwrap_or_default();
            if entry.file_type() != FileType::Directory && !name.is_empty() && name != "." && name != ".." {
                names.push(format!("{directory}{name}"));
            }
            if names.len() > MAX_MEMBERS {
                bail!("it has more than {MAX_MEMBERS} files");
            }
        }
    }
    names.sort();
    Ok(names)
}

fn open_member(top: &OwnedFd, name: &str) -> Result<File> {
    // NONBLOCK: a FIFO must stop nobody.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat2(top, name, flags, Mode::empty(), BENEATH)?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        bail!("it is no regular file");
    }
    Ok(File::from(file))
}

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_members() {
        for (directory, path, expected) in [
            ("", "a/b", Some("a/b")),
            ("", "./a//b/", Some("a/b")),
            ("", "", Some("")),
            ("", "/a", None),
            ("", "..", None),
            ("", "a/../b", None),
            ("", "../a", None),
            ("a", "../b/layer.tar", Some("b/layer.tar")),
            ("a/b", "c", Some("a/b/c")),
            ("a", "../../b", None),
            ("a", "/b", None),
        ] {
            let found = relative(directory.as_bytes(), path.as_bytes()).ok();
            assert_eq!(found.as_deref(), expected, "{directory:?} {path:?}");
        }
        assert!(relative(b"", &[b'x'; 600]).is_err() && relative(b"", b"\xff").is_err());
    }

    #[test]
    fn packings() {
        for (head, expected) in [
            (&[0x1f, 0x8b, 8, 0][..], Packing::Layer(Compression::Gzip)),
            (&[0x28, 0xb5, 0x2f, 0xfd], Packing::Layer(Compression::Zstd)),
            (b"\xfd7zXZ\0", Packing::Xz),
            (b"BZh91A", Packing::Bzip2),
            (b"blobs/", Packing::None),
            (b"", Packing::None),
        ] {
            assert_eq!(Packing::of(head), expected, "{head:?}");
        }
    }

    #[test]
    fn bombs() {
        let zeros = zstd::encode_all(vec![0; 64 << 20].as_slice(), 1).unwrap();
        let read = |times: usize| {
            let mut plain = plain(io::Cursor::new(zeros.repeat(times))).unwrap();
            io::copy(&mut plain, &mut io::sink()).map_err(|e| e.to_string())
        };
        assert_eq!(read(1), Ok(64 << 20));
        assert!(read(18).unwrap_err().contains("decompress to more than"));
    }
}
