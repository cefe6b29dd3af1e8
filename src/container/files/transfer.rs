//! Copying between the host and containers: whoever has the source packs it, whoever has the destination unpacks it, and a
//! pipe is between them. One of the two is this process when its side is the host.

use super::{
    destination::{Ground, Top, destination},
    enter::{Guest, Reached, View},
    extract::{Owner, Rules, Skipped, extract},
    member,
    pack::{Source, Style, pack},
};
use crate::{
    container::{
        find,
        users::{self, UserSpec},
    },
    error::Explain,
    namespaces::{Mapping, start_here},
    storage::{
        Compression, Store,
        archive::{Archive, Entry, Kind},
        decompress::decoder,
    },
};
use anyhow::{Context, Result, anyhow};
use rustix::{
    fs::{FileType, Mode, OFlags, fstat, openat},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, ErrorKind, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// One end of a copy.
#[derive(Debug)]
pub enum End {
    /// A path of the host.
    Host(Vec<u8>),
    /// A tar stream: standard input or output.
    Stream(File),
    /// A container, as the user calls it, and a path in it.
    Container(String, Vec<u8>),
}

/// How to copy.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What comes into a container belongs to its user; else to whom it belonged.
    pub archive: bool,
    /// Directories may give way to files and files to directories.
    pub overwrite: bool,
}

/// Copy `from` to `to`. Must be called before any thread exists, and with SIGPIPE ignored unless `to` is a stream.
///
/// # Errors
/// podman-cp(1): there is no source, no directory for the destination, or no room.
pub fn copy(store: &Store, from: End, to: End, options: Options) -> Result<Skipped> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    // Those inside first: each of them closes what it has of the pipe's other end. What the source says counts first.
    match (from, to) {
        (End::Container(name, path), End::Container(to_name, to_path)) => {
            let source = Side::find(store, name, path)?;
            if *source.container.dir.id() == *find::find(store, &to_name)?.id() {
                return within(&source, to_path, write, options);
            }
            let target = Side::find(store, to_name, to_path)?;
            let writer = pack_inside(&source, write, Packing::Internal)?;
            let reader = extract_inside(&target, read, Naming::Known(base_name(&source.path)), options)?;
            writer.wait().and(reader.wait()).map(|()| Skipped::default())
        }
        (End::Container(name, path), End::Host(to)) => {
            let source = Side::find(store, name, path)?;
            let writer = pack_inside(&source, write, Packing::Internal)?;
            let naming = Naming::Known(base_name(&source.path));
            let ours = receive(File::from(read), Ground::Host, &to, &naming, options, Owner::Maker);
            writer.wait().and(ours)
        }
        (End::Container(name, path), End::Stream(out)) => {
            let writer = pack_inside(&Side::find(store, name, path)?, write, Packing::Archive)?;
            let ours = pass_on(File::from(read), out);
            writer.wait().and(ours).map(|()| Skipped::default())
        }
        (End::Host(path), End::Container(name, to)) => {
            let target = Side::find(store, name, to)?;
            let source = open_source(Ground::Host, &path)?;
            let reader = extract_inside(&target, read, Naming::Known(base_name(&path)), options)?;
            let mapping = target.container.record.mapping(&Mapping::detect());
            let ours = pack_host(source, File::from(write), &mapping);
            let theirs = reader.wait();
            ours.and_then(|skipped| theirs.map(|()| skipped))
        }
        (End::Stream(input), End::Container(name, to)) => {
            let reader = extract_inside(&Side::find(store, name, to)?, read, Naming::AsPacked, options)?;
            let ours = pass_on(input, File::from(write));
            let theirs = reader.wait();
            ours.and(theirs).map(|()| Skipped::default())
        }
        _ => {
            Err(anyhow!("neither end of the copy is a container")).hint("write CONTAINER:PATH in one of them")
        }
    }
}

/// Write the root file system of `container` to `out` as a tar stream: nothing of what is mounted over it, sorted by name.
pub fn export(container: &Reached, out: File) -> Result<()> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let guest = container.with_root(View::RootFileSystem, write, |root, pipe| {
        let mut out = BufWriter::with_capacity(BUFFER, pipe);
        let top =
            open_below(root.as_fd(), b".", OFlags::RDONLY | OFlags::DIRECTORY).context("open the root")?;
        let style = Style {
            name: b"",
            owner: &|uid, gid| (uid, gid),
            devices: true,
            exact: false,
            recorded: true,
            layer: None,
        };
        unless_unread(
            pack(Source::Directory(top), style, &mut out).and_then(|_| Ok(member::end(&mut out)?)),
        )?;
        unless_unread(out.flush().map_err(Into::into))
    })?;
    let ours = pass_on(File::from(read), out);
    guest.wait().and(ours)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    /// For another of our processes.
    Internal,
    /// For the user.
    Archive,
}

