//! `ctr run -t` on a real terminal: job control, keys, sizes, and the user's terminal afterwards as it was before.

mod support;

use nix::pty::{OpenptyResult, Winsize, openpty};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
    process::{Pid, Signal, kill_process},
    termios::{Termios, tcgetattr, tcgetwinsize, tcsetwinsize},
};
use std::{
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};
use support::{Ctr, User, wait_gone};

/// `ctr` on a terminal whose other side is ours.
struct Terminal {
    master: OwnedFd,
    /// Open here too, so that its settings can be looked at.
    slave: OwnedFd,
    before: Termios,
    seen: String,
    child: Child,
}

const SIZE: Winsize = Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };

impl Terminal {
    /// `ctr run --rm --network=none OPTIONS box COMMAND`.
    fn start(ctr: &Ctr, options: &[&str], command: &[&str]) -> Terminal {
        let arguments = [&["run", "--rm", "--network=none"], options, &["box"], command].concat();
        // A session of its own with this terminal, as a login gives it.
        Terminal::of(ctr.wrapped(&["setsid", "--ctty", "--wait"], &arguments))
    }

    fn of(mut command: Command) -> Terminal {
        let OpenptyResult { master, slave } = openpty(&SIZE, None).expect("open a terminal");
        let before = tcgetattr(&slave).expect("its settings");
        let side = || Stdio::from(slave.try_clone().expect("duplicate it"));
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("start ctr");
        Terminal { master, slave, before, seen: String::new(), child }
    }

    fn key(&self, keys: &str) {
        rustix::io::write(&self.master, keys.as_bytes()).expect("type");
    }

    /// Read until `text` appears; everything up to its end is consumed and returned.
    #[track_caller]
    fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(text) {
                return self.seen.drain(..at + text.len()).collect();
            }
            assert!(self.read(), "{text:?} never came after {:?}", self.seen);
        }
    }

    /// More of the output; false at its end.
    fn read(&mut self) -> bool {
        let deadline = Timespec { tv_sec: 30, tv_nsec: 0 };
        let ready = retry_on_intr(|| poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&deadline)));
        let last = self.seen.len().saturating_sub(300);
        assert_eq!(ready.expect("poll"), 1, "nothing came for 30 s after {:?}", self.seen.get(last..));
        let mut chunk = [0; 4096];
        match rustix::io::read(&self.master, &mut chunk) {
            Ok(0) | Err(Errno::IO) => false,
            length => {
                self.seen.push_str(&String::from_utf8_lossy(&chunk[..length.expect("read the terminal")]));
                true
            }
        }
    }

    /// Wait for the end: the exit code; the terminal is as it was.
    #[track_caller]
    fn ends(mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        wait_gone(self.child.id() as i32);
        let status = self.child.wait().expect("wait for ctr");
        let after = tcgetattr(&self.slave).expect("its settings");
        assert_eq!(shown(&after), shown(&self.before), "the terminal's settings");
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// Its keys go to the container.
    fn is_raw(&self) -> bool {
        shown(&tcgetattr(&self.slave).expect("its settings")) != shown(&self.before)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shown(settings: &Termios) -> String {
    let codes = &settings.special_codes;
    format!(
        "{:?} {:?} {:?} {:?} {codes:?}",
        settings.input_modes, settings.output_modes, settings.control_modes, settings.local_modes
    )
}

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
