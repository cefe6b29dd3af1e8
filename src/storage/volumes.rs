//! Volumes: `volumes/<name>/` holds `_data`, which containers mount, and `volume.json`. A volume appears and vanishes by one
//! rename. Which containers use one stands in a list in the directory of each, so that no record has to be read.

use super::{
    ContainerDir, ContainerId, Name, Store,
    disk::ByErrno,
    small_file::read,
    store::{random_name, sync_directory},
    usage,
};
use crate::error::Explain;
use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, open, renameat_with};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    io::{ErrorKind, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    str::FromStr,
};

/// The name of a volume: a [`Name`], or for one that nobody named 64 hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

impl VolumeName {
    /// One that nobody has.
    pub fn random() -> Result<VolumeName> {
        Ok(VolumeName(ContainerId::random()?.to_string()))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// It is as nobody would name one.
    fn is_random(&self) -> bool {
        self.0.parse::<ContainerId>().is_ok()
    }
}

impl FromStr for VolumeName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<VolumeName> {
        match text.parse::<ContainerId>() {
            Ok(id) => Ok(VolumeName(id.to_string())),
            Err(_) => text.parse::<Name>().map(|name| VolumeName(name.to_string())),
        }
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for VolumeName {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<VolumeName> {
        text.parse()
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> String {
        name.0
    }
}

/// `volume.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: VolumeName,
    /// When it was made.
    pub created: Timestamp,
    /// Metadata for listings.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `type`, `device` and `o` (podman-volume-create(1)).
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// It goes with the container that it was made for.
    #[serde(default)]
    pub anonymous: bool,
}

impl Volume {
    /// A plain one, made now.
    pub fn new(name: VolumeName) -> Volume {
        let (labels, options) = (BTreeMap::new(), BTreeMap::new());
        Volume { name, created: Timestamp::now(), labels, options, anonymous: false }
    }

    /// The words of the option `o`.
    pub fn mount_options(&self) -> impl Iterator<Item = &str> {
        self.options.get("o").into_iter().flat_map(|o| o.split(',')).filter(|word| !word.is_empty())
    }

    /// A directory of the host that it stands for (`-o type=none,o=bind,device=DIR`).
    pub fn stands_for(&self) -> Option<&Path> {
        let binds = self.mount_options().any(|word| matches!(word, "bind" | "rbind"));
        self.options.get("device").filter(|_| binds).map(Path::new)
    }

    /// It is a file system to be mounted, which root alone can do.
    pub fn is_mounted(&self) -> bool {
        self.stands_for().is_none()
            && (self.options.contains_key("device") || self.options.contains_key("type"))
    }
}

/// Nobody else makes or removes volumes while this lives.
#[derive(Debug)]
pub struct VolumesLock {
    _dir: OwnedFd,
}

/// In the directory of a container: the volumes that it uses, one a line.
const USES: &str = "volumes";
const RECORD: &str = "volume.json";
/// In the directory of a volume that no container has used.
pub const FRESH: &str = "fresh";

impl Store {
    /// Wait until nobody else makes or removes volumes.
    pub fn lock_volumes(&self) -> Result<VolumesLock> {
        let path = self.volumes_dir();
        let lock = || -> Result<OwnedFd> {
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                // Only now that there is a volume to be: most stores have none.
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e.into()),
                _ => {}
            }
            let dir = open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::retry_on_intr(|| flock(&dir, FlockOperation::LockExclusive))?;
            Ok(dir)
        };
        let dir = lock().with_context(|| format!("lock {}", path.display())).hint_by_errno()?;
        Ok(VolumesLock { _dir: dir })
    }

