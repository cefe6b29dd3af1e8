//! A user's store in a state that is known, and what must be true of it after whatever happened.

use super::{
    commands::{CASES, Case, Done, Spares},
    disk::{Scratch, device},
    supervisor::{Act, GATE, Side, Traced, supervise},
    support::{Compression, Ctr, Layer, Registry, TestImage, User, compile},
    tree::{Tree, difference, hex, tree},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, flock},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Once,
};

/// What a command printed, or what is wrong.
pub type Said = Result<String, String>;

/// A user, a home, stores to begin with, and what whole layers and an empty store look like.
pub struct Ground {
    ctr: Ctr,
    states: PathBuf,
    empty: Tree,
    layers: BTreeMap<String, Tree>,
}

/// The stores to begin with, and what makes each of the one before it. `kept` is an image, and `other` a container of it,
/// that no test touches.
pub const STATES: [(&str, &[&[&str]]); 7] = [
    ("none", &[]),
    ("empty", &[&["images"]]),
    ("kept", &[&["pull", "-q", "kept"]]),
    ("both", &[&["pull", "-q", "image"], &["save", "-q", "-o", "image.tar", "image"]]),
    ("dangling", &[&["untag", "image"]]),
    (
        "made",
        &[
            &["pull", "-q", "image"],
            &["create", "--name=other", "--network=none", "kept", "true"],
            &["create", "--name=w", "--network=none", "image", "wait"],
            &["create", "--name=job", "--network=none", "image", "touch"],
        ],
    ),
    ("ended", &[&["start", "-a", "job"]]),
];

/// What removes all that is in a directory of the store, but for containers and images.
const REMOVING: [(&str, &[&str]); 4] = [
    ("volumes", &["volume", "rm", "-af"]),
    ("secrets", &["secret", "rm", "-a"]),
    ("networks", &["network", "prune", "-f"]),
    ("lists", &["manifest", "rm", "list"]),
];

impl Ground {
    /// One for each kind of user.
    pub fn all(scratch: &Scratch) -> Vec<(User, Ground)> {
        User::all().iter().map(|&user| (user, Ground::new(user, scratch.path()))).collect()
    }

    /// In a home below `place`.
    pub fn new(user: User, place: &Path) -> Ground {
        push_images();
        let ctr = Ctr::new_in(user, place).with_hub();
        let states = ctr.home().join("states");
        let mut ground = Ground { ctr, states, empty: Tree::new(), layers: BTreeMap::new() };
        for (state, lines) in STATES {
            for line in lines {
                ground.exits(line, 0).expect("make a store");
            }
            fs::create_dir_all(ground.states.join(state)).expect("make a directory");
            if ground.ctr.data().exists() {
                copy(&ground.ctr.data(), &ground.states.join(state));
            }
        }
        ground.empty = ground.store_in(&ground.states.join("empty/ctr"));
        // What a command makes when nothing happens to it is what it has to make.
        for case in CASES.iter().filter(|case| matches!(case.done, Done::Image(_))) {
            ground.prepare(case);
            ground.exits(case.line, 0).expect("make an image");
            let layers = ground.ctr.data().join("layers");
            for layer in names(&layers) {
                let there = layer_tree(&layers.join(&layer));
                ground.layers.entry(layer).or_insert(there);
            }
        }
        ground
    }

    /// The directory around its store, where a disk may be mounted.
    pub fn place(&self) -> PathBuf {
        self.ctr.home().join("data")
    }

