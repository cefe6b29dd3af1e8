//! pasta(1): a process beside the container that turns its packets into sockets of this user.

use crate::{
    error::Explain,
    sys::{exec, fork, path, signal},
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{
        CWD, Gid, MemfdFlags, Mode, OFlags, SealFlags, Uid, chmod, fcntl_add_seals, memfd_create, mkfifoat,
        open,
    },
    process::{
        Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
        waitpid,
    },
    thread::{LinkNameSpaceType, move_into_link_name_space, set_thread_res_gid, set_thread_res_uid},
};
use std::{
    io::{Read, Seek, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The words of `--network pasta:WORD,WORD` as pasta gets them: nothing of the host's loopback inside and nothing of the
/// container's outside but what they say.
///
/// # Errors
/// A word that is no option of pasta's about addresses, ports and protocols, or not one for the command line of another program.
pub fn parse(text: &str) -> Result<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut value = None;
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/%~@=#".contains(&b);
        ensure!(word.len() <= 200 && word.bytes().all(plain), "{word:?} is no option of pasta");
        let (name, inline) = word.split_once('=').map_or((word, false), |(name, _)| (name, true));
        match value.take() {
            Some(option) => ensure!(!word.starts_with('-'), "pasta's option {option} takes a value"),
            // Podman's word against its own --no-map-gw.
            None if word == "--map-gw" => {}
            None if ALONE.contains(&name) && !inline => {}
            None if VALUED.iter().any(|names| names.contains(&name)) => {
                ensure!(!inline || name.starts_with("--"), "{word:?} is no option of pasta");
                value = (!inline).then(|| name.to_owned());
            }
            None => bail!("{name:?} is no option of pasta that a container may have"),
        }
        words.push(word.to_owned());
        ensure!(words.len() <= MOST, "more than {MOST} words for pasta");
    }
    if let Some(option) = value {
        bail!("pasta's option {option} takes a value");
    }
    let has =
        |names: &[&str]| words.iter().any(|word| names.contains(&word.split('=').next().unwrap_or_default()));
    let mut all = Vec::new();
    if !has(&["--map-gw", "--no-map-gw"]) {
        all.push("--no-map-gw".to_owned());
    }
    for names in &VALUED[..4] {
        if !has(names) {
            all.extend([names[0].to_owned(), "none".to_owned()]);
        }
    }
    all.extend(words.into_iter().filter(|word| word != "--map-gw"));
    Ok(all)
}

/// Options of passt(1) that say something about addresses, ports and protocols, with a value; ports first.
const VALUED: [&[&str]; 22] = [
    &["-t", "--tcp-ports"],
    &["-u", "--udp-ports"],
    &["-T", "--tcp-ns"],
    &["-U", "--udp-ns"],
    &["-m", "--mtu"],
    &["-a", "--address"],
    &["-n", "--netmask"],
    &["-M", "--mac-addr"],
    &["-g", "--gateway"],
    &["-i", "--interface"],
    &["-o", "--outbound"],
    &["--outbound-if4"],
    &["--outbound-if6"],
    &["-I", "--ns-ifname"],
    &["--ns-mac-addr"],
    &["-D", "--dns"],
    &["--dns-forward"],
    &["--dns-host"],
    &["-S", "--search"],
    &["--map-host-loopback"],
    &["--map-guest-addr"],
    &["-H", "--hostname"],
];
/// Those without.
const ALONE: [&str; 13] = [
    "--no-map-gw",
    "--no-tcp",
    "--no-udp",
    "--no-icmp",
    "--no-dhcp",
    "--no-ndp",
    "--no-dhcpv6",
    "--no-ra",
    "--no-splice",
    "--host-lo-to-ns-lo",
    "-4",
    "-6",
    "--ipv4-only",
];
const MOST: usize = 64;

/// A running pasta. Dropped, it ends.
#[derive(Debug)]
pub struct Pasta {
    pid: Pid,
    pidfd: OwnedFd,
}

/// Where pasta is installed.
pub fn find() -> Option<PathBuf> {
    path::find("pasta")
}

