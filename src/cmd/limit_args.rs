//! The options of control groups, which `run`, `create` and `update` share.

use super::option_value::{each, one};
use crate::{
    cgroups::{Choice, IoLimit, Limits},
    container::{limits::parse_size, request::ControlGroup},
    error::Explain,
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

const LIMITS: &str = "Limits";

// No docs: a verb that flattens it would show them as its own help.
#[derive(clap::Args, Debug, Default)]
pub struct LimitArgs {
    /// Share of the disks beside others, 10 to 1000
    #[arg(long, value_name = "WEIGHT", help_heading = LIMITS)]
    blkio_weight: Option<u64>,
    /// The same for one disk
    #[arg(long, value_name = "DEVICE:WEIGHT", help_heading = LIMITS)]
    blkio_weight_device: Vec<String>,
    /// Microseconds of a period in which the processors are shared out [default: 100000]
    #[arg(long, value_name = "MICROSECONDS", help_heading = LIMITS)]
    cpu_period: Option<u64>,
    /// Microseconds of processor time in each period
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true, help_heading = LIMITS)]
    cpu_quota: Option<i64>,
    /// Share of the processors beside others, 2 to 262144
    #[arg(short, long, value_name = "SHARES", help_heading = LIMITS)]
    cpu_shares: Option<u64>,
    /// How many processors' time
    #[arg(long, value_name = "NUMBER", help_heading = LIMITS)]
    cpus: Option<f64>,
    /// Which processors, as 0-3,5
    #[arg(long, value_name = "LIST", help_heading = LIMITS)]
    cpuset_cpus: Option<String>,
    /// Which nodes of memory
    #[arg(long, value_name = "LIST", help_heading = LIMITS)]
    cpuset_mems: Option<String>,
    /// Bytes a second read from a disk
    #[arg(long, value_name = "DEVICE:RATE", help_heading = LIMITS)]
    device_read_bps: Vec<String>,
    /// Reads a second from a disk
    #[arg(long, value_name = "DEVICE:RATE", help_heading = LIMITS)]
    device_read_iops: Vec<String>,
    /// Bytes a second written to a disk
    #[arg(long, value_name = "DEVICE:RATE", help_heading = LIMITS)]
    device_write_bps: Vec<String>,
    /// Writes a second to a disk
    #[arg(long, value_name = "DEVICE:RATE", help_heading = LIMITS)]
    device_write_iops: Vec<String>,
    /// Limits of a disk by the names of io.max: rbps, wbps, riops and wiops; `max` for none
    #[arg(long, value_name = "DEVICE:KEY=RATE,…", help_heading = LIMITS)]
    io_max: Vec<String>,
    /// Bytes of memory, with b, k, m or g
    #[arg(short, long, value_name = "SIZE", help_heading = LIMITS)]
    memory: Option<String>,
    /// Bytes that are taken last when memory is scarce
    #[arg(long, value_name = "SIZE", help_heading = LIMITS)]
    memory_reservation: Option<String>,
    /// Bytes of memory and swap together, -1 for any [default: twice the memory]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = LIMITS)]
    memory_swap: Option<String>,
    /// How gladly memory is swapped out: version 1 alone has it
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, hide = true, help_heading = LIMITS)]
    memory_swappiness: Option<i64>,
    /// Processes and threads, -1 for any [default: 2048]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true, help_heading = LIMITS)]
    pids_limit: Option<i64>,
}

/// Where the group is: of no use to `update`.
#[derive(clap::Args, Debug, Default)]
pub struct GroupArgs {
    /// Write a file of the control group
    #[arg(long, value_name = "FILE=VALUE", help_heading = LIMITS)]
    cgroup_conf: Vec<String>,
    /// The slice of systemd's, or the path of the control group, below which the container's is made
    #[arg(long, value_name = "SLICE | PATH", help_heading = LIMITS)]
    cgroup_parent: Option<String>,
    /// Whether the container sees its own control group as the root: private or host
    #[arg(long, value_name = "MODE", help_heading = LIMITS)]
    cgroupns: Option<String>,
    /// A control group of its own: enabled, disabled, no-conmon or split
    #[arg(long, value_name = "HOW", help_heading = LIMITS)]
    cgroups: Option<String>,
}