    /// Whose it is.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.ctr.user().ids()
    }

    /// Of a tmpfs for it.
    pub fn options(&self) -> String {
        let (uid, gid) = self.owner().unwrap_or_default();
        format!("size=64m,nr_inodes=16k,mode=700,uid={uid},gid={gid}")
    }

    /// Let `case` begin: its store, and what runs before it.
    pub fn prepare(&self, case: &Case) {
        self.restore(case.state);
        if !case.prepare.is_empty() {
            self.exits(case.prepare, 0).expect("prepare a command");
        }
    }

    /// Have the store that is called `state`, and nothing else.
    pub fn restore(&self, state: &str) {
        empty(&self.place());
        empty(&self.ctr.home().join("run"));
        let store = self.states.join(state).join("ctr");
        if store.exists() {
            copy(&store, &self.place());
        }
    }

    /// Run `line` under the supervisor; `act` decides at each changing call.
    pub fn trace(&self, line: &[&str], act: impl FnMut(usize, Side) -> Act + Send) -> Traced {
        self.trace_within(&[], line, act)
    }

    /// The same as the last arguments of `wrapper`.
    pub fn trace_within(
        &self,
        wrapper: &[&str],
        line: &[&str],
        mut act: impl FnMut(usize, Side) -> Act + Send,
    ) -> Traced {
        let wrapper = [&GATE, wrapper].concat();
        let line = named(line);
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        supervise(self.ctr.wrapped(&wrapper, &words), device(&self.place()), &mut act)
    }

    /// Run `line`; it exits with `status` and doesn't panic.
    pub fn exits(&self, line: &[&str], status: i32) -> Said {
        let Output { status: ended, stdout, stderr } =
            self.ctr.command(named(line)).output().expect("start ctr");
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        match ended.code() == Some(status) && !said.contains("panicked") {
            true => Ok(said),
            false => Err(format!("`ctr {}` ended with {ended}: {}", line.join(" "), said.trim_end())),
        }
    }

    /// The invariants, after `case` was begun and something happened to it. `done`: it has exited 0.
    pub fn check(&self, case: &Case, done: bool) -> Result<(), String> {
        self.is_free()?;
        self.images_are_whole()?;
        if done {
            case.done.holds(self).map_err(|e| format!("it exited 0, but {e}"))?;
        }
        self.exits(&["images"], 0)?;
        self.exits(&["ps", "-a"], 0)?;
        if case.state != "none" && case.spares != Spares::Nothing {
            self.exits(&["run", "--rm", "--network=none", "kept", "true"], 0)?;
        }
        self.exits(case.again, 0).map_err(|e| format!("repeated: {e}"))?;
        if case.again == case.line || !matches!(case.done, Done::Container(_)) {
            case.done.holds(self).map_err(|e| format!("repeated, but {e}"))?;
        }
        self.collect()?;
        let collected = self.store();
        self.collect()?;
        same("a second collection changed something", &collected, &self.store())?;
        self.images_are_whole()?;
        if ["made", "ended"].contains(&case.state) && case.spares == Spares::All {
            self.exits(&["start", "-a", "other"], 0)?;
        }
        self.empties()
    }

    /// After everything is removed nothing is left, on disk or elsewhere.
    pub fn empties(&self) -> Result<(), String> {
        self.exits(&["rm", "-af"], 0)?;
        let there = |dir| !names(&self.ctr.data().join(dir)).is_empty();
        for (_, line) in REMOVING.iter().filter(|(dir, _)| there(dir)) {
            self.exits(line, 0)?;
        }
        self.exits(&["rmi", "-af"], 0)?;
        same("not empty after everything was removed", &self.empty, &self.store())?;
        let mut runtime = names(&self.ctr.home().join("run/ctr"));
        // That the user was told something once is a note for this boot.
        runtime.retain(|name| name != "single-id-noted");
        if !runtime.is_empty() {
            return Err(format!("in the runtime directory: {runtime:?}"));
        }
        self.nobody_is_left()?;
        self.nothing_is_mounted()
    }

    /// Collect garbage, and remove nothing else.
    fn collect(&self) -> Said {
        self.exits(&["rmi", "-i", "nobody/has:this"], 0)
    }

    /// Every image has all its layers and blobs, and each of them is what its name says.
    pub fn images_are_whole(&self) -> Result<(), String> {
        let data = self.ctr.data();
        for layer in names(&data.join("layers")) {
            let expected = self.layers.get(&layer).ok_or(format!("a layer {layer} of nobody"))?;
            let is = layer_tree(&data.join("layers").join(&layer));
            same(&format!("layer {layer} is damaged"), expected, &is)?;
        }
        for image in names(&data.join("images")) {
            let bytes = fs::read(data.join("images").join(&image)).map_err(|e| format!("{image}: {e}"))?;
            let record: serde_json::Value =
                serde_json::from_slice(&bytes).map_err(|e| format!("image {image}: {e}"))?;
            for layer in digests(&record["layers"]) {
                if !data.join("layers").join(&layer).exists() {
                    return Err(format!("image {image} has no layer {layer}"));
                }
            }
            for kind in ["manifest", "config", "index", "blobs"] {
                for blob in digests(&record[kind]) {
                    let bytes = fs::read(data.join("blobs/sha256").join(&blob));
                    let bytes = bytes.map_err(|e| format!("image {image}: {kind} {blob}: {e}"))?;
                    if hex(&bytes) != blob {
                        return Err(format!("image {image}: {kind} {blob} is damaged"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Nobody dead holds the store.
    fn is_free(&self) -> Result<(), String> {
        let Ok(data) = File::open(self.ctr.data()) else { return Ok(()) };
        flock(&data, FlockOperation::NonBlockingLockExclusive)
            .map_err(|e| format!("the store is locked: {e}"))
    }

    fn nobody_is_left(&self) -> Result<(), String> {
        // A monitor may be about to end.
        match self.processes().into_iter().find(|(_, pidfd)| !ends_soon(pidfd)) {
            Some((pid, _)) => {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                Err(format!("process {pid} is left: {}", String::from_utf8_lossy(&line)))
            }
            None => Ok(()),
        }
    }

    /// Kill whoever is left.
    pub fn end_all(&self) {
        for (pid, pidfd) in self.processes() {
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            assert!(ends_soon(&pidfd), "process {pid} can't be killed");
        }
    }

    /// What a reboot takes away.
    pub fn forget_boot(&self) {
        empty(&self.ctr.home().join("run"));
    }

    /// What only looks works on a store that can't be written; `case` has been begun on it.
    pub fn is_readable(&self, case: &Case) -> Result<(), String> {
        let there = self.ctr.data().join("images").is_dir() && case.state != "none";
        let looks: &[&[&str]] = &[&["images"], &["ps", "-a"], &["inspect", "--type=image", "kept"]];
        // Whoever removes all may have come so far.
        let looks = looks.iter().take(match (there, case.spares) {
            (true, Spares::Nothing) => 2,
            (true, _) => 3,
            (false, _) => 0,
        });
        looks
            .into_iter()
            .try_for_each(|look| self.exits(look, 0).map(drop))
            .map_err(|e| format!("read-only: {e}"))
    }

    /// All that have this home in their environment.
    fn processes(&self) -> Vec<(i32, OwnedFd)> {
        let mark = format!("HOME={}\0", self.ctr.home().display());
        let pids = names(Path::new("/proc")).into_iter().filter_map(|name| name.parse::<i32>().ok());
        let ours = pids.filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.windows(mark.len()).any(|part| part == mark.as_bytes())
        });
        ours.filter_map(|pid| Some((pid, pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?)))
            .collect()
    }

    fn nothing_is_mounted(&self) -> Result<(), String> {
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("read the mounts");
        let store = format!("{}/", self.ctr.data().display());
        match mounts.lines().find(|line| line.contains(&store)) {
            Some(line) => Err(format!("still mounted: {line}")),
            None => Ok(()),
        }
    }

    fn store(&self) -> Tree {
        self.store_in(&self.ctr.data())
    }

    fn store_in(&self, data: &Path) -> Tree {
        let mut store = tree(data, false);
        // It grows with whatever happens; and a directory of what most stores never have is made with the first.
        let stays = |path: &Path| REMOVING.iter().any(|(dir, _)| Path::new(dir) == path);
        store.retain(|path, _| !path.to_string_lossy().starts_with("events") && !stays(path));
        store
    }
}

/// What lies in a layer's directory; the archive's times are its, that of `size` is not.
fn layer_tree(layer: &Path) -> Tree {
    let mut there = tree(layer, false);
    there.retain(|path, _| !path.starts_with("fs"));
    let files = tree(&layer.join("fs"), true);
    there.extend(files.into_iter().map(|(path, what)| (Path::new("fs").join(path), what)));
    there
}

fn named(line: &[&str]) -> Vec<String> {
    let registry = Registry::plain().address().to_string();
    line.iter().map(|word| word.replace("REGISTRY", &registry)).collect()
}

fn same(what: &str, expected: &Tree, is: &Tree) -> Result<(), String> {
    let difference = difference(expected, is);
    if difference.is_empty() { Ok(()) } else { Err(format!("{what}:\n{difference}")) }
}

/// The names in `dir`; none when it isn't there.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn empty(dir: &Path) {
    for entry in names(dir).iter().filter(|name| *name != "lost+found") {
        fs::remove_dir_all(dir.join(entry)).expect("empty a directory");
    }
}

fn ends_soon(pidfd: &OwnedFd) -> bool {
    let soon = Timespec { tv_sec: 1, tv_nsec: 0 };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&soon)) == Ok(1)
}

/// The hexadecimal parts of one digest or a list of them.
fn digests(value: &serde_json::Value) -> Vec<String> {
    let one = |value: &serde_json::Value| Some(value.as_str()?.trim_start_matches("sha256:").to_owned());
    match value.as_array() {
        Some(list) => list.iter().filter_map(one).collect(),
        None => one(value).into_iter().collect(),
    }
}

/// Put `from` into `to`, with owners, modes, times and attributes.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("run cp");
    assert!(done.success(), "cp -a {} {}", from.display(), to.display());
}

