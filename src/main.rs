//! Prepare the process, parse, dispatch, print the error, exit.

use rustix::{fs::Mode, process::umask};
use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(panic = "unwind")]
    abort_as_a_release_does();
    ctr::sys::signal::survive_the_file_size_limit();
    let usual = Mode::from_raw_mode(0o022);
    let own = umask(usual);
    if own != usual {
        // The caller's, but that what we make we can use ourselves.
        umask(own - Mode::RWXU);
    }
    ctr::cmd::main()
}

/// What the tests drive unwinds, so that its dependencies are compiled once; a forked child must not unwind into its parent's code.
#[cfg(panic = "unwind")]
fn abort_as_a_release_does() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort()
    }));
}