/// How the entries of a stream are called.
enum Naming {
    /// The first component is [`TOP`] and stands for something of this name.
    Known(Vec<u8>),
    /// As they are to be called.
    AsPacked,
}

/// The first component of the streams between our processes.
const TOP: &[u8] = b"top";
const BUFFER: usize = 256 << 10;

/// An end of a copy that is a container.
struct Side {
    container: Reached,
    name: String,
    path: Vec<u8>,
}

impl Side {
    fn find(store: &Store, name: String, path: Vec<u8>) -> Result<Side> {
        let container = Reached::find(store, &name)?;
        let path = absolute(&container, path);
        Ok(Side { container, name, path })
    }
}

fn pack_inside(source: &Side, pipe: OwnedFd, packing: Packing) -> Result<Guest> {
    let (name, path) = (&source.name, &source.path);
    source.container.with_root(View::Everything, pipe, |root, pipe| {
        pack_ground(Ground::Container(root.as_fd(), name), path, pipe, packing)
    })
}

fn pack_ground(ground: Ground<'_>, path: &[u8], pipe: File, packing: Packing) -> Result<()> {
    let base = base_name(path);
    let archive = packing == Packing::Archive;
    let style = Style {
        name: if archive { &base } else { TOP },
        owner: &|uid, gid| (uid, gid),
        devices: true,
        exact: !archive,
        recorded: true,
        layer: None,
    };
    let mut out = BufWriter::with_capacity(BUFFER, pipe);
    let packed = pack(open_source(ground, path)?, style, &mut out);
    unless_unread(packed.and_then(|_| Ok(member::end(&mut out)?)).and_then(|()| Ok(out.flush()?)))
}

fn pack_host(source: Source, pipe: File, mapping: &Mapping) -> Result<Skipped> {
    let owner = |uid, gid| mapping.inside(uid, gid);
    let style = Style { name: TOP, owner: &owner, devices: false, exact: true, recorded: false, layer: None };
    let mut out = BufWriter::with_capacity(BUFFER, pipe);
    let mut skipped = Skipped::default();
    let packed = pack(source, style, &mut out).map(|left_out| skipped = left_out);
    unless_unread(packed.and_then(|()| Ok(member::end(&mut out)?)).and_then(|()| Ok(out.flush()?)))?;
    Ok(skipped)
}

fn extract_inside(target: &Side, pipe: OwnedFd, naming: Naming, options: Options) -> Result<Guest> {
    let user = user(target)?;
    target.container.with_root(View::Everything, pipe, |root, pipe| {
        let owner = owner(options, &root, &user)?;
        let ground = Ground::Container(root.as_fd(), &target.name);
        receive(pipe, ground, &target.path, &naming, options, owner).map(drop)
    })
}

/// From one place of a container to another: both processes in one and the same view of it.
fn within(side: &Side, to: Vec<u8>, unused: OwnedFd, options: Options) -> Result<Skipped> {
    let user = user(side)?;
    let to = absolute(&side.container, to);
    let guest = side.container.with_root(View::Everything, unused, |root, unused| {
        drop(unused);
        let ground = Ground::Container(root.as_fd(), &side.name);
        let owner = owner(options, &root, &user)?;
        not_into_itself(ground, &side.path, &to)?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
        let writer = start_here(|| pack_ground(ground, &side.path, File::from(write), Packing::Internal))?;
        let naming = Naming::Known(base_name(&side.path));
        let ours = receive(File::from(read), ground, &to, &naming, options, owner);
        writer.wait().and(ours).map(drop)
    })?;
    guest.wait().map(|()| Skipped::default())
}

/// A copy of a directory that goes into this directory would never end.
fn not_into_itself(ground: Ground<'_>, source: &[u8], target: &[u8]) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let slash = target.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let parent = || ground.open(&target[..=slash], flags);
    let inode = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let (Ok(source), Ok(mut at)) =
        (ground.open(source, flags), ground.open(target, flags).or_else(|_| parent()))
    else {
        return Ok(());
    };
    let source = inode(&source)?;
    loop {
        let here = inode(&at)?;
        if here == source {
            return Err(anyhow!("the destination is in the directory that is copied"))
                .hint("copy to another place first, then `mv` inside");
        }
        at = openat(&at, "..", flags | OFlags::CLOEXEC, Mode::empty())?;
        if inode(&at)? == here {
            return Ok(());
        }
    }
}

fn user(side: &Side) -> Result<UserSpec> {
    side.container.record.user.parse().context("read the container's user")
}

fn owner(options: Options, root: &OwnedFd, user: &UserSpec) -> Result<Owner> {
    match options.archive {
        true => users::lookup(root.as_fd(), user, &[]).map(|user| Owner::One(user.uid, user.gid)),
        false => Ok(Owner::AsPacked),
    }
}

