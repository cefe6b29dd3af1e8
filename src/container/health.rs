//! Health checks (podman-run(1), `--health-cmd` and its like; Docker's HEALTHCHECK): what is run and when, and what came of
//! it so far.

use crate::{error::Explain, storage::ContainerDir};
use anyhow::{Context, Result, anyhow, bail};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// One kind of check, as images and `inspect` have it; times in nanoseconds, 0 and empty: not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Check {
    /// `["CMD", program, …]`, `["CMD-SHELL", script]` or `["NONE"]`.
    pub test: Vec<String>,
    /// From the end of one to the beginning of the next; 0: nobody runs it but the user.
    pub interval: u64,
    /// After so long it is killed and has failed.
    pub timeout: u64,
    /// So long after the start a failure is none.
    pub start_period: u64,
    /// After so many failures in a row it is unhealthy.
    pub retries: u32,
}

/// A container's health checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// The one that says how it is.
    pub regular: Check,
    /// The one before it, until it has succeeded so many times.
    #[serde(default)]
    pub startup: Option<(Check, u32)>,
    /// What is done about an unhealthy container.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// `--health-on-failure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Nothing.
    #[default]
    None,
    /// It is killed.
    Kill,
    /// It is stopped and started again.
    Restart,
    /// It is stopped.
    Stop,
}

/// What the command line says; None: as the image or the default has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// No check, whatever the image says.
    pub none: bool,
    /// `--health-…`.
    pub regular: Overrides,
    /// `--health-startup-…`.
    pub startup: Overrides,
    /// `--health-startup-success`.
    pub startup_success: Option<u32>,
    /// `--health-on-failure`.
    pub on_failure: Option<OnFailure>,
}

/// Parts of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// A command, a JSON array, or `none`.
    pub cmd: Option<String>,
    /// `disable` is 0.
    pub interval: Option<u64>,
    /// Nanoseconds.
    pub timeout: Option<u64>,
    /// Nanoseconds.
    pub start_period: Option<u64>,
    /// Failures.
    pub retries: Option<u32>,
}

impl Options {
    /// The checks of a container whose image says `image`.
    ///
    /// # Errors
    /// Something is said of a check that nobody has defined.
    pub fn settle(&self, image: Option<&Check>) -> Result<Option<Checks>> {
        if self.forbids_checks()? {
            return Ok(None);
        }
        let Some(regular) = self.regular.over(image.cloned(), 3) else {
            if matches!(self.on_failure, None | Some(OnFailure::None))
                && *self == (Options { on_failure: self.on_failure, ..Options::default() })
            {
                return Ok(None);
            }
            return Err(anyhow!("must define a healthcheck command for all healthchecks"))
                .hint("add --health-cmd COMMAND");
        };
        self.needs_a_startup_command()?;
        let startup =
            self.startup.over(None, 0).map(|check| (check, self.startup_success.unwrap_or(1).max(1)));
        Ok(Some(Checks { regular, startup, on_failure: self.on_failure.unwrap_or_default() }))
    }

    /// `checks` of a container with what is said here in place of what was (podman-update(1)).
    ///
    /// # Errors
    /// Something is said of a check that nobody has defined.
    pub fn change(&self, checks: Option<Checks>) -> Result<Option<Checks>> {
        let Some(before) = checks.filter(|_| !self.none) else { return self.settle(None) };
        if self.forbids_checks()? {
            return Ok(None);
        }
        let startup = match before.startup {
            Some((check, enough)) => {
                Some((self.startup.replace(check), self.startup_success.unwrap_or(enough).max(1)))
            }
            None => {
                self.needs_a_startup_command()?;
                self.startup.over(None, 0).map(|check| (check, self.startup_success.unwrap_or(1).max(1)))
            }
        };
        let on_failure = self.on_failure.unwrap_or(before.on_failure);
        Ok(Some(Checks { regular: self.regular.replace(before.regular), startup, on_failure }))
    }

    fn needs_a_startup_command(&self) -> Result<()> {
        let said = self.startup != Overrides::default() || self.startup_success.is_some();
        if said && self.startup.cmd.is_none() {
            return Err(anyhow!("startup healthcheck command is not set"))
                .hint("add --health-startup-cmd COMMAND");
        }
        Ok(())
    }

    fn forbids_checks(&self) -> Result<bool> {
        if self.none && *self != (Options { none: true, ..Options::default() }) {
            return Err(anyhow!("cannot specify both --no-healthcheck and other health check options"))
                .hint("drop one of the two");
        }
        Ok(self.none || self.regular.cmd.as_deref() == Some("none"))
    }
}

