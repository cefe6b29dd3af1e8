//! `ctr version`: what this binary is.

use super::template::Format;
use anyhow::Result;
use serde_json::{Value, json};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// `json` or a Go template
    #[arg(short, long)]
    format: Option<Format>,
}

/// Print it.
pub fn run(args: &Args) -> Result<u8> {
    // Not the date of the build: two builds of one commit are the same file.
    let commit = option_env!("CTR_GIT_COMMIT").unwrap_or("unknown");
    let version = json!({
        "Client": {
            "Version": env!("CARGO_PKG_VERSION"),
            "GitCommit": commit,
            "Os": "linux",
            "Arch": architecture(),
            "OsArch": format!("linux/{}", architecture()),
        },
    });
    args.format.clone().unwrap_or_default().print_one(&version, lines)?;
    Ok(0)
}

fn lines(version: &Value) -> String {
    let of = |key: &str| version["Client"][key].as_str().unwrap_or_default();
    let (version, commit, platform) = (of("Version"), of("GitCommit"), of("OsArch"));
    format!("Client:       ctr\nVersion:      {version}\nGit Commit:   {commit}\nOS/Arch:      {platform}\n")
}

/// This machine's architecture as images name it (Go's GOARCH).
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
