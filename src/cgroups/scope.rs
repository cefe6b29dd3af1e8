//! A transient scope of systemd around a container's processes (systemd.scope(5), org.freedesktop.systemd1(5)).

use super::{
    dbus::{Bus, Message, Value},
    group::Group,
};
use crate::error::Explain;
use anyhow::{Context, Result, anyhow};
use rustix::process::geteuid;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A scope that was asked for.
#[derive(Debug)]
pub struct Scope {
    bus: Bus,
    unit: String,
    call: u32,
}

const SYSTEMD: (&str, &str, &str) =
    ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
const PATIENCE: Duration = Duration::from_secs(20);

/// The socket of the bus whose systemd manages this user's units; `None` when there is none.
pub fn bus() -> Option<PathBuf> {
    if geteuid().is_root() {
        let socket = PathBuf::from(SYSTEM_BUS);
        return (Path::new("/run/systemd/system").is_dir() && socket.exists()).then_some(socket);
    }
    let named = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok();
    let named = named.as_deref().and_then(|address| {
        let path = address.split(';').next()?.strip_prefix("unix:path=")?;
        Some(PathBuf::from(path.split(',').next()?))
    });
    let usual = || PathBuf::from(format!("/run/user/{}/bus", geteuid().as_raw()));
    let socket = named.filter(|path| path.exists()).unwrap_or_else(usual);
    // A bus may be there without a systemd of the user's.
    let manager = PathBuf::from(format!("/run/user/{}/systemd/private", geteuid().as_raw()));
    (socket.exists() && manager.exists()).then_some(socket)
}

impl Scope {
    /// Ask for scope `unit` around the processes `pids`, below the slice `slice`; the answer is heard by [`Scope::wait`].
    pub fn ask(
        socket: &Path,
        unit: &str,
        description: &str,
        slice: Option<&str>,
        pids: &[u32],
    ) -> Result<Scope> {
        let mut bus = Bus::connect(socket)?;
        let rule = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
        let dbus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");
        bus.call(dbus.0, dbus.1, dbus.2, "AddMatch", &[Value::Text(rule)])?;
        let (destination, path, interface) = SYSTEMD;
        bus.call(destination, path, interface, "Subscribe", &[])?;
        let mut properties = vec![
            ("Description", Value::Text(description)),
            ("PIDs", Value::Numbers(pids)),
            ("Delegate", Value::Truth(true)),
            ("CollectMode", Value::Text("inactive-or-failed")),
        ];
        properties.extend(slice.map(|slice| ("Slice", Value::Text(slice))));
        let arguments =
            [Value::Text(unit), Value::Text("fail"), Value::Properties(&properties), Value::NoUnits];
        let call = bus.call(destination, path, interface, "StartTransientUnit", &arguments)?;
        Ok(Scope { bus, unit: unit.to_owned(), call })
    }

    /// Wait until it is there.
    pub fn wait(mut self) -> Result<()> {
        let due = Instant::now() + PATIENCE;
        let doing = format!("ask systemd for {}", self.unit);
        loop {
            let message = self.bus.next(due).with_context(|| doing.clone())?;
            match message {
                Message { kind: 3, reply_to, name, texts } if reply_to == self.call => {
                    return Err(anyhow!("{doing}: {}", texts.first().unwrap_or(&name)))
                        .hint("`systemctl --user status` says how it is; --cgroups=disabled goes without");
                }
                Message { kind: 4, name, texts, .. }
                    if name == "JobRemoved" && texts.get(1) == Some(&self.unit) =>
                {
                    return match texts.get(2).map(String::as_str) {
                        Some("done") => Ok(()),
                        other => Err(anyhow!("{doing}: {}", other.unwrap_or("it failed")))
                            .hint("--cgroups=disabled goes without"),
                    };
                }
                _ => {}
            }
        }
    }
}

/// Have a scope of its own around process `pid`, where a systemd is there to make one: what stops the unit that it was born in
/// is not meant for it.
pub fn set_apart(unit: &str, description: &str, pid: u32) -> Result<()> {
    match bus() {
        Some(socket) => Scope::ask(&socket, unit, description, None, &[pid])?.wait(),
        None => Ok(()),
    }
}

/// Whether the unit `name`, a service, has `Delegate=yes`. When nobody says so it has not.
pub fn is_delegated(name: &str) -> bool {
    let escaped: String = name
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("_{b:02x}") })
        .collect();
    let ask = || -> Result<bool> {
        let mut bus = Bus::connect(&bus().ok_or_else(|| anyhow!("there is no systemd to ask"))?)?;
        let path = format!("/org/freedesktop/systemd1/unit/{escaped}");
        let arguments = [Value::Text("org.freedesktop.systemd1.Service"), Value::Text("Delegate")];
        let call = bus.call(SYSTEMD.0, &path, "org.freedesktop.DBus.Properties", "Get", &arguments)?;
        let due = Instant::now() + PATIENCE;
        loop {
            let message = bus.next(due)?;
            if message.reply_to == call {
                return Ok(message.texts.first().is_some_and(|text| text == "true"));
            }
        }
    };
    ask().unwrap_or(false)
}

/// Have systemd move process `pid`, one of ours, into `group`, which lies in a unit that is delegated to us: who comes from
/// another unit may not.
pub fn attach(group: &Group, pid: u32) -> Result<()> {
    let unit = group.unit().ok_or_else(|| anyhow!("{} lies in no unit of systemd's", group.path()))?;
    let socket = match unit.path().contains("/user@") {
        true => bus(),
        false => Some(PathBuf::from(SYSTEM_BUS)),
    };
    let mut bus = Bus::connect(&socket.ok_or_else(|| anyhow!("there is no systemd to ask"))?)?;
    let (destination, path, interface) = SYSTEMD;
    let below = group.path().strip_prefix(unit.path()).filter(|below| !below.is_empty()).unwrap_or("/");
    let unit = unit.name();
    let arguments = [Value::Text(unit), Value::Text(below), Value::Numbers(&[pid])];
    let call = bus.call(destination, path, interface, "AttachProcessesToUnit", &arguments)?;
    let due = Instant::now() + PATIENCE;
    loop {
        match bus.next(due)? {
            Message { kind: 2, reply_to, .. } if reply_to == call => return Ok(()),
            Message { kind: 3, reply_to, name, texts } if reply_to == call => {
                return Err(anyhow!("attach process {pid} to {unit}: {}", texts.first().unwrap_or(&name)));
            }
            _ => {}
        }
    }
}
