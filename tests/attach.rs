//! `ctr attach`, and which streams `run` attaches: several clients at one container, each free to come and go.

mod support;

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process},
    termios::{tcgetwinsize, tcsetwinsize},
};
use std::{
    io::{Read, Write},
    process::Stdio,
};
use support::{Ctr, Live, Terminal, User};

/// `ctr` with `arguments` on a terminal of its own.
fn terminal(ctr: &Ctr, arguments: &[&str]) -> Terminal {
    Terminal::of(ctr.wrapped(&["setsid", "--ctty", "--wait"], arguments))
}

const DETACH: &str = "\u{10}\u{11}";
/// Answers each line that is typed with the terminal's size. No trap: a shell that is interrupted forgets what it has read.
const ECHO: &str =
    "stty -echo; echo up; while read -r line; do [ $line = end ] && exit 7; stty size; echo got $line; done";

/// Ask for the size until it is `size`.
#[track_caller]
fn sees_size(terminal: &mut Terminal, size: &str) {
    let mut told = String::new();
    for _ in 0..1000 {
        terminal.key("s\r");
        told = terminal.expect("got s\r\n");
        if told.contains(&format!("{size}\r\n")) {
            return;
        }
    }
    panic!("{size} never came: {told}");
}

/// `expected` is among its next lines.
#[track_caller]
fn hears(client: &mut Live, expected: &str) {
    while client.line().unwrap_or_else(|| panic!("{expected:?} never came")) != expected {}
}

fn status(ctr: &Ctr, name: &str) -> String {
    ctr.run(["inspect", "--format", "{{.State.Status}}", name]).ok()
}

#[test]
fn typed_resized_detached_and_attached_again() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let run = ["run", "-ti", "--network=none", "--name=x", "box", "sh", "-c", ECHO];
        let mut first = terminal(&ctr, &run);
        first.expect("up\r\n");
        first.key("a\r");
        first.expect("got a\r\n");
        first.key(DETACH);
        assert_eq!(first.ends(), 0, "as {user:?}");
        assert_eq!(status(&ctr, "x"), "running", "as {user:?}");
        let mut second = terminal(&ctr, &["attach", "x"]);
        let mut size = tcgetwinsize(&second.slave).expect("the size");
        second.key("b\r");
        second.expect("got b\r\n");
        // A third comes in while the second is there; both see all from now on.
        let mut third = ctr.start(["attach", "--no-stdin", "x"]);
        third.write("lost\n");
        while !third.has_said() {
            second.key("c\r");
            second.expect("got c\r\n");
        }
        (size.ws_row, size.ws_col) = (44, 99);
        tcsetwinsize(&second.master, size).expect("change the size");
        sees_size(&mut second, "44 99");
        hears(&mut third, "44 99\r");
        second.key(DETACH);
        assert_eq!(second.ends(), 0);
        let mut fourth = terminal(&ctr, &["attach", "--detach-keys=ctrl-x", "x"]);
        sees_size(&mut fourth, "33 77");
        fourth.key("d\r");
        fourth.expect("got d\r\n");
        hears(&mut third, "got d\r");
        fourth.key("\u{18}");
        assert_eq!(fourth.ends(), 0);
        let last = terminal(&ctr, &["attach", "-l"]);
        last.key("end\r");
        assert_eq!((last.ends(), third.end().code()), (7, 7), "as {user:?}");
        let (log, shown) = (ctr.run(["logs", "x"]).ok(), ["got a", "got b", "got d"]);
        assert!(shown.iter().all(|text| log.contains(text)) && !log.contains("lost"), "{log}");
        ctr.run(["attach", "x"]).fails("you can only attach to created or running containers");
        ctr.run(["attach", "--detach-keys=ctrl-", "x"]).fails("detach-keys");
    }
}

