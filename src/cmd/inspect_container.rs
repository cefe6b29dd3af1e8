//! What `ctr inspect` says of a container: every field that Docker's and Podman's scripts ask for, with its zero where we
//! have nothing behind it.

use super::{inspect_network, ps::Life};
use crate::{
    cgroups::Group,
    container::{
        cage::PIDS,
        health::Health,
        record::{LogConfig, LogDriver, Restart, Seccomp},
        secrets::{Form, Given},
        state::{Container, Record, Status},
        user_mount::{Source, UserMount},
    },
    monitor::log,
    storage::ContainerDir,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// All of it (libpod/define/container_inspect.go; Docker Engine API, ContainerInspect).
pub fn value(container: &Container) -> Value {
    let Container { dir, record, status } = container;
    let (program, args) =
        record.args.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    json!({
        "Id": record.id,
        "Name": record.name,
        "Created": record.created,
        "Path": program,
        "Args": args,
        "State": state(status, record.health.as_ref().and_then(|_| Health::read(dir).ok()?).as_ref()),
        "Image": record.image_id.map(|id| id.hex()).unwrap_or_default(),
        "ImageDigest": record.image_digest,
        "ImageName": record.image,
        "Rootfs": record.rootfs.as_deref().unwrap_or("".as_ref()),
        "Pod": "",
        "HostnamePath": dir.path().join("hostname"),
        "HostsPath": dir.path().join("hosts"),
        "ResolvConfPath": dir.path().join("resolv.conf"),
        "LogPath": log_path(dir, &record.log),
        "StaticDir": dir.path(),
        "OCIConfigPath": dir.path().join("config.json"),
        "OCIRuntime": "ctr",
        "ConmonPidFile": record.monitor_pidfile,
        "PidFile": dir.pid_file(),
        "RestartCount": status.restart_count(),
        "Driver": record.storage_driver,
        "GraphDriver": graph_driver(dir, record),
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": record.apparmor,
        "EffectiveCaps": record.capabilities,
        "BoundingCaps": record.capabilities,
        "ExecIDs": [],
        "Mounts": mounts(record).collect::<Vec<_>>(),
        "Dependencies": [],
        "NetworkSettings": inspect_network::network(record),
        "Namespace": "",
        "IsInfra": false,
        "IsService": false,
        "Config": config(record),
        "HostConfig": host_config(dir, record),
    })
}

/// What it has of the host and of volumes, as Podman and Docker list it.
pub fn mounts(record: &Record) -> impl Iterator<Item = Value> {
    let has = |mount: &UserMount, words: &[&str]| {
        words.iter().find(|word| mount.has(word)).map(|word| (*word).to_owned())
    };
    record.mounts.iter().filter_map(move |mount| {
        let (kind, name, source) = match &mount.source {
            Source::Bind { path } | Source::Overlay { path, .. } => ("bind", None, path.clone()),
            Source::Volume { name, path, .. } => ("volume", name.as_ref(), path.clone()),
            Source::Image { name, .. } => ("image", None, PathBuf::from(name)),
            Source::Devpts | Source::Ramfs => return None,
        };
        // Podman shows these two elsewhere.
        let shown = |word: &&String| {
            !matches!(word.as_str(), "rw" | "ro" | "z" | "Z" | "copy")
                && !PROPAGATION.contains(&word.as_str())
        };
        let mut value = json!({
            "Type": kind,
            "Source": source,
            "Destination": mount.target,
            "Driver": if name.is_some() { "local" } else { "" },
            "Mode": has(mount, &["z", "Z"]).unwrap_or_default(),
            "Options": mount.options.iter().filter(shown).collect::<Vec<_>>(),
            "RW": !mount.has("ro"),
            "Propagation": has(mount, PROPAGATION).unwrap_or_default(),
        });
        if let Some(name) = name {
            value["Name"] = json!(name);
        }
        Some(value)
    })
}

const PROPAGATION: &[&str] =
    &["rprivate", "private", "rshared", "shared", "rslave", "slave", "runbindable", "unbindable"];

fn binds(record: &Record) -> Vec<String> {
    let bind = |mount: &UserMount| {
        let source = match &mount.source {
            Source::Bind { path } | Source::Overlay { path, .. } => path.display().to_string(),
            Source::Volume { name, .. } => name.as_ref()?.to_string(),
            _ => return None,
        };
        Some(format!("{source}:{}:{}", mount.target.display(), mount.options.join(",")))
    };
    record.mounts.iter().filter_map(bind).collect()
}

fn secrets(record: &Record) -> Vec<Value> {
    let secret = |given: &Given| match &given.form {
        Form::Mount { uid, gid, mode, .. } => {
            json!({"Name": given.name, "ID": given.id, "UID": uid, "GID": gid, "Mode": mode})
        }
        Form::Env { .. } => json!({"Name": given.name, "ID": given.id, "UID": 0, "GID": 0, "Mode": 0}),
    };
    record.secrets.iter().map(secret).collect()
}

fn state(status: &Status, health: Option<&Health>) -> Value {
    let life = Life::of(status);
    let exit = status.exit();
    let word = status.word();
    let group = status.process().and_then(|process| process.cgroup.as_deref()).map(Group::at);
    json!({
        "OciVersion": oci_spec::runtime::VERSION,
        "Status": word,
        "Running": matches!(word, "running" | "paused" | "stopping"),
        "Paused": word == "paused",
        "Restarting": word == "restarting",
        "OOMKilled": exit.is_some_and(|exit| exit.oom),
        "MemoryPressure": group.and_then(|group| group.read("memory.pressure").ok()).map(|text| pressure(&text)),
        "CgroupPath": status.process().and_then(|process| process.cgroup.as_deref()).unwrap_or_default(),
        "Dead": false,
        "Pid": life.pid,
        "ConmonPid": status.monitor(),
        "ExitCode": life.code,
        "Error": exit.and_then(|exit| exit.error.as_deref()).unwrap_or_default(),
        "StartedAt": time(life.started),
        "FinishedAt": time(life.finished),
        // `{{if .State.Health}}` asks whether there is a health check.
        "Health": health,
        "StoppedByUser": exit.is_some_and(|exit| exit.stopped),
    })
}

/// Lines as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` (accounting/psi.rst).
fn pressure(text: &str) -> Value {
    let numbers = |words: &str| -> Value {
        let pairs = words.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), Value::from(value.parse::<f64>().unwrap_or(0.0)))).collect()
    };
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(kind, words)| (kind.to_owned(), numbers(words))).collect()
}

