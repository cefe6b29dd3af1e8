//! The files that `install` has put into a directory, and which of them belong together: `.NAME.app` lists those of one
//! installation, as Podman keeps it.

use crate::error::Explain;
use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

/// A file to install.
pub struct Item {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// The directory.
pub struct Installed {
    dir: PathBuf,
}

impl Installed {
    /// What is installed in `dir`, which need not exist.
    pub fn at(dir: PathBuf) -> Installed {
        Installed { dir }
    }

    /// Where the file `name` is or would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Each file that belongs to an installation, and the file that lists it.
    pub fn apps(&self) -> BTreeMap<String, String> {
        let mut apps = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let app = entry.file_name().to_string_lossy().into_owned();
            if app.starts_with('.') && app.ends_with(".app") {
                // What a line says must stay a name in this directory.
                let text = super::read(&entry.path()).ok().flatten().unwrap_or_default();
                let names =
                    text.lines().map(str::trim).filter(|name| !name.is_empty() && !name.contains('/'));
                apps.extend(
                    names
                        .filter(|name| ![".", ".."].contains(name))
                        .map(|name| (name.to_owned(), app.clone())),
                );
            }
        }
        apps
    }

    /// Install `items` as the installation `app`; what fails leaves nothing new behind.
    ///
    /// # Errors
    /// One of the names is there already, and it is not to be replaced.
    pub fn install(&self, app: &str, items: &[Item], replace: bool) -> Result<Vec<PathBuf>> {
        let there = |item: &&Item| !replace && self.path(&item.name).symlink_metadata().is_ok();
        if let Some(Item { name, .. }) = items.iter().find(there) {
            return Err(anyhow!("a Quadlet with name {name} already exists, refusing to overwrite"))
                .hint("--replace takes its place");
        }
        let names: BTreeSet<&str> = items.iter().map(|item| item.name.as_str()).collect();
        ensure!(names.len() == items.len(), "two of the files have one name");
        fs::create_dir_all(&self.dir).with_context(|| format!("make directory {}", self.dir.display()))?;
        let paths: Vec<PathBuf> = items.iter().map(|item| self.path(&item.name)).collect();
        let drafts: Vec<PathBuf> =
            items.iter().map(|item| self.path(&format!(".{}.new", item.name))).collect();
        let publish = || {
            items.iter().zip(&drafts).try_for_each(|(item, draft)| create(draft, &item.content))?;
            drafts.iter().zip(&paths).try_for_each(|(draft, path)| {
                fs::rename(draft, path).with_context(|| format!("write {}", path.display()))
            })?;
            self.list(&self.path(&format!(".{app}.app")), &names)
        };
        if let Err(failure) = publish() {
            let new = drafts.iter().chain(paths.iter().filter(|_| !replace));
            new.for_each(|path| drop(fs::remove_file(path)));
            return Err(failure);
        }
        Ok(paths)
    }

    fn list(&self, list: &Path, names: &BTreeSet<&str>) -> Result<()> {
        let apps = self.apps();
        let earlier =
            apps.iter().filter(|(_, app)| list.file_name().is_some_and(|name| name == app.as_str()));
        let all: BTreeSet<&str> =
            earlier.map(|(name, _)| name.as_str()).chain(names.iter().copied()).collect();
        let text: String = all.iter().map(|name| format!("{name}\n")).collect();
        let draft = list.with_extension("app.new");
        create(&draft, text.as_bytes())?;
        fs::rename(&draft, list).with_context(|| format!("write {}", list.display()))
    }

    /// What has to go with `name`, which is a file or an installation: all of its installation. `None` if there is neither.
    pub fn belonging(&self, name: &str) -> Option<Vec<String>> {
        let apps = self.apps();
        let of =
            |app: &str| apps.iter().filter(|(_, own)| *own == app).map(|(name, _)| name.clone()).collect();
        match apps.get(name) {
            Some(app) => Some(of(app)),
            None if apps.values().any(|app| app == name) => Some(of(name)),
            None => (!name.contains('/') && self.path(name).is_file()).then(|| vec![name.to_owned()]),
        }
    }

    /// Remove files, and the lists of installations of which nothing is left. One that is gone is gone.
    pub fn remove(&self, names: &[String]) -> Result<()> {
        let apps = self.apps();
        for path in names.iter().map(|name| self.path(name)) {
            gone(&path)?;
        }
        for list in apps.values() {
            if apps.iter().all(|(name, app)| app != list || names.contains(name)) {
                gone(&self.path(list))?;
            }
        }
        Ok(())
    }
}

fn create(path: &Path, content: &[u8]) -> Result<()> {
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let write = || -> std::io::Result<()> {
        File::from(openat(CWD, path, flags, Mode::from_raw_mode(0o644))?).write_all(content)
    };
    write().with_context(|| format!("write {}", path.display()))
}

fn gone(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
