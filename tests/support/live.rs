//! A `ctr` that is running: what it says, line by line, and how it ends. Every wait has an event and a deadline.

use super::{Ctr, Outcome};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use std::{
    io::{Read, Write},
    os::fd::AsFd,
    process::{Child, ChildStdin, Command, Output, Stdio},
};

/// A running `ctr` with pipes to all three of its streams. Dropped, it is killed.
pub struct Live {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Vec<u8>,
}

impl Ctr {
    /// Start `ctr` with `arguments`.
    pub fn start<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Live {
        Live::start(self.command(arguments))
    }
}

impl Live {
    /// Start `command`.
    pub fn start(mut command: Command) -> Live {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = format!("{:?}", command.get_args());
        let mut child = command.spawn().expect("start ctr");
        let stdin = child.stdin.take();
        Live { what, child, stdin, stdout: Vec::new() }
    }

    /// The next line of its stdout without the line feed; `None` at the end of the stream.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.stdout.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.stdout.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let pipe = self.child.stdout.as_mut().expect("a pipe");
            wait_for(pipe, &self.what);
            let mut chunk = [0; 4096];
            match pipe.read(&mut chunk).expect("read what ctr says") {
                0 => return None,
                length => self.stdout.extend(&chunk[..length]),
            }
        }
    }

    /// Its stdout.
    pub fn out(&self) -> std::os::fd::BorrowedFd<'_> {
        self.child.stdout.as_ref().expect("a pipe").as_fd()
    }

    /// There is something to read on its stdout now.
    pub fn has_said(&mut self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let pipe = self.child.stdout.as_ref().expect("a pipe");
        !self.stdout.is_empty() || poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&now)) == Ok(1)
    }

    /// Its next line is `expected`.
    #[track_caller]
    pub fn says(&mut self, expected: &str) {
        let line = self.line();
        if line.as_deref() != Some(expected) {
            let _ = self.child.kill();
            let mut stderr = String::new();
            let _ = self.child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut stderr));
            panic!("{} said {line:?} in place of {expected:?}\n{stderr}", self.what);
        }
    }

    /// Write to its stdin.
    pub fn write(&mut self, text: &str) {
        self.stdin.as_mut().expect("open stdin").write_all(text.as_bytes()).expect("write to ctr");
    }

    /// Close its stdin.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Send it `signal`.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("send a signal to ctr");
    }

    /// The process id of `ctr` itself.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Read all that it says, then wait for its end.
    pub fn read_to_end(mut self) -> Outcome {
        let mut pipe = self.child.stdout.take().expect("a pipe");
        pipe.read_to_end(&mut self.stdout).expect("read what ctr says");
        self.end()
    }

    /// Wait for its end; stdin stays as it is, stdout has what no [`Live::line`] took.
    pub fn end(mut self) -> Outcome {
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty()).expect("watch ctr");
        // Its output is small: everything fits in the pipes.
        wait_for(&pidfd, &self.what);
        let status = self.child.wait().expect("wait for ctr");
        let mut output = Output { status, stdout: std::mem::take(&mut self.stdout), stderr: Vec::new() };
        let _ = self.child.stdout.take().map(|mut pipe| pipe.read_to_end(&mut output.stdout));
        let _ = self.child.stderr.take().map(|mut pipe| pipe.read_to_end(&mut output.stderr));
        Outcome::new(std::mem::take(&mut self.what), output)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Wait until process `pid` is gone.
pub fn wait_gone(pid: i32) {
    match pidfd_open(Pid::from_raw(pid).expect("a process id"), PidfdFlags::empty()) {
        Ok(pidfd) => wait_for(&pidfd, &format!("process {pid}")),
        Err(errno) => assert_eq!(errno, rustix::io::Errno::SRCH, "watch process {pid}"),
    }
}

fn wait_for(event: &impl AsFd, what: &str) {
    let deadline = Timespec { tv_sec: 30, tv_nsec: 0 };
    let ready = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(event, PollFlags::IN)], Some(&deadline)));
    assert_eq!(ready.expect("poll"), 1, "nothing happened for 30 s: {what}");
}
