//! The record of a new container: what was asked for and what its image says, as everything later reads it.

use super::{
    create::Base,
    entries::Entries,
    image_defaults::ImageDefaults,
    names,
    pod::Part,
    record::{Record, Seccomp},
    request::{NetworkMode, Request, SeccompChoice, Systemd},
    rootfs::OVERLAY,
    spec,
    userns::{self, Settled},
};
use crate::{network::ports, storage::ContainerDir};
use anyhow::Result;
use jiff::Timestamp;
use oci_spec::runtime::Spec;

/// That of the container in `dir`, which runs as `spec` says.
///
/// # Errors
/// No name can be made up; a health check that can't be.
pub fn record(
    request: &Request,
    base: &Base,
    defaults: &ImageDefaults<'_>,
    ids: &Settled,
    dir: &ContainerDir,
    spec: &Spec,
) -> Result<Record> {
    let name = match &request.name {
        Some(name) => name.clone(),
        None => names::made_up(0)?,
    };
    let (image, rootfs) = match base {
        Base::Image(image, ..) => (Some(image), None),
        Base::Rootfs(rootfs) => (None, Some(rootfs.dir.clone())),
        Base::Nothing => (None, None),
    };
    let process = spec.process().clone().unwrap_or_default();
    let signal = spec::stop_signal(request, defaults)?;
    let pasta = match &request.network {
        NetworkMode::Pasta(options) if !options.is_empty() => format!("pasta:{options}"),
        _ => "pasta".to_owned(),
    };
    let check = match base {
        Base::Image(_, config) => config.1.as_ref(),
        Base::Rootfs(_) | Base::Nothing => None,
    };
    Ok(Record {
        image: image
            .map(|image| image.name().map_or_else(|| image.config.hex(), str::to_owned))
            .unwrap_or_default(),
        image_id: image.map(|image| image.config),
        image_digest: image.map(|image| image.manifest),
        rootfs,
        command_line: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        args: process.args().clone().unwrap_or_default(),
        entrypoint: request.entrypoint.clone().unwrap_or_else(|| defaults.entrypoint.to_vec()),
        env: process.env().clone().unwrap_or_default(),
        user: match (&request.user, &ids.user) {
            (None, Some(user)) => user.to_string(),
            _ => spec::user(request, defaults)?.to_string(),
        },
        workdir: process.cwd().to_string_lossy().into_owned(),
        hostname: spec.hostname().clone().unwrap_or_default(),
        tty: request.tty,
        interactive: request.interactive,
        auto_remove: request.remove,
        privileged: request.privileged,
        read_only: request.read_only,
        init: request.init,
        capabilities: request.capabilities.iter().map(|capability| capability.to_string()).collect(),
        labels: spec::labels(request, defaults),
        annotations: request.annotations.clone(),
        stop_signal: signal.to_string(),
        stop_timeout: u32::try_from(request.stop_timeout.as_secs()).unwrap_or(u32::MAX),
        network: request.sharing.network.shown(match &request.network {
            NetworkMode::None => "none",
            NetworkMode::Host => "host",
            NetworkMode::Private { host_loopback: false, .. } => "private",
            NetworkMode::Private { host_loopback: true, .. } => "private:host-loopback",
            NetworkMode::Pasta(_) => &pasta,
            NetworkMode::Networks(_) => "bridge",
        }),
        storage_driver: request.storage_driver.clone().unwrap_or_else(|| OVERLAY.to_owned()),
        storage_driver_chosen: request.storage_driver.is_some(),
        rootfs_overlay: matches!(base, Base::Rootfs(rootfs) if rootfs.overlay),
        groups: request.group_add.iter().map(ToString::to_string).collect(),
        volumes: defaults.volumes.iter().map(|volume| (*volume).to_owned()).collect(),
        tmpfs: request
            .tmpfs
            .iter()
            .map(|tmpfs| (tmpfs.target.display().to_string(), tmpfs.options.join(",")))
            .collect(),
        volumes_from: request.volumes_from.iter().map(|from| from.container.clone()).collect(),
        devices: request.devices.iter().map(|d| (d.host.clone(), d.container.clone())).collect(),
        added_capabilities: request.added_capabilities.iter().map(|c| c.to_string()).collect(),
        apparmor: process.apparmor_profile().clone().unwrap_or_default(),
        seccomp: match request.seccomp {
            SeccompChoice::Default => Seccomp::Default,
            SeccompChoice::Unconfined => Seccomp::Unconfined,
            SeccompChoice::File { .. } => Seccomp::File,
        },
        timeout: request.timeout.map_or(0, |timeout| timeout.as_secs()),
        pidfile: request.pidfile.clone(),
        monitor_pidfile: request.monitor_pidfile.clone(),
        log: request.log.clone(),
        restart: request.restart,
        limits: request.limits.clone(),
        cgroups: request.control_group.choice,
        cgroup_parent: request.control_group.parent.clone(),
        host_cgroups: request.control_group.host_namespace,
        oom_score_adj: request.oom_score_adj,
        detach_keys: request.detach_keys.clone(),
        remove_image: request.remove_image,
        health: request.health.settle(check)?,
        preserve_fds: request.preserve_fds,
        sdnotify: request.sdnotify,
        systemd: spec::runs_systemd(request, defaults),
        systemd_always: request.systemd == Systemd::Always,
        mapping: userns::mode(&ids.mapping).to_owned(),
        ids: ids.maps.clone(),
        userns: ids.mode.clone(),
        join: ids.join.clone(),
        sharing: request.sharing.clone(),
        ports: match (&request.network, request.publish_all) {
            (NetworkMode::Private { .. } | NetworkMode::Networks(_), false) => request.ports.clone(),
            (NetworkMode::Private { .. } | NetworkMode::Networks(_), true) => {
                ports::with_exposed(request.ports.clone(), &[&request.exposed, &defaults.ports[..]].concat())
            }
            // As Podman does: who said so was told.
            _ => Vec::new(),
        },
        pod: match &request.part {
            Some(Part::Itself(pod)) => Some(pod.clone()),
            _ => None,
        },
        member_of: match &request.part {
            Some(Part::Member(pod)) => Some(pod.clone()),
            _ => None,
        },
        entries: entries(request, ids),
        keep_groups: request.keep_groups,
        ..Record::new(dir.id().clone(), name, Timestamp::now())
    })
}

fn entries(request: &Request, ids: &Settled) -> Entries {
    let mut entries = request.entries.clone();
    entries.users.splice(0..0, ids.host_user.clone());
    entries
}
