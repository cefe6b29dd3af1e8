//! Prepare the process, parse, dispatch, print the error, exit.

use rustix::{fs::Mode, process::umask};
use std::process::ExitCode;

fn main() -> ExitCode {
    ctr::sys::signal::survive_the_file_size_limit();
    let usual = Mode::from_raw_mode(0o022);
    let own = umask(usual);
    if own != usual {
        // The caller's, but that what we make we can use ourselves.
        umask(own - Mode::RWXU);
    }
    ctr::cmd::main()
}