impl Pasta {
    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        let mut end = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut end, Some(&Timespec::default())) == Ok(0)
    }

    /// Connect the network namespace of process `pid` and wait until its interface is there, as `user` of that process's user
    /// namespace if it has one. `scratch`: a directory of ours for the file through which pasta says that it is ready.
    ///
    /// # Errors
    /// What pasta says when it gives up.
    pub fn connect(
        pasta: &Path,
        options: &[String],
        pid: Pid,
        user: Option<(u32, u32)>,
        scratch: &Path,
    ) -> Result<Pasta> {
        // pasta writes its pid once everything is set up: through a FIFO that is an event to wait for.
        let fifo = scratch.join("pasta");
        let doing = || format!("wait for pasta at {}", fifo.display());
        mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).with_context(doing)?;
        // That user may be none of ours, who can't walk to it. Nobody but us can, either.
        chmod(&fifo, Mode::RUSR | Mode::WUSR | Mode::WOTH).with_context(doing)?;
        let door = open(&fifo, OFlags::PATH, Mode::empty()).with_context(doing)?;
        let ready = open(&fifo, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .with_context(doing)?;
        let mut words = words_file()?;
        // pasta gives up the privilege to look into other processes before it opens its namespaces, and AppArmor's profile of
        // it may have none: it finds the network namespace at a descriptor of its own, and is in the user namespace already.
        let namespace = |kind: &str| {
            std::fs::File::open(format!("/proc/{}/ns/{kind}", pid.as_raw_pid())).with_context(doing)
        };
        let network = namespace("net")?;
        let joined = user.map(|ids| Ok::<_, anyhow::Error>((namespace("user")?, ids))).transpose()?;
        exec::inherit(&network).with_context(doing)?;
        let mut command = Command::new(pasta);
        // It reads what the container sends: nothing of the user's environment is in its memory.
        command
            .env_clear()
            .args(["--config-net", "--foreground", "--quiet", "--stderr"])
            .args(options)
            .arg("--pid")
            .arg(format!("/proc/self/fd/{}", door.as_raw_fd()))
            .args(["--netns-only", "--netns", &format!("/proc/self/fd/{}", network.as_raw_fd())])
            // It stays who it is: where all ids are mapped it would take itself for the host's root and become nobody.
            .args(if user.is_some_and(|(uid, _)| uid != 0) { &[][..] } else { &["--runas", "0"] })
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(words.try_clone().context("share a file with pasta")?);
        let mut say = words.try_clone().context("share a file with pasta")?;
        let pid = fork::fork(|| {
            // Who am I: a copy of the caller, single-threaded, about to become pasta. It outlives neither its container nor
            // us: by itself it would not notice that a killed `ctr` took the container along. The caller blocks signals,
            // which pasta wants to hear. Rootless, I am root of the container's user namespace, with which I have nothing else
            // in common.
            signal::reset();
            let join = |(namespace, (uid, gid)): &(std::fs::File, (u32, u32))| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))?;
                let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
                set_thread_res_gid(gid, gid, gid)?;
                set_thread_res_uid(uid, uid, uid)
            };
            if let Some(Err(errno)) = joined.as_ref().map(join) {
                let _ = write!(say, "join the container's user namespace: {errno}");
                return 1;
            }
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            let _ = write!(say, "{}", command.exec());
            1
        });
        let helper = Pasta::new(pid.context("fork pasta")?)?;
        let mut fds = [PollFd::new(&ready, PollFlags::IN), PollFd::new(&helper.pidfd, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut fds, None)).with_context(doing)?;
        let is_ready = fds[0].revents().contains(PollFlags::IN);
        let _ = std::fs::remove_file(&fifo);
        if is_ready {
            // What a container makes it complain of from here on takes no memory.
            fcntl_add_seals(&words, SealFlags::WRITE | SealFlags::GROW).context("seal a memory file")?;
            return Ok(helper);
        }
        let mut said = String::new();
        let _ = words.rewind().and_then(|()| words.take(4096).read_to_string(&mut said));
        let last = said.lines().last().unwrap_or("it ended without a word").to_owned();
        Err(anyhow!("connect the network: pasta: {last}")).hint("choose --network=none or --network=host")
    }

    fn new(pid: Pid) -> Result<Pasta> {
        Ok(Pasta { pid, pidfd: pidfd_open(pid, PidfdFlags::empty()).context("watch pasta")? })
    }
}

impl Drop for Pasta {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// What pasta says goes to memory: a pipe could fill up, for nobody reads it while the container runs.
fn words_file() -> Result<std::fs::File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(memfd_create(c"pasta", flags).context("make a memory file")?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let closed = "--no-map-gw -t none -u none -T none -U none";
        for (text, expected) in [
            ("", closed),
            ("-T,5432", "--no-map-gw -t none -u none -U none -T 5432"),
            ("--map-gw,--mtu=1500", "-t none -u none -T none -U none --mtu=1500"),
            ("--tcp-ports,8080:80,-4", "--no-map-gw -u none -T none -U none --tcp-ports 8080:80 -4"),
        ] {
            assert_eq!(parse(text).unwrap().join(" "), expected, "{text}");
        }
        for bad in [
            "-T",
            "5432",
            "--pid,/x",
            "--log-file=/x",
            "-T,-U",
            "-t,a b",
            "--netns,/x",
            "-T=5",
            "--no-tcp=1",
            "--",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
