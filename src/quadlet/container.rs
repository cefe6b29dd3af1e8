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
    let name = name(draft)?;
    kill_mode(draft)?;
    let mut words = own(["run", "--replace", "--rm", "--label=PODMAN_SYSTEMD_UNIT=%n"]);
    words.push(of("ContainerName", format!("--name={name}")));
    words.push(of("CgroupsMode", format!("--cgroups={}", draft.value("CgroupsMode").unwrap_or("split"))));
    words.extend(readiness(draft)?);
    words.extend(log(draft));
    words.extend(draft.options()?);
    words.extend(draft.networks()?);
    words.extend(draft.volumes()?);
    words.extend(mounts(draft)?);
    words.extend(user(draft)?);
    words.extend(devices(draft)?);
    words.extend(variables(draft)?);
    words.extend(pod(draft)?);
    words.extend(draft.extra()?);
    words.extend(payload(draft)?);
    draft.unit.add("Service", "Delegate", "yes");
    draft.unit.add_default("Service", "SyslogIdentifier", "%N");
    stopped(draft)?;
    draft.command("ExecStart", "", words)?;
    reload(draft, &name)?;
    draft.command("ExecStop", "", own(["stop", "--ignore", &name]))?;
    draft.command("ExecStopPost", "-", own(["rm", "--force", "--ignore", "--volumes", &name]))
}

fn name(draft: &Draft) -> Result<String> {
    let name = draft.source.resource()?;
    if !name.contains('%') {
        name.parse::<Name>().with_context(|| format!("ContainerName={name}"))?;
    }
    Ok(name)
}

fn kill_mode(draft: &mut Draft) -> Result<()> {
    match draft.unit.last("Service", "KillMode") {
        None => draft.unit.add("Service", "KillMode", "mixed"),
        Some("mixed" | "control-group") => {}
        Some(other) => bail!("KillMode={other}: a container needs mixed or control-group"),
    }
    Ok(())
}

/// `Type=`, and who tells systemd that it has started.
fn readiness(draft: &mut Draft) -> Result<Option<Word>> {
    let who = match draft.value("Notify") {
        Some("healthy") => "healthy",
        _ if draft.truth("Notify")? == Some(true) => "container",
        _ => "conmon",
    };
    match draft.unit.last("Service", "Type") {
        Some("oneshot") => {
            ensure!(who == "conmon", "Notify= and Type=oneshot can't be used together");
            return Ok(None);
        }
        None => draft.unit.add("Service", "Type", "notify"),
        Some(own) => ensure!(own == "notify", "Type={own}: a container needs notify or oneshot"),
    }
    draft.unit.add_default("Service", "NotifyAccess", "all");
    Ok(Some(of("Notify", format!("--sdnotify={who}"))))
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

fn mounts(draft: &mut Draft) -> Result<Vec<Word>> {
    let mounts = draft.arguments("Mount")?;
    mounts.iter().map(|text| Ok(of("Mount", format!("--mount={}", mount(draft, text)?)))).collect()
}

/// `Mount=`, with what its source is on the host.
fn mount(draft: &mut Draft, text: &str) -> Result<String> {
    let kind = text.split(',').find_map(|part| part.strip_prefix("type="));
    if !matches!(kind, None | Some("volume" | "bind" | "glob" | "image")) {
        return Ok(text.to_owned());
    }
    let mut resolve = |part: &str| match part.split_once('=') {
        Some((key @ ("source" | "src"), source)) => Ok(format!("{key}={}", draft.mount_source(source)?)),
        _ => Ok(part.to_owned()),
    };
    let parts: Result<Vec<String>> = text.split(',').map(&mut resolve).collect();
    Ok(parts.with_context(|| format!("Mount={text}"))?.join(","))
}

fn variables(draft: &Draft) -> Result<Vec<Word>> {
    let files = draft.arguments("EnvironmentFile")?;
    let word = |path: &String| of("EnvironmentFile", format!("--env-file={}", draft.absolute(path)));
    Ok(files.iter().map(word).collect())
}

/// The image, or the directory that takes its place, and the command.
fn payload(draft: &mut Draft) -> Result<Vec<Word>> {
    let mut words = match (draft.value("Image"), draft.value("Rootfs")) {
        (Some(image), None) => vec![of("Image", draft.image(image)?)],
        (None, Some(dir)) => vec![of("Rootfs", "--rootfs"), of("Rootfs", dir)],
        (None, None) => bail!("[Container] has neither Image= nor Rootfs="),
        (Some(_), Some(_)) => bail!("Image= and Rootfs= can't be used together"),
    };
    if let Some(Word { key, text }) = words.last().filter(|word| word.text.starts_with('-')) {
        bail!("{key}={text}: it begins with a hyphen");
    }
    if let Some(command) = draft.values("Exec").last() {
        words.extend(quote::split(command).context("Exec=")?.into_iter().map(|text| of("", text)));
    }
    Ok(words)
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