impl LimitArgs {
    /// What they say.
    pub fn limits(&self) -> Result<Limits> {
        if self.memory_swappiness.is_some_and(|value| value != -1) {
            return Err(anyhow!("--memory-swappiness: control groups of version 2 have no such limit"))
                .hint("leave it out, or use --memory-reservation");
        }
        if self.cpus.is_some() && (self.cpu_quota.is_some() || self.cpu_period.is_some()) {
            return Err(anyhow!("--cpus can't be used with --cpu-quota or --cpu-period"))
                .hint("--cpus 1.5 is --cpu-period 100000 --cpu-quota 150000");
        }
        if self.cpus.is_some_and(|cpus| !(0.0..=65_536.0).contains(&cpus)) {
            return Err(anyhow!("--cpus: not a number of processors")).hint("write it as --cpus 1.5");
        }
        let size =
            |option: &str, value: &Option<String>| one(option, value, &format!("{option} 512m"), parse_size);
        let memory = size("--memory", &self.memory)?.filter(|bytes| *bytes > 0);
        let swap =
            one(
                "--memory-swap",
                &self.memory_swap,
                "--memory-swap 1g or --memory-swap -1",
                |text| match text {
                    "-1" => Ok(u64::MAX),
                    text => parse_size(text),
                },
            )?
            .filter(|bytes| *bytes > 0);
        if let Some(both) = swap.filter(|both| *both != u64::MAX) {
            let memory =
                memory.ok_or_else(|| anyhow!("--memory-swap needs --memory")).hint("add --memory SIZE")?;
            if both < memory {
                return Err(anyhow!("--memory-swap is memory and swap together: it can't be below --memory"))
                    .hint("make it as large as --memory for no swap at all");
            }
        }
        let cpus = self.cpus.map(|cpus| (cpus * 100_000.0) as u64).filter(|quota| *quota > 0);
        let mut io = Vec::new();
        for (option, values, key) in [
            ("--device-read-bps", &self.device_read_bps, "rbps"),
            ("--device-write-bps", &self.device_write_bps, "wbps"),
            ("--device-read-iops", &self.device_read_iops, "riops"),
            ("--device-write-iops", &self.device_write_iops, "wiops"),
        ] {
            let example = format!("{option} /dev/sda:1mb");
            io.extend(each::<IoLimit, Vec<_>>(option, values, &example, |text| io_limit(text, key))?);
        }
        let lines: Vec<_> = each("--io-max", &self.io_max, "--io-max /dev/sda:rbps=1mb,wiops=100", io_max)?;
        io.extend(lines.into_iter().flatten());
        let weight = |option: &str, weight: u64| match weight {
            10..=1000 => Ok(weight),
            _ => Err(anyhow!("{option}: {weight} is not between 10 and 1000")).hint("500 is in the middle"),
        };
        let example = "--blkio-weight-device /dev/sda:500";
        let weights: Vec<_> = each("--blkio-weight-device", &self.blkio_weight_device, example, |text| {
            let (device, number) = text.rsplit_once(':').context("no `:` between device and weight")?;
            let number = number.parse().with_context(|| format!("{number:?} is no number"))?;
            Ok((disk(device)?, weight("--blkio-weight-device", number)?))
        })?;
        Ok(Limits {
            memory,
            memory_swap: swap,
            memory_reservation: size("--memory-reservation", &self.memory_reservation)?,
            cpu_quota: cpus.or(self.cpu_quota.map(|quota| u64::try_from(quota).unwrap_or(0))),
            cpu_period: self.cpu_period,
            cpu_shares: self.cpu_shares.filter(|shares| *shares > 0),
            cpuset_cpus: list("--cpuset-cpus", &self.cpuset_cpus)?,
            cpuset_mems: list("--cpuset-mems", &self.cpuset_mems)?,
            pids: self
                .pids_limit
                .map(|count| u64::try_from(count).ok().filter(|c| *c > 0).unwrap_or(u64::MAX)),
            blkio_weight: self
                .blkio_weight
                .filter(|weight| *weight > 0)
                .map(|number| weight("--blkio-weight", number))
                .transpose()?,
            blkio_weights: weights,
            io,
            files: Vec::new(),
        })
    }
}

impl GroupArgs {
    /// What they say.
    pub fn request(&self) -> Result<ControlGroup> {
        let choice =
            one("--cgroups", &self.cgroups, "--cgroups enabled, disabled, no-conmon or split", |text| {
                Ok(match text {
                    "enabled" => Choice::Enabled,
                    "disabled" => Choice::Disabled,
                    "no-conmon" => Choice::NoConmon,
                    "split" => Choice::Split,
                    _ => bail!("no such way"),
                })
            })?;
        let host =
            one("--cgroupns", &self.cgroupns, "--cgroupns private or --cgroupns host", |text| match text {
                "private" | "" => Ok(false),
                "host" => Ok(true),
                _ => bail!("no such namespace"),
            })?;
        let parent = one("--cgroup-parent", &self.cgroup_parent, "--cgroup-parent user.slice", |text| {
            ensure!(text.starts_with('/') || text.ends_with(".slice"), "neither a slice nor a path");
            ensure!(!text.split('/').any(|part| part == ".."), "it leads upwards");
            Ok(text.to_owned())
        })?;
        if let (Some(Choice::Split), Some(_)) = (choice, &parent) {
            return Err(anyhow!("--cgroups=split can't be used with --cgroup-parent"))
                .hint("--cgroups=split is below the group of who starts it");
        }
        Ok(ControlGroup {
            choice: choice.unwrap_or_default(),
            parent,
            host_namespace: host.unwrap_or_default(),
        })
    }

