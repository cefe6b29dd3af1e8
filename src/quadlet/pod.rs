//! `.pod`: a service that makes and starts a pod, which its containers' services belong to.

use super::draft::{Draft, of, own};
use anyhow::Result;

/// Add the service. What it starts is added when its containers are known.
pub fn build(draft: &mut Draft) -> Result<()> {
    let name = draft.source.resource()?;
    let policy = draft.value("ExitPolicy").unwrap_or("stop");
    let mut words = own(["pod", "create", "--infra-conmon-pidfile=%t/%N.pid", "--replace"]);
    words.push(of("ExitPolicy", format!("--exit-policy={policy}")));
    words.extend(draft.options()?);
    words.extend(draft.networks()?);
    words.extend(draft.volumes()?);
    words.push(of("PodName", format!("--name={name}")));
    words.extend(draft.extra()?);
    let seconds = draft.value("StopTimeout").unwrap_or("10");
    let mut stop = own(["pod", "stop", "--ignore", &format!("--time={seconds}"), &name]);
    stop[3].key = "StopTimeout";
    for (key, value) in [("Type", "forking"), ("PIDFile", "%t/%N.pid")] {
        draft.unit.add("Service", key, value);
    }
    for (key, value) in [("Restart", "on-failure"), ("SyslogIdentifier", "%N")] {
        draft.unit.add_default("Service", key, value);
    }
    draft.command("ExecStartPre", "", words)?;
    draft.command("ExecStart", "", own(["pod", "start", &name]))?;
    draft.command("ExecStop", "", stop)?;
    draft.command("ExecStopPost", "", own(["pod", "rm", "--ignore", "--force", &name]))
}
