//! From a container on disk to the plan of its first process, and what the start needs at its various moments.

use super::{
    launch::{self, Failed, Started},
    log_line::Kind,
    networks::Networks,
    pump::{self, Ends},
};
use crate::{
    container::{
        cage::Cage,
        create::Container,
        entries::{self, Way},
        filter, fresh_mounts,
        fuse::{self, FuseOverlay},
        handover, idmapped, link, plain,
        plan::{Circumstances, Plan, Stdio},
        record::{LogDriver, Record, Restart},
        rootfs::{self, FUSE, Layers, OVERLAY, PLAIN},
        secrets,
        service::Service,
        sharing::{self, Joining},
        users::{self, UserSpec, Who},
    },
    error::Explain,
    namespaces::{Mapping, Promised, mount::Operation, root::Root, volume::Gift},
    security::CapSet,
    storage::{Store, delete_tree},
    sys::fork::Child,
};
use anyhow::{Context, Result, anyhow};
use rustix::{io::fcntl_dupfd_cloexec, stdio, thread::UnshareFlags};
use std::{
    borrow::Cow,
    fs::{self, Permissions},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
};

/// What happens once everything is set up, before the payload takes over.
pub type Gate<'a> = Box<dyn FnMut(&Child, &mut Networks) -> Result<()> + 'a>;

/// A container that is about to start, and then the helpers beside it. Dropped, they end.
pub struct Preparation<'a> {
    container: &'a Container,
    /// Where secrets are made.
    stage: PathBuf,
    gate: Gate<'a>,
    mapping: Mapping,
    own: Mapping,
    /// What is to be the container's user's and the container itself can't give.
    gifts: Vec<Gift>,
    joining: Joining,
    promised: Option<Promised>,
    layers: Layers,
    user: UserSpec,
    groups: Vec<Who>,
    filters: Vec<Vec<libc::sock_filter>>,
    fuse: Option<PathBuf>,
    overlay: Option<FuseOverlay>,
    networks: Networks,
    cage: Cage,
    service: Service,
    notify: Option<PathBuf>,
}

/// What has to stay beside the container. Dropped, it ends.
pub struct Helpers {
    /// Its control group.
    pub cage: Cage,
    /// Its networks.
    pub networks: Networks,
    _overlay: Option<FuseOverlay>,
}

