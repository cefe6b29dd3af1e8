//! What `run` was asked for: validated, as plain data. Nothing here acts, and nothing here comes from an image.

use super::{
    devices::Device,
    entries::Entries,
    environment::Variable,
    etc_files::{AddHost, Dns},
    health,
    limits::Ulimit,
    pod::Part,
    record::{LogConfig, Restart},
    secrets::Given,
    service::Notify,
    sharing::Sharing,
    signal::Signal,
    timezone::Timezone,
    tmpfs::Tmpfs,
    user_mount::UserMount,
    userns::Userns,
    users::{UserSpec, Who},
    volume_option::{ImageVolumes, VolumesFrom},
};
use crate::{
    cgroups::{self, Limits},
    network::{networks::Wish, ports::Port, wire::Protocol},
    registry::PullPolicy,
    security::{CapSet, apparmor},
    storage::Name,
};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Everything a new container is made from, beside its image.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where the root file system comes from.
    pub source: Source,
    /// The command line after the image; empty: the image's own.
    pub command: Vec<String>,
    /// In place of the image's entrypoint; `Some` of an empty list: none.
    pub entrypoint: Option<Vec<String>>,
    /// The container's name; None: one is made up.
    pub name: Option<Name>,
    /// User and group; None: the image's.
    pub user: Option<UserSpec>,
    /// Additional groups.
    pub group_add: Vec<Who>,
    /// The supplementary groups of the user who runs it stay.
    pub keep_groups: bool,
    /// The user namespace.
    pub userns: Userns,
    /// Its ports that the host offers.
    pub ports: Vec<Port>,
    /// More of them, at ports of the host's choice: those of `exposed`, and the image's, when `publish_all` says so.
    pub exposed: Vec<(u16, Protocol)>,
    /// `--publish-all`
    pub publish_all: bool,
    /// Its part in a pod.
    pub part: Option<Part>,
    /// Namespaces that it has in common with others.
    pub sharing: Sharing,
    /// What /etc/passwd and /etc/group get.
    pub entries: Entries,
    /// Working directory, absolute; None: the image's.
    pub workdir: Option<String>,
    /// Variables beside the image's, in order.
    pub env: Vec<Variable>,
    /// A terminal.
    pub tty: bool,
    /// Stdin stays open.
    pub interactive: bool,
    /// Signals are passed on when there is no terminal.
    pub sig_proxy: bool,
    /// An init of ours is PID 1.
    pub init: bool,
    /// The container is removed when it exits.
    pub remove: bool,
    /// The id is written to this file, which must not exist.
    pub cidfile: Option<PathBuf>,
    /// The process id is written to this file.
    pub pidfile: Option<PathBuf>,
    /// Metadata for listings.
    pub labels: BTreeMap<String, String>,
    /// Metadata for runtimes.
    pub annotations: BTreeMap<String, String>,
    /// The network.
    pub network: NetworkMode,
    /// Host name; None: the container's short id.
    pub hostname: Option<String>,
    /// More lines of /etc/hosts.
    pub add_hosts: Vec<AddHost>,
    /// Name servers.
    pub dns: Dns,
    /// Where short names are searched in place of the host's domains; `.`: nowhere.
    pub dns_search: Vec<String>,
    /// Options of /etc/resolv.conf in place of the host's.
    pub dns_options: Vec<String>,
    /// The image's /etc/hosts stays.
    pub no_hosts: bool,
    /// The image's /etc/hostname stays.
    pub no_hostname: bool,
    /// What comes before our lines of /etc/hosts.
    pub hosts_file: HostsFile,
    /// Root file system read-only …
    pub read_only: bool,
    /// … with tmpfs where programs write.
    pub read_only_tmpfs: bool,
    /// Directories, files, volumes, images; the sources of the host are there, and absolute.
    pub mounts: Vec<UserMount>,
    /// Containers whose volumes this one shares.
    pub volumes_from: Vec<VolumesFrom>,
    /// What becomes of the image's volumes.
    pub image_volumes: ImageVolumes,
    /// Secrets.
    pub secrets: Vec<Given>,
    /// More tmpfs.
    pub tmpfs: Vec<Tmpfs>,
    /// Size of /dev/shm in bytes; 0: no limit.
    pub shm_size: u64,
    /// Devices of the host; with `privileged`, all that there are.
    pub devices: Vec<Device>,
    /// All capabilities and devices, nothing masked, no system call filter.
    pub privileged: bool,
    /// The bounding set, and root's effective set.
    pub capabilities: CapSet,
    /// Those of `--cap-add`: what a user other than root has.
    pub added_capabilities: CapSet,
    /// Set-user-ID programs and file capabilities give nothing.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: SeccompChoice,
    /// The AppArmor profile.
    pub apparmor: apparmor::Choice,
    /// Resource limits.
    pub ulimits: Vec<Ulimit>,
    /// The session's limits stay as they are but for `ulimits`.
    pub inherit_limits: bool,
    /// Kernel parameters of the container's namespaces: dotted name and value.
    pub sysctls: BTreeMap<String, String>,
    /// File mode creation mask.
    pub umask: u32,
    /// Time zone; None: the image's.
    pub timezone: Option<Timezone>,
    /// Asks the container to stop; None: the image's, or SIGTERM.
    pub stop_signal: Option<Signal>,
    /// From that signal to SIGKILL.
    pub stop_timeout: Duration,
    /// From the start to SIGKILL; None: never.
    pub timeout: Option<Duration>,
    /// The storage driver, when no other may be tried.
    pub storage_driver: Option<String>,
    /// The monitor's process id is written to this file.
    pub monitor_pidfile: Option<PathBuf>,
    /// Where output is kept.
    pub log: LogConfig,
    /// When it is started again.
    pub restart: Restart,
    /// The keys that detach a client.
    pub detach_keys: Option<String>,
    /// A container that has the name is removed first.
    pub replace: bool,
    /// Its image is removed with it.
    pub remove_image: bool,
    /// Whether it is well.
    pub health: health::Options,
    /// What it may use.
    pub limits: Limits,
    /// Where its control group is.
    pub control_group: ControlGroup,
    /// Descriptors from 3 on that its first process inherits.
    pub preserve_fds: u8,
    /// Who tells a service manager that it is ready.
    pub sdnotify: Notify,
    /// Whether systemd is its first process.
    pub systemd: Systemd,
    /// How gladly the kernel kills it when memory is used up, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
}

