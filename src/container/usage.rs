//! What a container uses, summed over its processes from the host's /proc: no control group is needed, but one knows better.

use super::processes;
use crate::{cgroups::Group, sys::fork::Child};
use anyhow::Result;
use std::{fs, time::Duration};

/// What it uses now, or has used since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time, that of processes that have ended included.
    pub cpu: Duration,
    /// Time since the first process's start.
    pub elapsed: Duration,
    /// Bytes of memory, shared ones divided among those who share them.
    pub memory: u64,
    /// Bytes that it may have, where that is limited.
    pub memory_limit: Option<u64>,
    /// Bytes received, loopback excepted.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes read from storage.
    pub read: u64,
    /// Bytes written to storage.
    pub written: u64,
    /// Processes.
    pub processes: u64,
}

/// Of the container whose first process is `first`. What can't be read counts as nothing.
pub fn of(first: &Child) -> Result<Usage> {
    let mut usage = Usage::default();
    for process in processes::of(first)? {
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{}/{file}", process.host_pid)).unwrap_or_default();
        // Whoever has ended was waited for by a process that lives, or by one that was waited for in turn.
        usage.cpu += process.cpu + process.cpu_of_children;
        usage.elapsed = usage.elapsed.max(process.elapsed);
        usage.memory += field(&read("smaps_rollup"), "Pss").map_or(process.resident, |kib| kib << 10);
        let io = read("io");
        usage.read += field(&io, "read_bytes").unwrap_or(0);
        usage.written += field(&io, "write_bytes").unwrap_or(0);
        usage.processes += 1;
    }
    let network = fs::read_to_string(format!("/proc/{}/net/dev", first.pid.as_raw_pid())).unwrap_or_default();
    (usage.received, usage.sent) = traffic(&network);
    Ok(usage)
}

impl Usage {
    /// With what `group` counts, which is more exact: also of processes that have ended, and caches.
    pub fn with(self, group: &Group) -> Usage {
        let counted = group.usage();
        Usage {
            cpu: counted.cpu.unwrap_or(self.cpu),
            memory: counted.memory.unwrap_or(self.memory),
            memory_limit: counted.memory_limit,
            read: counted.read.unwrap_or(self.read),
            written: counted.written.unwrap_or(self.written),
            processes: counted.tasks.unwrap_or(self.processes),
            ..self
        }
    }
}

/// `Name:   12 kB` of smaps_rollup or io.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

/// /proc/PID/net/dev: bytes received and sent over all interfaces but loopback.
fn traffic(table: &str) -> (u64, u64) {
    let interfaces = table.lines().filter_map(|line| line.split_once(':'));
    interfaces.filter(|(name, _)| name.trim() != "lo").fold((0, 0), |(received, sent), (_, counts)| {
        let count = |at: usize| counts.split_ascii_whitespace().nth(at)?.parse::<u64>().ok();
        (received + count(0).unwrap_or(0), sent + count(8).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc() {
        assert_eq!(field("Rss:    5 kB\nPss:     12 kB\n", "Pss"), Some(12));
        assert_eq!(field("read_bytes: 4096\nwrite_bytes: 1\n", "write_bytes"), Some(1));
        assert_eq!(field("Pss\nx", "Pss"), None);
        let table = "Inter-|   Receive  |\n face |bytes\n    lo: 9 9 9 9 9 9 9 9 9 9\n  eth0: 100 2 0 0 0 0 0 0 200 3 0 0\n";
        assert_eq!(traffic(table), (100, 200));
        assert_eq!(traffic("eth0: x"), (0, 0));
    }
}
