//! What the file system of the store can do, tried out: nothing of it stays.

use super::{Store, delete_tree};
use crate::namespaces::{Mapping, run_inside};
use anyhow::{Context, Result};
use rustix::{
    fs::ioctl_ficlone,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
        fsmount, fsopen,
    },
};
use std::fs::{self, File};

impl Store {
    /// Make an overlay, mounted nowhere: its last descriptor is its end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn probe_overlay(&self, mapping: &Mapping) -> Result<()> {
        let scratch = self.draft_path()?;
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| scratch.join(name));
        let outcome = (|| {
            for dir in [&lower, &upper, &work] {
                fs::create_dir_all(dir).with_context(|| format!("make directory {}", dir.display()))?;
            }
            run_inside(mapping, || {
                let overlay = || -> rustix::io::Result<()> {
                    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
                    for (key, dir) in [("lowerdir", &lower), ("upperdir", &upper), ("workdir", &work)] {
                        fsconfig_set_string(&context, key, dir.as_path())?;
                    }
                    if mapping.marks_as_user() {
                        fsconfig_set_flag(&context, "userxattr")?;
                    }
                    fsconfig_create(&context)?;
                    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map(drop)
                };
                overlay().with_context(|| format!("mount an overlay in {}", self.dirs().data.display()))
            })
        })();
        let _ = delete_tree(&scratch);
        outcome
    }

    /// Whether a copy shares its blocks with the original (ioctl_ficlone(2)).
    pub fn probe_clone(&self) -> bool {
        let cloned = || -> Result<()> {
            let paths = [self.draft_path()?, self.draft_path()?];
            let cloned = || -> Result<()> {
                fs::write(&paths[0], "x")?;
                Ok(ioctl_ficlone(File::create_new(&paths[1])?, File::open(&paths[0])?)?)
            };
            let cloned = cloned();
            paths.iter().for_each(|path| drop(fs::remove_file(path)));
            cloned
        };
        cloned().is_ok()
    }
}
