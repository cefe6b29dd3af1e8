//! `ctr top`: the processes of a container, in the columns of podman-top(1).

use super::{Globals, exec, output, targets};
use crate::{
    container::{
        exec::{Request, root_of},
        processes::{self, Process},
        state::Container,
        users,
    },
    error::Explain,
    security::{CapSet, capabilities},
};
use anyhow::{Result, anyhow};
use std::{fs, os::fd::AsFd, time::Duration};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Of the newest container
    #[arg(short, long)]
    latest: bool,
    /// The container, then descriptors as in podman-top(1), or options for a ps(1) inside
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = false,
        required_unless_present = "latest",
        value_name = "CONTAINER [DESCRIPTOR | PS OPTION]..."
    )]
    arguments: Vec<String>,
}

/// Whose processes, and what of them; with `--latest` all are words.
pub(super) fn name_and_words(arguments: &[String], latest: bool) -> (Option<&String>, &[String]) {
    match arguments.split_first() {
        Some((name, words)) if !latest => (Some(name), words),
        _ => (None, arguments),
    }
}

/// Print them; with words that are no descriptors, let `ps` do it inside.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let (name, words) = name_and_words(&args.arguments, args.latest);
    let store = globals.store()?;
    let container = targets::one(&store, name, args.latest)?;
    let Some(columns) = columns(words) else {
        let command = [&["ps".to_owned()], words].concat();
        return exec::attached(&container, &Request { command, ..Request::default() }, None);
    };
    let rows = rows(&container, &columns)?
        .ok_or_else(|| anyhow!("top can only be used on running containers"))
        .hint(container.status.hint(container.record.id.short()))?;
    print(&columns, &rows)
}

/// Those of the containers that run, in one table; `words`: descriptors.
pub fn of_all(containers: &[&Container], words: &[String]) -> Result<u8> {
    let columns = columns(words)
        .ok_or_else(|| anyhow!("{:?}: there is no such descriptor", words.join(" ")))
        .hint("podman-top(1) lists them; the default is user pid ppid pcpu etime tty time args")?;
    let mut all = Vec::new();
    for container in containers {
        all.extend(rows(container, &columns)?.unwrap_or_default());
    }
    print(&columns, &all)
}

/// The columns that `words` name; `None`: one of them is no descriptor.
fn columns(words: &[String]) -> Option<Vec<&'static Column>> {
    let wanted: Vec<&str> = match words {
        [] => DEFAULT.to_vec(),
        words => words.iter().flat_map(|word| word.split(',')).collect(),
    };
    let column = |word: &&str| COLUMNS.iter().find(|(aix, name, ..)| word == aix || word == name);
    wanted.iter().map(column).collect()
}

/// One row for each process of `container`; `None` when it doesn't run.
fn rows(container: &Container, columns: &[&Column]) -> Result<Option<Vec<Vec<String>>>> {
    let first = container.status.process().map(|process| process.child()).transpose()?.flatten();
    let Some(first) = first else { return Ok(None) };
    let processes = processes::of(&first)?;
    let (passwd, group) = root_of(&first).and_then(|root| users::read(root.as_fd())).unwrap_or_default();
    let names = Names { passwd, group, host_passwd: host("passwd"), host_group: host("group") };
    let row = |process: &Process| columns.iter().map(|(.., cell)| cell(process, &names)).collect();
    Ok(Some(processes.iter().map(row).collect()))
}

fn print(columns: &[&Column], rows: &[Vec<String>]) -> Result<u8> {
    let headings: Vec<&str> = columns.iter().map(|(_, _, heading, _)| *heading).collect();
    output::print(&output::table(&headings, rows))?;
    Ok(0)
}

struct Names {
    passwd: String,
    group: String,
    host_passwd: String,
    host_group: String,
}