    /// Make `volume`, empty. False: there is one of that name, which stays as it is.
    pub fn create_volume(&self, volume: &Volume, _lock: &VolumesLock) -> Result<bool> {
        let place = self.volume_dir(&volume.name);
        if place.exists() {
            return Ok(false);
        }
        let _hold = self.hold()?;
        let draft = self.draft_path()?;
        let make = || -> Result<()> {
            let directory = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
            let data = draft.join("_data");
            directory(&draft)?;
            directory(&data)?;
            // Users other than root of a container are to enter it, whatever the umask.
            fs::set_permissions(&data, fs::Permissions::from_mode(0o755))?;
            fs::File::create_new(draft.join(FRESH))?;
            let mut record = fs::File::create_new(draft.join(RECORD))?;
            record.write_all(&serde_json::to_vec(volume)?)?;
            // One that goes with its container is as durable as that.
            if !volume.name.is_random() {
                record.sync_all()?;
            }
            renameat_with(CWD, &draft, CWD, &place, RenameFlags::NOREPLACE)?;
            self.sync_volumes(&volume.name)
        };
        let made = make().with_context(|| format!("make volume {}", volume.name)).hint_by_errno();
        made.inspect_err(|_| drop(super::delete_tree(&draft)))?;
        Ok(true)
    }

    /// The volume called `name`, if there is one.
    pub fn volume(&self, name: &VolumeName) -> Result<Option<Volume>> {
        let doing = || format!("read volume {name}");
        let Some(text) = read(&self.volume_dir(name).join(RECORD)).with_context(doing)? else {
            return Ok(None);
        };
        if text.is_empty() && name.is_random() {
            // The power went before its record came to the disk.
            return Ok(Some(Volume { anonymous: true, ..Volume::new(name.clone()) }));
        }
        let volume: Volume = serde_json::from_slice(&text).with_context(doing)?;
        // Its file is its users' to change only by way of us; what says otherwise is damaged.
        if volume.name != *name {
            return Err(anyhow!("its record is that of {}", volume.name)).with_context(doing);
        }
        Ok(Some(volume))
    }

