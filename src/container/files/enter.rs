//! The one way to a container's files: a process of ours inside its root. A running container is entered by its pid; the
//! root file system of a stopped one is mounted for us alone. Inside, no path leads out, whatever races there are.

use crate::{
    container::{
        find,
        fuse::{self, FuseOverlay},
        rootfs::{self, FUSE, Layers},
        state::{Process, Record, Status},
    },
    error::Explain,
    namespaces::{
        Inside, Mapping,
        mount::{clone_tree, null_device},
        root::{self, Opened, Root},
        start_beside, start_inside_with,
    },
    security::CapSet,
    storage::{ContainerDir, Lock, Store},
    sys::fork,
};
use anyhow::{Context, Result, anyhow};
use caps::Capability;
use rustix::{
    fs::{CWD, Mode, OFlags, open},
    process::{DumpableBehavior, chdir, set_dumpable_behavior, umask},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout},
    thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs},
};
use std::{
    cell::RefCell,
    ffi::{CStr, CString},
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// A container whose files can be reached, as long as this lives.
#[derive(Debug)]
pub struct Reached {
    /// Where it lies.
    pub dir: ContainerDir,
    /// What was asked for.
    pub record: Record,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// It runs: this is its first process.
    Running(OwnedFd),
    /// It is stopped, and stays so while we hold its lock.
    Stopped { _lock: Lock, layers: Layers },
}

/// What of a container a process inside sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Its files and what is mounted over them.
    Everything,
    /// Its root file system alone: empty places where something is mounted.
    RootFileSystem,
}

/// A process in the root of a container, and what it needs to live.
#[derive(Debug)]
pub struct Guest {
    inside: Inside,
    _overlay: Option<FuseOverlay>,
}

impl Guest {
    /// Wait for its end and hand back what it said.
    pub fn wait(self) -> Result<()> {
        self.inside.wait()
    }
}

impl Reached {
    /// The container that `given` names.
    ///
    /// # Errors
    /// There is none (exit status 1); or somebody is just starting or stopping it.
    pub fn find(store: &Store, given: &str) -> Result<Reached> {
        let dir = find::find(store, given)?;
        let record = Record::read(&dir)?.ok_or_else(|| anyhow!("container {given} was never finished"))?;
        let way =
            way(store, &dir, &record).with_context(|| format!("reach the files of container {given}"))?;
        Ok(Reached { dir, record, way })
    }

    /// Its first process, if it runs.
    pub fn process(&self) -> Option<BorrowedFd<'_>> {
        match &self.way {
            Way::Running(process) => Some(process.as_fd()),
            Way::Stopped { .. } => None,
        }
    }

    /// Its root file system, if it is stopped, and where that is mounted.
    pub fn root(&self) -> Result<Option<Root>> {
        match &self.way {
            Way::Running(_) => Ok(None),
            Way::Stopped { layers, .. } => {
                root_of(&self.record, layers, &self.record.mapping_of_files(&Mapping::detect())).map(Some)
            }
        }
    }

    /// Do `work` in a process of its own inside the container: it gets a descriptor of the root and `pipe`. Must be called
    /// before any thread exists.
    pub fn with_root(
        &self,
        view: View,
        pipe: OwnedFd,
        work: impl FnOnce(OwnedFd, File) -> Result<()>,
    ) -> Result<Guest> {
        let own = Mapping::detect();
        let null = null()?;
        let work = |report: BorrowedFd<'_>| {
            let root = enter(view)?;
            confine(&[report, pipe.as_fd(), root.as_fd()], null, OVER_FILES)?;
            work(root, File::from(pipe))
        };
        match &self.way {
            Way::Running(process) => {
                let mapping = self.record.mapping(&own);
                let user = mapping.is_rootless().then(|| mapping.builder());
                let inside = start_beside(process.as_fd(), user, work)?;
                Ok(Guest { inside, _overlay: None })
            }
            Way::Stopped { layers, .. } => {
                let mapping = self.record.mapping_of_files(&own);
                let root = RefCell::new(root_of(&self.record, layers, &mapping)?);
                let fuse = matches!(*root.borrow(), Root::FuseOverlay);
                let at = CString::new(layers.merged.as_os_str().as_bytes()).context(MOUNTING)?;
                let (inside, overlay) = start_inside_with(
                    &mapping,
                    |child| match fuse.then(fuse::find) {
                        None => Ok(None),
                        Some(Some(program)) => {
                            FuseOverlay::mount(&program, layers, child, mapping.is_rootless()).map(Some)
                        }
                        Some(None) => Err(anyhow!("fuse-overlayfs is not installed"))
                            .hint("Debian: apt install fuse-overlayfs"),
                    },
                    || match fuse {
                        true => Ok(None),
                        false => root.borrow_mut().open(&at).map(Some).context(MOUNTING),
                    },
                    |opened, report| {
                        mount(&mut root.borrow_mut(), &at, opened)?;
                        work(report)
                    },
                )?;
                Ok(Guest { inside, _overlay: overlay })
            }
        }
    }
}

