//! The mounts of a container: planned as [`Operation`]s before the fork, executed by the container's first process. Each
//! file system is made detached and attached to a descriptor, so no path of the image is ever resolved by name.

use super::{
    copyup::{self, Kept},
    target::{Target, open_in_root},
    volume::{Found, Gift, Overlay, Secret, Volume},
};
use crate::{sys::mount::change_attributes, weakened};
use rustix::{
    fs::{
        AtFlags, CWD, Dev, FileType, Mode, OFlags, ResolveFlags, chmodat, fstat, makedev, mknodat, openat,
        readlinkat, statat, symlinkat,
    },
    io::{Errno, Result, fcntl_dupfd_cloexec},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
    },
};
use std::{
    collections::VecDeque,
    ffi::{CStr, CString},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// One step on the way to a container's tree.
#[derive(Debug)]
pub enum Operation {
    /// A new file system.
    Filesystem {
        /// As fsopen(2) knows it.
        kind: CString,
        /// Its options.
        settings: Vec<Setting>,
        /// `MOUNT_ATTR_*`.
        attributes: MountAttrFlags,
        /// Where it goes.
        at: Target,
        /// tmpfs: filled with what the image has there.
        copy_up: bool,
    },
    /// A file or directory of the host.
    Bind {
        /// Its path on the host.
        source: CString,
        /// With the mounts below it.
        recursive: bool,
        /// `MOUNT_ATTR_*` to add.
        attributes: MountAttrFlags,
        /// Where it goes.
        at: Target,
        /// The source, cloned before ids changed ([`hold_sources`]).
        held: Option<OwnedFd>,
    },
    /// What the user mounts of the host.
    Volume(Box<Volume>),
    /// An overlay over it.
    Overlay(Overlay),
    /// A file of the user's in memory.
    Secret(Secret),
    /// What becomes the container's user's.
    Give(Gift),
    /// A device node of the container's own, and the only one of its file system that opens; the privileged way (the other
    /// is to bind the host's).
    Node {
        /// Where it goes.
        at: Target,
        /// Character or block device.
        kind: FileType,
        /// Permission bits.
        mode: u32,
        /// Major and minor number.
        device: (u32, u32),
    },
    /// A symbolic link.
    Link {
        /// What it says.
        to: CString,
        /// Where it goes.
        at: Target,
    },
    /// A directory or file that has to exist.
    Create(Target),
    /// Writable no more. Passed over when there is no such path.
    ReadOnly(Target),
    /// Hidden under an empty directory or /dev/null. Passed over when there is no such path.
    Mask(Target),
    /// The first of these that the kernel grants.
    FirstOf(Vec<Operation>),
}

/// An option of a file system.
#[derive(Debug)]
pub enum Setting {
    /// `key`
    Flag(CString),
    /// `key=value`
    Value(CString, CString),
}

impl Setting {
    fn is(&self, name: &CStr) -> bool {
        matches!(self, Setting::Value(key, _) if key.as_c_str() == name)
    }
}

impl Operation {
    /// It mounts the control groups, as they are seen from where the process is then.
    pub fn shows_control_groups(&self) -> bool {
        match self {
            Operation::Filesystem { kind, .. } => kind.as_c_str() == c"cgroup2",
            Operation::FirstOf(all) => all.iter().any(Operation::shows_control_groups),
            _ => false,
        }
    }

    /// What the operation does, for a message about its failure.
    pub fn describe(&self) -> String {
        match self {
            Operation::Filesystem { kind, at, .. } => {
                format!("mount {} on {}", kind.to_string_lossy(), at.display())
            }
            Operation::Bind { source, at, .. } => {
                format!("bind {} to {}", source.to_string_lossy(), at.display())
            }
            Operation::Volume(volume) => {
                format!("mount {} on {}", volume.source.to_string_lossy(), volume.at.display())
            }
            Operation::Overlay(overlay) => format!("mount an overlay on {}", overlay.at.display()),
            Operation::Secret(secret) => format!("make the secret {}", secret.at.display()),
            Operation::Give(gift) => gift.describe(),
            Operation::Node { at, .. } => format!("make device {}", at.display()),
            Operation::Link { to, at } => format!("link {} to {}", at.display(), to.to_string_lossy()),
            Operation::Create(at) => format!("make {}", at.display()),
            Operation::ReadOnly(at) => format!("make {} read-only", at.display()),
            Operation::Mask(at) => format!("mask {}", at.display()),
            Operation::FirstOf(all) => all.last().map(Operation::describe).unwrap_or_default(),
        }
    }
}

/// Executes operations in one root.
#[derive(Debug)]
pub struct Mounter<'plan> {
    root: BorrowedFd<'plan>,
    empty: Option<OwnedFd>,
    /// A file system that was just made. Only we make anything in it, so what lies right there is reached without a walk.
    fresh: Option<(&'plan Target, OwnedFd)>,
    /// Of [`Operation::Volume`]s, in their order, what [`Volume::open`] gave.
    sources: VecDeque<Found>,
    /// The tmpfs of secrets, and how many are in it.
    staging: Option<(OwnedFd, u32)>,
    owed: Vec<Owed>,
}

/// What becomes the container's user's once it is known who that is.
#[derive(Debug)]
pub struct Owed {
    /// It.
    pub top: OwnedFd,
    /// With all that is below it.
    pub all: bool,
}

impl<'plan> Mounter<'plan> {
    /// For the tree at `root`, attached in the current mount namespace; `sources` are what the user mounts, in order.
    pub fn new(root: BorrowedFd<'plan>, sources: VecDeque<Found>) -> Mounter<'plan> {
        Mounter { root, empty: None, fresh: None, sources, staging: None, owed: Vec::new() }
    }

    /// What the operations so far leave to be given away.
    pub fn take_owed(&mut self) -> Vec<Owed> {
        std::mem::take(&mut self.owed)
    }

    /// Do it.
    ///
    /// # Errors
    /// The system call's; ELOOP: the image has a symbolic link where none may be.
    pub fn execute(&mut self, operation: &'plan Operation) -> Result<()> {
        match operation {
            Operation::Filesystem { kind, settings, attributes, at, copy_up } => {
                let filesystem = new_filesystem(kind, settings, *attributes)?;
                if let (true, Ok(place)) = (*copy_up, at.find(self.root)) {
                    let says = |key| settings.iter().any(|setting| setting.is(key));
                    let owner = says(c"uid") || says(c"gid");
                    let kept = Kept { mode: says(c"mode"), owner, content: false };
                    copyup::fill(place.as_fd(), filesystem.as_fd(), kept)?;
                }
                attach(&filesystem, self.place(at)?)?;
                if kind.as_c_str() == c"tmpfs" && !copy_up {
                    self.fresh = Some((at, filesystem));
                }
                Ok(())
            }
            Operation::Bind { source, recursive, attributes, at, held } => {
                let cloned;
                let tree = match held {
                    Some(held) => held,
                    None => {
                        cloned = clone_tree(CWD, source, *recursive)?;
                        &cloned
                    }
                };
                if !attributes.is_empty() {
                    set(tree, *attributes, *recursive)?;
                }
                attach(tree, self.place(at)?)
            }
            Operation::Volume(volume) => {
                let source = self.sources.pop_front().ok_or(Errno::BADF)?;
                self.owed.extend(volume.fill(self.root)?.map(|top| Owed { top, all: false }));
                let place = self.place(&volume.at)?;
                volume.mount(source, place)
            }
            Operation::Overlay(overlay) => {
                let place = self.place(&overlay.at)?;
                overlay.mount(self.root, place)
            }
            Operation::Secret(secret) => {
                let place = self.place(&secret.at)?;
                secret.mount(&mut self.staging, place)
            }
            Operation::Give(gift) => {
                self.owed.push(Owed { top: gift.open(self.root)?, all: true });
                Ok(())
            }
            Operation::Node { at, kind, mode, device } => {
                let (holder, name) = self.holder(at)?;
                make_node(&holder, &name, *kind, *mode, makedev(device.0, device.1))?;
                // What lies around it is nodev, as no device cgroup stops a container from making other nodes there.
                let node = clone_tree(&holder, &name, false)?;
                change(&node, MountAttrFlags::empty(), MountAttrFlags::MOUNT_ATTR_NODEV, false)?;
                attach(&node, openat(&holder, &name, NODE, Mode::empty())?)
            }
            Operation::Link { to, at } => {
                let (holder, name) = self.holder(at)?;
                match symlinkat(to, &holder, &name) {
                    // Of an earlier start.
                    Err(Errno::EXIST) if readlinkat(&holder, &name, Vec::new()).as_ref() == Ok(to) => Ok(()),
                    made => made,
                }
            }
            Operation::Create(at) => self.place(at).map(drop),
            Operation::ReadOnly(at) => self.if_present(at, |_, place| {
                let tree = clone_tree(place, c"", true)?;
                set(&tree, MountAttrFlags::MOUNT_ATTR_RDONLY, true)?;
                attach(&tree, place)
            }),
            Operation::Mask(at) => self.if_present(at, Self::mask),
            Operation::FirstOf(all) => {
                let mut result = Err(Errno::OPNOTSUPP);
                for operation in all {
                    result = self.execute(operation);
                    if result.is_ok() {
                        break;
                    }
                }
                result
            }
        }
    }

    /// The place, made with everything on the way to it when it is missing.
    fn place(&mut self, at: &Target) -> Result<OwnedFd> {
        if let Some((top, inside)) = &self.fresh
            && let Some(name) = at.name_in(top)
        {
            match at.create_in(inside, name) {
                Err(Errno::EXIST) => {}
                made => return made,
            }
        }
        // What is mounted there may cover it.
        self.fresh = None;
        at.ensure(self.root)
    }

    /// The directory that holds the last component, made when it is missing, and that component.
    fn holder(&self, at: &Target) -> Result<(OwnedFd, CString)> {
        match &self.fresh {
            Some((top, inside)) => match at.name_in(top) {
                Some(name) => Ok((fcntl_dupfd_cloexec(inside, 3)?, name.to_owned())),
                None => at.ensure_parent(self.root),
            },
            None => at.ensure_parent(self.root),
        }
    }

    fn if_present(&mut self, at: &Target, act: impl FnOnce(&mut Self, &OwnedFd) -> Result<()>) -> Result<()> {
        match at.find(self.root) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(()),
            Err(errno) => Err(errno),
            Ok(place) => act(self, &place),
        }
    }

    fn mask(&mut self, place: &OwnedFd) -> Result<()> {
        if FileType::from_raw_mode(fstat(place)?.st_mode) != FileType::Directory {
            return attach(&clone_tree(null_device(self.root, OFlags::PATH)?, c"", false)?, place);
        }
        if let Some(empty) = &self.empty {
            return attach(&clone_tree(empty, c"", false)?, place);
        }
        let size = [Setting::Value(c"size".to_owned(), c"0".to_owned())];
        let empty = new_filesystem(c"tmpfs", &size, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        attach(&empty, place)?;
        self.empty = Some(empty);
        Ok(())
    }
}

/// A file system of `kind`, attached nowhere yet.
pub fn new_filesystem(kind: &CStr, settings: &[Setting], attributes: MountAttrFlags) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for setting in settings {
        match setting {
            Setting::Flag(key) => fsconfig_set_flag(&context, key)?,
            Setting::Value(key, value) => fsconfig_set_string(&context, key, value)?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Attach a detached mount at `place`.
pub fn attach(mount: impl AsFd, place: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", place, c"", flags)
}

/// A detached copy of the mount at `path` below `base`.
pub fn clone_tree(base: impl AsFd, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_EMPTY_PATH, path.is_empty());
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(base, path, flags)
}

/// Add mount attributes.
pub fn set(mount: &OwnedFd, attributes: MountAttrFlags, recursive: bool) -> Result<()> {
    change(mount, attributes, MountAttrFlags::empty(), recursive)
}

fn change(mount: &OwnedFd, set: MountAttrFlags, clear: MountAttrFlags, recursive: bool) -> Result<()> {
    change_attributes(mount.as_fd(), set.bits().into(), clear.bits().into(), recursive)
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

/// One that is there already, from the image or an earlier start, is taken only if it is the same device.
fn make_node(holder: &OwnedFd, name: &CStr, kind: FileType, mode: u32, device: Dev) -> Result<()> {
    match mknodat(holder, name, kind, Mode::from_raw_mode(mode), device) {
        Err(Errno::EXIST) => {
            let stat = statat(holder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != device {
                return Err(Errno::EXIST);
            }
        }
        made => made?,
    }
    // mknod(2) honours the umask; the mode asked for is exact.
    chmodat(holder, name, Mode::from_raw_mode(mode), AtFlags::empty())
}

const NODE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// /dev/null below `root`, made sure to be that (CVE-2025-31133). Never the host's: root of a container could chmod it.
pub fn null_device(root: impl AsFd, flags: OFlags) -> Result<OwnedFd> {
    let null = open_in_root(root, c"dev/null", flags, ResolveFlags::NO_SYMLINKS)?;
    let stat = fstat(&null)?;
    let is_null =
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3);
    if is_null || weakened::is("null-device") { Ok(null) } else { Err(Errno::NODEV) }
}

/// Write `value` to the sysctl `path` (slashes, below /proc/sys) through a proc file system of our own, never the image's.
pub fn write_sysctl(proc: BorrowedFd<'_>, path: &CStr, value: &[u8]) -> Result<()> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let sys = openat(proc, c"sys", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let file = rustix::fs::openat2(sys, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    if rustix::io::write(&file, value)? == value.len() { Ok(()) } else { Err(Errno::IO) }
}