impl Overrides {
    /// `check` with what is said here.
    fn replace(&self, check: Check) -> Check {
        Check {
            test: self.cmd.as_deref().map_or(check.test, test),
            interval: self.interval.unwrap_or(check.interval),
            timeout: self.timeout.unwrap_or(check.timeout),
            start_period: self.start_period.unwrap_or(check.start_period),
            retries: self.retries.unwrap_or(check.retries),
        }
    }

    fn over(&self, base: Option<Check>, retries: u32) -> Option<Check> {
        let base = base.filter(|check| check.command().is_some());
        let test = self.cmd.as_deref().map(test).or(base.as_ref().map(|check| check.test.clone()))?;
        let base = base.unwrap_or_default();
        let given =
            |own: Option<u64>, base: u64, default: u64| own.unwrap_or(if base == 0 { default } else { base });
        Some(Check {
            test,
            interval: given(self.interval, base.interval, DEFAULT_TIME),
            timeout: given(self.timeout, base.timeout, DEFAULT_TIME),
            start_period: given(self.start_period, base.start_period, 0),
            retries: self.retries.unwrap_or(if base.retries == 0 { retries } else { base.retries }),
        })
    }
}

impl Check {
    /// What is run; `None` for `NONE` and what is no check.
    pub fn command(&self) -> Option<Vec<String>> {
        match self.test.split_first() {
            Some((kind, words)) if kind == "CMD" && !words.is_empty() => Some(words.to_vec()),
            Some((kind, [script])) if kind == "CMD-SHELL" => {
                Some(["/bin/sh", "-c", script].map(str::to_owned).into())
            }
            _ => None,
        }
    }

    /// The one in an image's configuration, an extension of Docker's to the OCI's.
    pub fn of_image(config: &[u8]) -> Option<Check> {
        #[derive(Deserialize)]
        struct Image {
            config: Option<Config>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Config {
            healthcheck: Option<Check>,
        }
        let check = serde_json::from_slice::<Image>(config).ok()?.config?.healthcheck?;
        let bounded =
            check.test.len() <= 1024 && check.test.iter().map(String::len).sum::<usize>() <= 64 << 10;
        Some(check).filter(|check| bounded && !check.test.iter().any(|word| word.contains('\0')))
    }
}

/// The file `health` of a container's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// What is known.
    pub status: Status,
    /// Failures in a row that count.
    pub failing_streak: u32,
    /// The last ones, oldest first.
    pub log: Vec<Outcome>,
}

/// A container's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing is known yet.
    Starting,
    /// The last check succeeded.
    Healthy,
    /// Too many failed in a row.
    Unhealthy,
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Outcome {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its exit status, -1 when it took too long.
    pub exit_code: i32,
    /// The beginning of what it printed.
    pub output: String,
}

impl Health {
    /// At the start of a container.
    pub const STARTING: Health = Health { status: Status::Starting, failing_streak: 0, log: Vec::new() };

    /// What is known of the container in `dir`; `None` when nobody checks, or a power cut has emptied the file.
    pub fn read(dir: &ContainerDir) -> Result<Option<Health>> {
        super::state::parse("health", dir.read("health")?.filter(|json| !json.is_empty()))
    }

    /// Write it.
    pub fn write(&self, dir: &ContainerDir) -> Result<()> {
        dir.write("health", &serde_json::to_vec(self).context("encode the health")?)
    }

    /// Take in `outcome`. `counts`: as a regular one with so many retries; `forgiven`: its failure changes nothing.
    pub fn learn(&mut self, outcome: Outcome, counts: Option<u32>, forgiven: bool) {
        match (counts, outcome.exit_code) {
            (Some(_), 0) => (self.status, self.failing_streak) = (Status::Healthy, 0),
            (Some(retries), _) if !forgiven => {
                self.failing_streak = self.failing_streak.saturating_add(1);
                if self.failing_streak >= retries {
                    self.status = Status::Unhealthy;
                }
            }
            _ => {}
        }
        self.log.push(outcome);
        let beyond = self.log.len().saturating_sub(LOG);
        self.log.drain(..beyond);
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Starting => "starting",
            Status::Healthy => "healthy",
            Status::Unhealthy => "unhealthy",
        })
    }
}

