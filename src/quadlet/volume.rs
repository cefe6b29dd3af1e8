//! `.volume`: a service that makes a volume once.

use super::{
    draft::{Draft, of, own},
    quote,
};
use crate::storage::VolumeName;
use anyhow::{Context, Result, ensure};

/// Add the service.
pub fn build(draft: &mut Draft) -> Result<()> {
    let name = draft.source.resource()?;
    if !name.contains('%') {
        name.parse::<VolumeName>().with_context(|| format!("VolumeName={name}"))?;
    }
    if let Some(driver) = draft.value("Driver") {
        ensure!(driver == "local", "Driver={driver}: there is no such volume driver");
    }
    // A volume takes what the image has at its place; only a container's own option keeps it from that.
    ensure!(
        draft.truth("Copy")? != Some(false),
        "Copy=no is not built: Volume={}:DIR:nocopy says it",
        draft.source.name
    );
    let mut words = own(["volume", "create", "--ignore"]);
    words.extend(draft.options()?);
    let mut mount = Vec::new();
    for (key, option) in [("User", "uid"), ("Group", "gid")] {
        if let Some(id) = draft.value(key) {
            ensure!(id.contains('%') || id.parse::<u32>().is_ok(), "{key}={id}: not a number");
            mount.push(format!("{option}={id}"));
        }
    }
    mount.extend(draft.value("Options").map(str::to_owned));
    if !mount.is_empty() {
        words.push(of("Options", format!("--opt=o={}", mount.join(","))));
    }
    match (draft.value("Device"), draft.value("Type")) {
        (Some(device), Some("bind")) => draft.unit.add("Unit", "RequiresMountsFor", &quote::quote(device)),
        (device, kind) => ensure!(kind.is_none() || device.is_some(), "Type= needs Device="),
    }
    words.extend(draft.extra()?);
    words.push(of("VolumeName", name));
    draft.once(true);
    draft.command("ExecStart", "", words)
}