    /// `--cgroup-conf`.
    pub fn files(&self) -> Result<Vec<(String, String)>> {
        each("--cgroup-conf", &self.cgroup_conf, "--cgroup-conf memory.high=1073741824", |text| {
            let (file, value) = text.split_once('=').context("no `=` between file and value")?;
            ensure!(
                !file.is_empty() && !file.contains('/') && !file.starts_with('.'),
                "no file of a control group"
            );
            Ok((file.to_owned(), value.to_owned()))
        })
    }
}

/// `0-3,5`.
fn list(option: &str, value: &Option<String>) -> Result<Option<String>> {
    one(option, value, &format!("{option} 0-3,5"), |text| {
        let number =
            |text: &str| !text.is_empty() && text.len() < 6 && text.bytes().all(|b| b.is_ascii_digit());
        let range = |text: &str| text.split_once('-').map_or(number(text), |(a, b)| number(a) && number(b));
        ensure!(text.split(',').all(range), "no list of numbers");
        Ok(text.to_owned())
    })
}

fn io_limit(text: &str, key: &str) -> Result<IoLimit> {
    let (device, rate) = text.rsplit_once(':').context("no `:` between device and rate")?;
    Ok(IoLimit { device: disk(device)?, key: key.to_owned(), rate: parse_size(rate)? })
}

/// `DEVICE:KEY=RATE,KEY=RATE`.
fn io_max(text: &str) -> Result<Vec<IoLimit>> {
    let (device, rates) = text.rsplit_once(':').context("no `:` between device and rates")?;
    let device = disk(device)?;
    let rate = |word: &str| {
        let (key, rate) = word.split_once('=').with_context(|| format!("no `=` in {word:?}"))?;
        ensure!(["rbps", "wbps", "riops", "wiops"].contains(&key), "io.max has no key {key:?}");
        let rate = if rate == "max" { u64::MAX } else { parse_size(rate)? };
        ensure!(rate > 0, "{key}=0 would let nothing through");
        Ok(IoLimit { device: device.clone(), key: key.to_owned(), rate })
    };
    rates.split(',').map(rate).collect()
}

/// Its numbers, as the kernel's files name it.
fn disk(device: &str) -> Result<String> {
    let meta = std::fs::metadata(device).with_context(|| format!("look at {device}"))?;
    ensure!(meta.file_type().is_block_device(), "{device} is no disk");
    Ok(format!("{}:{}", rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches};

    fn limits(line: &str) -> Result<Limits> {
        let command = LimitArgs::augment_args(clap::Command::new("run").no_binary_name(true));
        LimitArgs::from_arg_matches(&command.try_get_matches_from(line.split_whitespace())?)?.limits()
    }

    #[test]
    fn as_podman_has_them() {
        let none = Limits::default();
        let mib = 1 << 20;
        for (line, expected) in [
            ("", none.clone()),
            ("-m 5m", Limits { memory: Some(5 * mib), ..none.clone() }),
            (
                "-m 5m --memory-swap 6M",
                Limits { memory: Some(5 * mib), memory_swap: Some(6 * mib), ..none.clone() },
            ),
            (
                "-m 5m --memory-swap -1",
                Limits { memory: Some(5 * mib), memory_swap: Some(u64::MAX), ..none.clone() },
            ),
            ("-m 0", none.clone()),
            ("--cpus 0.5", Limits { cpu_quota: Some(50_000), ..none.clone() }),
            (
                "--cpu-quota -1 --cpu-period 1000",
                Limits { cpu_quota: Some(0), cpu_period: Some(1000), ..none.clone() },
            ),
            (
                "-c 512 --pids-limit -1",
                Limits { cpu_shares: Some(512), pids: Some(u64::MAX), ..none.clone() },
            ),
            ("--cpuset-cpus 0-3,5", Limits { cpuset_cpus: Some("0-3,5".into()), ..none.clone() }),
        ] {
            assert_eq!(limits(line).unwrap(), expected, "{line}");
        }
        for bad in [
            "-m x",
            "--memory-swap 5m",
            "-m 5m --memory-swap 4m",
            "--memory-swappiness 5",
            "--cpus 1 --cpu-quota 5",
            "--cpus -1",
            "--cpuset-cpus a",
            "--cpuset-mems 1-",
            "--device-read-bps /dev/null:1m",
            "--device-write-iops /dev/null",
            "--blkio-weight 5",
            "--blkio-weight-device /dev/null:500",
            "--io-max /dev/null:rbps=1m",
            "--io-max rbps=1m",
        ] {
            assert!(limits(bad).is_err(), "{bad}");
        }
    }
}