impl<'a> Preparation<'a> {
    /// Read what there is to be read.
    pub fn new(
        store: &Store,
        container: &'a Container,
        own: &Mapping,
        gate: Gate<'a>,
    ) -> Result<Preparation<'a>> {
        let record = &container.record;
        fresh_mounts::prepare(store, &container.dir, record, own)?;
        Ok(Preparation {
            container,
            stage: store.stage(),
            gate,
            mapping: record.mapping(own),
            own: own.clone(),
            gifts: Vec::new(),
            joining: Joining::of(store, record)?,
            promised: None,
            layers: layers(store, container)?,
            user: record.user.parse().context("read the container's user")?,
            groups: record.groups.iter().map(|group| group.parse()).collect::<Result<_>>()?,
            filters: filter::of(&container.dir, record)?,
            fuse: None,
            overlay: None,
            networks: Networks::of(store, container)?,
            cage: Cage::prepare(record)?,
            service: Service::default(),
            notify: None,
        })
    }

    /// Hand on what a service manager gave, and the socket `notify` as the way to it.
    pub fn serve(&mut self, service: &Service, notify: Option<&Path>) {
        (self.service, self.notify) = (service.clone(), notify.map(Path::to_owned));
    }

    /// Let it live in this user namespace of its own, unless it goes to namespaces that others made.
    pub fn enter(&mut self, namespace: Promised) -> Result<()> {
        if !self.joining.spaces.is_empty() {
            return Ok(());
        }
        self.joining.spaces.push((namespace.namespace()?, UnshareFlags::NEWUSER));
        self.promised = Some(namespace);
        Ok(())
    }

    /// Start it, with the driver that was asked for; without one, with native overlay, where the kernel refuses that with
    /// fuse-overlayfs, and without that from a copy. Also says which it was.
    pub fn start(&mut self) -> Result<(Started, Option<Ends>, &'static str)> {
        let record = &self.container.record;
        let mut driver = match record.storage_driver.as_str() {
            _ if own_directory(record) => OVERLAY,
            FUSE => FUSE,
            PLAIN => PLAIN,
            _ => OVERLAY,
        };
        loop {
            if driver == PLAIN {
                plain::make(&self.container.dir, &self.layers, &self.own)?;
                self.layers.plain = true;
            }
            let (plan, ends) = self.plan(driver == FUSE)?;
            match launch::start(plan, self) {
                Ok(started) => return Ok((started, ends, driver)),
                Err(Failed::Other(failure)) => return Err(failure),
                Err(Failed::Root(refused)) => {
                    // Pointers of a view are for the kernel's overlay only, and what overlay has in its upper directory, too.
                    let followed = self.layers.data.is_empty() && is_empty(&self.layers.upper);
                    // Root maps the ids of overlay's directories, which the others can't.
                    let mapped = self.mapping.is_rootless() && !self.own.is_rootless();
                    let choice =
                        !record.storage_driver_chosen && record.rootfs.is_none() && followed && !mapped;
                    let reached = self.mapping.has_caller() && self.mapping.builder() == (0, 0);
                    driver = match driver {
                        OVERLAY if choice && reached && fuse::probe().is_ok() => FUSE,
                        OVERLAY | FUSE if choice => PLAIN,
                        // Its words have a hint of their own.
                        FUSE => return Err(refused),
                        _ => {
                            return Err(refused).hint(
                                "`ctr doctor` says which storage drivers work here; overlay needs a data directory on ext4, xfs, \
                                 btrfs or tmpfs (choose one with --root)",
                            );
                        }
                    };
                }
            }
        }
    }

    /// What has to stay beside the container.
    pub fn into_helpers(self) -> Helpers {
        Helpers { cage: self.cage, networks: self.networks.settled(), _overlay: self.overlay }
    }

    fn plan(&mut self, fuse: bool) -> Result<(Plan, Option<Ends>)> {
        let record = &self.container.record;
        let (stdio, ends) = if record.tty {
            (Stdio::Terminal, None)
        } else if record.log.driver == LogDriver::Passthrough {
            (passthrough(record.interactive)?, None)
        } else {
            let (theirs, ours) = pump::pipes(record.interactive)?;
            (theirs, Some(ours))
        };
        self.fuse = fuse.then(fuse::find).flatten();
        let root = match &record.rootfs {
            Some(dir) if !record.rootfs_overlay => rootfs::directory(dir)?,
            _ if fuse => Root::FuseOverlay,
            _ => self.layers.overlay(&self.mapping)?,
        };
        let added = record.added_capabilities.iter().filter_map(|name| CapSet::named(name));
        let mut spec = Cow::Borrowed(&self.container.spec);
        if !record.secrets.is_empty() {
            secrets::reveal(spec.to_mut(), &self.container.dir, &record.secrets)?;
        }
        if self.notify.is_some() || self.service.sockets > 0 {
            let pid = if record.init { 2 } else { 1 };
            self.service.pass_on(spec.to_mut(), pid, self.notify.as_deref());
        }
        let mut plan = Plan::new(
            &spec,
            Circumstances {
                mapping: &self.mapping,
                root,
                mount_point: &self.layers.merged,
                stdio,
                filters: self.filters.clone(),
                init: record.init,
                waits: record.pod.is_some(),
                directories: record.volumes.clone(),
                devices: record.devices.clone(),
                capabilities_of_others: added.fold(CapSet::EMPTY, CapSet::union),
                preserved: record.preserve_fds.max(self.service.sockets),
                cgroup: self.cage.descriptor()?,
                late_cgroup: self.cage.is_late(),
                keep_groups: record.keep_groups,
                entries: match record.read_only || own_directory(record) {
                    true => Way::Cover,
                    false if self.layers.ephemeral => Way::AsNeeded,
                    false => Way::Append,
                },
                interfaces: self.networks.interfaces(record.id.as_str()),
                joined: match self.promised {
                    Some(_) => self.joining.kinds() - UnshareFlags::NEWUSER,
                    None => self.joining.kinds(),
                },
                network_follows: self.promised.as_ref().is_some_and(|promised| promised.network),
                watched: self.joining.is_watched(),
                memory: self.memory()?,
            },
        )?;
        if handover::is_needed(&self.mapping) {
            let mine = |operation: &mut Operation| matches!(operation, Operation::Give(Gift::Host(..)));
            let gifts = plan.operations.extract_if(.., mine);
            self.gifts = gifts
                .filter_map(|gift| if let Operation::Give(gift) = gift { Some(gift) } else { None })
                .collect();
        }
        plan.operations.extend(secrets::operations(&self.container.dir, &record.secrets, &self.stage)?);
        Ok((plan, ends))
    }
}

impl Preparation<'_> {
    /// The /dev/shm of the container whose memory this one shares.
    fn memory(&self) -> Result<Option<OwnedFd>> {
        let user = self.mapping.is_rootless().then(|| self.mapping.builder());
        self.joining.memory.as_ref().map(|child| sharing::memory_of(child, user)).transpose()
    }
}

