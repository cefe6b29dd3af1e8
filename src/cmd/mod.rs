//! The verbs: one file each, its arguments and its `run`.

pub mod run_args;
pub mod run_request;

use std::process::ExitCode;

/// Parse the command line, run the verb, print its failure.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
