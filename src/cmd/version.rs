//! `ctr version`: what this binary is.

use super::{Format, output};
use anyhow::Result;
use serde_json::json;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// `json`
    #[arg(short, long)]
    format: Option<Format>,
}

/// Print it.
pub fn run(args: &Args) -> Result<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let platform = format!("linux/{}", architecture());
    // Not the date of the build: two builds of one commit are the same file.
    let commit = option_env!("CTR_GIT_COMMIT").unwrap_or("unknown");
    output::print(&match args.format {
        Some(Format::Json) => output::json(&json!({
            "Client": {"Version": version, "GitCommit": commit, "Os": "linux", "OsArch": platform},
        })),
        None => format!(
            "Client:       ctr\nVersion:      {version}\nGit Commit:   {commit}\nOS/Arch:      {platform}\n"
        ),
    })?;
    Ok(0)
}

/// This machine's architecture as images name it (Go's GOARCH).
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
