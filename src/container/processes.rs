//! The processes of a container, read from the host's /proc: the container's own could be anything.

use crate::sys::fork::Child;
use anyhow::{Context, Result};
use rustix::{param::clock_ticks_per_second, time::ClockId};
use std::{fs, io::Read, time::Duration};

/// One process, as proc_pid_stat(5) and proc_pid_status(5) have it; ids are the container's unless they say otherwise.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Process id on the host.
    pub host_pid: i32,
    /// Process id.
    pub pid: i32,
    /// The parent's; 0 when that is outside.
    pub ppid: i32,
    /// Process group.
    pub pgid: i32,
    /// Real and effective user id on the host.
    pub host_uids: [u32; 2],
    /// Real and effective group id on the host.
    pub host_gids: [u32; 2],
    /// Real and effective user id.
    pub uids: [u32; 2],
    /// Real and effective group id.
    pub gids: [u32; 2],
    /// State letter.
    pub state: char,
    /// The program's name.
    pub comm: String,
    /// Its arguments; empty for a zombie.
    pub args: Vec<String>,
    /// Device number of its terminal.
    pub tty: u32,
    /// Nice value.
    pub nice: i64,
    /// Virtual memory in bytes.
    pub virtual_size: u64,
    /// Memory that it occupies, in bytes.
    pub resident: u64,
    /// Time that it has used processors.
    pub cpu: Duration,
    /// The same of its children that have ended.
    pub cpu_of_children: Duration,
    /// Time since its start.
    pub elapsed: Duration,
    /// The five sets of proc_pid_status(5): inheritable, permitted, effective, bounding, ambient.
    pub capabilities: [u64; 5],
    /// 0, 1 (strict) or 2 (filter).
    pub seccomp: u8,
    /// What the security module says.
    pub label: String,
}

/// All whose pid namespace is that of `first`, by process id. Those that end meanwhile are left out.
pub fn of(first: &Child) -> Result<Vec<Process>> {
    let proc = |pid: i32, file: &str| format!("/proc/{pid}/{file}");
    let own = first.pid.as_raw_pid();
    let namespace = fs::read_link(proc(own, "ns/pid")).context("look at the container's pid namespace")?;
    let read_map = |file: &str| fs::read_to_string(proc(own, file)).map(|text| map(&text));
    let (users, groups) =
        (read_map("uid_map").context("read its ids")?, read_map("gid_map").context("read its ids")?);
    let uptime = rustix::time::clock_gettime(ClockId::Boottime);
    let uptime = Duration::new(uptime.tv_sec.unsigned_abs(), uptime.tv_nsec.unsigned_abs() as u32);
    let entries = fs::read_dir("/proc").context("list /proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let inside = pids.filter(|pid| fs::read_link(proc(*pid, "ns/pid")).is_ok_and(|link| link == namespace));
    let read = |pid| {
        // Its arguments may be mebibytes, and it one of thousands.
        let text = |file: &str| {
            let mut text = Vec::new();
            fs::File::open(proc(pid, file)).ok()?.take(LONGEST).read_to_end(&mut text).ok()?;
            Some(text)
        };
        let mut process = Process { host_pid: pid, ..Process::default() };
        stat(&mut process, &String::from_utf8_lossy(&text("stat")?), uptime)?;
        status(&mut process, &String::from_utf8_lossy(&text("status")?));
        process.uids = process.host_uids.map(|id| inverse(&users, id));
        process.gids = process.host_gids.map(|id| inverse(&groups, id));
        let args = text("cmdline").unwrap_or_default();
        let args = args.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned());
        process.args = args.collect();
        process.args.truncate(process.args.iter().rposition(|arg| !arg.is_empty()).map_or(0, |at| at + 1));
        let label = text("attr/current").unwrap_or_default();
        process.label = String::from_utf8_lossy(&label).trim_end_matches(['\0', '\n']).to_owned();
        Some(process)
    };
    let mut found: Vec<Process> = inside.filter_map(read).collect();
    let parents: Vec<(i32, i32)> = found.iter().map(|process| (process.host_pid, process.pid)).collect();
    for process in &mut found {
        let parent = parents.iter().find(|(host, _)| *host == process.ppid);
        process.ppid = parent.map_or(0, |(_, inside)| *inside);
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

/// Bytes read of a file about one process.
const LONGEST: u64 = 16 << 10;

/// `name (comm) state ppid …`; the comm may hold anything. The parent's id stays the host's here.
fn stat(process: &mut Process, text: &str, uptime: Duration) -> Option<()> {
    let (head, tail) = text.rsplit_once(')')?;
    process.comm = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    // The list starts with field 3.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at: usize| field(at).and_then(|text| text.parse::<i64>().ok());
    let ticks = |count: i64| Duration::from_millis(count.unsigned_abs() * 1000 / clock_ticks_per_second());
    process.state = field(3)?.chars().next()?;
    process.ppid = number(4)? as i32;
    process.tty = number(7)? as u32;
    process.cpu = ticks(number(14)? + number(15)?);
    process.cpu_of_children = ticks(number(16)? + number(17)?);
    process.nice = number(19)?;
    process.elapsed = uptime.saturating_sub(ticks(number(22)?));
    process.virtual_size = number(23)?.unsigned_abs();
    process.resident = number(24)?.unsigned_abs() * rustix::param::page_size() as u64;
    Some(())
}

fn status(process: &mut Process, text: &str) {
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let words = || value.split_ascii_whitespace();
        let ids = || {
            let mut ids = words().filter_map(|id| id.parse().ok());
            [ids.next().unwrap_or(0), ids.next().unwrap_or(0)]
        };
        let innermost = || words().last().and_then(|id| id.parse().ok()).unwrap_or(0);
        let set = |at: usize| (at, u64::from_str_radix(value.trim(), 16).unwrap_or(0));
        let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
        match key {
            "Uid" => process.host_uids = ids(),
            "Gid" => process.host_gids = ids(),
            "NSpid" => process.pid = innermost(),
            "NSpgid" => process.pgid = innermost(),
            "Seccomp" => process.seccomp = innermost() as u8,
            _ => {
                if let Some((at, bits)) = sets.iter().position(|name| *name == key).map(set) {
                    process.capabilities[at] = bits;
                }
            }
        }
    }
}

/// user_namespaces(7): first id inside, first id outside, how many.
fn map(text: &str) -> Vec<[u32; 3]> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().ok());
        Some([numbers.next()??, numbers.next()??, numbers.next()??])
    };
    text.lines().filter_map(line).collect()
}