impl FromStr for OnFailure {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<OnFailure> {
        Ok(match text {
            "none" => OnFailure::None,
            "kill" => OnFailure::Kill,
            "restart" => OnFailure::Restart,
            "stop" => OnFailure::Stop,
            _ => bail!("no such action"),
        })
    }
}

/// Interval and timeout that nobody has chosen.
const DEFAULT_TIME: u64 = 30_000_000_000;
/// Outcomes that are kept.
const LOG: usize = 5;

/// A JSON array is a program and its arguments, anything else a shell's.
fn test(text: &str) -> Vec<String> {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(words) if matches!(words.first().map(String::as_str), Some("CMD" | "CMD-SHELL" | "NONE")) => words,
        Ok(words) => [vec!["CMD".to_owned()], words].concat(),
        Err(_) => vec!["CMD-SHELL".to_owned(), text.to_owned()],
    }
}

/// `1h30m`, `1m2.5s`, `100ms`, `0`; in nanoseconds.
pub fn parse_duration(text: &str) -> Result<u64> {
    if text == "0" {
        return Ok(0);
    }
    let time: SignedDuration = text.parse().with_context(|| format!("{text:?} is no time"))?;
    u64::try_from(time.as_nanos()).with_context(|| format!("{text:?} is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("30s", 30_000),
            ("1h2m3.5s", 3_723_500),
            ("100ms", 100),
            ("1.5h", 5_400_000),
        ] {
            assert_eq!(parse_duration(text).unwrap(), milliseconds * 1_000_000, "{text}");
        }
        for bad in ["", "1", "s", "-1s", "1x", "1.2.3s", "99999999999999999999h", "5e3s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whose_word_counts() {
        let image =
            Check { test: vec!["CMD".into(), "a".into()], interval: 5, retries: 7, ..Check::default() };
        let of = |options: &Options, image| options.settle(image).unwrap().map(|checks| checks.regular);
        assert_eq!(of(&Options::default(), None), None);
        let settled = of(&Options::default(), Some(&image)).unwrap();
        assert_eq!(
            (settled.command().unwrap(), settled.interval, settled.timeout, settled.retries),
            (vec!["a".to_owned()], 5, DEFAULT_TIME, 7)
        );
        for (cmd, test) in [
            ("curl x || exit 1", &["CMD-SHELL", "curl x || exit 1"][..]),
            (r#"["a", "b"]"#, &["CMD", "a", "b"]),
            (r#"["CMD", "a"]"#, &["CMD", "a"]),
        ] {
            let regular = Overrides { cmd: Some(cmd.into()), retries: Some(1), ..Overrides::default() };
            let check = of(&Options { regular, ..Options::default() }, Some(&image)).unwrap();
            assert_eq!(
                (check.test.iter().map(String::as_str).collect::<Vec<_>>(), check.retries),
                (test.to_vec(), 1)
            );
        }
        assert_eq!(of(&Options { none: true, ..Options::default() }, Some(&image)), None);
        let nothing = Check { test: vec!["NONE".into()], ..Check::default() };
        assert_eq!(of(&Options::default(), Some(&nothing)), None);
        let alone = Options { on_failure: Some(OnFailure::Kill), ..Options::default() };
        assert!(alone.settle(None).is_err());
    }

    #[test]
    fn images() {
        let config =
            br#"{"config":{"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":1000000000,"Retries":2}}}"#;
        let check = Check::of_image(config).unwrap();
        assert_eq!((check.interval, check.retries, check.command().unwrap().len()), (1_000_000_000, 2, 3));
        for none in [
            &b"{}"[..],
            b"",
            br#"{"config":{}}"#,
            br#"{"config":{"Healthcheck":{"Test":["CMD","a\u0000b"]}}}"#,
        ] {
            assert_eq!(Check::of_image(none), None);
        }
    }

    #[test]
    fn transitions() {
        let mut health = Health::STARTING;
        let outcome = |exit_code| Outcome {
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            exit_code,
            output: String::new(),
        };
        for (code, forgiven, status, streak) in [
            (1, true, Status::Starting, 0),
            (1, false, Status::Starting, 1),
            (-1, false, Status::Unhealthy, 2),
            (0, false, Status::Healthy, 0),
            (1, false, Status::Healthy, 1),
            (1, false, Status::Unhealthy, 2),
            (1, true, Status::Unhealthy, 2),
        ] {
            health.learn(outcome(code), Some(2), forgiven);
            assert_eq!((health.status, health.failing_streak), (status, streak));
        }
        assert_eq!(health.log.len(), 5);
    }
}