/// `--systemd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Systemd {
    /// If its command looks so.
    #[default]
    True,
    /// No.
    False,
    /// Yes.
    Always,
}

/// Where the root file system comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A stored image, or one to pull.
    Image {
        /// As the user wrote it.
        name: String,
        /// How to get it.
        pull: Pull,
    },
    /// A directory of the user's.
    Rootfs(Rootfs),
    /// An empty one: a pod's, in which nobody looks for anything.
    Nothing,
}

/// How to get an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pull {
    /// Whether to ask a registry.
    pub policy: PullPolicy,
    /// `os/arch[/variant]`; None: this machine's.
    pub platform: Option<String>,
    /// Print no progress.
    pub quiet: bool,
    /// None: as registries.conf says.
    pub tls_verify: Option<bool>,
    /// Credentials file.
    pub authfile: Option<PathBuf>,
}

/// A directory as root file system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rootfs {
    /// Absolute.
    pub dir: PathBuf,
    /// Changes go to a layer that is thrown away.
    pub overlay: bool,
}

/// Where a container's control group is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlGroup {
    /// Whether there is to be one.
    pub choice: cgroups::Choice,
    /// A slice of systemd's or a group, below which it is made.
    pub parent: Option<String>,
    /// The container has no namespace of its own for them.
    pub host_namespace: bool,
}

