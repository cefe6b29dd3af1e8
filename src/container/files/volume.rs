//! What is in a volume as a tar archive, out and in (podman-volume-export(1), podman-volume-import(1)). A process of ours has
//! the volume as its root, as one inside a container has that: whatever containers do to the volume meanwhile, and
//! whatever is in the archive, no path leads out.

use super::{
    enter::{Guest, inside_directory},
    extract::{Owner, Rules, extract},
    member,
    pack::{Source, Style, pack},
    transfer::{pass_on, unless_unread},
};
use crate::{
    error::Explain,
    storage::{Compression, Store, archive::Archive, decompress::decoder},
};
use anyhow::{Context, Result, anyhow};
use rustix::{
    fs::{Mode, OFlags, openat},
    pipe::{PipeFlags, pipe_with},
};
use std::{
    fs::File,
    io::{BufReader, BufWriter, Cursor, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

const BUFFER: usize = 256 << 10;

/// Write what is in the directory `data` to `out`. Must be called before any thread exists.
pub fn export(store: &Store, data: &Path, out: File) -> Result<()> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let guest = inside_directory(&store.mount_point(), data, write, |root, pipe| {
        let mut out = BufWriter::with_capacity(BUFFER, pipe);
        let style = Style {
            name: b"",
            owner: &|uid, gid| (uid, gid),
            devices: true,
            exact: false,
            recorded: false,
            layer: None,
        };
        unless_unread(
            pack(Source::Directory(top(&root)?), style, &mut out).and_then(|_| Ok(member::end(&mut out)?)),
        )?;
        unless_unread(out.flush().map_err(Into::into))
    })?;
    let ours = pass_on(File::from(read), out);
    guest.wait().and(ours)
}

/// Make in the directory `data` what the archive `from`, compressed or not, tells of. Must be called before any thread exists.
pub fn import(store: &Store, data: &Path, from: File) -> Result<()> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let guest: Guest = inside_directory(&store.mount_point(), data, read, |root, pipe| receive(&root, pipe))?;
    let ours = pass_on(from, File::from(write));
    let theirs = guest.wait();
    theirs.and(ours)
}

fn receive(root: &OwnedFd, mut pipe: File) -> Result<()> {
    let mut start = Vec::new();
    (&mut pipe).take(512).read_to_end(&mut start).context("read the archive")?;
    let compression = match start.as_slice() {
        [] => return Err(anyhow!("the archive is empty")).hint("see what is in it with `tar -tv`"),
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    };
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(pipe));
    let mut archive = Archive::new(BufReader::with_capacity(BUFFER, decoder(compression, whole)?));
    let first = archive.next().context("it is no tar archive").hint("see what is in it with `tar -tv`")?;
    let Some(first) = first else { return Ok(()) };
    let rules = Rules { rename: None, owner: Owner::AsPacked, outside: false, overwrite: true };
    extract(first, &mut archive, root.as_fd(), rules).map(drop)
}

fn top(root: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(root, ".", flags, Mode::empty()).context("open the volume")
}
