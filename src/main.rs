//! Parse, dispatch, print the error, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    ctr::cmd::main()
}