/// What comes before our lines of /etc/hosts (`--hosts-file`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostsFile {
    /// Nothing.
    #[default]
    None,
    /// What is in the image's.
    Image,
    /// This.
    Text(String),
}

/// The container's network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NetworkMode {
    /// Its own, with a loopback interface only.
    None,
    /// The host's.
    Host,
    /// Its own, connected.
    Private {
        /// Asked for by name: without it, to fall back to `None` is worth a hint only.
        explicit: bool,
        /// Its gateway leads to the host's loopback.
        host_loopback: bool,
    },
    /// Its own, connected by pasta(1) with these options.
    Pasta(String),
    /// Its own, connected to these networks.
    Networks(Vec<Wish>),
}

/// The system call filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SeccompChoice {
    /// The built-in profile.
    Default,
    /// No filter.
    Unconfined,
    /// A profile in Docker's JSON format.
    File {
        /// For messages.
        path: PathBuf,
        /// Its text, at most [`SECCOMP_LIMIT`] bytes.
        json: Vec<u8>,
    },
}

/// Bytes of a seccomp profile.
pub const SECCOMP_LIMIT: u64 = 1 << 20;

impl Request {
    /// Whether `net.*` parameters, /sys and ports are the container's own.
    pub fn own_network(&self) -> bool {
        self.network != NetworkMode::Host
            && self.sharing.network.is_own()
            && !crate::weakened::is("network-namespace")
    }
}

#[cfg(test)]
pub mod tests {
    //! The request that tests start from.

    use super::*;

    /// `ctr run ubuntu`.
    pub fn request() -> Request {
        let pull = Pull {
            policy: PullPolicy::Missing,
            platform: None,
            quiet: false,
            tls_verify: None,
            authfile: None,
        };
        Request {
            source: Source::Image { name: "ubuntu".into(), pull },
            command: Vec::new(),
            entrypoint: None,
            name: None,
            user: None,
            group_add: Vec::new(),
            keep_groups: false,
            ports: Vec::new(),
            exposed: Vec::new(),
            publish_all: false,
            part: None,
            sharing: Sharing::default(),
            userns: Userns::Host,
            entries: Entries::default(),
            workdir: None,
            env: Vec::new(),
            tty: false,
            interactive: false,
            sig_proxy: true,
            init: false,
            remove: false,
            cidfile: None,
            pidfile: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            network: NetworkMode::Private { explicit: false, host_loopback: false },
            hostname: None,
            add_hosts: Vec::new(),
            dns: Dns::Host,
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            no_hosts: false,
            no_hostname: false,
            hosts_file: HostsFile::None,
            read_only: false,
            read_only_tmpfs: true,
            mounts: Vec::new(),
            volumes_from: Vec::new(),
            image_volumes: ImageVolumes::Bind,
            secrets: Vec::new(),
            tmpfs: Vec::new(),
            shm_size: 64 << 20,
            devices: Vec::new(),
            privileged: false,
            capabilities: CapSet::DEFAULT,
            added_capabilities: CapSet::EMPTY,
            no_new_privileges: false,
            seccomp: SeccompChoice::Default,
            apparmor: apparmor::Choice::Default,
            ulimits: Vec::new(),
            inherit_limits: false,
            sysctls: BTreeMap::new(),
            umask: 0o022,
            timezone: None,
            stop_signal: None,
            stop_timeout: Duration::from_secs(10),
            timeout: None,
            storage_driver: None,
            monitor_pidfile: None,
            log: LogConfig::default(),
            restart: Restart::No,
            detach_keys: None,
            replace: false,
            remove_image: false,
            health: health::Options::default(),
            limits: Limits::default(),
            control_group: ControlGroup::default(),
            preserve_fds: 0,
            sdnotify: Notify::default(),
            systemd: Systemd::default(),
            oom_score_adj: None,
        }
    }
}
