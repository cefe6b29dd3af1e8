//! What a container may use, as files of its control group and what is written to them (admin-guide/cgroup-v2.rst). Pure.

use serde::{Deserialize, Serialize};

/// Limits as they were asked for; nothing: as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; [`u64::MAX`]: no limit.
    pub memory_swap: Option<u64>,
    /// Bytes that are taken last when memory is scarce.
    pub memory_reservation: Option<u64>,
    /// Microseconds of processor time in each period; 0: no limit.
    pub cpu_quota: Option<u64>,
    /// The period, in microseconds.
    pub cpu_period: Option<u64>,
    /// Share of the processors beside others, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Which processors, as `0-3,5`.
    pub cpuset_cpus: Option<String>,
    /// Which nodes of memory.
    pub cpuset_mems: Option<String>,
    /// Processes and threads; [`u64::MAX`]: no limit.
    pub pids: Option<u64>,
    /// Share of the disks beside others, 10 to 1000.
    pub blkio_weight: Option<u64>,
    /// The same for single disks (`MAJOR:MINOR`).
    pub blkio_weights: Vec<(String, u64)>,
    /// Limits for single disks.
    pub io: Vec<IoLimit>,
    /// Files of the group by name, and their contents (podman-run(1), `--cgroup-conf`).
    pub files: Vec<(String, String)>,
}

/// One limit for one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoLimit {
    /// Its numbers, `MAJOR:MINOR`.
    pub device: String,
    /// `rbps`, `wbps`, `riops` or `wiops`.
    pub key: String,
    /// Bytes or operations a second; [`u64::MAX`]: no limit.
    pub rate: u64,
}

/// One file of a group, and what is written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub file: String,
    /// Its contents.
    pub value: String,
}

impl Setting {
    fn new(file: &str, value: impl ToString) -> Setting {
        Setting { file: file.to_owned(), value: value.to_string() }
    }

    /// The controller that the file belongs to; `cgroup` is always there.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

impl Limits {
    /// The files to be written, in order.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        let mut add = |file: &str, value: Option<String>| {
            settings.extend(value.map(|value| Setting::new(file, value)));
        };
        // The kernel wants the reservation below the limit, not the other way about.
        add("memory.max", self.memory.map(or_max));
        add("memory.swap.max", self.swap().map(or_max));
        add("memory.low", self.memory_reservation.map(|bytes| bytes.to_string()));
        add("cpu.max", self.cpu_max());
        add("cpu.weight", self.cpu_shares.map(|shares| weight_of_shares(shares).to_string()));
        add("cpuset.cpus", self.cpuset_cpus.clone());
        add("cpuset.mems", self.cpuset_mems.clone());
        add("pids.max", self.pids.map(or_max));
        add("io.weight", self.blkio_weight.map(|weight| format!("default {}", weight_of_blkio(weight))));
        for (device, weight) in &self.blkio_weights {
            add("io.weight", Some(format!("{device} {}", weight_of_blkio(*weight))));
        }
        for IoLimit { device, key, rate } in &self.io {
            add("io.max", Some(format!("{device} {key}={}", or_max(*rate))));
        }
        for (file, value) in &self.files {
            add(file, Some(value.clone()));
        }
        settings
    }

    /// These where they say something, else those of `before`.
    pub fn over(self, before: Limits) -> Limits {
        fn list<T>(new: Vec<T>, old: Vec<T>) -> Vec<T> {
            if new.is_empty() { old } else { new }
        }
        // The kernel keeps what it was told of other disks, and of other rates of the same.
        let is_new =
            |old: &IoLimit| !self.io.iter().any(|new| (&new.device, &new.key) == (&old.device, &old.key));
        let kept = before.io.into_iter().filter(is_new).collect::<Vec<_>>();
        Limits {
            memory: self.memory.or(before.memory),
            memory_swap: self.memory_swap.or(before.memory_swap),
            memory_reservation: self.memory_reservation.or(before.memory_reservation),
            cpu_quota: self.cpu_quota.or(before.cpu_quota),
            cpu_period: self.cpu_period.or(before.cpu_period),
            cpu_shares: self.cpu_shares.or(before.cpu_shares),
            cpuset_cpus: self.cpuset_cpus.or(before.cpuset_cpus),
            cpuset_mems: self.cpuset_mems.or(before.cpuset_mems),
            pids: self.pids.or(before.pids),
            blkio_weight: self.blkio_weight.or(before.blkio_weight),
            blkio_weights: list(self.blkio_weights, before.blkio_weights),
            io: [kept, self.io].concat(),
            files: list(self.files, before.files),
        }
    }

    /// As much swap as memory unless something else was asked for, as Podman and Docker have it.
    fn swap(&self) -> Option<u64> {
        match (self.memory, self.memory_swap) {
            (_, Some(u64::MAX)) => Some(u64::MAX),
            (Some(memory), Some(both)) => Some(both.saturating_sub(memory)),
            (Some(memory), None) => Some(memory),
            (None, _) => None,
        }
    }

    fn cpu_max(&self) -> Option<String> {
        (self.cpu_quota.is_some() || self.cpu_period.is_some()).then(|| {
            let quota = self.cpu_quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |q| q.to_string());
            format!("{quota} {}", self.cpu_period.unwrap_or(100_000))
        })
    }
}

