//! kill -9 at any moment: whichever process of a start or a stop dies at whichever system call, what is told afterwards is
//! true, everything can be removed, and nothing is left.

mod support;

use std::process::Command;
use support::{Ctr, Outcome, User};

/// Calls of the client, its monitor and the container's first process that change something or that others wait for.
const CALLS: [&str; 19] = [
    "mkdir",
    "rename",
    "symlink",
    "write",
    "open",
    "openat",
    "unlink",
    "fcntl",
    "clone3",
    "clone",
    "socketpair",
    "sendmsg",
    "recvmsg",
    "bind",
    "mount",
    "move_mount",
    "pivot_root",
    "execveat",
    "waitid",
];
/// Of each call, the first so many.
const TIMES: usize = 5;

/// strace kills the process that makes call `call` for the `nth` time. As root: a traced newuidmap has no privileges.
fn killed_at(ctr: &Ctr, call: &str, nth: usize, arguments: &[&str]) -> Outcome {
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let trace = format!("trace={call}");
    let wrapper = ["timeout", "20", "strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let mut command: Command = ctr.outside(&wrapper, arguments);
    Outcome::new(format!("{call} {nth}: {arguments:?}"), command.output().expect("run strace"))
}

#[track_caller]
fn all_is_well(ctr: &Ctr, what: &str) {
    // A listing also forgets what nobody else will.
    let listed = ctr.run(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok();
    for line in listed.lines() {
        let (name, state) = line.split_once(' ').expect("a name and a state");
        let known = ["created", "running", "exited"].contains(&state);
        assert!(known, "{what}: {line}");
        ctr.run(["inspect", name]).ok();
        ctr.run(["start", name]).ok();
    }
    ctr.run(["rm", "-af"]).ok();
    assert_eq!(ctr.run(["ps", "-aq"]).ok(), "", "{what}");
    for directory in ["containers", "names"] {
        assert_eq!(ctr.list(directory), [""; 0], "{what}: {directory}");
    }
    let sockets = std::fs::read_dir(ctr.home().join("run/ctr")).into_iter().flatten().flatten();
    let left: Vec<_> =
        sockets.map(|entry| entry.file_name()).filter(|n| n.to_string_lossy().contains('.')).collect();
    assert!(left.is_empty(), "{what}: {left:?}");
}

fn matrix(calls: &[&str]) {
    if !User::all().contains(&User::Root) {
        return;
    }
    let ctr = Ctr::with_box(User::Root);
    let run = ["run", "-d", "--network=none", "--name=web", "box", "sleep", "1000"];
    // strace stays until all that it traces has ended.
    let short = ["run", "-d", "--network=none", "--name=web", "box", "true"];
    for call in calls {
        for nth in 1..=TIMES {
            let outcome = killed_at(&ctr, call, nth, &short);
            assert_ne!(outcome.code(), 124, "it hangs: {outcome}");
            all_is_well(&ctr, &format!("run, {call} {nth}"));
            ctr.run(run).ok();
            let outcome = killed_at(&ctr, call, nth, &["rm", "-f", "web"]);
            assert_ne!(outcome.code(), 124, "it hangs: {outcome}");
            all_is_well(&ctr, &format!("rm, {call} {nth}"));
        }
    }
    assert_eq!(ctr.run(["images", "-q"]).ok().lines().count(), 1, "the image is untouched");
}

#[test]
fn files() {
    matrix(&CALLS[..8]);
}

#[test]
fn processes() {
    matrix(&CALLS[8..]);
}
