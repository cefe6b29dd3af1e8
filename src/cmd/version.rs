//! `ctr version`.
#![expect(clippy::print_stdout, reason = "a verb that prints")]

use super::{Format, output};
use anyhow::Result;
use serde_json::json;

/// Print the version and what it was built for
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
    match args.format {
        Some(Format::Json) => {
            let client = json!({"Version": version, "GitCommit": commit, "Os": "linux", "OsArch": platform});
            println!("{}", output::json(&json!({"Client": client})));
        }
        None => {
            println!(
                "Client:       ctr\nVersion:      {version}\nGit Commit:   {commit}\nOS/Arch:      {platform}"
            );
        }
    }
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
