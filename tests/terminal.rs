//! `ctr run -t` on a real terminal: job control, keys, sizes, and the user's terminal afterwards as it was before.

mod support;

use rustix::{
    process::{Pid, Signal, kill_process},
    termios::{tcgetwinsize, tcsetwinsize},
};
use support::{Ctr, Terminal, User};

/// An interactive shell whose prompt says who and where it is, as a distribution's does.
const SHELL: [&str; 3] = ["sh", "-c", "export PS1='root@'$(hostname)':$(pwd)# '; exec sh -i"];

/// A shell that has said its first prompt; the prompt.
fn shell(ctr: &Ctr, options: &[&str]) -> (Terminal, String) {
    let mut terminal = Terminal::start(ctr, &[&["-ti"], options].concat(), &SHELL);
    let said = terminal.expect("# ");
    let prompt = said.lines().last().unwrap_or_default().to_owned();
    (terminal, prompt)
}

#[test]
fn a_prompt_and_an_end() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        for init in [&[][..], &["--init"]] {
            let (mut terminal, prompt) = shell(&ctr, init);
            let id =
                prompt.strip_prefix("root@").and_then(|rest| rest.strip_suffix(":/# ")).unwrap_or_default();
            let hex = id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(hex, "as {user:?}: {prompt:?}");
            assert!(terminal.is_raw(), "keys go through as they are");
            terminal.key("tty; test -t 0 && test -t 1 && test -t 2 && echo all-$((1 + 1))\r");
            let said = terminal.expect("all-2\r\n");
            assert!(
                said.contains("/dev/console\r\n") || said.contains("/dev/pts/0\r\n"),
                "as {user:?}: {said:?}"
            );
            terminal.expect("# ");
            terminal.key("(exit 42)\r");
            terminal.expect("# ");
            // ^D, and the status of the last command.
            terminal.key("\u{4}");
            assert_eq!(terminal.ends(), 42, "as {user:?} {init:?}");
        }
    }
}

#[test]
fn job_control() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        for init in [&[][..], &["--init"]] {
            let (mut terminal, _) = shell(&ctr, init);
            // The job has the terminal before the key comes: it says so.
            terminal.key("sh -c 'echo first-$((1 + 1)); exec sleep 1000'\r");
            terminal.expect("first-2\r\n");
            terminal.key("\u{1a}");
            let said = terminal.expect("# ");
            assert!(said.contains("Stopped"), "as {user:?} {init:?}: {said:?}");
            terminal.key("jobs\r");
            let said = terminal.expect("# ");
            assert!(said.contains("Stopped"), "as {user:?} {init:?}: {said:?}");
            terminal
                .key("kill -9 %1; wait; sh -c 'echo second-$((1 + 1)); exec sleep 1000'; echo status-$?\r");
            terminal.expect("second-2\r\n");
            // ^C ends the job in front and nothing else.
            terminal.key("\u{3}");
            terminal.expect("# ");
            terminal.key("echo alive-$((1 + 1))\r");
            terminal.expect("alive-2\r\n");
            terminal.key("exit 3\r");
            assert_eq!(terminal.ends(), 3, "as {user:?} {init:?}");
        }
    }
}

#[test]
fn the_size_at_the_start_and_after_a_change() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let script = "stty size; trap 'stty size' WINCH; echo ready; while read -r line; do :; done; exit 5";
        let mut terminal = Terminal::start(&ctr, &["-ti"], &["sh", "-c", script]);
        terminal.expect("33 77\r\n");
        terminal.expect("ready\r\n");
        let mut size = tcgetwinsize(&terminal.slave).expect("the size");
        (size.ws_row, size.ws_col) = (44, 99);
        // The kernel tells the processes in front of that terminal: SIGWINCH.
        tcsetwinsize(&terminal.master, size).expect("change the size");
        terminal.key("\r");
        terminal.expect("44 99\r\n");
        terminal.key("\u{4}");
        assert_eq!(terminal.ends(), 5, "as {user:?}");
    }
}

