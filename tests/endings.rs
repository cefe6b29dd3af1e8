//! Who ends a container, and that whoever comes right afterwards is told the truth.

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use support::{Ctr, Terminal, User};

const DEAF: &str = "trap '' TERM HUP INT; echo up; while :; do sleep 1000; done";

#[track_caller]
fn state(ctr: &Ctr, template: &str) -> String {
    ctr.run(["inspect", "--format", &format!("{{{{.State.{template}}}}}"), "x"]).ok()
}

/// What was killed takes a moment to die.
#[test]
fn a_start_right_after_a_kill_is_a_new_start() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.run(["run", "-d", "--name=x", "--network=none", "box", "sleep", "1000"]).ok();
        for round in 0..12 {
            let before = state(&ctr, "Pid");
            match round % 3 {
                0 => drop(ctr.run(["kill", "x"]).ok()),
                victim => {
                    let pid = state(&ctr, if victim == 1 { "Pid" } else { "ConmonPid" });
                    let pid = Pid::from_raw(pid.parse().expect("a number")).expect("a process id");
                    kill_process(pid, Signal::KILL).expect("kill it");
                    if victim == 1 {
                        support::wait_gone(pid.as_raw_pid());
                    }
                }
            }
            ctr.run(["start", "x"]).ok();
            assert_eq!(state(&ctr, "Status"), "running", "as {user:?}, round {round}");
            assert_ne!(state(&ctr, "Pid"), before, "as {user:?}, round {round}");
        }
        ctr.run(["rm", "-f", "x"]).ok();
    }
}

#[test]
fn a_paused_one_obeys() {
    let ctr = Ctr::with_box(User::all()[0]);
    let script = "trap 'exit 7' TERM; sleep 1000 & wait";
    ctr.run(["run", "-d", "--name=x", "--network=none", "box", "sh", "-c", script]).ok();
    ctr.run(["pause", "x"]).ok();
    ctr.run(["kill", "-s", "TERM", "x"]).ok();
    assert_eq!(ctr.run(["wait", "x"]).ok(), "7");
}

/// The window was closed, the line is dead: nobody can end it any more but us.
#[test]
fn it_ends_with_its_terminal() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let options = ["-ti", "--name=x", "--stop-timeout=0"];
        let mut terminal = Terminal::start(&ctr, &options, &["sh", "-c", DEAF]);
        terminal.expect("up\r\n");
        terminal.hang_up();
        terminal.child.wait().expect("wait for ctr");
        // With --rm it is gone when it has ended.
        let left = ctr.run(["wait", "--ignore", "x"]).ok();
        assert!(left == "-1" || left == "137", "as {user:?}: {left}");
    }
}

#[test]
fn nohup_keeps_it() {
    let ctr = Ctr::with_box(User::all()[0]);
    let run = ["run", "--rm", "--name=x", "--network=none", "box", "sh", "-c", DEAF];
    let mut live = support::Live::start(ctr.wrapped(&["nohup"], &run));
    live.says("up");
    live.signal(Signal::HUP);
    let script = "trap 'echo hup' HUP; echo up; read line";
    let run = ["run", "--rm", "-i", "--network=none", "box", "sh", "-c", script];
    let mut heard = support::Live::start(ctr.wrapped(&["nohup"], &run));
    heard.says("up");
    heard.signal(Signal::HUP);
    heard.close_stdin();
    assert_eq!(heard.end().stdout(), "", "the signal was passed on");
    assert_eq!(state(&ctr, "Status"), "running");
    ctr.run(["rm", "-f", "-t0", "x"]).ok();
}

/// The second obeys at once, while the first has to be killed.
#[test]
fn several_are_stopped_at_once() {
    let ctr = Ctr::with_box(User::all()[0]);
    for (name, script) in [("deaf", DEAF), ("x", "trap 'exit 0' TERM; sleep 1000 & wait")] {
        ctr.run(["run", "-d", "--name", name, "--network=none", "box", "sh", "-c", script]).ok();
    }
    assert_eq!(ctr.run(["stop", "-t1", "deaf", "x", "nobody"]).exits(1).stdout(), "deaf\nx\n");
    let order = ctr.run(["ps", "-a", "--format={{.Names}} {{.ExitCode}}", "--sort=created"]).ok();
    assert_eq!(order, "deaf 137\nx 0");
    let ended = |name| ctr.run(["inspect", "--format={{json .State.FinishedAt}}", name]).ok();
    let ended = ["x", "deaf"].map(ended);
    assert!(ended.is_sorted(), "{ended:?}");
}

/// logind removes a user's runtime directory with the last session. Another door opens.
#[test]
fn without_a_runtime_directory_the_monitor_still_obeys() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let script = "trap 'exit 3' TERM; echo up; while read -r line; do echo got $line; done; wait";
        let run = ["run", "-di", "--name=x", "--network=none", "--restart=always", "box", "sh", "-c", script];
        ctr.run(run).ok();
        fs::remove_dir_all(ctr.home().join("run/ctr")).expect("remove the runtime directory");
        let mut attached = ctr.start(["attach", "x"]);
        attached.write("there\n");
        attached.says("got there");
        ctr.run(["stop", "x"]).ok();
        assert_eq!(attached.end().code(), 3, "as {user:?}");
        // The policy was told: it does not come back.
        assert_eq!(state(&ctr, "Status"), "exited", "as {user:?}");
        ctr.run(["start", "x"]).ok();
        assert_eq!(state(&ctr, "Status"), "running", "as {user:?}");
        ctr.run(["rm", "-f", "x"]).ok();
        ctr.run(["run", "-d", "--name=x", "--network=none", "--restart=always", "box", "false"]).ok();
        ctr.run(["wait", "x"]).ok();
        fs::remove_dir_all(ctr.home().join("run/ctr")).expect("remove the runtime directory");
        ctr.run(["stop", "x"]).ok();
        assert_eq!(state(&ctr, "Status"), "exited", "as {user:?}");
        ctr.run(["rm", "x"]).ok();
    }
}