fn or_max(value: u64) -> String {
    if value == u64::MAX { "max".to_owned() } else { value.to_string() }
}

/// From 2..=262144 to 1..=10000, as crun and systemd have it.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

/// From 10..=1000 to 1..=10000.
fn weight_of_blkio(weight: u64) -> u64 {
    1 + (weight.clamp(10, 1000) - 10) * 9_999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(key: &str, rate: u64) -> IoLimit {
        IoLimit { device: "8:0".into(), key: key.into(), rate }
    }

    fn lines(limits: &Limits) -> Vec<String> {
        limits.settings().iter().map(|s| format!("{}={}", s.file, s.value)).collect()
    }

    #[test]
    fn files_and_values() {
        let none = Limits::default();
        assert_eq!(lines(&none), [""; 0]);
        let gib = 1 << 30;
        for (limits, expected) in [
            (
                Limits { memory: Some(gib), ..none.clone() },
                &["memory.max=1073741824", "memory.swap.max=1073741824"][..],
            ),
            (
                Limits {
                    memory: Some(gib),
                    memory_swap: Some(3 * gib),
                    memory_reservation: Some(5),
                    ..none.clone()
                },
                &["memory.max=1073741824", "memory.swap.max=2147483648", "memory.low=5"],
            ),
            (
                Limits { memory: Some(gib), memory_swap: Some(u64::MAX), ..none.clone() },
                &["memory.max=1073741824", "memory.swap.max=max"],
            ),
            (Limits { cpu_quota: Some(50_000), ..none.clone() }, &["cpu.max=50000 100000"]),
            (Limits { cpu_period: Some(10_000), ..none.clone() }, &["cpu.max=max 10000"]),
            (Limits { cpu_shares: Some(1024), ..none.clone() }, &["cpu.weight=39"]),
            (Limits { cpu_shares: Some(2), ..none.clone() }, &["cpu.weight=1"]),
            (Limits { cpu_shares: Some(262_144), ..none.clone() }, &["cpu.weight=10000"]),
            (Limits { pids: Some(u64::MAX), ..none.clone() }, &["pids.max=max"]),
            (Limits { blkio_weight: Some(1000), ..none.clone() }, &["io.weight=default 10000"]),
            (Limits { blkio_weights: vec![("8:0".into(), 10)], ..none.clone() }, &["io.weight=8:0 1"]),
            (
                Limits {
                    io: vec![IoLimit { device: "8:0".into(), key: "rbps".into(), rate: 1024 }],
                    files: vec![("memory.high".into(), "7".into())],
                    ..none.clone()
                },
                &["io.max=8:0 rbps=1024", "memory.high=7"],
            ),
            (
                Limits { io: vec![rate("wbps", u64::MAX)], ..none.clone() }
                    .over(Limits { io: vec![rate("wbps", 7), rate("rbps", 8)], ..none.clone() }),
                &["io.max=8:0 rbps=8", "io.max=8:0 wbps=max"],
            ),
        ] {
            assert_eq!(lines(&limits), expected);
        }
        assert_eq!(Setting::new("memory.swap.max", 1).controller(), "memory");
    }
}