impl launch::Preparation for Preparation<'_> {
    fn born(&mut self, child: &Child) -> Result<()> {
        self.networks.begin()?;
        let process = self.container.spec.process().as_ref();
        if let Some(score) = process.and_then(|process| process.oom_score_adj()) {
            oom_score(child, score)?;
        }
        self.cage.ask(child, &self.container.record)
    }

    fn map(&mut self, child: &Child) -> Result<Option<OwnedFd>> {
        match &mut self.promised {
            Some(promised) => promised.wait(),
            None => self.mapping.write(child.pid).map(|()| None),
        }
    }

    fn place(&mut self, child: &Child) -> Result<()> {
        self.cage.place(child)
    }

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

    fn give_root(&mut self, child: &Child) -> Result<OwnedFd> {
        idmapped::mount_for(child, &self.mapping, &self.layers)
    }

    fn joining(&self) -> &Joining {
        &self.joining
    }

    fn connect(&mut self, child: &Child) -> Result<()> {
        let user = self.mapping.is_rootless().then(|| self.mapping.builder());
        self.networks.connect(child, user, self.container.dir.path())
    }

    fn interface(&mut self, tap: OwnedFd) -> Result<()> {
        self.networks.join(&self.container.record, tap)
    }

    fn identify(&mut self, child: &Child, root: BorrowedFd<'_>) -> Result<link::Identity> {
        let (passwd, group) = fuse::read_users(child, root, self.mapping.is_rootless())?;
        let record = &self.container.record;
        let UserSpec { user, group: asked } = &self.user;
        let lines = entries::lines(&record.entries, &passwd, &group, user, asked.as_ref(), &record.workdir);
        let (passwd, group) = (passwd + &lines[0], group + &lines[1]);
        let who = users::resolve(&passwd, &group, &self.user, &self.groups)?;
        users::exist(&self.mapping, &who)?;
        handover::to_user(&self.own, &self.mapping, &self.gifts, who.uid, who.gid)?;
        let identity = link::Identity::new(who.uid, who.gid, &who.groups, who.home.as_bytes());
        Ok(identity.with_lines([lines[0].as_bytes(), lines[1].as_bytes()]))
    }

    fn before_payload(&mut self, child: &Child) -> Result<()> {
        (self.gate)(child, &mut self.networks)
    }

    /// The mark of a volatile overlay is there for the next mount, of which there is none: two directories less to remove
    /// when somebody waits for the end.
    fn meanwhile(&mut self) {
        if self.layers.ephemeral {
            let work = self.layers.work.join("work");
            // overlay makes it without any permission.
            let _ = fs::set_permissions(&work, Permissions::from_mode(0o700));
            let _ = delete_tree(&work.join("incompat"));
        }
    }
}

/// Its root is a directory of the user's, which stays as it is.
fn own_directory(record: &Record) -> bool {
    record.rootfs.is_some() && !record.rootfs_overlay
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

/// proc_pid_oom_score_adj(5). Without the privilege to go below one's own that is as low as it gets, as with Podman.
fn oom_score(child: &Child, score: i32) -> Result<()> {
    let file = format!("/proc/{}/oom_score_adj", child.pid.as_raw_pid());
    let doing = || format!("set the container's {file} to {score}");
    let written = match fs::write(&file, score.to_string()) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            let own = fs::read_to_string(&file).with_context(doing)?;
            let own: i32 = own.trim().parse().with_context(doing)?;
            fs::write(&file, score.max(own).to_string())
        }
        written => written,
    };
    written.with_context(doing)
}

fn layers(store: &Store, container: &Container) -> Result<Layers> {
    let (dir, record) = (&container.dir, &container.record);
    // A volatile overlay can't be mounted a second time.
    let ephemeral = record.auto_remove && record.restart == Restart::No;
    Ok(Layers { ephemeral, ..Layers::of(store, dir, record)? })
}

/// The caller's own streams.
fn passthrough(interactive: bool) -> Result<Stdio> {
    let copy = |fd: BorrowedFd<'_>, kind: Kind| {
        fcntl_dupfd_cloexec(fd, 3).with_context(|| format!("pass {} on", kind.word()))
    };
    Ok(Stdio::Pipes {
        stdin: match interactive {
            true => Some(fcntl_dupfd_cloexec(stdio::stdin(), 3).context("pass stdin on")?),
            false => None,
        },
        stdout: copy(stdio::stdout(), Kind::Stdout)?,
        stderr: copy(stdio::stderr(), Kind::Stderr)?,
    })
}