/// An id of ours as the container sees it: 65534 when it has none for it.
fn inverse(map: &[[u32; 3]], id: u32) -> u32 {
    let range = map.iter().find(|[_, outside, count]| id >= *outside && id - outside < *count);
    range.map_or(65534, |[inside, outside, _]| inside + (id - outside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc() {
        let mut process = Process::default();
        let line = "7 (a) (b) S 3 7 7 34816 7 0 1 2 3 4 150 50 0 0 20 5 1 0 1000 4096 2 0";
        stat(&mut process, line, Duration::from_secs(60)).unwrap();
        assert_eq!(
            (process.comm.as_str(), process.state, process.ppid, process.tty),
            ("a) (b", 'S', 3, 34816)
        );
        assert_eq!((process.cpu.as_secs(), process.nice, process.virtual_size), (2, 5, 4096));
        assert_eq!(process.elapsed, Duration::from_secs(50));
        status(
            &mut process,
            "NSpid:\t7\t2\nNSpgid:\t7\t1\nUid:\t5\t6\t7\t8\nCapEff:\t00000000800405fb\nSeccomp:\t2\nnoise",
        );
        assert_eq!((process.pid, process.pgid, process.host_uids, process.seccomp), (2, 1, [5, 6], 2));
        assert_eq!(process.capabilities[2], 0x8004_05fb);
        for bad in ["", "1", "1 (a", "1 (a) S", "x) y"] {
            assert!(stat(&mut Process::default(), bad, Duration::ZERO).is_none(), "{bad:?}");
        }
        let map = map("0 1000 1\n1 100000 65536\nbroken\n");
        for (outside, inside) in [(1000, 0), (100_999, 1000), (0, 65534), (165_536, 65534)] {
            assert_eq!(inverse(&map, outside), inside, "{outside}");
        }
    }
}
