//! What the options of `ctr run` say of systemd, around the container and in it, and of descriptors that are handed in.

use super::{option_value::one, run_args::Args};
use crate::{
    container::{request::Systemd, service::Notify},
    error::Explain,
    sys::fork::{close_on_exec, is_open},
};
use anyhow::{Context, Result, anyhow, bail};
use std::{fs::File, os::fd::IntoRawFd};

impl Args {
    pub fn notify(&self) -> Result<Notify> {
        let example = "--sdnotify container, conmon, healthy or ignore";
        let notify = one("--sdnotify", &self.sdnotify, example, |text| {
            let all = [Notify::Container, Notify::Conmon, Notify::Healthy, Notify::Ignore];
            all.into_iter().find(|notify| notify.word() == text).context("nobody of that name")
        })?;
        Ok(notify.unwrap_or_default())
    }

    pub fn systemd_mode(&self) -> Result<Systemd> {
        let mode = one("--systemd", &self.systemd, "--systemd=true, false or always", |text| match text {
            "true" => Ok(Systemd::True),
            "false" => Ok(Systemd::False),
            "always" => Ok(Systemd::Always),
            _ => bail!("no such mode"),
        })?;
        Ok(mode.unwrap_or_default())
    }

    pub fn oom_score(&self) -> Result<Option<i32>> {
        match self.oom_score_adj {
            Some(score) if !(-1000..=1000).contains(&score) => {
                Err(anyhow!("--oom-score-adj {score}: not between -1000 and 1000"))
                    .hint("write it as --oom-score-adj 500")
            }
            score => Ok(score),
        }
    }

    pub fn descriptors(&self) -> Result<u8> {
        match &self.preserve_fd[..] {
            [] => preserved(self.preserve_fds),
            listed => preserved_alone(listed),
        }
    }
}

/// `--preserve-fds`: they have to be open, or others would be taken for them.
pub fn preserved(count: u8) -> Result<u8> {
    match (3..3 + u32::from(count)).find(|number| !is_open(*number)) {
        None => Ok(count),
        Some(missing) => Err(anyhow!("--preserve-fds {count}: descriptor {missing} is not open"))
            .hint(format!("open it, as in ctr run --preserve-fds {count} … {missing}<FILE")),
    }
}

/// `--preserve-fd`: all up to the highest, of which the others end at the payload's start.
fn preserved_alone(listed: &[u8]) -> Result<u8> {
    for number in listed {
        if *number < 3 || !is_open((*number).into()) {
            return Err(anyhow!("--preserve-fd {number}: it is not open, or one of 0, 1 and 2"))
                .hint("open it, as in ctr run --preserve-fd 5 … 5<FILE");
        }
    }
    let last = listed.iter().copied().max().unwrap_or(2);
    for number in (3..last).filter(|number| !listed.contains(number)) {
        if is_open(number.into()) {
            close_on_exec(number.into());
        } else {
            // So that none of ours takes the place. The lowest free number is taken: this one.
            let _ = File::open("/dev/null").map(IntoRawFd::into_raw_fd);
        }
    }
    Ok(last - 2)
}
