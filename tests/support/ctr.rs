//! `ctr` as one of three kinds of user, each with a home and a store of its own that vanish with the value.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};
use tempfile::TempDir;

/// Who runs `ctr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// A user with subordinate ids: `ctr-test` when the tests run as root, else whoever runs them.
    Rootless,
    /// A user without them: `ctr-nosub`.
    Single,
    /// Root.
    Root,
}

impl User {
    /// All kinds of user that the one running the tests can be; only [`User::Rootless`] for an ordinary user.
    pub fn all() -> &'static [User] {
        if rustix::process::getuid().is_root() {
            &[User::Rootless, User::Single, User::Root]
        } else {
            &[User::Rootless]
        }
    }

    /// Uid and gid to switch to, when one has to.
    pub fn ids(self) -> Option<(u32, u32)> {
        let name = match self {
            User::Rootless => "ctr-test",
            User::Single => "ctr-nosub",
            User::Root => return None,
        };
        if !rustix::process::getuid().is_root() {
            return None;
        }
        let passwd = fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
        let fields: Vec<&str> = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields[0] == name)
            .unwrap_or_else(|| panic!("no user {name}: run scripts/setup test"));
        Some((fields[2].parse().expect("a uid"), fields[3].parse().expect("a gid")))
    }
}

/// A home directory and everything `ctr` keeps in it.
pub struct Ctr {
    user: User,
    home: TempDir,
}

impl Ctr {
    /// A fresh home for `user`, on a disk-backed file system (/tmp may be a small tmpfs).
    pub fn new(user: User) -> Ctr {
        Ctr::new_in(user, Path::new("/var/tmp"))
    }

    /// The same in `parent`.
    pub fn new_in(user: User, parent: &Path) -> Ctr {
        let home = tempfile::Builder::new()
            .prefix("ctr-test-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(parent)
            .expect("make a home");
        let ctr = Ctr { user, home };
        for dir in ["", "run", "config/containers", "config", "data", "cache"] {
            let path = ctr.home().join(dir);
            fs::create_dir_all(&path).expect("make a directory of the home");
            ctr.own(&path);
        }
        ctr.registries("");
        ctr
    }

    /// The user that `ctr` runs as.
    pub fn user(&self) -> User {
        self.user
    }

    /// The home directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where the store lies.
    pub fn data(&self) -> PathBuf {
        self.home().join("data/ctr")
    }

    /// Write `registries.conf`, as containers-registries.conf(5) has it; `ctr` reads it through
    /// `CONTAINERS_REGISTRIES_CONF`.
    pub fn registries(&self, toml: &str) -> &Ctr {
        self.file("config/containers/registries.conf", toml)
    }

    /// Write a file of the home that belongs to the user; `path` is relative to it.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Ctr {
        let path = self.home().join(path);
        for dir in path.ancestors().skip(1).take_while(|dir| dir.starts_with(self.home())) {
            fs::create_dir_all(dir).expect("make a directory of the home");
            self.own(dir);
        }
        fs::write(&path, content).expect("write a file of the home");
        self.own(&path);
        self
    }

    /// `ctr` with `arguments`, as the user, in a clean environment and in the home directory; stdin is empty.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(binary());
        if self.user == User::Root {
            // Root's directories are fixed; a test must not touch them.
            command.arg("--root").arg(self.data()).arg("--runroot").arg(self.home().join("run/ctr"));
        }
        if let Some((uid, gid)) = self.user.ids() {
            command.uid(uid).gid(gid);
        }
        command
            .args(arguments)
            .env_clear()
            // Which defences a build of `scripts/test --bite` goes without.
            .envs(std::env::var_os("CTR_WEAKEN").map(|names| ("CTR_WEAKEN", names)))
            .env("HOME", self.home())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TERM", "xterm")
            .env("XDG_DATA_HOME", self.home().join("data"))
            .env("XDG_RUNTIME_DIR", self.home().join("run"))
            .env("XDG_CONFIG_HOME", self.home().join("config"))
            .env("XDG_CACHE_HOME", self.home().join("cache"))
            .env("CONTAINERS_REGISTRIES_CONF", self.home().join("config/containers/registries.conf"))
            .current_dir(self.home())
            .stdin(Stdio::null());
        command
    }

    /// [`Ctr::command`] as the last arguments of `wrapper`, which runs as the user, too.
    pub fn wrapped(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let mut outer = self.outside(wrapper, arguments);
        if let Some((uid, gid)) = self.user.ids() {
            outer.uid(uid).gid(gid);
        }
        outer
    }

    /// [`Ctr::command`] as the last arguments of `wrapper`, which keeps the tests' own ids and has to change them.
    pub fn outside(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let inner = self.command(arguments);
        let mut outer = Command::new(wrapper[0]);
        outer.args(&wrapper[1..]).arg(inner.get_program()).args(inner.get_args());
        outer.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        outer.current_dir(self.home()).stdin(Stdio::null());
        outer
    }

    /// Run `ctr` with `arguments` to its end.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Outcome {
        let mut command = self.command(arguments);
        let output = command.output().expect("start ctr");
        Outcome::new(format!("as {:?}: {:?}", self.user, command.get_args()), output)
    }

    /// Everything in the store: path to mode, size and content (a hash, or a link's target). Empty when there is none.
    pub fn store(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        walk(&self.data(), &self.data(), &mut found);
        // It grows with whatever happens.
        found.retain(|path, _| !path.to_string_lossy().starts_with("events"));
        found
    }

    /// The names in `directory` of the store.
    pub fn list(&self, directory: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.data().join(directory)) else { return Vec::new() };
        entries.map(|e| e.expect("read a directory").file_name().to_string_lossy().into_owned()).collect()
    }

    fn own(&self, path: &Path) {
        if let Some((uid, gid)) = self.user.ids() {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("give a file to the user");
        }
        if path.ends_with("run") {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))
                .expect("close the runtime directory");
        }
    }
}

