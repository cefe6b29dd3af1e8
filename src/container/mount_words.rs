//! The options of a mount in the runtime specification, as mount(8) spells them, sorted by what they are.

use super::plan::c_string;
use crate::namespaces::{Mapping, mount::Setting};
use anyhow::Result;
use rustix::mount::{MountAttrFlags, MountFlags, MountPropagationFlags};

/// What the words of one mount say.
#[derive(Debug)]
pub struct Options {
    /// For the file system itself.
    pub settings: Vec<Setting>,
    /// For the mount.
    pub attributes: MountAttrFlags,
    /// Bound, not made.
    pub bind: bool,
    /// With the mounts below it.
    pub recursive: bool,
    /// tmpfs: filled with what the image has there.
    pub copy_up: bool,
    /// How mounts below it spread.
    pub propagation: MountPropagationFlags,
    /// It becomes the container's user's.
    pub chown: bool,
    /// A source that is a symbolic link is one inside, too.
    pub link: bool,
    /// A volume is filled by its first container.
    pub copy: bool,
    /// The volume that it is.
    pub volume: Option<String>,
    /// Only what lies there in it.
    pub subpath: Option<String>,
    /// The ids of its files are shown as others: by this map, or by the container's.
    pub id_map: Option<Option<String>>,
    /// overlay's read-only directories, topmost first.
    pub lower: Vec<String>,
    /// Its data-only layers.
    pub data: Vec<String>,
    /// overlay's upper directory.
    pub upper: Option<String>,
    /// overlay's work directory.
    pub work: Option<String>,
    /// A copy that stands for overlay, if it is there.
    pub copy_dir: Option<String>,
    /// Nothing of it has to reach the disk.
    pub volatile: bool,
}

impl Options {
    /// Sort them.
    pub fn parse(words: &[String], mapping: &Mapping) -> Result<Options> {
        use MountPropagationFlags as P;
        let mut options = Options {
            settings: Vec::new(),
            attributes: MountAttrFlags::empty(),
            bind: false,
            recursive: false,
            copy_up: false,
            propagation: P::PRIVATE,
            chown: false,
            link: false,
            copy: true,
            volume: None,
            subpath: None,
            id_map: None,
            lower: Vec::new(),
            data: Vec::new(),
            upper: None,
            work: None,
            copy_dir: None,
            volatile: false,
        };
        for word in words {
            match word.as_str() {
                "ro" => options.attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
                "nosuid" => options.attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
                "nodev" => options.attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
                "noexec" => options.attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
                "noatime" => options.attributes |= MountAttrFlags::MOUNT_ATTR_NOATIME,
                "nosymfollow" => options.attributes |= MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
                "strictatime" => options.attributes |= MountAttrFlags::MOUNT_ATTR_STRICTATIME,
                "bind" => options.bind = true,
                "rbind" => (options.bind, options.recursive) = (true, true),
                "tmpcopyup" => options.copy_up = true,
                "shared" | "rshared" => options.propagation = P::SHARED,
                "slave" | "rslave" => options.propagation = P::DOWNSTREAM,
                "unbindable" | "runbindable" => options.propagation = P::UNBINDABLE,
                "U" => options.chown = true,
                "nocopy" => options.copy = false,
                "no-dereference" => options.link = true,
                "idmap" => options.id_map = Some(None),
                "volatile" => options.volatile = true,
                // The defaults of a new mount in a new namespace; and labels, where nobody has any.
                "rw" | "suid" | "dev" | "exec" | "relatime" | "atime" | "private" | "rprivate"
                | "notmpcopyup" | "copy" | "z" | "Z" => {}
                other => options.pair(other, mapping)?,
            }
        }
        Ok(options)
    }

    fn pair(&mut self, word: &str, mapping: &Mapping) -> Result<()> {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let value = || value.to_owned();
        match key {
            "volume" => self.volume = Some(value()),
            "subpath" => self.subpath = Some(value()),
            "idmap" => self.id_map = Some(Some(value())),
            "lowerdir" => self.lower.push(value()),
            "datadir" => self.data.push(value()),
            "upperdir" => self.upper = Some(value()),
            "workdir" => self.work = Some(value()),
            "copydir" => self.copy_dir = Some(value()),
            _ => self.settings.extend(setting(word, mapping)?),
        }
        Ok(())
    }

    /// The attributes for mount(2).
    pub fn flags(&self) -> MountFlags {
        let pairs = [
            (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
            (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
            (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
            (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        ];
        pairs
            .iter()
            .filter(|(attribute, _)| self.attributes.contains(*attribute))
            .map(|(_, flag)| *flag)
            .collect()
    }
}

/// An option of the file system itself. A group that the user namespace lacks can't own terminals: root does, then.
fn setting(word: &str, mapping: &Mapping) -> Result<Option<Setting>> {
    let Some((key, value)) = word.split_once('=') else {
        return Ok(Some(Setting::Flag(c_string(word, "a mount option")?)));
    };
    if key == "gid" && value.parse().is_ok_and(|gid| !mapping.has_group(gid)) {
        return Ok(None);
    }
    Ok(Some(Setting::Value(c_string(key, "a mount option")?, c_string(value, "a mount option")?)))
}