/// Do `work` in a process of its own whose root is the directory `data`, mounted at `at`: it gets a descriptor of it and
/// `pipe`. Must be called before any thread exists.
pub fn inside_directory(
    at: &Path,
    data: &Path,
    pipe: OwnedFd,
    work: impl FnOnce(OwnedFd, File) -> Result<()>,
) -> Result<Guest> {
    let null = null()?;
    let root = RefCell::new(rootfs::directory(data)?);
    let at = CString::new(at.as_os_str().as_bytes()).context(MOUNTING)?;
    let (inside, ()) = start_inside_with(
        &Mapping::detect(),
        |_| Ok(()),
        || root.borrow_mut().open(&at).map(Some).context(MOUNTING),
        |opened, report| {
            mount(&mut root.borrow_mut(), &at, opened)?;
            let root = enter(View::Everything)?;
            confine(&[report, pipe.as_fd(), root.as_fd()], null, OVER_FILES)?;
            work(root, File::from(pipe))
        },
    )?;
    Ok(Guest { inside, _overlay: None })
}

/// Longer than a start or a stop keeps the lock without saying which process it is about, and than another copy takes that
/// is worth waiting for.
const PATIENCE: Duration = Duration::from_secs(10);

fn way(store: &Store, dir: &ContainerDir, record: &Record) -> Result<Way> {
    let begin = Instant::now();
    loop {
        if let Some(process) = Status::of(dir)?.process()
            && let Some(process) = hold(process)?
        {
            return Ok(Way::Running(process));
        }
        if let Some(lock) = dir.try_lock()? {
            return Ok(Way::Stopped { _lock: lock, layers: Layers::of(store, dir, record)? });
        }
        if begin.elapsed() > PATIENCE {
            return Err(anyhow!("it is just being started, stopped or copied"))
                .hint(format!("try again once `ctr ps -a` shows {} at rest", dir.id().short()));
        }
        sleep(Duration::from_millis(10));
    }
}

/// A descriptor of `process`; `None` when it is gone.
fn hold(process: &Process) -> Result<Option<OwnedFd>> {
    Ok(process.child()?.map(|child| child.pidfd))
}

fn root_of(record: &Record, layers: &Layers, mapping: &Mapping) -> Result<Root> {
    match &record.rootfs {
        Some(dir) if !record.rootfs_overlay => rootfs::directory(dir),
        _ if record.storage_driver == FUSE => Ok(Root::FuseOverlay),
        _ => layers.overlay(mapping),
    }
}

/// Mount the root of a stopped container and leave the host's file system behind: not even its mounts are there any more.
fn mount(root: &mut Root, at: &CStr, opened: Option<Opened>) -> Result<()> {
    let opened = opened.map_or_else(|| root.open(at), Ok).context(MOUNTING)?;
    let mounted = root.mount(at, opened).context(MOUNTING)?;
    root::pivot(mounted.as_fd()).context(MOUNTING)
}

const MOUNTING: &str = "mount the container's root file system";

/// What a process inside has as its standard streams.
pub fn null() -> Result<OwnedFd> {
    let doing = "open /dev/null";
    let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(doing)?;
    null_device(root, OFlags::RDWR | OFlags::CLOEXEC).context(doing)
}

/// The root of the container, entered.
fn enter(view: View) -> Result<OwnedFd> {
    chdir("/").context("enter the container's root")?;
    let root = match view {
        View::Everything => open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()),
        View::RootFileSystem => clone_tree(CWD, c"/", false),
    };
    root.context("open the container's root")
}

/// Who am I from here on: a copy of `ctr` in another mount namespace and, unless the user is root, root of the container's
/// user namespace; outside its pid namespace, so that nobody inside can name me. Of descriptors I have those in `kept` (a
/// pipe, a line to my parent, directories of the container) and `null` as 0 to 2. Nobody may look at my memory or my
/// descriptors (`--pid=host`); I hold the capabilities over files that are `needed`, and execute nothing.
pub fn confine(kept: &[BorrowedFd<'_>], null: OwnedFd, needed: CapSet) -> Result<()> {
    let doing = "close the door to the host";
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context(doing)?;
    dup2_stdin(&null).and_then(|()| dup2_stdout(&null)).and_then(|()| dup2_stderr(&null)).context(doing)?;
    drop(null);
    fork::close_descriptors_except(&[&[stdin(), stdout(), stderr()], kept].concat(), 0);
    umask(Mode::empty());
    let held = capabilities(None).context(doing)?.permitted;
    let kept = held & CapabilitySet::from_bits_retain(needed.bits());
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context(doing)?;
    set_no_new_privs(true).context(doing)
}

/// To read and write any file of a container.
const OVER_FILES: CapSet = CapSet::of(&[
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_MKNOD,
    Capability::CAP_SETFCAP,
]);