impl Drop for Ctr {
    fn drop(&mut self) {
        // A test that fails leaves its containers running; what lies here says that there may be some.
        if fs::read_dir(self.home().join("run/ctr")).is_ok_and(|mut entries| entries.next().is_some()) {
            let _ = self.command(["rm", "-af"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        // An ordinary user's subordinate ids own what containers wrote: only root of such a namespace can remove it.
        if !rustix::process::getuid().is_root() {
            let _ = Command::new("unshare")
                .args(["--user", "--map-root-user", "--map-auto", "rm", "-rf"])
                .arg(self.home().join("data"))
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// What a run of `ctr` left: its output and exit status.
pub struct Outcome {
    what: String,
    output: Output,
}

impl Outcome {
    /// The outcome of `what`.
    pub fn new(what: String, output: Output) -> Outcome {
        Outcome { what, output }
    }

    /// Standard output, byte by byte.
    pub fn bytes(&self) -> &[u8] {
        &self.output.stdout
    }

    /// Standard output as text.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// The exit code, 128 + n for a signal.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = self.output.status;
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// It exited 0; standard output without the last line feed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code(), 0, "{self}");
        self.stdout().trim_end_matches('\n').to_owned()
    }

    /// It exited with `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Outcome {
        assert_eq!(self.code(), code, "{self}");
        self
    }

    /// It failed as ours: exit 125, exactly one `error:` line, which holds `about`, and a `hint:` line; no panic.
    #[track_caller]
    pub fn fails(self, about: &str) -> Outcome {
        assert_eq!(self.code(), 125, "{self}");
        let stderr = self.stderr();
        let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error:")).collect();
        assert_eq!(errors.len(), 1, "one error line, {self}");
        assert!(
            errors[0].to_lowercase().contains(&about.to_lowercase()),
            "no {about:?} in the error, {self}"
        );
        assert!(stderr.lines().any(|line| line.starts_with("hint: ")), "no hint, {self}");
        assert!(!stderr.contains("panicked"), "{self}");
        self
    }

    /// Its hint names `command`.
    #[track_caller]
    pub fn hints(self, command: &str) -> Outcome {
        let stderr = self.stderr();
        let hint = stderr.lines().find(|line| line.starts_with("hint: ")).unwrap_or_default();
        assert!(hint.contains(command), "no {command:?} in the hint, {self}");
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code();
        write!(f, "{} exited {code}\n--- stdout\n{}\n--- stderr\n{}", self.what, self.stdout(), self.stderr())
    }
}

/// The program under test, where every user may run it.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_ctr"));
        let open = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o005 == 0o005);
        if !rustix::process::getuid().is_root() || built.ancestors().all(open) {
            return built;
        }
        // One copy for each build, shared by all test processes; its directory is root's alone.
        let dir = PathBuf::from("/var/tmp/ctr-test-bin");
        fs::create_dir_all(&dir).expect("make a directory for the binary");
        assert_eq!(fs::symlink_metadata(&dir).expect("stat it").uid(), 0, "{} must be root's", dir.display());
        let meta = fs::metadata(&built).expect("stat the binary");
        let copy = dir.join(format!("ctr-{}-{}-{}", meta.ino(), meta.mtime(), meta.mtime_nsec()));
        if !copy.exists() {
            let draft = dir.join(format!("draft-{}", std::process::id()));
            fs::copy(&built, &draft).expect("copy the binary");
            fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).expect("chmod the binary");
            fs::rename(&draft, &copy).expect("publish the binary");
        }
        copy
    })
}

fn walk(root: &Path, path: &Path, found: &mut BTreeMap<PathBuf, String>) {
    use sha2::Digest;
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    let kind = meta.file_type();
    let content = if kind.is_symlink() {
        format!("-> {}", fs::read_link(path).expect("read a link").display())
    } else if kind.is_file() {
        let hash = fs::read(path).map(sha2::Sha256::digest).unwrap_or_default();
        format!("{} {}", meta.len(), hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    } else {
        String::new()
    };
    let name = path.strip_prefix(root).expect("a path below the root").to_owned();
    found.insert(name, format!("{:o} {}:{} {content}", meta.mode(), meta.uid(), meta.gid()));
    if kind.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten() {
            walk(root, &entry.expect("read a directory").path(), found);
        }
    }
}
