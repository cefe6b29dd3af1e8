//! A directory as several layers show it together (OCI image-spec, layer.md; kernel Documentation/filesystems/overlayfs.rst),
//! read without an overlay.

use super::whiteout;
use anyhow::Result;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    os::fd::{AsFd, OwnedFd},
};

/// The same directory in the layers that have it, topmost first, open for reading.
pub struct Merged(Vec<OwnedFd>);

/// What is at a name.
pub struct Shown {
    /// Its attributes.
    pub stat: Stat,
    /// The directories that have it: of a file the first alone counts.
    layers: Vec<usize>,
}

impl Merged {
    /// `directories`, topmost first, are the tops of layers or the same directory in each.
    pub fn new(directories: impl IntoIterator<Item = OwnedFd>) -> Merged {
        let mut shown = Vec::new();
        for directory in directories {
            let opaque = whiteout::is_opaque(directory.as_fd());
            shown.push(directory);
            if opaque {
                break;
            }
        }
        Merged(shown)
    }

    /// The one whose owner and mode count.
    pub fn top(&self) -> Option<&OwnedFd> {
        self.0.first()
    }

    /// What is in it, by name.
    pub fn entries(&self) -> Result<BTreeMap<CString, Shown>> {
        // None: gone, or hidden by something that is no directory.
        let mut found: BTreeMap<CString, (Option<Shown>, bool)> = BTreeMap::new();
        for (layer, directory) in self.0.iter().enumerate() {
            let mut gone = Vec::new();
            for entry in Dir::read_from(directory)? {
                let entry = entry?;
                let name = entry.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                if let Some(name) = name.to_bytes().strip_prefix(whiteout::WHITEOUT) {
                    gone.push(CString::new(name)?);
                    continue;
                }
                let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                match found.get_mut(name) {
                    None if whiteout::is(&stat) => drop(found.insert(name.to_owned(), (None, false))),
                    None => {
                        let shown = Shown { stat, layers: vec![layer] };
                        found.insert(name.to_owned(), (Some(shown), is_directory));
                    }
                    Some((Some(shown), open @ true)) => match is_directory {
                        true => shown.layers.push(layer),
                        false => *open = false,
                    },
                    Some(_) => {}
                }
            }
            for name in gone {
                found.entry(name).and_modify(|(_, open)| *open = false).or_insert((None, false));
            }
        }
        Ok(found.into_iter().filter_map(|(name, (shown, _))| Some((name, shown?))).collect())
    }

    /// The file `name`, one of [`Merged::entries`].
    pub fn open(&self, name: &CStr, shown: &Shown, flags: OFlags) -> Result<OwnedFd> {
        let layer = &self.0[shown.layers[0]];
        Ok(openat(layer, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// The layer's directory that `shown` lies in.
    pub fn holder(&self, shown: &Shown) -> &OwnedFd {
        &self.0[shown.layers[0]]
    }

    /// The directory `name`, one of [`Merged::entries`].
    pub fn descend(&self, name: &CStr, shown: &Shown) -> Result<Merged> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |layer: &usize| openat(&self.0[*layer], name, flags, Mode::empty());
        Ok(Merged::new(shown.layers.iter().map(open).collect::<Result<Vec<_>, _>>()?))
    }
}
