//! `container.json`: what was asked for, and all that a later start needs beside the specification.

use super::{
    entries::Entries, health::Checks, pod::Pod, secrets::Given, service::Notify, sharing::Sharing,
    user_mount::UserMount, userns::Join,
};
use crate::{
    cgroups::{self, Limits},
    namespaces::{IdMaps, Mapping},
    network::{networks::Attachment, ports::Port},
    storage::{ContainerDir, ContainerId, Digest, Name},
};
use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

/// `container.json`: what was asked for. Written before the container starts; `rename` and `update` replace it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: Name,
    /// When it was made.
    pub created: Timestamp,
    /// The canonical reference of the image it was made from; empty with a root directory of the user's.
    #[serde(default)]
    pub image: String,
    /// That image's id.
    #[serde(default)]
    pub image_id: Option<Digest>,
    /// The digest of that image's manifest.
    #[serde(default)]
    pub image_digest: Option<Digest>,
    /// The root directory given instead of an image.
    #[serde(default)]
    pub rootfs: Option<PathBuf>,
    /// The command line that made it, `ctr` first.
    #[serde(default)]
    pub command_line: Vec<String>,
    /// The program and its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// The image's or the user's entry point: the first of `args`.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// The program's environment, `NAME=VALUE`.
    #[serde(default)]
    pub env: Vec<String>,
    /// The user as asked for.
    #[serde(default)]
    pub user: String,
    /// Working directory inside.
    #[serde(default)]
    pub workdir: String,
    /// Host name inside.
    #[serde(default)]
    pub hostname: String,
    /// It has a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Its stdin is open.
    #[serde(default)]
    pub interactive: bool,
    /// It is removed when it exits.
    #[serde(default)]
    pub auto_remove: bool,
    /// It has all capabilities and no filter.
    #[serde(default)]
    pub privileged: bool,
    /// Its root file system is read-only.
    #[serde(default)]
    pub read_only: bool,
    /// An init of ours is process 1.
    #[serde(default)]
    pub init: bool,
    /// The capabilities it has, `CAP_…`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// `--label`s, and the image's.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `--annotation`s.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The signal that asks it to stop, `SIG…`.
    #[serde(default)]
    pub stop_signal: String,
    /// Seconds between that and SIGKILL.
    #[serde(default)]
    pub stop_timeout: u32,
    /// `none`, `host`, `private[:host-loopback]`, `pasta[:…]`, `bridge` with [`Record::networks`], or whose it is.
    #[serde(default)]
    pub network: String,
    /// `overlay` or `fuse-overlayfs`.
    #[serde(default)]
    pub storage_driver: String,
    /// The storage driver was the user's choice: no other is tried.
    #[serde(default)]
    pub storage_driver_chosen: bool,
    /// How its ids map to ours: `root`, `ranges` or `single`.
    #[serde(default)]
    pub mapping: String,
    /// Its ids, where they are not the user's default ones.
    #[serde(default)]
    pub ids: Option<IdMaps>,
    /// Which user namespace, as `--userns` names it.
    #[serde(default)]
    pub userns: String,
    /// The user namespace, if it is not one of its own.
    #[serde(default)]
    pub join: Option<Join>,
    /// The other namespaces that are not of its own; containers by their ids.
    #[serde(default)]
    pub sharing: Sharing,
    /// Its places in networks.
    #[serde(default)]
    pub networks: Vec<Attachment>,
    /// Whom its networks ask for names of the world outside, if not whom the host asks.
    #[serde(default)]
    pub dns: Vec<IpAddr>,
    /// Its ports that the host offers.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// It is a pod.
    pub pod: Option<Pod>,
    /// The pod that it belongs to.
    pub member_of: Option<ContainerId>,
    /// What shows the image's files with these ids.
    pub view: Option<String>,
    /// Its lowest layer, where that is none of all containers': it has the places of its mounts.
    pub places: Option<String>,
    /// What its /etc/passwd and /etc/group get.
    #[serde(default)]
    pub entries: Entries,
    /// The supplementary groups of the user who runs it stay (`--group-add keep-groups`).
    #[serde(default)]
    pub keep_groups: bool,
    /// Changes to `rootfs` go to a layer of the container's own.
    #[serde(default)]
    pub rootfs_overlay: bool,
    /// Additional groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The image's volumes: places that have to be there.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// What the user mounts, and the image's volumes.
    #[serde(default)]
    pub mounts: Vec<UserMount>,
    /// The user's tmpfs: place and options.
    #[serde(default)]
    pub tmpfs: BTreeMap<String, String>,
    /// The containers that some of `mounts` come from.
    #[serde(default)]
    pub volumes_from: Vec<String>,
    /// Its secrets, without what they say.
    #[serde(default)]
    pub secrets: Vec<Given>,
    /// Devices: the host's path and the container's.
    #[serde(default)]
    pub devices: Vec<(PathBuf, PathBuf)>,
    /// Capabilities that a user other than root has.
    #[serde(default)]
    pub added_capabilities: Vec<String>,
    /// The system call filter.
    #[serde(default)]
    pub seccomp: Seccomp,
    /// The AppArmor profile; empty without one.
    #[serde(default)]
    pub apparmor: String,
    /// Seconds from the start to SIGKILL; 0: never.
    #[serde(default)]
    pub timeout: u64,
    /// Where the process id is written.
    #[serde(default)]
    pub pidfile: Option<PathBuf>,
    /// Where the monitor's process id is written.
    #[serde(default)]
    pub monitor_pidfile: Option<PathBuf>,
    /// Where output is kept.
    #[serde(default)]
    pub log: LogConfig,
    /// When it is started again.
    #[serde(default)]
    pub restart: Restart,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// Whether it has a control group.
    #[serde(default)]
    pub cgroups: cgroups::Choice,
    /// The slice or group below which that is.
    #[serde(default)]
    pub cgroup_parent: Option<String>,
    /// It sees the host's control groups.
    #[serde(default)]
    pub host_cgroups: bool,
    /// How gladly the kernel kills it when memory is scarce (proc_pid_oom_score_adj(5)).
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
    /// The keys that detach a client, as podman-run(1) writes them.
    #[serde(default)]
    pub detach_keys: Option<String>,
    /// Its image is removed with it, unless another container uses it.
    #[serde(default)]
    pub remove_image: bool,
    /// Whether it is well.
    #[serde(default)]
    pub health: Option<Checks>,
    /// Descriptors from 3 on that its first process inherits.
    #[serde(default)]
    pub preserve_fds: u8,
    /// Who tells a service manager that it is ready.
    #[serde(default)]
    pub sdnotify: Notify,
    /// systemd is its first process.
    #[serde(default)]
    pub systemd: bool,
    /// That was asked for, and can't be without a control group.
    #[serde(default)]
    pub systemd_always: bool,
}