/// Who types nothing decides about the size all the same.
#[test]
fn the_size_without_interactive() {
    let ctr = Ctr::with_box(User::Rootless);
    let script = "stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 1000 & wait; done";
    let mut terminal = Terminal::start(&ctr, &["-t"], &["sh", "-c", script]);
    terminal.expect("33 77\r");
    terminal.expect("ready\r");
    let mut size = tcgetwinsize(&terminal.slave).expect("the size");
    (size.ws_row, size.ws_col) = (44, 99);
    tcsetwinsize(&terminal.master, size).expect("change the size");
    terminal.expect("44 99\r");
    assert_eq!(terminal.ends(), 5);
}

#[test]
fn the_terminal_is_restored_when_a_signal_ends_the_container() {
    let ctr = Ctr::with_box(User::Rootless);
    for (command, code) in [("kill -9 $$", None), ("echo up; exec cat", Some(Signal::KILL))] {
        let mut terminal = Terminal::start(&ctr, &["-ti", "--name=x"], &["sh", "-c", command]);
        if let Some(signal) = code {
            terminal.expect("up\r\n");
            assert!(terminal.is_raw());
            let inspected: serde_json::Value =
                serde_json::from_str(&ctr.run(["inspect", "x"]).ok()).expect("JSON");
            let pid = inspected[0]["State"]["Pid"].as_i64().expect("a process id");
            kill_process(Pid::from_raw(pid as i32).expect("a process id"), signal).expect("kill the payload");
            assert_eq!(terminal.ends(), 137);
        } else {
            // Process 1 is deaf to its own signals (pid_namespaces(7)): it ends by itself.
            assert_eq!(terminal.ends(), 0);
        }
    }
    // A container that can't start leaves the terminal alone, too.
    let terminal = Terminal::start(&ctr, &["-ti"], &["no-such-command"]);
    assert_eq!(terminal.ends(), 127);
}

#[test]
fn signals_reach_the_payload_through_ctr() {
    let ctr = Ctr::with_box(User::Rootless);
    let script = "trap 'echo caught; exit 9' TERM; echo up; sleep 1000 & wait";
    let mut terminal =
        Terminal::of(ctr.command(["run", "--rm", "--network=none", "-ti", "box", "sh", "-c", script]));
    terminal.expect("up\r\n");
    kill_process(Pid::from_child(&terminal.child), Signal::TERM).expect("signal ctr");
    terminal.expect("caught\r\n");
    assert_eq!(terminal.ends(), 9);
}

#[test]
fn a_terminal_of_its_own_without_one_outside() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        for options in [&["-t"][..], &["-ti"], &["-t", "--init"]] {
            let script = "test -t 0 && test -t 1 && test -t 2 && echo yes; echo no >&2; exit 6";
            let outcome = ctr.payload(options, &["sh", "-c", script]).exits(6);
            assert_eq!(
                outcome.stdout(),
                "yes\r\nno\r\n",
                "as {user:?} {options:?}: one stream, as a terminal ends lines"
            );
        }
    }
}

#[test]
fn everything_said_last_arrives() {
    let ctr = Ctr::with_box(User::Rootless);
    let mut terminal = Terminal::start(&ctr, &["-ti"], &["sh", "-c", "seq 1 20000; echo done"]);
    let said = terminal.expect("done\r\n");
    assert_eq!(said.lines().count(), 20001, "nothing is lost");
    assert!(said.ends_with("20000\r\ndone\r\n"));
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn without_interactive_keys_stay_outside() {
    let ctr = Ctr::with_box(User::Rootless);
    let script = "trap 'exit 8' INT; echo up; sleep 1000 & wait";
    let mut terminal = Terminal::start(&ctr, &["-t"], &["sh", "-c", script]);
    terminal.expect("up\r");
    assert!(!terminal.is_raw(), "no key goes in, so none is taken away");
    // ^C is the user's terminal's own key here: a signal to ctr, which passes it on.
    terminal.key("\u{3}");
    assert_eq!(terminal.ends(), 8);
}
