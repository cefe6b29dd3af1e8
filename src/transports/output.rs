//! Where a saved image goes: a stream, a file that is replaced as a whole, or a new directory. Dropped unfinished it leaves
//! nothing.

use crate::{
    error::Explain,
    storage::{ByErrno, Digest, delete_tree},
};
use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{BufWriter, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};
use tar::{EntryType, Header};

/// Where a saved image is to go.
#[derive(Debug)]
pub enum Target {
    /// A pipe, a device, a redirected standard output.
    Stream(File),
    /// A regular file, there or not.
    File(PathBuf),
    /// A directory that is new or empty.
    Directory(PathBuf),
}

/// On its way there.
pub struct Output {
    way: Way,
    draft: Option<Draft>,
}

enum Way {
    Archive { out: BufWriter<File>, directories: Vec<String> },
    Directory(PathBuf),
}

const BUFFER: usize = 256 << 10;

impl Output {
    /// Begin to write to `target`.
    ///
    /// # Errors
    /// It can't be written; a directory is there and not empty.
    pub fn begin(target: Target) -> Result<Output> {
        let archive =
            |file| Way::Archive { out: BufWriter::with_capacity(BUFFER, file), directories: Vec::new() };
        match target {
            Target::Stream(file) => Ok(Output { way: archive(file), draft: None }),
            Target::File(path) => {
                let draft = Draft::beside(&path)?;
                let file = File::create_new(&draft.path);
                let file = file.with_context(|| format!("write {}", path.display())).hint(CHOOSE)?;
                Ok(Output { way: archive(file), draft: Some(draft) })
            }
            Target::Directory(path) => {
                let taken = fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some());
                if taken || path.exists() && !path.is_dir() {
                    return Err(anyhow!("{} is there already", path.display()))
                        .hint("name a directory that is new or empty with -o");
                }
                let draft = Draft::beside(&path)?;
                let made = fs::create_dir(&draft.path);
                made.with_context(|| format!("make {}", path.display())).hint(CHOOSE)?;
                Ok(Output { way: Way::Directory(draft.path.clone()), draft: Some(draft) })
            }
        }
    }

    /// The file `name` of `size` bytes from `contents`, which have to have this digest, if any.
    pub fn file(
        &mut self,
        name: &str,
        size: u64,
        contents: &mut dyn Read,
        digest: Option<&Digest>,
    ) -> Result<()> {
        match &mut self.way {
            Way::Archive { out, directories } => {
                for (end, _) in name.match_indices('/') {
                    if !directories.iter().any(|known| known == &name[..end]) {
                        directories.push(name[..end].to_owned());
                        header(&format!("{}/", &name[..end]), EntryType::Directory, 0, out)
                            .hint_by_errno()?;
                    }
                }
                header(name, EntryType::Regular, size, out).hint_by_errno()?;
                copy(size, contents, digest, out)?;
                let padding = [0; 512];
                let padding = &padding[..(size.wrapping_neg() % 512) as usize];
                out.write_all(padding).context("write").hint_by_errno()
            }
            Way::Directory(top) => {
                let path = top.join(name);
                let parent = path.parent().unwrap_or(top);
                fs::create_dir_all(parent).context("make a directory").hint_by_errno()?;
                let mut file = File::create_new(&path).context("make a file").hint_by_errno()?;
                copy(size, contents, digest, &mut file)
            }
        }
    }

    /// All has been written.
    pub fn finish(mut self) -> Result<()> {
        if let Way::Archive { out, .. } = &mut self.way {
            out.write_all(&[0; 1024]).and_then(|()| out.flush()).context("write").hint_by_errno()?;
        }
        self.draft.take().map_or(Ok(()), Draft::publish)
    }
}

/// What is written, until it takes the place of `target`.
struct Draft {
    path: PathBuf,
    target: PathBuf,
}

const CHOOSE: &str = "choose a place that you may write with -o";

impl Draft {
    fn beside(target: &Path) -> Result<Draft> {
        // A link is kept, and what it leads to replaced.
        let target = match fs::canonicalize(target) {
            Err(e) if e.kind() == ErrorKind::NotFound => target.to_owned(),
            found => found.with_context(|| format!("look at {}", target.display())).hint(CHOOSE)?,
        };
        let Some(name) = target.file_name() else { bail!("{} is no name of a file", target.display()) };
        let name = format!(".{}.{}.new", name.to_string_lossy(), std::process::id());
        Ok(Draft { path: target.with_file_name(name), target })
    }

    fn publish(self) -> Result<()> {
        fs::rename(&self.path, &self.target).with_context(|| format!("write {}", self.target.display()))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = delete_tree(&self.path);
    }
}

fn copy(size: u64, contents: &mut dyn Read, digest: Option<&Digest>, out: &mut dyn Write) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    let (mut left, mut hasher) = (size, Sha256::new());
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let length = match contents.read(&mut buffer[..wanted]) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            read => read.context("read")?,
        };
        if length == 0 {
            bail!("it was cut short while it was read");
        }
        left -= length as u64;
        if digest.is_some() {
            hasher.update(&buffer[..length]);
        }
        out.write_all(&buffer[..length]).context("write").hint_by_errno()?;
    }
    let found = Digest::from(<[u8; 32]>::from(hasher.finalize()));
    match digest.filter(|digest| **digest != found) {
        Some(digest) => Err(anyhow!("blob {digest} is damaged: its contents are {found}"))
            .hint("remove the image that needs it and pull it again (`ctr rmi`, `ctr pull`)"),
        None => Ok(()),
    }
}

/// Of nobody in particular, at no particular time.
fn header(name: &str, kind: EntryType, size: u64, out: &mut dyn Write) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path(name).context("name a file")?;
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    out.write_all(header.as_bytes()).context("write")
}
