//! `ctr run`: from a request to an exit status. The steps below are those of ARCHITECTURE.md's walk.

pub use super::run_args::Args;
use super::{Globals, StorageDriver};
use crate::{
    container::{
        create::{self, Base, Container},
        fuse::{self, FuseOverlay},
        image_defaults::ImageDefaults,
        link,
        plan::{Circumstances, Plan, Stdio},
        remove,
        request::{NetworkMode, Request, SeccompChoice, Source},
        rootfs::{self, Layers},
        spec,
        state::{self, Process, Record},
        users::{self, UserSpec},
    },
    error::Explain,
    monitor::{self, Ends, Failed, Preparation, Started, Watch},
    namespaces::Mapping,
    network::{self, Connection, Pasta},
    registry::{self, Fetch},
    security::seccomp,
    storage::Store,
    sys::fork::Child,
};
use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use std::{
    fs, io,
    io::Write,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

/// Run it; the container's exit status.
pub fn run(args: Args, globals: &Globals) -> Result<u8> {
    let mut request = args.into_request()?;
    let store = globals.store()?;
    let mapping = Mapping::detect();
    note_single_mapping(&store, &mapping);
    let base = base(&store, &request)?;
    let connection = connection(&mut request)?;
    let container = create::create(&store, &request, &base, &mapping)?;
    let started = Timestamp::now();
    let outcome = live(&store, globals, &request, &base, &mapping, connection, &container);
    settle(&store, &request, &container, started, outcome)
}

/// The image, pulled if need be, or the directory that was named.
fn base(store: &Store, request: &Request) -> Result<Base> {
    match &request.source {
        Source::Image { name, pull } => {
            let fetch = Fetch {
                platform: pull.platform.as_deref(),
                quiet: pull.quiet,
                tls_verify: pull.tls_verify,
                authfile: pull.authfile.as_deref(),
            };
            Base::of_image(store, registry::ensure(store, name, pull.policy, &fetch)?)
        }
        Source::Rootfs(rootfs) => Ok(Base::Rootfs(rootfs.clone())),
    }
}

/// The network there can be. From here on the request says the same.
fn connection(request: &mut Request) -> Result<Connection> {
    let explicit = match request.network {
        NetworkMode::None => return Ok(Connection::None),
        NetworkMode::Host => return Ok(Connection::Host),
        NetworkMode::Private { explicit } => explicit,
    };
    let (connection, missing) = network::private(explicit)?;
    if let Some(hint) = missing {
        super::hint(&hint);
        request.network = NetworkMode::None;
    }
    Ok(connection)
}

/// Start the container and stay beside it until it ends.
fn live(
    store: &Store,
    globals: &Globals,
    request: &Request,
    base: &Base,
    mapping: &Mapping,
    connection: Connection,
    container: &Container,
) -> Result<monitor::Exit> {
    let defaults = base.defaults()?;
    let watch = watch(request, &defaults)?;
    // Made before the start: a payload that can't be reported must not have run.
    let pidfile = request.pidfile.as_deref().map(create_pidfile).transpose()?;
    let mut preparation =
        Preparing::new(request, &defaults, mapping, connection, container, layers(store, base, container))?;
    let (started, ends) = start(globals, request, base, &mut preparation)?;
    if preparation.overlay.is_some() {
        let storage_driver = "fuse-overlayfs".to_owned();
        Record { storage_driver, ..container.record.clone() }.write(&container.dir)?;
    }
    Process::of(started.child.pid.as_raw_pid())?.write(&container.dir)?;
    if let Some(mut pidfile) = pidfile {
        write!(pidfile, "{}", started.child.pid.as_raw_pid())
            .context("write the process id to the pidfile")?;
    }
    monitor::watch(&watch, &started, ends)
}

fn create_pidfile(path: &Path) -> Result<fs::File> {
    let creating = || format!("write the process id to {}", path.display());
    fs::File::create(path).with_context(creating).hint("choose a file that you may write with --pidfile")
}

/// Record how it ended. Nothing is left of `--rm`, nor of a container that never started.
fn settle(
    store: &Store,
    request: &Request,
    container: &Container,
    started: Timestamp,
    outcome: Result<monitor::Exit>,
) -> Result<u8> {
    let retire = || remove::retire(store, &container.dir, &container.lock, Some(&container.record.name));
    let exit = outcome.inspect_err(|_| {
        let _ = retire();
        for file in request.cidfile.iter().chain(&request.pidfile) {
            let _ = fs::remove_file(file);
        }
    })?;
    match container.record.auto_remove {
        true => retire()?,
        false => state::Exit::now(exit.code, exit.signal, started).write(&container.dir)?,
    }
    match exit.lost {
        None => Ok(exit.code),
        Some(errno) => Err(io::Error::from(errno))
            .context("pass on what the container printed")
            .hint("df -h: free space where the output goes"),
    }
}

/// With the driver that was asked for; without one, native overlay and where the kernel refuses that, fuse-overlayfs.
fn start(
    globals: &Globals,
    request: &Request,
    base: &Base,
    preparation: &mut Preparing<'_>,
) -> Result<(Started, Option<Ends>)> {
    let mut driver = globals.storage_driver.unwrap_or(StorageDriver::Overlay);
    loop {
        let (plan, ends) = preparation.plan(driver, base)?;
        match monitor::start(plan, preparation.mapping, preparation) {
            Ok(started) => return Ok((started, ends)),
            Err(Failed::Other(failure)) => return Err(failure),
            Err(Failed::Root(_, refused)) => {
                let choice = globals.storage_driver.is_none() && driver == StorageDriver::Overlay;
                preparation.fuse = fuse::find();
                if !choice || preparation.fuse.is_none() || matches!(request.source, Source::Rootfs(_)) {
                    return Err(refused).hint(
                        "rootless overlay needs Linux 5.11 and a data directory on ext4, xfs, btrfs or tmpfs (choose one with \
                         --root); else install fuse-overlayfs (Debian: apt install fuse-overlayfs)",
                    );
                }
                driver = StorageDriver::FuseOverlayfs;
            }
        }
    }
}

/// What the start needs at its various moments.
struct Preparing<'a> {
    request: &'a Request,
    mapping: &'a Mapping,
    container: &'a Container,
    connection: Connection,
    layers: Layers,
    user: UserSpec,
    directories: Vec<String>,
    fuse: Option<PathBuf>,
    overlay: Option<FuseOverlay>,
    pasta: Option<Pasta>,
}

