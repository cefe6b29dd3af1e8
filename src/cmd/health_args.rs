//! The options of health checks, which `run`, `create` and `update` share.

use super::option_value::one;
use crate::{container::health, error::Explain};
use anyhow::{Context, Result, anyhow};

const HEALTH: &str = "Health checks";

// No docs: a verb that flattens it would show them as its own help.
#[derive(clap::Args, Debug, Default)]
pub struct HealthArgs {
    /// Check with this command whether the container is well: for a shell, or a JSON array; `none` for no check
    #[arg(long, value_name = "COMMAND", help_heading = HEALTH)]
    health_cmd: Option<String>,
    /// Time between checks, `disable` for none [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = HEALTH)]
    health_interval: Option<String>,
    /// What to do when it gets unhealthy: none, kill, restart or stop
    #[arg(long, value_name = "ACTION", help_heading = HEALTH)]
    health_on_failure: Option<String>,
    /// Failures in a row that make it unhealthy [default: 3]
    #[arg(long, value_name = "COUNT", help_heading = HEALTH)]
    health_retries: Option<u32>,
    /// Time after the start in which failures don't count [default: 0s]
    #[arg(long, value_name = "TIME", help_heading = HEALTH)]
    health_start_period: Option<String>,
    /// Check with this command first, until it succeeds
    #[arg(long, value_name = "COMMAND", help_heading = HEALTH)]
    health_startup_cmd: Option<String>,
    /// Time between those checks [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = HEALTH)]
    health_startup_interval: Option<String>,
    /// Failures of those after which the container is restarted; 0 for never
    #[arg(long, value_name = "COUNT", help_heading = HEALTH)]
    health_startup_retries: Option<u32>,
    /// How often it has to succeed [default: 1]
    #[arg(long, value_name = "COUNT", help_heading = HEALTH)]
    health_startup_success: Option<u32>,
    /// Time after which one of those has failed [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = HEALTH)]
    health_startup_timeout: Option<String>,
    /// Time after which a check has failed [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = HEALTH)]
    health_timeout: Option<String>,
    /// No health check, whatever the image says
    #[arg(long, help_heading = HEALTH)]
    no_healthcheck: bool,
}

impl HealthArgs {
    /// What they say of the checks.
    pub fn options(&self) -> Result<health::Options> {
        let time = |option: &str, given: &Option<String>, disable: bool| {
            let read = |text: &str| match text {
                "disable" if disable => Ok(0),
                text => health::parse_duration(text),
            };
            let parsed = given.as_deref().map(read).transpose();
            parsed
                .with_context(|| format!("{option} {}", given.as_deref().unwrap_or_default()))
                .hint(format!("write it as {option} 30s or {option} 1m30s"))
        };
        let on_failure =
            one("--health-on-failure", &self.health_on_failure, "none, kill, restart or stop", |text| {
                text.parse::<health::OnFailure>()
            })?;
        if self.health_retries == Some(0) {
            return Err(anyhow!("--health-retries must be greater than 0")).hint("leave it out for 3");
        }
        Ok(health::Options {
            none: self.no_healthcheck,
            regular: health::Overrides {
                cmd: self.health_cmd.clone(),
                interval: time("--health-interval", &self.health_interval, true)?,
                timeout: time("--health-timeout", &self.health_timeout, false)?,
                start_period: time("--health-start-period", &self.health_start_period, false)?,
                retries: self.health_retries,
            },
            startup: health::Overrides {
                cmd: self.health_startup_cmd.clone(),
                interval: time("--health-startup-interval", &self.health_startup_interval, true)?,
                timeout: time("--health-startup-timeout", &self.health_startup_timeout, false)?,
                start_period: None,
                retries: self.health_startup_retries,
            },
            startup_success: self.health_startup_success,
            on_failure,
        })
    }
}
