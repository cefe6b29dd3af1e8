//! `ctr inspect`: everything about containers and images, in the field names of Podman and Docker.

use super::{Format, Globals, each, images, output};
use crate::{
    container::{
        find,
        state::{Container, Record, Status},
    },
    error::Explain,
    registry,
    storage::{ContainerDir, Image, Store},
};
use anyhow::{Result, anyhow};
use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::{Value, json};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to look for
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "all")]
    kind: Kind,
    /// `json`
    #[arg(short, long, default_value = "json")]
    format: Format,
    /// Name, id or the beginning of an id
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl Args {
    /// The same, of one kind: `ctr image inspect`.
    pub fn only(self, kind: Kind) -> Args {
        Args { kind, ..self }
    }
}

/// `--type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A container, else an image.
    All,
    /// A container.
    Container,
    /// An image.
    Image,
}

/// Print an array of what there is; an error for each name that nothing has.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let mut found = Vec::new();
    let Format::Json = args.format;
    let status = each(&args.names, |name| {
        found.push(one(&store, name, args.kind)?);
        Ok(())
    });
    output::print(&output::json(&Value::Array(found)))?;
    Ok(status)
}

fn one(store: &Store, name: &str, kind: Kind) -> Result<Value> {
    if kind != Kind::Image
        && let Some(dir) = find::lookup(store, name)?
        && let Some(container) = Container::read(dir)?
    {
        return Ok(of_container(&container));
    }
    if kind != Kind::Container
        && let Some(image) = registry::find(store, store.dirs(), name)?
    {
        return of_image(store, &image);
    }
    let (what, list) = match kind {
        Kind::All => ("container or image", "`ctr ps -a` and `ctr images` list"),
        Kind::Container => ("container", "`ctr ps -a` lists"),
        Kind::Image => ("image", "`ctr images` lists"),
    };
    let shown: String = name.chars().take(80).collect();
    Err(anyhow!("no {what} has the name or id {shown:?}")).hint(format!("{list} what there is"))
}

fn of_container(container: &Container) -> Value {
    let Container { dir, record, .. } = container;
    let (program, args) =
        record.args.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    json!({
        "Id": record.id,
        "Name": record.name,
        "Created": record.created,
        "Path": program,
        "Args": args,
        "State": state(&container.status),
        "Image": record.image_id.map(|id| id.hex()).unwrap_or_default(),
        "ImageDigest": record.image_digest,
        "ImageName": record.image,
        "Rootfs": record.rootfs.as_deref().unwrap_or("".as_ref()),
        "HostnamePath": dir.path().join("hostname"),
        "HostsPath": dir.path().join("hosts"),
        "ResolvConfPath": dir.path().join("resolv.conf"),
        "StaticDir": dir.path(),
        "PidFile": dir.pid_file(),
        "Driver": record.storage_driver,
        "GraphDriver": graph_driver(dir, record),
        "EffectiveCaps": record.capabilities,
        "BoundingCaps": record.capabilities,
        "Mounts": [],
        "Config": config(record),
        "HostConfig": {
            "AutoRemove": record.auto_remove,
            "Init": record.init,
            "NetworkMode": record.network,
            "Privileged": record.privileged,
            "ReadonlyRootfs": record.read_only,
            "UsernsMode": record.mapping,
            "Annotations": record.annotations,
        },
    })
}

fn state(status: &Status) -> Value {
    let exit = status.exit();
    let process = status.process();
    let (pid, started) =
        (process.map_or(0, |p| p.pid), process.map(|p| p.since).or(exit.and_then(|e| e.started)));
    json!({
        "Status": status.word(),
        "Running": matches!(status, Status::Running(_) | Status::Paused(_)),
        "Paused": matches!(status, Status::Paused(_)),
        "Restarting": matches!(status, Status::Restarting(_)),
        "Dead": false,
        "Pid": pid,
        "ExitCode": exit.map_or(0, |exit| exit.code),
        "OOMKilled": exit.is_some_and(|exit| exit.oom),
        "Error": exit.and_then(|exit| exit.error.as_deref()).unwrap_or_default(),
        "StartedAt": time(started),
        "FinishedAt": time(exit.and_then(|exit| exit.finished)),
    })
}

fn config(record: &Record) -> Value {
    json!({
        "Hostname": record.hostname,
        "User": record.user,
        "Tty": record.tty,
        "OpenStdin": record.interactive,
        "Env": record.env,
        "Entrypoint": record.entrypoint,
        "Cmd": record.args.strip_prefix(record.entrypoint.as_slice()).unwrap_or(&record.args),
        "Image": record.image,
        "WorkingDir": record.workdir,
        "Labels": record.labels,
        "Annotations": record.annotations,
        "StopSignal": record.stop_signal,
        "StopTimeout": record.stop_timeout,
        "CreateCommand": record.command_line,
    })
}

fn graph_driver(dir: &ContainerDir, record: &Record) -> Value {
    if record.rootfs.is_some() {
        return Value::Null;
    }
    json!({
        "Name": record.storage_driver,
        "Data": {"UpperDir": dir.upper(), "WorkDir": dir.work()},
    })
}

fn of_image(store: &Store, image: &Image) -> Result<Value> {
    let config = images::config(store, image)?;
    let twins: Vec<Image> =
        store.images()?.into_iter().filter(|other| other.config == image.config).collect();
    let tags = twins.iter().map(|twin| twin.reference.as_str()).filter(|reference| !reference.contains('@'));
    let top: Option<_> = image.layers.last().map(|layer| store.layer_path(layer));
    Ok(json!({
        "Id": image.config.hex(),
        "Digest": image.manifest,
        "RepoTags": tags.collect::<Vec<_>>(),
        "RepoDigests": images::digests(twins.iter()),
        "Created": config["created"],
        "Author": config["author"].as_str().unwrap_or_default(),
        "Architecture": config["architecture"],
        "Variant": config["variant"].as_str().unwrap_or_default(),
        "Os": config["os"],
        "Size": image.size,
        "VirtualSize": image.size,
        "Config": config["config"],
        "User": config["config"]["User"].as_str().unwrap_or_default(),
        "Labels": config["config"]["Labels"],
        "History": config["history"],
        "RootFS": {"Type": "layers", "Layers": image.layers},
        "GraphDriver": {"Name": "overlay", "Data": {"UpperDir": top}},
    }))
}

/// Podman's zero where a time is not known.
fn time(time: Option<Timestamp>) -> String {
    time.map_or("0001-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}
