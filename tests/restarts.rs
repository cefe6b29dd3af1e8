//! Containers that are started again, through the binary: what their clients keep, what is told in between, and who turns
//! the policy off.

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::thread::yield_now;
use support::{Ctr, Live, Terminal, User};

const RUN: [&str; 3] = ["run", "--network=none", "--name=a"];

fn field(ctr: &Ctr, template: &str) -> String {
    ctr.run(["container", "inspect", "--format", template, "a"]).ok()
}

fn status(ctr: &Ctr) -> String {
    field(ctr, "{{.State.Status}}")
}

fn log(ctr: &Ctr) -> String {
    std::fs::read_to_string(field(ctr, "{{.LogPath}}")).unwrap_or_default()
}

fn until(mut is: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is() {
        assert!(start.elapsed().as_secs() < 30, "it never came");
        yield_now();
    }
}

fn foreground(ctr: &Ctr, options: &[&str], script: &str) -> Live {
    ctr.start([&RUN, options, &["box", "sh", "-c", script]].concat())
}

#[test]
fn keys_and_signals_reach_the_next_process() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let script = "echo up; read -r line; echo got $line; exit 3";
        let run = [&RUN[..], &["-ti", "--restart=on-failure:2", "box", "sh", "-c", script]].concat();
        let mut terminal = Terminal::of(ctr.wrapped(&["setsid", "--ctty", "--wait"], &run));
        for key in ["one", "two", "three"] {
            terminal.expect("up\r\n");
            terminal.key(&format!("{key}\r"));
            terminal.expect(&format!("got {key}\r\n"));
        }
        assert_eq!(terminal.ends(), 3, "as {user:?}");
        ctr.run(["rm", "a"]).ok();

        let script = "trap 'echo caught; exit 9' USR1; echo up; [ -e /ran ] || { touch /ran; exit 3; }; \
            while :; do sleep 1000 & wait; done";
        let mut live = foreground(&ctr, &["--restart=on-failure"], script);
        live.says("up");
        live.says("up");
        live.signal(Signal::USR1);
        live.says("caught");
        // A signal that it handles is no wish to stop it: it is started again.
        live.says("up");
        live.signal(Signal::INT);
        live.signal(Signal::KILL);
        ctr.run(["rm", "-f", "a"]).ok();
    }
}

#[test]
fn what_was_printed_before_a_restart_is_not_lost() {
    let ctr = Ctr::with_box(User::Rootless);
    // More than all the pipes on the way hold, twice.
    let script = "head -c 300000 /dev/zero; exit 3";
    let live = foreground(&ctr, &["--log-driver=none", "--restart=on-failure:1"], script);
    // Nothing is read until the second has started.
    until(|| ctr.run(["container", "inspect", "--format", "{{.RestartCount}}", "a"]).stdout().trim() == "1");
    assert_eq!(live.read_to_end().exits(3).bytes().len(), 600_000);
}

#[test]
fn told_truly_between_two_starts() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run([&RUN[..], &["-d", "--restart=always", "box", "sh", "-c", "exit 5"]].concat()).ok();
    let mut seen = Vec::new();
    // Long enough for several starts: the pauses grow from 0.1 s.
    until(|| {
        let said = field(&ctr, "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}");
        let restarts = said.ends_with(" 3");
        if !seen.contains(&said) {
            seen.push(said);
        }
        restarts
    });
    let good = |said: &&String| said.starts_with("running 0") || said.starts_with("restarting 5 ");
    assert!(seen.iter().all(|said| good(&said)), "{seen:?}");
    // In its pause it has ended, as far as anybody waits for that.
    until(|| status(&ctr) == "restarting");
    assert_eq!(ctr.run(["wait", "a"]).ok(), "5");
    ctr.run(["exec", "a", "true"]).fails("running containers");
    ctr.run(["rm", "-f", "a"]).ok();
}

#[test]
fn an_update_ends_a_pause() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run([&RUN[..], &["-d", "--restart=always", "box", "sh", "-c", "exit 5"]].concat()).ok();
    // A pause of 0.8 s and more.
    until(|| field(&ctr, "{{.RestartCount}} {{.State.Status}}") == "3 restarting");
    ctr.run(["update", "--restart=no", "a"]).ok();
    until(|| status(&ctr) == "exited");
    assert_eq!(field(&ctr, "{{.State.ExitCode}} {{.RestartCount}} {{.State.StoppedByUser}}"), "5 3 false");
}

#[test]
fn who_turns_the_policy_off() {
    let ctr = Ctr::with_box(User::Rootless);
    let script = "trap 'echo one' USR1; trap 'exit 0' TERM; echo up; \
        while :; do sleep 1000 & wait; done";
    let start = || {
        ctr.run([&RUN[..], &["-d", "--replace", "--restart=always", "box", "sh", "-c", script]].concat())
            .ok();
        until(|| log(&ctr).contains("up"));
    };
    let dies = || {
        let pid: i32 = field(&ctr, "{{.State.Pid}}").parse().expect("a number");
        kill_process(Pid::from_raw(pid).expect("a process id"), Signal::KILL).expect("kill it");
    };
    // It survives, and when it dies later that is nobody's wish.
    start();
    ctr.run(["kill", "-s", "USR1", "a"]).ok();
    until(|| log(&ctr).contains("one"));
    dies();
    until(|| log(&ctr).matches("up").count() == 2);
    for (verb, end) in [
        (&["kill", "-s", "TERM", "a"][..], "exited 0 true"),
        (&["kill", "a"], "exited 137 true"),
        (&["stop", "a"], "exited 0 true"),
    ] {
        start();
        ctr.run(verb).ok();
        ctr.run(["wait", "a"]).ok();
        until(|| status(&ctr) != "running");
        let said = field(&ctr, "{{.State.Status}} {{.State.ExitCode}} {{.State.StoppedByUser}}");
        assert_eq!(said, end, "{verb:?}");
    }
    ctr.run(["rm", "a"]).ok();
}

#[test]
fn a_foreground_one_in_its_pause_ends_by_a_signal() {
    let ctr = Ctr::with_box(User::Rootless);
    let live = foreground(&ctr, &["--restart=always"], "exit 5");
    until(|| {
        ctr.run(["container", "inspect", "--format", "{{.RestartCount}} {{.State.Status}}", "a"]).stdout()
            == "4 restarting\n"
    });
    live.signal(Signal::TERM);
    live.end().exits(5);
    assert_eq!(field(&ctr, "{{.State.Status}} {{.RestartCount}} {{.State.StoppedByUser}}"), "exited 4 true");
    ctr.run(["rm", "a"]).ok();
}
