//! One control group of ours: made, set, looked at, frozen, killed and removed.

use super::limits::Setting;
use crate::error::Explain;
use anyhow::{Context, Result, anyhow};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    io::Errno,
};
use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Seek},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Where the kernel shows them.
pub(super) const ROOT: &str = "/sys/fs/cgroup";

/// A group, by the path that the kernel gives it (`/user.slice/…`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    path: String,
}

/// What the processes of a group use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time.
    pub cpu: Option<Duration>,
    /// Bytes of memory, without the files' that could be dropped at once.
    pub memory: Option<u64>,
    /// Bytes that it may have.
    pub memory_limit: Option<u64>,
    /// Bytes read from disks.
    pub read: Option<u64>,
    /// Bytes written to disks.
    pub written: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
}

impl Group {
    /// The group of this path, whether it exists or not.
    pub fn at(path: &str) -> Group {
        Group { path: path.trim_end_matches('/').to_owned() }
    }

    /// The group that process `pid` is in.
    pub fn of(pid: &str) -> Result<Group> {
        let file = format!("/proc/{pid}/cgroup");
        let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        Ok(Group::at(path.with_context(|| format!("{file} names no group of version 2"))?))
    }

    /// As the kernel names it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// A group below this one.
    pub fn below(&self, name: &str) -> Group {
        Group { path: format!("{}/{name}", self.path) }
    }

    /// The unit of systemd's that it lies in, if that is a service; a user's manager is none.
    pub fn service(&self) -> Option<Group> {
        self.unit().filter(|unit| unit.name().ends_with(".service"))
    }

    /// The service or scope of systemd's that it lies in: the first on the way down, what is below is the unit's own to name.
    pub fn unit(&self) -> Option<Group> {
        let mut ends = self.path.match_indices('/').map(|(at, _)| at).skip(1).chain([self.path.len()]);
        ends.find_map(|end| {
            let group = Group::at(&self.path[..end]);
            let is_unit = group.name().ends_with(".service") || group.name().ends_with(".scope");
            (is_unit && !group.name().starts_with("user@")).then_some(group)
        })
    }

    /// The one above.
    pub fn parent(&self) -> Option<Group> {
        self.path.rsplit_once('/').map(|(parent, _)| Group { path: parent.to_owned() })
    }

    /// Its directory.
    pub fn directory(&self) -> PathBuf {
        Path::new(ROOT).join(self.path.trim_start_matches('/'))
    }