impl<'a> Preparing<'a> {
    fn new(
        request: &'a Request,
        defaults: &ImageDefaults<'_>,
        mapping: &'a Mapping,
        connection: Connection,
        container: &'a Container,
        layers: Layers,
    ) -> Result<Preparing<'a>> {
        let user = spec::user(request, defaults)?;
        // Volumes of an image: places that have to be there.
        let directories = defaults.volumes.iter().map(|volume| (*volume).to_owned()).collect();
        Ok(Preparing {
            request,
            mapping,
            container,
            connection,
            layers,
            user,
            directories,
            fuse: None,
            overlay: None,
            pasta: None,
        })
    }

    fn plan(&mut self, driver: StorageDriver, base: &Base) -> Result<(Plan, Option<Ends>)> {
        let (stdio, ends) = match self.request.tty {
            true => (Stdio::Terminal, None),
            false => {
                let (theirs, ours) = monitor::pipes(self.request.interactive)?;
                (theirs, Some(ours))
            }
        };
        let root = match (base, driver) {
            (Base::Rootfs(rootfs), _) if !rootfs.overlay => rootfs::directory(&rootfs.dir)?,
            (_, StorageDriver::Overlay) => self.layers.overlay(self.mapping.is_rootless())?,
            (_, StorageDriver::FuseOverlayfs) => {
                self.fuse = fuse::find();
                crate::namespaces::root::Root::FuseOverlay
            }
        };
        let plan = Plan::new(
            &self.container.spec,
            Circumstances {
                mapping: self.mapping,
                root,
                mount_point: &self.layers.merged,
                stdio,
                filter: filter(self.request)?,
                init: self.request.init,
                directories: self.directories.clone(),
                devices: self.request.devices.iter().map(|d| (d.host.clone(), d.container.clone())).collect(),
                capabilities_of_others: self.request.added_capabilities,
            },
        )?;
        Ok((plan, ends))
    }
}