/// The system call filter of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// The built-in profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// The profile in the container's `seccomp.json`.
    File,
}

/// Where output is kept (podman-run(1), `--log-driver`, `--log-opt`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// How.
    #[serde(default)]
    pub driver: LogDriver,
    /// The file; None: `ctr.log` in the container's directory.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Bytes at which a new file is begun; 0: never.
    #[serde(default)]
    pub max_size: u64,
    /// What a journal entry is tagged with.
    #[serde(default)]
    pub tag: String,
}

/// `--log-driver`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// Kubernetes' format: time, stream, F or P, line.
    #[default]
    K8sFile,
    /// Docker's: one JSON object a line.
    JsonFile,
    /// systemd's journal.
    Journald,
    /// Nowhere.
    None,
    /// Nowhere: the container has the caller's own streams.
    Passthrough,
}

/// `--restart`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// When it fails, so many times; 0: without limit.
    OnFailure(u32),
    /// Whenever it ends by itself.
    Always,
    /// The same; they differ in what happens after a reboot.
    UnlessStopped,
}

impl Record {
    /// A record with nothing but an identity; the rest is filled in by struct update.
    pub fn new(id: ContainerId, name: Name, created: Timestamp) -> Record {
        Record {
            id,
            name,
            created,
            image: String::new(),
            image_id: None,
            image_digest: None,
            rootfs: None,
            command_line: Vec::new(),
            args: Vec::new(),
            entrypoint: Vec::new(),
            env: Vec::new(),
            user: String::new(),
            workdir: String::new(),
            hostname: String::new(),
            tty: false,
            interactive: false,
            auto_remove: false,
            privileged: false,
            read_only: false,
            init: false,
            capabilities: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            stop_signal: String::new(),
            stop_timeout: 0,
            network: String::new(),
            storage_driver: String::new(),
            storage_driver_chosen: false,
            mapping: String::new(),
            ids: None,
            userns: String::new(),
            join: None,
            sharing: Sharing::default(),
            networks: Vec::new(),
            dns: Vec::new(),
            ports: Vec::new(),
            pod: None,
            member_of: None,
            view: None,
            places: None,
            entries: Entries::default(),
            keep_groups: false,
            rootfs_overlay: false,
            groups: Vec::new(),
            volumes: Vec::new(),
            mounts: Vec::new(),
            tmpfs: BTreeMap::new(),
            volumes_from: Vec::new(),
            secrets: Vec::new(),
            devices: Vec::new(),
            added_capabilities: Vec::new(),
            seccomp: Seccomp::Default,
            apparmor: String::new(),
            timeout: 0,
            pidfile: None,
            monitor_pidfile: None,
            log: LogConfig::default(),
            restart: Restart::No,
            limits: Limits::default(),
            cgroups: cgroups::Choice::default(),
            cgroup_parent: None,
            host_cgroups: false,
            oom_score_adj: None,
            detach_keys: None,
            remove_image: false,
            health: None,
            preserve_fds: 0,
            sdnotify: Notify::default(),
            systemd: false,
            systemd_always: false,
        }
    }

    /// How its ids map for its processes, where `own` is the user's default mapping.
    pub fn mapping(&self, own: &Mapping) -> Mapping {
        self.ids.as_ref().map_or_else(|| own.clone(), |maps| own.with(maps))
    }

    /// How the ids of its files map while it is stopped: what root stores has the image's own ids.
    pub fn mapping_of_files(&self, own: &Mapping) -> Mapping {
        if own.is_rootless() { self.mapping(own) } else { own.clone() }
    }

    /// Write it.
    pub fn write(&self, dir: &ContainerDir) -> Result<()> {
        dir.write("container.json", &serde_json::to_vec(self).context("encode the container's record")?)
    }

    /// Read it. `None` for a container whose maker died before it wrote one.
    pub fn read(dir: &ContainerDir) -> Result<Option<Record>> {
        let record: Option<Record> = super::state::parse("record", dir.read("container.json")?)?;
        match record {
            Some(record) if record.id != *dir.id() => Err(anyhow!("the record is that of {}", record.id)),
            other => Ok(other),
        }
    }

    /// Read it, `change` it and write it, one change after the other.
    pub fn change(dir: &ContainerDir, change: impl FnOnce(Record) -> Result<Record>) -> Result<()> {
        let _lock = dir.lock_changes()?;
        change(Record::finished(dir)?)?.write(dir)
    }

    /// [`Record::read`]; one without is an error.
    pub fn finished(dir: &ContainerDir) -> Result<Record> {
        Record::read(dir)?.ok_or_else(|| anyhow!("container {} was never finished", dir.id().short()))
    }
}
