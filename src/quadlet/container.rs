//! `.container`: a service that is `ctr run`.

use super::{
    draft::{Draft, of, own},
    keys::{self, Word},
    quote,
    unit::Kind,
};
use crate::{container::signal::Signal, storage::Name};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

/// Add the service. `ctr run` stays in the foreground: it is the main process, its status is the container's, its output is
/// the container's.
pub fn build(draft: &mut Draft) -> Result<()> {
    let name = draft.source.resource()?;
    if !name.contains('%') {
        name.parse::<Name>().with_context(|| format!("ContainerName={name}"))?;
    }
    let image = match (draft.value("Image"), draft.value("Rootfs")) {
        (Some(image), None) => of("Image", draft.image(image)?),
        (None, Some(dir)) => of("Rootfs", dir),
        (None, None) => bail!("[Container] has neither Image= nor Rootfs="),
        (Some(_), Some(_)) => bail!("Image= and Rootfs= can't be used together"),
    };
    ensure!(!image.text.starts_with('-'), "{}={}: it begins with a hyphen", image.key, image.text);
    match draft.unit.last("Service", "KillMode") {
        None => draft.unit.add("Service", "KillMode", "mixed"),
        Some("mixed" | "control-group") => {}
        Some(other) => bail!("KillMode={other}: a container needs mixed or control-group"),
    }
    // Without --sdnotify it counts as started when it is executed.
    let notifies = (draft.settings.accepts)(&["run", "--sdnotify=conmon", "-"].map(str::to_owned)).is_ok();
    let usual = if notifies { "notify" } else { "exec" };
    let oneshot = match draft.unit.last("Service", "Type") {
        Some("oneshot") => true,
        None => false,
        Some(own) if own == usual => false,
        Some(other) => bail!("Type={other}: a container needs {usual} or oneshot"),
    };
    let mut words =
        own(["run", &format!("--name={name}"), "--replace", "--rm", "--label=PODMAN_SYSTEMD_UNIT=%n"]);
    words[1].key = "ContainerName";
    words.push(match draft.value("CgroupsMode") {
        Some(mode) => of("CgroupsMode", format!("--cgroups={mode}")),
        None => of("", "--cgroups=split"),
    });
    let who = notify(draft)?;
    ensure!(!oneshot || who == "conmon", "Notify= and Type=oneshot can't be used together");
    if !oneshot && (notifies || who != "conmon") {
        words.push(of("Notify", format!("--sdnotify={who}")));
    }
    words.extend(log(draft));
    words.extend(draft.options()?);
    words.extend(draft.networks()?);
    words.extend(draft.volumes()?);
    words.extend(user(draft)?);
    words.extend(devices(draft)?);
    for path in draft.arguments("EnvironmentFile")? {
        words.push(of("EnvironmentFile", format!("--env-file={}", draft.absolute(&path))));
    }
    for mount in draft.arguments("Mount")? {
        words.push(of("Mount", format!("--mount={}", self::mount(draft, &mount)?)));
    }
    words.extend(pod(draft)?);
    words.extend(draft.extra()?);
    if image.key == "Rootfs" {
        words.push(of("Rootfs", "--rootfs"));
    }
    words.push(image);
    if let Some(command) = draft.values("Exec").last() {
        words.extend(quote::split(command).context("Exec=")?.into_iter().map(|text| of("", text)));
    }
    draft.unit.add_default("Service", "SyslogIdentifier", "%N");
    draft.unit.add("Service", "Delegate", "yes");
    if !oneshot {
        draft.unit.add_default("Service", "Type", usual);
    }
    if !oneshot && notifies {
        draft.unit.add_default("Service", "NotifyAccess", "all");
    }
    stopped(draft)?;
    draft.command("ExecStart", "", words)?;
    reload(draft, &name)?;
    draft.command("ExecStop", "", own(["stop", "--ignore", &name]))?;
    draft.command("ExecStopPost", "-", own(["rm", "--force", "--ignore", "--volumes", &name]))
}

/// Who tells systemd that it has started.
fn notify(draft: &Draft) -> Result<&'static str> {
    Ok(match draft.value("Notify") {
        Some("healthy") => "healthy",
        _ if draft.truth("Notify")? == Some(true) => "container",
        _ => "conmon",
    })
}