/// `kept` and `image` share a layer of three tiny programs; the other has one of each kind of file.
fn push_images() {
    static PUSHED: Once = Once::new();
    PUSHED.call_once(|| {
        let layer = || Layer::new(Compression::Gzip);
        let base = || {
            let bin = |layer: Layer, name: &str, body: &str| layer.mode_file(&format!("bin/{name}"), program(body), 0o755);
            let base = layer().dir("bin", 0o755).dir("etc", 0o755).dir("tmp", 0o1777);
            let base = bin(base, "true", "");
            let base = bin(base, "wait", "for (;;) call(SYS_pause, 0, 0, 0);");
            let base = bin(
                base,
                "touch",
                "call(SYS_mkdir, \"/made\", 0755, 0); call(SYS_open, \"/made/file\", 0101, 0644); call(SYS_unlink, \"/etc/old\", 0, 0);",
            );
            base.file("etc/passwd", "root:x:0:0:root:/:/bin/true\n").file("etc/old", "old")
        };
        let all = layer()
            .dir("data", 0o750)
            .file("data/file", "x".repeat(5000))
            .owned_file("data/owned", "y", 0o4755, 33, 44)
            .symlink("data/link", "../etc/passwd")
            .hardlink("data/hard", "data/file")
            .pax(&[("SCHILY.xattr.user.note", b"kept")])
            .file("data/attribute", "z")
            .device("data/null", 1, 3)
            .file("tmp/.wh.gone", "")
            .dir("empty", 0o700);
        TestImage::new([base(), layer().file("kept", "kept")]).push(Registry::plain(), "library/kept:latest");
        TestImage::new([base(), all]).push(Registry::plain(), "library/image:latest");
    });
}

/// A program that does `body` and exits 0, without a library.
fn program(body: &str) -> Vec<u8> {
    let source = format!(
        "#include <sys/syscall.h>\n\
         static long call(long n, const void *a, long b, long c) {{ long r; \
         __asm__ volatile(\"syscall\" : \"=a\"(r) : \"a\"(n), \"D\"(a), \"S\"(b), \"d\"(c) : \"rcx\", \"r11\", \"memory\"); return r; }}\n\
         void _start(void) {{ {body} call(SYS_exit, 0, 0, 0); }}\n"
    );
    compile(&["-static", "-nostdlib", "-s", "-Wl,--build-id=none", "-Wl,-z,noseparate-code"], &source)
}
