//! The verbs: one file each, its arguments and its `run`.

use std::process::ExitCode;

/// Parse the command line, run the verb, print its failure.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
