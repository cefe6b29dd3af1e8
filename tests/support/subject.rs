//! A container whose files a test looks at.

use super::{Ctr, Live, Outcome, User};
use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

/// A container `c` that has run `script`, and waits or has ended.
pub struct Subject {
    /// Who runs it.
    pub ctr: Ctr,
    /// Its `ctr run`, while it waits.
    pub live: Option<Live>,
}

impl Subject {
    /// Of the image `box`.
    pub fn new(user: User, running: bool, options: &[&str], script: &str) -> Subject {
        Subject::of(Ctr::with_box(user), "box", running, options, script)
    }

    /// Of `image`.
    pub fn of(ctr: Ctr, image: &str, running: bool, options: &[&str], script: &str) -> Subject {
        let wait = if running { "; echo ready; read x; true" } else { "; true" };
        let script = format!("{script}{wait}");
        let line = [&["run", "-i", "--network=none", "--name", "c"], options, &[image, "sh", "-c", &script]]
            .concat();
        let mut live = ctr.start(line);
        let live = if running {
            live.says("ready");
            Some(live)
        } else {
            live.close_stdin();
            live.end().ok();
            None
        };
        Subject { ctr, live }
    }

    /// One for each kind of user, running and stopped.
    pub fn all(options: &[&str], script: &str) -> impl Iterator<Item = Subject> {
        let kinds = User::all().iter().flat_map(|user| [(*user, true), (*user, false)]);
        kinds.map(move |(user, running)| Subject::new(user, running, options, script))
    }

    /// `ctr cp` with `arguments`.
    pub fn cp(&self, arguments: &[&str]) -> Outcome {
        self.ctr.run([&["cp"], arguments].concat())
    }

    /// A file of the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.ctr.home().join(name)
    }

    /// What is in a file of the home.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}, {}", self.what()))
    }

    /// The names in `tar -t` of what `cp c:PATH -` writes.
    pub fn members(&self, path: &str) -> Vec<String> {
        names(self.cp(&[&format!("c:{path}"), "-"]).exits(0).bytes())
    }

    /// For messages: which one this is.
    pub fn what(&self) -> String {
        format!("as {:?}, running: {}", self.ctr.user(), self.live.is_some())
    }

    /// Who and what `ls -ln` in the container would show for `path`: mode, uid:gid.
    pub fn owner(&self, path: &str) -> String {
        let archive = self.cp(&[&format!("c:{path}"), "-"]).exits(0);
        let mut archive = tar::Archive::new(archive.bytes());
        let mut entries = archive.entries().expect("a tar archive");
        let entry = entries.next().expect("a member").expect("a readable one");
        let header = entry.header();
        let number = |field: std::io::Result<u64>| field.expect("a number");
        let mode = header.mode().expect("a mode") & 0o7777;
        format!("{mode:o} {}:{}", number(header.uid()), number(header.gid()))
    }
}

/// The names in a tar archive.
pub fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("a tar archive");
    let name = |entry: tar::Entry<'_, &[u8]>| String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    entries.map(|entry| name(entry.expect("a member"))).collect()
}

/// Run `command` with `input` as its stdin.
pub fn feed(mut command: Command, input: &[u8]) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let what = format!("{:?}", command.get_args());
    let mut child = command.spawn().expect("start ctr");
    // It may refuse before it has read all.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    Outcome::new(what, child.wait_with_output().expect("wait for ctr"))
}