fn config(record: &Record) -> Value {
    let checks = record.health.as_ref();
    json!({
        "Hostname": record.hostname,
        "Domainname": "",
        "User": record.user,
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "Tty": record.tty,
        "OpenStdin": record.interactive,
        "StdinOnce": false,
        "Env": record.env,
        "Entrypoint": record.entrypoint,
        "Cmd": record.args.strip_prefix(record.entrypoint.as_slice()).unwrap_or(&record.args),
        "Image": record.image,
        "Volumes": record.volumes.iter().map(|place| (place.clone(), json!({}))).collect::<Map<_, _>>(),
        "WorkingDir": record.workdir,
        "OnBuild": null,
        "Labels": record.labels,
        "Annotations": record.annotations,
        "StopSignal": record.stop_signal,
        "StopTimeout": record.stop_timeout,
        "Timeout": record.timeout,
        "Healthcheck": checks.map(|checks| &checks.regular),
        "StartupHealthCheck": checks.and_then(|checks| checks.startup.as_ref()).map(|(check, _)| check),
        "HealthcheckOnFailureAction": checks.map(|checks| checks.on_failure).unwrap_or_default(),
        "ExposedPorts": {},
        "CreateCommand": record.command_line,
        "SystemdMode": record.systemd,
        "sdNotifyMode": record.sdnotify.word(),
        "Secrets": secrets(record),
        "Umask": "",
        "Timezone": "",
    })
}

fn host_config(dir: &ContainerDir, record: &Record) -> Value {
    let (policy, retries) = restart_policy(record);
    let device = |(host, inside): &(PathBuf, PathBuf)| json!({"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": ""});
    let mut all = Map::new();
    for (keys, zero) in [
        (NUMBERS, json!(0)),
        (WORDS, json!("")),
        (LISTS, json!([])),
        (MAPS, json!({})),
        (TRUTHS, json!(false)),
    ] {
        all.extend(keys.iter().map(|key| ((*key).to_owned(), zero.clone())));
    }
    let known = json!({
        "AutoRemove": record.auto_remove,
        "Init": record.init,
        "NetworkMode": record.network,
        "PortBindings": inspect_network::bindings(record),
        "Privileged": record.privileged,
        "ReadonlyRootfs": record.read_only,
        "UsernsMode": record.userns,
        "Annotations": record.annotations,
        "CgroupMode": if record.host_cgroups { "host" } else { "private" },
        "IpcMode": record.sharing.ipc.shown("shareable"),
        "PidMode": record.sharing.pid.shown("private"),
        "UTSMode": record.sharing.uts.shown("private"),
        "Runtime": "ctr",
        "Isolation": "",
        "MemorySwappiness": -1,
        "OomScoreAdj": record.oom_score_adj.unwrap_or(0),
        "ConsoleSize": [0, 0],
        "AutoRemoveImage": record.remove_image,
        "Binds": binds(record),
        "Tmpfs": record.tmpfs,
        "VolumesFrom": record.volumes_from,
        "Devices": record.devices.iter().map(device).collect::<Vec<_>>(),
        "GroupAdd": record.groups,
        "SecurityOpt": match record.seccomp {
            Seccomp::Unconfined => vec!["seccomp=unconfined"],
            Seccomp::Default | Seccomp::File => vec![],
        },
        "LogConfig": {
            "Type": record.log.driver,
            "Config": {},
            "Path": log_path(dir, &record.log),
            "Tag": record.log.tag,
            "Size": format!("{}B", record.log.max_size),
        },
        "RestartPolicy": {"Name": policy, "MaximumRetryCount": retries},
    });
    for part in [known, limits(record)] {
        all.extend(part.as_object().cloned().unwrap_or_default());
    }
    Value::Object(all)
}