/// Unpack the stream of `pipe` where the user said `path`.
fn receive(
    mut pipe: File,
    ground: Ground<'_>,
    path: &[u8],
    naming: &Naming,
    options: Options,
    owner: Owner,
) -> Result<Skipped> {
    // So that somebody who has nothing to send doesn't look like an empty archive.
    let mut start = Vec::new();
    (&mut pipe).take(512).read_to_end(&mut start).context("read the stream")?;
    let rules = |rename| Rules {
        rename,
        owner,
        outside: matches!(ground, Ground::Host),
        overwrite: options.overwrite,
    };
    let Naming::Known(name) = naming else {
        let (mut archive, first) = open_stream(start, pipe)?;
        let directory = match ground.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                return Err(anyhow!("destination must be a directory when copying from stdin"))
                    .hint("name a directory that is there");
            }
            opened => opened.map_err(|errno| ground.missing(path, errno))?,
        };
        return match first {
            Some(first) => extract(first, &mut archive, directory.as_fd(), rules(None)),
            None => Ok(Skipped::default()),
        };
    };
    if start.is_empty() {
        return Ok(Skipped::default());
    }
    let mut archive = Archive::new(BufReader::with_capacity(BUFFER, start.as_slice().chain(pipe)));
    let Some(first) = archive.next()? else { return Ok(Skipped::default()) };
    let top = Top { is_directory: is_directory(&first), name };
    let place = destination(ground, path, top)?;
    extract(first, &mut archive, place.directory.as_fd(), rules(Some(place.name)))
}

type Stream = Archive<BufReader<Box<dyn Read>>>;

/// The archive of the user, whatever it is compressed with, and its first entry.
fn open_stream(start: Vec<u8>, pipe: File) -> Result<(Stream, Option<Entry>)> {
    let compression = match start.as_slice() {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    };
    let nothing = start.is_empty();
    let whole = BufReader::with_capacity(BUFFER, io::Cursor::new(start).chain(pipe));
    let words = "source must be a (compressed) tar archive when copying from stdin";
    let hint = "pipe one into it: `tar -c FILES | ctr cp - CONTAINER:DIRECTORY`";
    if nothing {
        return Err(anyhow!(words)).hint(hint);
    }
    let plain = decoder(compression, whole).context(words)?;
    let mut archive = Archive::new(BufReader::with_capacity(BUFFER, plain));
    let first = archive.next().context(words).hint(hint)?;
    Ok((archive, first))
}

fn open_source(ground: Ground<'_>, path: &[u8]) -> Result<Source> {
    let missing = |errno| ground.missing(path, errno);
    let stat = fstat(ground.open(path, OFlags::PATH).map_err(missing)?).map_err(missing)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            Ok(Source::Directory(ground.open(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(missing)?))
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            Ok(Source::File(ground.open(path, flags).map_err(missing)?))
        }
        _ => Ok(Source::Node(stat)),
    }
}

fn open_below(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    Ground::Container(root, "").open(path, flags)
}

/// podman-cp(1) calls paths relative to the root; podman resolves them from the working directory, and so do we.
fn absolute(container: &Reached, path: Vec<u8>) -> Vec<u8> {
    match path.starts_with(b"/") {
        true => path,
        false => [container.record.workdir.as_bytes(), b"/", &path].concat(),
    }
}

/// What `path` is called in a directory that it is copied into; empty when its contents are meant.
fn base_name(path: &[u8]) -> Vec<u8> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    match path.rsplit(|byte| *byte == b'/').next().unwrap_or_default() {
        b"." | b".." => Vec::new(),
        name => name.to_vec(),
    }
}

fn is_directory(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::Directory)
}

/// Whoever reads the other end of the pipe has gone, and says why.
pub fn unless_unread(done: Result<()>) -> Result<()> {
    let gone = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
            || cause.downcast_ref::<Errno>() == Some(&Errno::PIPE)
    };
    match done {
        Err(e) if e.chain().any(gone) => Ok(()),
        // Only now: a hint hides what is below it.
        done => done
            .hint("see with `ls -la` and `df -h` whether it may be read, and whether there is room for it"),
    }
}

pub fn pass_on(mut from: File, mut to: File) -> Result<()> {
    unless_unread(io::copy(&mut from, &mut to).map(drop).context("pass the archive on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_names() {
        for (path, name) in [
            ("a/b", "b"),
            ("/a/b/", "b"),
            ("dir.", "dir."),
            ("/a/.", ""),
            ("a/./", ""),
            (".", ""),
            ("/", ""),
            ("a/..", ""),
        ] {
            assert_eq!(base_name(path.as_bytes()), name.as_bytes(), "{path}");
        }
    }
}
