//! `ctr` on a real terminal.
//! `ctr` on a terminal.

use super::{Ctr, wait_gone};
use nix::pty::{OpenptyResult, Winsize, openpty};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
    termios::{Termios, tcgetattr},
};
use std::{
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

/// `ctr` on a terminal whose other side is ours.
pub struct Terminal {
    /// Our side.
    pub master: OwnedFd,
    /// Open here too, so that its settings can be looked at.
    pub slave: OwnedFd,
    before: Termios,
    seen: String,
    /// `ctr`.
    /// `ctr` itself.
    pub child: Child,
}

const SIZE: Winsize = Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };

impl Terminal {
    /// `ctr run --rm --network=none OPTIONS box COMMAND`.
    pub fn start(ctr: &Ctr, options: &[&str], command: &[&str]) -> Terminal {
        let arguments = [&["run", "--rm", "--network=none"], options, &["box"], command].concat();
        // A session of its own with this terminal, as a login gives it.
        Terminal::of(ctr.wrapped(&["setsid", "--ctty", "--wait"], &arguments))
    }

    /// `command` on a terminal of 33 lines and 77 columns.
    /// `command` with the terminal as its streams.
    pub fn of(mut command: Command) -> Terminal {
        let OpenptyResult { master, slave } = openpty(&SIZE, None).expect("open a terminal");
        // Else what runs on it holds it open.
        rustix::io::fcntl_setfd(&master, rustix::io::FdFlags::CLOEXEC).expect("keep our side to us");
        let before = tcgetattr(&slave).expect("its settings");
        let side = || Stdio::from(slave.try_clone().expect("duplicate it"));
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("start ctr");
        Terminal { master, slave, before, seen: String::new(), child }
    }

    /// Type.
    pub fn key(&self, keys: &str) {
        rustix::io::write(&self.master, keys.as_bytes()).expect("type");
    }

    /// Read until `text` appears; everything up to its end is consumed and returned.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
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
    pub fn ends(mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        wait_gone(self.child.id() as i32);
        let status = self.child.wait().expect("wait for ctr");
        let after = tcgetattr(&self.slave).expect("its settings");
        assert_eq!(shown(&after), shown(&self.before), "the terminal's settings");
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// Its window is closed.
    pub fn hang_up(&mut self) {
        self.master = std::fs::File::open("/dev/null").expect("open /dev/null").into();
    }

    /// Its keys go to the container.
    pub fn is_raw(&self) -> bool {
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