/// What it may use, as Docker and Podman name it; -1: without limit.
fn limits(record: &Record) -> Value {
    let limits = &record.limits;
    let number = |value: Option<u64>| value.map_or(0, |value| i64::try_from(value).unwrap_or(-1));
    let disk = |device: &String| {
        // The kernel knows them by number.
        let name = std::fs::read_link(format!("/sys/dev/block/{device}")).ok();
        let name = name.as_deref().and_then(Path::file_name);
        name.map_or_else(|| PathBuf::from(device), |name| Path::new("/dev").join(name))
    };
    let rates = |key: &str| -> Vec<Value> {
        let of = limits.io.iter().filter(|limit| limit.key == key && limit.rate != u64::MAX);
        of.map(|limit| json!({"Path": disk(&limit.device), "Rate": limit.rate})).collect()
    };
    let weight = |(device, weight): &(String, u64)| json!({"Path": disk(device), "Weight": weight});
    json!({
        "BlkioDeviceReadBps": rates("rbps"),
        "BlkioDeviceReadIOps": rates("riops"),
        "BlkioDeviceWriteBps": rates("wbps"),
        "BlkioDeviceWriteIOps": rates("wiops"),
        "BlkioWeight": number(limits.blkio_weight),
        "BlkioWeightDevice": limits.blkio_weights.iter().map(weight).collect::<Vec<_>>(),
        "CpuPeriod": number(limits.cpu_period),
        "CpuQuota": number(limits.cpu_quota),
        "CpuShares": number(limits.cpu_shares),
        "CpusetCpus": limits.cpuset_cpus.as_deref().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.as_deref().unwrap_or_default(),
        "Memory": number(limits.memory),
        "MemoryReservation": number(limits.memory_reservation),
        "MemorySwap": number(limits.memory_swap),
        "PidsLimit": number(limits.pids.or(Some(PIDS))),
        "CgroupConf": limits.files.iter().cloned().collect::<BTreeMap<_, _>>(),
        "CgroupParent": record.cgroup_parent.as_deref().unwrap_or_default(),
        "Cgroups": record.cgroups,
    })
}

/// As `--restart` names it, and how often.
pub fn restart_policy(record: &Record) -> (&'static str, u32) {
    match record.restart {
        Restart::No => ("no", 0),
        Restart::OnFailure(times) => ("on-failure", times),
        Restart::Always => ("always", 0),
        Restart::UnlessStopped => ("unless-stopped", 0),
    }
}

/// Empty where there is no file.
fn log_path(dir: &ContainerDir, config: &LogConfig) -> PathBuf {
    match config.driver {
        LogDriver::K8sFile | LogDriver::JsonFile => log::path(dir, config),
        LogDriver::Journald | LogDriver::None | LogDriver::Passthrough => PathBuf::new(),
    }
}

const NUMBERS: &[&str] = &[
    "CpuCount",
    "CpuPercent",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "DiskQuota",
    "IOMaximumBandwidth",
    "IOMaximumIOps",
    "KernelMemory",
    "NanoCpus",
    "ShmSize",
];
const WORDS: &[&str] = &["Cgroup", "CgroupManager", "ContainerIDFile", "HostsFile", "VolumeDriver"];
const LISTS: &[&str] = &[
    "Binds",
    "CapAdd",
    "CapDrop",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "SecurityOpt",
    "Ulimits",
    "VolumesFrom",
];
const MAPS: &[&str] = &["Sysctls", "Tmpfs"];
const TRUTHS: &[&str] = &["OomKillDisable", "PublishAllPorts"];

fn graph_driver(dir: &ContainerDir, record: &Record) -> Value {
    if record.rootfs.is_some() {
        return Value::Null;
    }
    json!({
        "Name": record.storage_driver,
        "Data": {"UpperDir": dir.upper(), "WorkDir": dir.work()},
    })
}

/// Podman's zero where a time is not known.
fn time(time: Option<Timestamp>) -> String {
    time.map_or("0001-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}
