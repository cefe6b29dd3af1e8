//! What a service manager gives to the program that it starts, and what of it goes on into the container: the way to tell it
//! of things (sd_notify(3)), and open sockets (sd_listen_fds(3)).

use oci_spec::runtime::{Mount, Spec};
use serde::{Deserialize, Serialize};
use std::{env::var, path::Path, time::Duration};

/// `--sdnotify`: who says that the service is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notify {
    /// The payload.
    #[default]
    Container,
    /// We, once it runs.
    Conmon,
    /// We, once its health check says so.
    Healthy,
    /// Nobody; the manager is not told of anything.
    Ignore,
}

impl Notify {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Notify::Container => "container",
            Notify::Conmon => "conmon",
            Notify::Healthy => "healthy",
            Notify::Ignore => "ignore",
        }
    }
}

/// What this process was given.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// It is what the manager started and waits for.
    pub is_main: bool,
    /// Sockets, from descriptor 3 on.
    pub sockets: u8,
    names: Option<String>,
    watchdog: Option<String>,
}

impl Service {
    /// What the environment says. To be asked in the process that was started: variables name it.
    pub fn of_this_process() -> Service {
        let own = rustix::process::getpid().as_raw_pid().to_string();
        let is_ours = |name: &str| var(name).is_ok_and(|pid| pid == own);
        let sockets = match is_ours("LISTEN_PID") {
            true => var("LISTEN_FDS")
                .ok()
                .and_then(|count| count.parse().ok())
                .filter(|n| *n <= MOST)
                .unwrap_or(0),
            false => 0,
        };
        Service {
            // systemd older than 248 doesn't say it.
            is_main: is_ours("SYSTEMD_EXEC_PID"),
            sockets,
            names: var("LISTEN_FDNAMES").ok().filter(|_| sockets > 0),
            watchdog: var("WATCHDOG_USEC").ok().filter(|_| var("WATCHDOG_PID").is_ok_and(|pid| pid == own)),
        }
    }

    /// How often its manager wants to hear that it lives (sd_watchdog_enabled(3)).
    pub fn watchdog(&self) -> Option<Duration> {
        let time = self.watchdog.as_ref()?.parse().ok().filter(|time| *time > 0)?;
        Some(Duration::from_micros(time))
    }

    /// Hand it to the first process of `spec`, whose process id there is `pid`; `notify` is our own socket on the host.
    pub fn pass_on(&self, spec: &mut Spec, pid: u32, notify: Option<&Path>) {
        let mut variables = Vec::new();
        if self.sockets > 0 {
            variables.push(format!("LISTEN_FDS={}", self.sockets));
            variables.push(format!("LISTEN_PID={pid}"));
            variables.extend(self.names.as_ref().map(|names| format!("LISTEN_FDNAMES={names}")));
        }
        if let Some(socket) = notify {
            variables.push(format!("NOTIFY_SOCKET={SOCKET}"));
            // Without WATCHDOG_PID it is meant for whoever reads it.
            variables.extend(self.watchdog.as_ref().map(|time| format!("WATCHDOG_USEC={time}")));
            let mut mount = Mount::default();
            let options = ["bind", "rprivate", "nosuid", "noexec", "nodev"].map(str::to_owned).to_vec();
            mount
                .set_destination(SOCKET.into())
                .set_typ(Some("bind".to_owned()))
                .set_source(Some(socket.to_owned()))
                .set_options(Some(options));
            spec.mounts_mut().get_or_insert_default().push(mount);
        }
        if let Some(process) = spec.process_mut() {
            process.env_mut().get_or_insert_default().extend(variables);
        }
    }
}

/// Where the payload finds our socket; Podman has it there.
const SOCKET: &str = "/run/notify/notify.sock";
/// Sockets that systemd may pass on.
const MOST: u8 = 200;