impl Preparation for Preparing<'_> {
    fn mount_root(&mut self, child: &Child) -> Result<()> {
        match &self.fuse {
            Some(fuse) => {
                self.overlay =
                    Some(FuseOverlay::mount(fuse, &self.layers, child, self.mapping.is_rootless())?);
                Ok(())
            }
            None => {
                Err(anyhow!("fuse-overlayfs is not installed")).hint("Debian: apt install fuse-overlayfs")
            }
        }
    }

    fn connect(&mut self, child: &Child) -> Result<()> {
        if let Connection::Private(pasta) = &self.connection {
            self.pasta = Some(Pasta::connect(
                pasta,
                child.pid,
                self.mapping.is_rootless(),
                self.container.dir.path(),
            )?);
        }
        Ok(())
    }

    fn identify(&mut self, child: &Child, root: BorrowedFd<'_>) -> Result<link::Identity> {
        let (passwd, group) = match self.overlay {
            Some(_) if self.mapping.is_rootless() => fuse::look_inside(child, || users::read(root))?,
            _ => users::read(root)?,
        };
        let who = users::resolve(&passwd, &group, &self.user, &self.request.group_add)?;
        ids_exist(self.mapping, &who)?;
        Ok(link::Identity::new(who.uid, who.gid, &who.groups, who.home.as_bytes()))
    }
}

fn layers(store: &Store, base: &Base, container: &Container) -> Layers {
    let lower = match base {
        Base::Image(image, _) => {
            let layers = image.layers.iter().rev().map(|layer| store.layer_path(layer));
            layers.chain([store.skeleton()]).collect()
        }
        Base::Rootfs(rootfs) => vec![rootfs.dir.clone()],
    };
    let dir = &container.dir;
    let ephemeral = container.record.auto_remove || matches!(base, Base::Rootfs(_));
    Layers { lower, upper: dir.upper(), work: dir.work(), merged: store.mount_point(), ephemeral }
}

fn watch(request: &Request, defaults: &ImageDefaults<'_>) -> Result<Watch> {
    let signal = spec::stop_signal(request, defaults)?.number();
    // With a terminal the keys reach the container as bytes; signals sent to us are still meant for it.
    Watch::new(request.interactive, request.sig_proxy, (signal, request.stop_timeout), request.timeout)
}

/// The kernel would say no more than EINVAL.
fn ids_exist(mapping: &Mapping, who: &users::Identity) -> Result<()> {
    // A namespace of one id keeps its caller's groups in place of these.
    let groups = if matches!(mapping, Mapping::Single { .. }) { &who.groups[..1] } else { &who.groups };
    if mapping.has_user(who.uid) && groups.iter().all(|gid| mapping.has_group(*gid)) {
        return Ok(());
    }
    Err(anyhow!("run as user {}, groups {groups:?}: these ids are beyond the subordinate ids of this user", who.uid))
        .hint("`ctr info` shows which there are; `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER` adds some")
}

fn filter(request: &Request) -> Result<Option<Vec<libc::sock_filter>>> {
    let program = match &request.seccomp {
        SeccompChoice::Unconfined => return Ok(None),
        SeccompChoice::Default => seccomp::default_filter(request.capabilities),
        SeccompChoice::File { path, json } => seccomp::from_profile(json, request.capabilities)
            .with_context(|| format!("read {}", path.display()))?
            .into(),
    };
    let instruction =
        |i: &seccomp::Instruction| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
    Ok(Some(program.iter().map(instruction).collect()))
}

/// Once a boot: a container of one id surprises those who know the full mapping.
fn note_single_mapping(store: &Store, mapping: &Mapping) {
    let Mapping::Single { why } = mapping else { return };
    let noted: &Path = &store.dirs().runtime.join("single-id-noted");
    if fs::File::create_new(noted).is_ok() {
        super::hint(&format!(
            "{why}; containers run with your own id only. `sudo usermod --add-subuids 100000-165535 --add-subgids \
             100000-165535 $USER` gives them more"
        ));
    }
}