#[test]
fn a_client_that_stalls_holds_nobody_up() {
    let ctr = Ctr::with_box(User::Rootless);
    // It waits for a line, prints 8 MiB, then says so.
    let script = "echo up; while read -r line; do head -c 8388608 /dev/zero; echo; echo \"done $line\"; done";
    ctr.run(["run", "-d", "-i", "--network=none", "--name=x", "box", "sh", "-c", script]).ok();
    ctr.start(["logs", "-f", "x"]).says("up");
    let mut stalled = ctr.start(["attach", "x"]);
    let mut brisk = ctr.command(["attach", "x"]);
    let mut brisk = brisk.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start ctr");
    for turn in ["1\n", "2\n"] {
        match turn {
            // Typed by the one that reads nothing.
            "1\n" => stalled.write(turn),
            _ => brisk.stdin.as_mut().expect("a pipe").write_all(turn.as_bytes()).expect("write"),
        }
        let mut text = Vec::new();
        let end = format!("done {turn}");
        let mut chunk = [0; 65536];
        let out = brisk.stdout.as_mut().expect("a pipe");
        while !text.ends_with(end.as_bytes()) {
            let length = out.read(&mut chunk).expect("read");
            assert!(length > 0, "the end came after {} bytes", text.len());
            text.extend_from_slice(&chunk[..length]);
        }
    }
    stalled.end().fails("detached");
    let _ = brisk.kill();
    let _ = brisk.wait();
    assert_eq!(status(&ctr, "x"), "running");
    assert_eq!(ctr.run(["logs", "--tail=1", "x"]).ok(), "done 2");
    ctr.run(["rm", "-f", "x"]).ok();
}

#[test]
fn signals_and_streams_of_a_client() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let script = "trap 'echo caught; exit 9' INT; echo up; while :; do read -r line && echo err >&2 && echo $line; done";
        ctr.run(["run", "-d", "-i", "--network=none", "--name=x", "box", "sh", "-c", script]).ok();
        ctr.start(["logs", "-f", "x"]).says("up");
        let mut quiet = ctr.start(["attach", "--sig-proxy=false", "x"]);
        quiet.write("hello\n");
        quiet.says("hello");
        quiet.signal(Signal::INT);
        assert_eq!(quiet.end().code(), 130, "as {user:?}: it ends alone");
        let mut loud = ctr.start(["attach", "x"]);
        loud.write("again\n");
        loud.says("again");
        loud.signal(Signal::INT);
        loud.says("caught");
        let end = loud.end().exits(9);
        assert_eq!(end.stderr(), "err\n", "as {user:?}");
    }
}

#[test]
fn only_the_streams_that_are_named() {
    let ctr = Ctr::with_box(User::Rootless);
    let script = "echo out; echo err >&2; cat; exit 5";
    for (options, out, err) in [
        (&["-a", "stdout"][..], "out\n", ""),
        (&["--attach=STDERR"], "", "err\n"),
        (&["-a", "stdout", "-a", "stderr"], "out\n", "err\n"),
        (&["-a", "stdout,stderr"], "out\n", "err\n"),
        (&["-a", "stdin"], "", ""),
        (&[], "out\n", "err\n"),
    ] {
        let outcome = ctr.payload(options, &["sh", "-c", script]).exits(5);
        assert_eq!((&*outcome.stdout(), &*outcome.stderr()), (out, err), "{options:?}");
    }
    let mut live = ctr.live(&["-a", "stdin", "-a", "stdout"], &["sh", "-c", script]);
    live.says("out");
    live.write("in\n");
    live.says("in");
    live.close_stdin();
    assert_eq!(live.end().exits(5).stderr(), "");
    ctr.payload(&["-a", "stdio"], &["true"]).fails("--attach");
}

#[test]
fn a_client_that_is_killed_leaves_the_container_alone() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["run", "-d", "-i", "--network=none", "--name=x", "box", "cat"]).ok();
    let mut client = ctr.start(["attach", "x"]);
    client.write("a\n");
    client.says("a");
    kill_process(Pid::from_raw(client.pid().as_raw_pid()).expect("a process id"), Signal::KILL)
        .expect("kill it");
    client.end().exits(137);
    assert_eq!(status(&ctr, "x"), "running");
    let mut next = ctr.start(["attach", "x"]);
    next.write("b\n");
    next.says("b");
    ctr.run(["kill", "x"]).ok();
    next.end().exits(137);
}