    /// Make it; fine when it exists.
    pub fn make(&self) -> Result<()> {
        match fs::create_dir(self.directory()) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => made.with_context(|| format!("make control group {}", self.path)),
        }
    }

    /// A descriptor for clone3(2), CLONE_INTO_CGROUP.
    pub fn open(&self) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(self.directory(), flags, Mode::empty())
            .with_context(|| format!("open control group {}", self.path))
    }

    /// The contents of one of its files.
    pub fn read(&self, file: &str) -> std::io::Result<String> {
        fs::read_to_string(self.directory().join(file))
    }

    /// Write one of its files.
    pub fn write(&self, file: &str, value: &str) -> std::io::Result<()> {
        fs::write(self.directory().join(file), value)
    }

    /// Move process `pid` into it.
    pub fn take_in(&self, pid: u32) -> std::io::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Let the groups below have those of `controllers` that this one has. What can't be is left out.
    pub fn pass_on(&self, controllers: &[&str]) -> std::io::Result<()> {
        let (here, below) = (self.read("cgroup.controllers")?, self.read("cgroup.subtree_control")?);
        let has = |list: &str, name: &str| list.split_ascii_whitespace().any(|word| word == name);
        let wanted: Vec<String> = controllers
            .iter()
            .filter(|name| has(&here, name) && !has(&below, name))
            .map(|name| format!("+{name}"))
            .collect();
        if wanted.is_empty() { Ok(()) } else { self.write("cgroup.subtree_control", &wanted.join(" ")) }
    }

    /// Write what limits it.
    ///
    /// # Errors
    /// The kernel refuses a value, or the controller is not ours: then the hint says who has to delegate it.
    pub fn limit(&self, settings: &[Setting]) -> Result<()> {
        for setting in settings {
            let Setting { file, value } = setting;
            let doing = || format!("set {file} of control group {} to {value:?}", self.path);
            let controller = setting.controller();
            match self.write(file, value) {
                Err(e) if e.kind() == ErrorKind::NotFound && file == "memory.swap.max" => {}
                Err(e) if e.kind() == ErrorKind::NotFound && self.has(controller) => {
                    return Err(anyhow!("{}: this kernel has no {file}", doing())).hint(
                        match file.as_str() {
                            "io.weight" => {
                                "it takes CONFIG_BLK_CGROUP_IOCOST; --io-max limits a disk without that"
                            }
                            _ => "leave the limit out",
                        },
                    );
                }
                Err(e)
                    if e.kind() == ErrorKind::NotFound
                        && self.parent().is_some_and(|up| up.has(controller)) =>
                {
                    return Err(anyhow!("{}: the group above doesn't pass {controller} on", doing())).hint(
                        format!("a process in it can't be moved: cat {ROOT}{}/cgroup.procs", self.above()),
                    );
                }
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                    return Err(anyhow!("{}: the controller {controller} is not delegated to you", doing()))
                        .hint(self.delegation(controller));
                }
                Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    return Err(anyhow!("{}: the disk's scheduler knows no weights", doing()))
                        .hint("echo bfq | sudo tee /sys/block/DISK/queue/scheduler");
                }
                written => written.with_context(doing).hint("look at the limit that was asked for")?,
            }
        }
        Ok(())
    }

    /// The path of the one above.
    fn above(&self) -> String {
        self.parent().map_or_else(String::new, |parent| parent.path)
    }

    fn has(&self, controller: &str) -> bool {
        let list = self.read("cgroup.controllers").unwrap_or_default();
        list.split_ascii_whitespace().any(|word| word == controller)
    }

    /// What delegates `controller` to us.
    fn delegation(&self, controller: &str) -> String {
        let missing = format!("({controller} is missing in {ROOT}{}/cgroup.controllers)", self.above());
        match self.service() {
            // Of the system's manager, which has them all to give.
            Some(unit) if !unit.path.contains("/user@") => {
                let name = unit.name();
                format!("sudo systemctl edit {name}: [Service] Delegate=yes; then restart it {missing}")
            }
            _ => format!(
                "printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | sudo tee \
                 /etc/systemd/system/user@.service.d/delegate.conf; sudo systemctl daemon-reload; then log in again {missing}"
            ),
        }
    }

    /// Stop all its processes, or let them go on; returns when that is so.
    pub fn freeze(&self, on: bool) -> Result<()> {
        let doing = || format!("{} control group {}", if on { "freeze" } else { "thaw" }, self.path);
        self.write("cgroup.freeze", if on { "1" } else { "0" }).with_context(doing)?;
        self.wait_for("frozen", if on { "1" } else { "0" }).with_context(doing)
    }

    /// Kill all its processes (cgroup.kill, Linux 5.14); returns when none is left.
    pub fn kill(&self) -> Result<()> {
        let doing = || format!("kill the processes of control group {}", self.path);
        match self.write("cgroup.kill", "1") {
            Err(e) if e.kind() == ErrorKind::NotFound && !self.directory().exists() => return Ok(()),
            written => written.with_context(doing)?,
        }
        self.wait_for("populated", "0").with_context(doing)
    }

    /// Remove it and the groups below; fine when it doesn't exist.
    pub fn remove(&self) -> Result<()> {
        let remove = || fs::remove_dir(self.directory());
        let removed = match remove() {
            // Its processes were waited for, so it is groups that keep it.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                let below = fs::read_dir(self.directory()).into_iter().flatten().flatten();
                below
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .try_for_each(|entry| self.below(&entry.file_name().to_string_lossy()).remove())?;
                remove()
            }
            removed => removed,
        };
        match removed {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("remove control group {}", self.path)),
        }
    }

    /// How often the kernel killed one of its processes because their memory was used up.
    pub fn oom_kills(&self) -> u64 {
        self.read("memory.events").ok().and_then(|text| keyed(&text, "oom_kill")).unwrap_or(0)
    }

    /// What its processes use. What its controllers don't count is left out.
    pub fn usage(&self) -> Usage {
        let text = |file: &str| self.read(file).unwrap_or_default();
        let number = |file: &str| text(file).trim().parse::<u64>().ok();
        let reclaimable = keyed(&text("memory.stat"), "inactive_file").unwrap_or(0);
        let io = text("io.stat");
        let sum = |key: &str| {
            let counts =
                io.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            (!io.is_empty()).then(|| counts.filter_map(|count| count.parse::<u64>().ok()).sum())
        };
        Usage {
            cpu: keyed(&text("cpu.stat"), "usage_usec").map(Duration::from_micros),
            memory: number("memory.current").map(|bytes| bytes.saturating_sub(reclaimable)),
            memory_limit: number("memory.max"),
            read: sum("rbytes"),
            written: sum("wbytes"),
            tasks: number("pids.current"),
        }
    }

    /// cgroup.events says of each change that it has changed (POLLPRI).
    fn wait_for(&self, key: &str, value: &str) -> Result<()> {
        let due = Instant::now() + PATIENCE;
        let mut file = match File::open(self.directory().join("cgroup.events")) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        loop {
            let mut text = String::new();
            file.rewind()?;
            match file.read_to_string(&mut text) {
                Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
                read => read?,
            };
            if text.lines().any(|line| line.split_once(' ') == Some((key, value))) {
                return Ok(());
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(anyhow!("{key} stays other than {value} for {} s", PATIENCE.as_secs()));
            }
            match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Timespec::try_from(left).ok().as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// A process that waits for a disk can't be stopped or killed at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// `KEY VALUE` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let group = Group::at("/a/b/");
        assert_eq!(group.path(), "/a/b");
        assert_eq!(group.below("c").path(), "/a/b/c");
        assert_eq!(group.parent(), Some(Group::at("/a")));
        assert_eq!(Group::at("/").path(), "");
        assert_eq!(Group::at("/").directory(), Path::new("/sys/fs/cgroup/"));
        for (path, service) in [
            ("/system.slice/web.service", Some("/system.slice/web.service")),
            ("/system.slice/web.service/ctr-supervisor", Some("/system.slice/web.service")),
            ("/user.slice/user-1.slice/user@1.service", None),
            (
                "/user.slice/user-1.slice/user@1.service/app.slice/a.service",
                Some("/user.slice/user-1.slice/user@1.service/app.slice/a.service"),
            ),
            ("/user.slice/user-1.slice/user@1.service/app.slice/vte.scope", None),
            ("/user.slice/user-1.slice/session-1.scope", None),
            ("/init.scope", None),
            ("/", None),
            ("/system.slice/web.service/ctr-1/init.scope", Some("/system.slice/web.service")),
            (
                "/user.slice/user-1.slice/user@1.service/app.slice/ctr-1.scope/container/system.slice/a.service",
                None,
            ),
        ] {
            assert_eq!(Group::at(path).service(), service.map(Group::at), "{path}");
        }
        assert_eq!(keyed("oom 1\noom_kill 2\n", "oom_kill"), Some(2));
        assert_eq!(keyed("oom_kill x\n", "oom_kill"), None);
    }
}