type Column = (&'static str, &'static str, &'static str, fn(&Process, &Names) -> String);

const DEFAULT: [&str; 8] = ["user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args"];

/// Code of AIX's ps, name, heading, cell.
const COLUMNS: [Column; 29] = [
    ("%C", "pcpu", "%CPU", |p, _| share(p.cpu, p.elapsed)),
    ("%G", "group", "GROUP", |p, n| group(&n.group, p.gids[1])),
    ("%P", "ppid", "PPID", |p, _| p.ppid.to_string()),
    ("%U", "user", "USER", |p, n| user(&n.passwd, p.uids[1])),
    ("%a", "args", "COMMAND", |p, _| command_line(p)),
    ("%c", "comm", "COMMAND", |p, _| p.comm.clone()),
    ("%g", "rgroup", "RGROUP", |p, n| group(&n.group, p.gids[0])),
    ("%n", "nice", "NI", |p, _| p.nice.to_string()),
    ("%p", "pid", "PID", |p, _| p.pid.to_string()),
    ("%r", "pgid", "PGID", |p, _| p.pgid.to_string()),
    ("%t", "etime", "ELAPSED", |p, _| go_duration(p.elapsed)),
    ("%u", "ruser", "RUSER", |p, n| user(&n.passwd, p.uids[0])),
    ("%x", "time", "TIME", |p, _| go_duration(p.cpu)),
    ("%y", "tty", "TTY", |p, _| terminal(p.tty)),
    ("%z", "vsz", "VSZ", |p, _| (p.virtual_size / 1024).to_string()),
    ("", "rss", "RSS", |p, _| (p.resident / 1024).to_string()),
    ("", "state", "STATE", |p, _| p.state.to_string()),
    ("", "hpid", "HPID", |p, _| p.host_pid.to_string()),
    ("", "huser", "HUSER", |p, n| user(&n.host_passwd, p.host_uids[1])),
    ("", "hgroup", "HGROUP", |p, n| group(&n.host_group, p.host_gids[1])),
    ("", "capinh", "INHERITED CAPS", |p, _| capability_names(p.capabilities[0])),
    ("", "capprm", "PERMITTED CAPS", |p, _| capability_names(p.capabilities[1])),
    ("", "capeff", "EFFECTIVE CAPS", |p, _| capability_names(p.capabilities[2])),
    ("", "capbnd", "BOUNDING CAPS", |p, _| capability_names(p.capabilities[3])),
    ("", "capamb", "AMBIENT CAPS", |p, _| capability_names(p.capabilities[4])),
    ("", "seccomp", "SECCOMP", |p, _| seccomp(p.seccomp).to_owned()),
    ("", "label", "LABEL", |p, _| if p.label.is_empty() { "?".to_owned() } else { p.label.clone() }),
    ("", "stime", "STIME", |p, _| start_time(p.elapsed)),
    ("", "pidns", "PIDNS", |p, _| pid_namespace(p.host_pid)),
];

fn host(file: &str) -> String {
    fs::read_to_string(format!("/etc/{file}")).unwrap_or_default()
}

fn user(passwd: &str, id: u32) -> String {
    users::user_name(passwd, id).map_or_else(|| id.to_string(), str::to_owned)
}

fn group(text: &str, id: u32) -> String {
    users::group_name(text, id).map_or_else(|| id.to_string(), str::to_owned)
}

/// A zombie and whoever has cleared its arguments are shown as ps(1) does.
fn command_line(process: &Process) -> String {
    match (process.state, process.args.is_empty()) {
        ('Z', _) => format!("[{}] <defunct>", process.comm),
        (_, true) => format!("[{}]", process.comm),
        _ => process.args.join(" "),
    }
}

fn share(cpu: Duration, elapsed: Duration) -> String {
    match elapsed.is_zero() {
        true => "0.000".to_owned(),
        false => format!("{:.3}", 100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64()),
    }
}

fn capability_names(bits: u64) -> String {
    let all = capabilities::all_of_kernel();
    let set = CapSet::from_bits(bits).intersection(all);
    match set.bits() {
        0 => "none".to_owned(),
        bits if bits == all.bits() => "full".to_owned(),
        _ => {
            let names = set.iter().map(|one| one.to_string().trim_start_matches("CAP_").to_owned());
            names.collect::<Vec<_>>().join(",")
        }
    }
}

fn seccomp(mode: u8) -> &'static str {
    match mode {
        0 => "disabled",
        1 => "strict",
        2 => "filter",
        _ => "?",
    }
}

/// The kernel's device numbers (admin-guide/devices.txt).
fn terminal(device: u32) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    match (major, minor) {
        (136..=143, minor) => format!("pts/{}", (major - 136) * 256 + minor),
        (4, minor) if minor < 64 => format!("tty{minor}"),
        (4, minor) => format!("ttyS{}", minor - 64),
        (5, 1) => "console".to_owned(),
        _ => "?".to_owned(),
    }
}

fn start_time(elapsed: Duration) -> String {
    let start = jiff::Timestamp::now() - elapsed;
    start.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

fn pid_namespace(pid: i32) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap_or_default();
    link.to_string_lossy().trim_start_matches("pid:[").trim_end_matches(']').to_owned()
}

/// As Go prints a time.Duration, which is what Podman shows: `1h2m12.5s`, `386.8ms`, `0s`.
fn go_duration(time: Duration) -> String {
    let trimmed = |number: f64| {
        let text = format!("{number:.9}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let (seconds, nanoseconds) = (time.as_secs(), time.subsec_nanos());
    let rest = trimmed((seconds % 60) as f64 + f64::from(nanoseconds) / 1e9);
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) if time.is_zero() => "0s".to_owned(),
        (0, 0) if seconds == 0 && nanoseconds < 1_000_000 => {
            format!("{}µs", trimmed(f64::from(nanoseconds) / 1e3))
        }
        (0, 0) if seconds == 0 => format!("{}ms", trimmed(f64::from(nanoseconds) / 1e6)),
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells() {
        for (time, text) in [
            (0, "0s"),
            (10_000_000, "10ms"),
            (386_800_000, "386.8ms"),
            (20_386_825_206, "20.386825206s"),
            (3_732_500_000_000, "1h2m12.5s"),
            (60_000_000_000, "1m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(time)), text);
        }
        for (device, text) in
            [(0, "?"), (0x8800, "pts/0"), (0x8803, "pts/3"), (0x0501, "console"), (0x0401, "tty1")]
        {
            assert_eq!(terminal(device), text, "{device:x}");
        }
        assert_eq!(capability_names(0), "none");
        assert_eq!(capability_names(u64::MAX), "full");
        assert_eq!(capability_names(1), "CHOWN");
    }
}