#[test]
fn a_client_that_dribbles_holds_nobody_up() {
    let ctr = Ctr::with_box(User::Rootless);
    let script = "read -r line; head -c 33554432 /dev/zero; exit 4";
    ctr.run([
        "run",
        "-d",
        "-i",
        "--network=none",
        "--log-driver=none",
        "--name=x",
        "box",
        "sh",
        "-c",
        script,
    ])
    .ok();
    let mut slow = ctr.command(["attach", "x"]);
    let mut slow = slow.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start ctr");
    let mut waiting = ctr.start(["wait", "x"]);
    slow.stdin.as_mut().expect("a pipe").write_all(b"go\n").expect("write");
    let (mut total, mut chunk) = (0, [0; 4096]);
    // It takes a little again and again, for as long as the container runs.
    while !waiting.has_said() {
        total += slow.stdout.as_mut().expect("a pipe").read(&mut chunk).expect("read");
        assert!(total < 16 << 20, "the container waits for its reader");
        let pause = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        poll(&mut [PollFd::new(&waiting.out(), PollFlags::IN)], Some(&pause)).expect("poll");
    }
    waiting.says("4");
    let _ = slow.kill();
    let _ = slow.wait();
}

#[test]
fn before_the_start() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let script = "read -r line; echo got $line; exit 6";
        ctr.run(["create", "-i", "--network=none", "--name=x", "box", "sh", "-c", script]).ok();
        ctr.run(["init", "x"]).ok();
        let mut client = ctr.start(["attach", "x"]);
        client.write("early\n");
        while !ctr.run(["events", "--stream=false"]).ok().contains(" attach ") {}
        assert_eq!(status(&ctr, "x"), "initialized");
        ctr.run(["start", "x"]).ok();
        client.says("got early");
        assert_eq!(client.end().code(), 6, "as {user:?}");
        // The one who starts it is attached, and it ends with that one.
        ctr.run(["init", "x"]).fails("not created");
        ctr.run(["rm", "x"]).ok();
        ctr.run(["create", "-i", "--network=none", "--name=x", "box", "sh", "-c", script]).ok();
        ctr.run(["init", "x"]).ok();
        let mut starter = ctr.start(["start", "-ai", "x"]);
        starter.write("now\n");
        starter.says("got now");
        assert_eq!(starter.end().code(), 6, "as {user:?}");
        ctr.run(["rm", "x"]).ok();
        // Typed ahead of the start, on a terminal.
        ctr.run(["create", "-ti", "--network=none", "--name=x", "box", "sh", "-c", script]).ok();
        ctr.run(["init", "x"]).ok();
        let mut typist = terminal(&ctr, &["start", "-ai", "x"]);
        typist.key("keys\r");
        typist.expect("got keys\r\n");
        assert_eq!(typist.ends(), 6, "as {user:?}");
    }
}

#[test]
fn stopped_before_the_start() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["create", "--network=none", "--name=x", "box", "true"]).ok();
    ctr.run(["init", "x"]).ok();
    let client = ctr.start(["attach", "x"]);
    while !ctr.run(["events", "--stream=false"]).ok().contains(" attach ") {}
    ctr.run(["stop", "-t0", "x"]).ok();
    let told = client.end();
    assert!(told.code() == 125 && told.stderr().contains("stopped before it was started"), "{told}");
    // Its command has never run.
    let state = ctr.run(["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "x"]).ok();
    assert_eq!(state, "created 0");
    ctr.run(["start", "-a", "x"]).ok();
}

#[test]
fn the_end_comes_first() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["run", "-d", "--network=none", "--name=x", "box", "sleep", "1000"]).ok();
    let process = |field: &str| {
        let pid = ctr.run(["inspect", "--format", &format!("{{{{.State.{field}}}}}"), "x"]).ok();
        Pid::from_raw(pid.parse().expect("a number")).expect("a process id")
    };
    let (first, monitor) = (process("Pid"), process("ConmonPid"));
    // The monitor hears of the client and of the end at once.
    kill_process(monitor, Signal::STOP).expect("stop the monitor");
    let client = ctr.start(["attach", "x"]);
    let asleep = format!("/proc/{}/wchan", client.pid().as_raw_pid());
    while !std::fs::read_to_string(&asleep).unwrap_or_default().contains("skb_wait_for_more_packets") {}
    kill_process(first, Signal::KILL).expect("kill the container");
    let stat = format!("/proc/{}/stat", first.as_raw_pid());
    while !std::fs::read_to_string(&stat).expect("read its state").contains(") Z ") {}
    kill_process(monitor, Signal::CONT).expect("let the monitor go on");
    let end = client.end();
    assert_eq!(end.code(), 137, "{end}");
}