    /// All volumes by name, and what of them can't be read.
    pub fn volumes(&self) -> Result<(Vec<Volume>, Vec<anyhow::Error>)> {
        let path = self.volumes_dir();
        let entries = match fs::read_dir(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Default::default()),
            entries => entries.with_context(|| format!("list {}", path.display()))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<VolumeName>().ok());
        let mut names: Vec<VolumeName> = names.collect();
        names.sort();
        let (mut volumes, mut damaged) = (Vec::new(), Vec::new());
        for name in names {
            match self.volume(&name) {
                Ok(volume) => volumes.extend(volume),
                Err(e) => damaged.push(e),
            }
        }
        Ok((volumes, damaged))
    }

    /// The volume that `given` names: by its name, or the beginning of only one.
    ///
    /// # Errors
    /// There is none, with exit status 1; or several begin so.
    pub fn find_volume(&self, given: &str) -> Result<Volume> {
        if let Ok(name) = given.parse()
            && let Some(volume) = self.volume(&name)?
        {
            return Ok(volume);
        }
        let (volumes, _) = self.volumes()?;
        let mut alike =
            volumes.into_iter().filter(|v| !given.is_empty() && v.name.as_str().starts_with(given));
        let shown: String = given.chars().take(80).collect();
        match (alike.next(), alike.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(anyhow!("more than one volume's name begins with {shown:?}"))
                .hint("`ctr volume ls` lists them"),
            _ => Err(anyhow!("no volume with name {shown:?} found: no such volume"))
                .hint("`ctr volume ls` lists what there is")
                .status(1),
        }
    }

    /// Where what is in volume `name` lies: what containers mount, unless it stands for another directory.
    pub fn volume_data(&self, name: &VolumeName) -> PathBuf {
        self.volume_dir(name).join("_data")
    }

    /// Bytes of data in volume `name`. Only inside the user namespace all of it can be seen.
    pub fn volume_size(&self, name: &VolumeName) -> rustix::io::Result<u64> {
        usage(&self.volume_data(name))
    }

    /// Note that container `dir` uses `volumes`. From here on they can't be removed.
    pub fn use_volumes<'a>(
        &self,
        dir: &ContainerDir,
        volumes: impl Iterator<Item = &'a VolumeName>,
        _lock: &VolumesLock,
    ) -> Result<()> {
        let list: String = volumes.map(|name| format!("{name}\n")).collect();
        dir.write(USES, list.as_bytes())
    }

    /// The volumes that container `dir` uses.
    pub fn volumes_of(&self, dir: &ContainerDir) -> Result<Vec<VolumeName>> {
        let list = dir.read(USES)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&list).lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// The containers that use each volume that any uses.
    pub fn volume_users(&self) -> Result<HashMap<VolumeName, Vec<ContainerId>>> {
        let mut users: HashMap<VolumeName, Vec<ContainerId>> = HashMap::new();
        for id in self.containers()? {
            for volume in self.volumes_of(&self.container(&id))? {
                users.entry(volume).or_default().push(id.clone());
            }
        }
        Ok(users)
    }

    /// The containers that use volume `name`.
    pub fn volume_in_use_by(&self, name: &VolumeName) -> Result<Vec<ContainerId>> {
        Ok(self.volume_users()?.remove(name).unwrap_or_default())
    }

    /// Take volume `name` out of the listing: from here on it does not exist. Returns what is left to delete, in `trash/`.
    ///
    /// # Errors
    /// A container uses it: exit status 2 (podman-volume-rm(1)).
    pub fn retire_volume(&self, name: &VolumeName, _lock: &VolumesLock) -> Result<Option<PathBuf>> {
        let users = self.volume_in_use_by(name)?;
        if !users.is_empty() {
            let list: Vec<&str> = users.iter().map(ContainerId::as_str).collect();
            return Err(anyhow!(
                "volume {name} is being used by the following container(s): {}: volume is being used",
                list.join(", ")
            ))
            .hint(format!("`ctr volume rm -f {name}` removes them, too"))
            .status(2);
        }
        let corpse = self.directory("trash").join(random_name()?);
        match fs::rename(self.volume_dir(name), &corpse) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            moved => {
                let gone = moved.map_err(Into::into).and_then(|()| self.sync_volumes(name));
                gone.map(|()| Some(corpse)).with_context(|| format!("remove volume {name}"))
            }
        }
    }

    /// What the user was told of a volume that has a name survives a power loss.
    fn sync_volumes(&self, name: &VolumeName) -> Result<()> {
        if name.is_random() { Ok(()) } else { sync_directory(&self.volumes_dir()) }
    }

    /// The directory of volume `name`.
    pub fn volume_dir(&self, name: &VolumeName) -> PathBuf {
        self.volumes_dir().join(name.as_str())
    }

    fn volumes_dir(&self) -> PathBuf {
        self.directory("volumes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::store::test_store;

    #[test]
    fn names() {
        let hex = "0123456789abcdef".repeat(4);
        for good in ["a", "A.b-c_d", "0", &hex] {
            assert_eq!(good.parse::<VolumeName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "/a", ".a", "-a", "a\n", "a b", "a:b", "ä", &"x".repeat(256)] {
            assert!(bad.parse::<VolumeName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_of_a_name_and_none_in_use_is_removed() {
        let (_temp, store) = test_store();
        let lock = store.lock_volumes().unwrap();
        let [name, other] = ["data", "date"].map(|name| name.parse::<VolumeName>().unwrap());
        let volume = Volume::new(name.clone());
        assert!(store.create_volume(&volume, &lock).unwrap());
        assert!(!store.create_volume(&Volume { anonymous: true, ..volume.clone() }, &lock).unwrap());
        store.create_volume(&Volume::new(other.clone()), &lock).unwrap();
        assert_eq!(store.find_volume("data").unwrap(), volume);
        assert_eq!(store.find_volume("date").unwrap().name, other);
        assert!(store.find_volume("dat").is_err() && store.find_volume("").is_err());
        let (container, _held) = store.create_container(&ContainerId::random().unwrap(), &[]).unwrap();
        store.use_volumes(&container, [&name].into_iter(), &lock).unwrap();
        let refused = store.retire_volume(&name, &lock).unwrap_err();
        assert!(format!("{refused:#}").contains(container.id().as_str()));
        assert_eq!(crate::error::status(&refused), 2);
        assert!(store.retire_volume(&other, &lock).unwrap().unwrap().join("_data").is_dir());
        assert!(store.retire_volume(&other, &lock).unwrap().is_none());
        fs::remove_dir_all(container.path()).unwrap();
        assert!(store.retire_volume(&name, &lock).unwrap().is_some());
        assert!(store.volumes().unwrap().0.is_empty());
    }
}
