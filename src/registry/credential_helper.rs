//! Credential helpers: `docker-credential-NAME get|store|erase`, one exchange each over stdin and stdout
//! (docker-credential-helpers, "Development"). What they get from us is a registry's name, never through a shell; what they
//! say is bounded in size and time.

use super::credentials::Credentials;
use crate::error::Explain;
use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde::Deserialize;
use std::{
    ffi::OsStr,
    fs::File,
    io::{ErrorKind, Read, Seek, Write},
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// No answer is longer, in bytes.
const ANSWER_LIMIT: usize = 64 << 10;
/// Somebody may have to type a passphrase.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Every helper says so when it has nothing (docker-credential-helpers, credentials/error.go).
const NOT_FOUND: &str = "credentials not found";

/// What helper `name` has for `server`.
///
/// # Errors
/// There is no such program, or it fails.
pub fn get(name: &str, server: &str) -> Result<Option<Credentials>> {
    needed(name, run(name, "get", server.as_bytes())?)?.map_or(Ok(None), |answer| credentials(name, &answer))
}

/// The same; nothing, where there is no such program.
pub fn get_if_installed(name: &str, server: &str) -> Result<Option<Credentials>> {
    match run(name, "get", server.as_bytes())? {
        Outcome::Answer(answer) => credentials(name, &answer),
        Outcome::Nothing | Outcome::NoProgram => Ok(None),
    }
}

fn credentials(name: &str, answer: &[u8]) -> Result<Option<Credentials>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        #[serde(default)]
        username: String,
        #[serde(default)]
        secret: String,
    }
    // serde_json's message could quote a secret.
    let Ok(Answer { username, secret }) = serde_json::from_slice(answer) else {
        bail!("{}: its answer is not of the expected form", program(name));
    };
    Ok(match username.as_str() {
        _ if secret.is_empty() => None,
        "<token>" => Some(Credentials::Identity(secret)),
        _ => Some(Credentials::Password(username, secret)),
    })
}

/// Let helper `name` keep a password.
pub fn store(name: &str, server: &str, user: &str, password: &str) -> Result<()> {
    let what = serde_json::json!({ "ServerURL": server, "Username": user, "Secret": password });
    needed(name, run(name, "store", what.to_string().as_bytes())?).map(drop)
}

/// Let helper `name` forget one; false when it had none.
pub fn erase(name: &str, server: &str) -> Result<bool> {
    if get(name, server)?.is_none() {
        return Ok(false);
    }
    needed(name, run(name, "erase", server.as_bytes())?).map(|_| true)
}

enum Outcome {
    NoProgram,
    /// It has no such credentials.
    Nothing,
    Answer(Vec<u8>),
}

fn needed(name: &str, outcome: Outcome) -> Result<Option<Vec<u8>>> {
    match outcome {
        Outcome::Answer(answer) => Ok(Some(answer)),
        Outcome::Nothing => Ok(None),
        Outcome::NoProgram => Err(anyhow!("there is no program {} in PATH", program(name))).hint(
            "install it, or take it out of credHelpers and credsStore in auth.json or ~/.docker/config.json",
        ),
    }
}

fn program(name: &str) -> String {
    format!("docker-credential-{name}")
}

fn run(name: &str, verb: &str, input: &[u8]) -> Result<Outcome> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(sound) {
        return Err(anyhow!("{name:?} can't be the name of a credential helper"))
            .hint("mend credHelpers and credsStore in auth.json or ~/.docker/config.json");
    }
    // A file in memory: a helper that doesn't read it can't hold us up, and its end is no signal to us.
    let mut stdin = File::from(memfd_create("question", MemfdFlags::CLOEXEC).context("make a memory file")?);
    stdin.write_all(input).and_then(|()| stdin.rewind()).context("write a memory file")?;
    // The helper is the user's own program, with the user's environment and, on a push or a login, outside of any namespace of
    // ours; a pull asks it as root of the user namespace that the pull lives in.
    let started = Command::new(OsStr::new(&program(name)))
        .arg(verb)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let mut child = match started {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Outcome::NoProgram),
        started => started.with_context(|| format!("start {}", program(name)))?,
    };
    let heard = hear(&mut child);
    if heard.is_err() {
        // It may be done already.
        let _ = child.kill();
    }
    let status = child.wait().with_context(|| format!("wait for {}", program(name)))?;
    let answer = heard.with_context(|| format!("{} {verb}", program(name)))?;
    if status.success() {
        return Ok(Outcome::Answer(answer));
    }
    let said = String::from_utf8_lossy(&answer);
    if verb != "store" && said.contains(NOT_FOUND) {
        return Ok(Outcome::Nothing);
    }
    let said: String = said.lines().next().unwrap_or_default().chars().take(200).collect();
    Err(anyhow!("{} {verb}: {status}: {said}", program(name)))
        .hint("see what the helper says by itself: echo REGISTRY | docker-credential-NAME get")
}

/// All that `child` says until it ends.
fn hear(child: &mut Child) -> Result<Vec<u8>> {
    let until = Instant::now() + TIME_LIMIT;
    let mut stdout = child.stdout.take().context("no pipe from it")?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        wait_for(&stdout, until)?;
        match stdout.read(&mut piece).context("read its answer")? {
            0 => break,
            read if answer.len() + read > ANSWER_LIMIT => bail!("it says more than {ANSWER_LIMIT} bytes"),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
    let pid = Pid::from_child(child);
    wait_for(&pidfd_open(pid, PidfdFlags::empty()).context("watch it")?, until)?;
    Ok(answer)
}

fn wait_for(fd: &impl AsFd, until: Instant) -> Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&left)) {
            Err(Errno::INTR) => continue,
            Ok(0) => {
                return Err(anyhow!("it has not answered within {} s", TIME_LIMIT.as_secs()))
                    .hint("see what the helper waits for: echo REGISTRY | docker-credential-NAME get");
            }
            polled => return polled.map(drop).context("wait for it"),
        }
    }
}