/// The journal has what the service prints. A driver that was chosen has it instead.
fn log(draft: &Draft) -> Vec<Word> {
    match draft.value("LogDriver") {
        // Of a user's service journald knows the unit only by the writer's cgroup, and looks late: a process of the
        // container may be gone then, its monitor is not.
        None if draft.settings.user => own(["--log-driver=none"]),
        None => own(["--log-driver=passthrough"]),
        Some(driver @ "passthrough") => vec![of("LogDriver", format!("--log-driver={driver}"))],
        Some(driver) => {
            vec![of("LogDriver", format!("--log-driver={driver}")), of("LogDriver", "--attach=stdin")]
        }
    }
}

fn user(draft: &Draft) -> Result<Option<Word>> {
    Ok(match (draft.value("User"), draft.value("Group")) {
        (Some(user), Some(group)) => Some(of("User", format!("--user={user}:{group}"))),
        (Some(user), None) => Some(of("User", format!("--user={user}"))),
        (None, Some(_)) => bail!("Group= needs User="),
        (None, None) => None,
    })
}

/// `AddDevice=`: with a `-` before it one that isn't there is left out.
fn devices(draft: &Draft) -> Result<Vec<Word>> {
    let devices =
        keys::list(&draft.source.file, Kind::Container.section(), "AddDevice").context("AddDevice=")?;
    let there = devices.iter().filter_map(|device| match device.strip_prefix('-') {
        Some(device) => Path::new(device.split(':').next()?).exists().then_some(device),
        None => Some(device),
    });
    Ok(there.map(|device| of("AddDevice", format!("--device={device}"))).collect())
}

/// `Mount=`, with what its source is on the host.
fn mount(draft: &mut Draft, text: &str) -> Result<String> {
    let kind = text.split(',').find_map(|part| part.strip_prefix("type="));
    if !matches!(kind, None | Some("volume" | "bind" | "glob" | "image")) {
        return Ok(text.to_owned());
    }
    let parts: Result<Vec<String>> = text
        .split(',')
        .map(|part| match part.split_once('=') {
            Some((key @ ("source" | "src"), source)) => Ok(format!("{key}={}", draft.mount_source(source)?)),
            _ => Ok(part.to_owned()),
        })
        .collect();
    Ok(parts.with_context(|| format!("Mount={text}"))?.join(","))
}

fn pod(draft: &mut Draft) -> Result<Option<Word>> {
    let starts = draft.truth("StartWithPod")?;
    let Some(name) = draft.value("Pod") else { return Ok(None) };
    ensure!(name.ends_with(".pod"), "Pod={name}: not the name of a .pod file");
    let (pod, service) = draft.other(name).with_context(|| format!("Pod={name}"))?;
    draft.unit.add("Unit", "BindsTo", &service);
    draft.unit.add("Unit", "After", &service);
    if starts != Some(false) && !draft.source.is_template() {
        draft.pod = Some(name.to_owned());
    }
    Ok(Some(of("Pod", format!("--pod={pod}"))))
}

/// A container that its stop signal ends has not failed, and gets the time that it was promised.
fn stopped(draft: &mut Draft) -> Result<()> {
    if let Some(seconds) = draft.value("StopTimeout").and_then(|text| text.parse::<u32>().ok())
        && seconds > USUAL_TIMEOUT - SPARE
    {
        draft.unit.add_default("Service", "TimeoutStopSec", &seconds.saturating_add(SPARE).to_string());
    }
    let signal = match draft.value("StopSignal") {
        Some(text) if !text.contains('%') => text.parse().with_context(|| format!("StopSignal={text}"))?,
        _ => Signal::TERM,
    };
    draft.unit.add("Service", "SuccessExitStatus", &(128 + signal.number()).to_string());
    Ok(())
}

/// Seconds after which systemd kills what doesn't stop, unless it was told otherwise (systemd-system.conf(5)).
const USUAL_TIMEOUT: u32 = 90;
/// What removing the container may take.
const SPARE: u32 = 30;

fn reload(draft: &mut Draft, name: &str) -> Result<()> {
    let command = draft.arguments("ReloadCmd")?;
    match (command.is_empty(), draft.value("ReloadSignal")) {
        (true, None) => Ok(()),
        (false, Some(_)) => bail!("ReloadCmd= and ReloadSignal= can't be used together"),
        (true, Some(signal)) => {
            let mut words = own(["kill", &format!("--signal={signal}"), name]);
            words[1].key = "ReloadSignal";
            draft.command("ExecReload", "", words)
        }
        (false, None) => {
            let mut words = own(["exec", name]);
            words.extend(command.into_iter().map(|text| of("ReloadCmd", text)));
            draft.command("ExecReload", "", words)
        }
    }
}
