//! What systemd says of services, and what it is told of them.

use crate::error::Explain;
use anyhow::{Context, Result, anyhow};
use std::process::{Command, Stdio};

/// `active/running` and the like of each service; `Not loaded` where systemd doesn't know it.
pub fn statuses(user: bool, services: &[String]) -> Vec<String> {
    let unknown = || "Not loaded".to_owned();
    // A template is nothing that could run.
    let asked: Vec<&String> = services.iter().filter(|service| !service.contains("@.")).collect();
    let mut command = systemctl(user);
    command.args(["show", "--property=LoadState,ActiveState,SubState", "--"]).args(&asked);
    let told = if asked.is_empty() { None } else { command.stderr(Stdio::null()).output().ok() };
    let text = told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned()).unwrap_or_default();
    let found: Vec<(&String, String)> = asked.into_iter().zip(text.split("\n\n").map(status)).collect();
    let of =
        |service: &String| found.iter().find(|(own, _)| *own == service).map(|(_, status)| status.clone());
    services.iter().map(|service| of(service).unwrap_or_else(unknown)).collect()
}

fn status(block: &str) -> String {
    let value =
        |key: &str| block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or("");
    match value("LoadState") {
        "loaded" => format!("{}/{}", value("ActiveState"), value("SubState")),
        _ => "Not loaded".to_owned(),
    }
}

/// Have systemd run the generators again.
pub fn reload(user: bool) -> Result<()> {
    tell(user, &["daemon-reload"]).hint("--reload-systemd=false leaves it to you")
}

/// Stop services and wait until they have ended.
pub fn stop(user: bool, services: &[String]) -> Result<()> {
    let words: Vec<&str> = ["stop", "--"].into_iter().chain(services.iter().map(String::as_str)).collect();
    tell(user, &words)
}

fn tell(user: bool, words: &[&str]) -> Result<()> {
    let what = format!("systemctl {}{}", if user { "--user " } else { "" }, words.join(" "));
    let told = systemctl(user).args(words).stdin(Stdio::null()).output().with_context(|| what.clone())?;
    match told.status.success() {
        true => Ok(()),
        false => Err(anyhow!("{what}: {}", String::from_utf8_lossy(&told.stderr).trim())),
    }
}

fn systemctl(user: bool) -> Command {
    let mut command = Command::new("systemctl");
    command.args(user.then_some("--user"));
    command
}

#[cfg(test)]
mod tests {
    #[test]
    fn blocks() {
        for (block, expected) in [
            ("LoadState=loaded\nActiveState=active\nSubState=running\n", "active/running"),
            ("LoadState=not-found\nActiveState=inactive\nSubState=dead", "Not loaded"),
            ("", "Not loaded"),
        ] {
            assert_eq!(super::status(block), expected);
        }
    }
}
