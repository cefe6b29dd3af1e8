//! The verbs on an empty store, through the binary: what they print, what they refuse, and their exit statuses.

use assert_cmd::Command;
use std::{fs, os::unix::process::ExitStatusExt, path::Path};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().expect("a directory for the test"))
    }

    fn ctr(&self, line: &str) -> Command {
        let mut command = Command::cargo_bin("ctr").expect("ctr is built");
        let dir = |name: &str| self.0.path().join(name);
        fs::create_dir_all(dir("run")).expect("make a directory");
        command
            .env("HOME", dir("home"))
            .env("XDG_DATA_HOME", dir("data"))
            .env("XDG_RUNTIME_DIR", dir("run"))
            .env("XDG_CONFIG_HOME", dir("config"))
            .env("XDG_CACHE_HOME", dir("cache"))
            .arg("--root")
            .arg(dir("data/ctr"))
            .arg("--runroot")
            .arg(dir("run/ctr"))
            .args(line.split_whitespace());
        command
    }

    /// Exit status, stdout, stderr.
    fn run(&self, line: &str) -> (i32, String, String) {
        let output = self.ctr(line).output().expect("ctr starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
    }

    fn prints(&self, line: &str, expected: &str) {
        assert_eq!(self.run(line), (0, expected.to_owned(), String::new()), "{line}");
    }

    /// One error and one hint on stderr, nothing on stdout.
    fn refuses(&self, line: &str, status: i32, said: &str) {
        let (code, out, err) = self.run(line);
        let lines: Vec<_> = err.lines().collect();
        assert_eq!((code, out.as_str()), (status, ""), "{line}: {err}");
        assert!(lines[0].starts_with("error: ") && lines[0].contains(said), "{line}: {err}");
        assert!(lines.len() == 2 && lines[1].starts_with("hint: "), "{line}: {err}");
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("it exists").permissions().mode() & 0o7777
}

#[test]
fn version() {
    let home = Home::new();
    let version = env!("CARGO_PKG_VERSION");
    home.prints("--version", &format!("ctr version {version}\n"));
    home.prints("-v", &format!("ctr version {version}\n"));
    let (code, out, err) = home.run("version");
    assert!(
        code == 0
            && out.contains(&format!("Version:      {version}\n"))
            && out.contains("OS/Arch:      linux/")
    );
    assert_eq!(err, "");
    let (_, json, _) = home.run("version -f json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["Client"]["Version"], version);
}

#[test]
fn help() {
    let home = Home::new();
    for line in ["--help", "ps --help", "images -h", "image --help", "container ls --help", "help rm"] {
        let (code, out, err) = home.run(line);
        assert!(code == 0 && out.contains("Usage: ctr") && err.is_empty(), "{line}: {code} {out}{err}");
    }
    // Nothing was asked: help, but not as an answer.
    for args in [&[][..], &["image"], &["container"]] {
        let assert = Command::cargo_bin("ctr").unwrap().args(args).assert().code(125).stdout("");
        assert!(String::from_utf8_lossy(&assert.get_output().stderr).contains("Usage: ctr"), "{args:?}");
    }
}

#[test]
fn empty_listings() {
    let home = Home::new();
    let containers = "CONTAINER ID  IMAGE       COMMAND     CREATED     STATUS      PORTS       NAMES\n";
    let images = "REPOSITORY  TAG         IMAGE ID    CREATED     SIZE\n";
    for (line, expected) in [
        ("ps", containers),
        ("ps -a --no-trunc", containers),
        ("container ls", containers),
        ("container ps -n 3", containers),
        ("ps --noheading", ""),
        ("ps --format table", containers),
        ("ps --format {{.ID}}", ""),
        ("ps --all=true --noheading=false", containers),
        ("ps -a --size --noheading", ""),
        ("images --format table", images),
        ("ps -qa", ""),
        ("ps --format json", "[]\n"),
        ("ps --filter name=a --filter status=exited -l --noheading", ""),
        ("images", images),
        ("image ls", images),
        ("image list -a", images),
        ("images ubuntu", images),
        ("images --digests", "REPOSITORY  TAG         DIGEST      IMAGE ID    CREATED     SIZE\n"),
        ("images -n", ""),
        ("images -q", ""),
        ("images --format=json", "[]\n"),
        ("rm -a", ""),
        ("rm -i nothing", ""),
        ("rm -f nothing", ""),
        ("rmi -a", ""),
        ("rmi -i nothing", ""),
    ] {
        home.prints(line, expected);
    }
}

#[test]
fn bad_input() {
    let home = Home::new();
    for (line, status, said) in [
        ("rm nothing", 1, "no container has the name or id \"nothing\""),
        ("rm ../../etc", 1, "no container"),
        ("container rm nothing", 1, "no container"),
        ("rmi nothing", 1, "no image has the name or id \"nothing\""),
        ("rm", 125, "<CONTAINER>"),
        ("rm -a x", 125, "cannot be used with"),
        ("rmi", 125, "<IMAGE>"),
        ("inspect", 125, "<NAME>"),
        ("inspect --type pod x", 125, "'pod'"),
        ("inspect -f {{.Id}} x", 125, "no container or image"),
        ("inspect -f {{.Id x", 125, "template 1:1: the action has no `}}`"),
        ("inspect -l", 125, "there is no container"),
        ("image inspect -s x", 125, "--size is of containers"),
        ("images --format {{end}}", 125, "template 1:1: {{end}} ends nothing"),
        ("images --filter pod=x", 125, "the filter \"pod\" is not built"),
        ("images --filter before=x", 125, "no image has the name or id \"x\""),
        ("images --sort x", 125, "'x'"),
        ("ps --format {{foo}}", 125, "the function \"foo\" is not known"),
        ("ps --filter before=x", 1, "no container has the name or id \"x\""),
        ("ps --sort x", 125, "'x'"),
        ("ps --watch=1", 125, "'--watch'"),
        ("ps -qs", 125, "cannot be used with"),
        ("ps --filter colour=x", 125, "the filter \"colour\" is not built"),
        ("ps --filter x", 125, "KEY=VALUE"),
        ("ps --ns", 125, "'--ns'"),
        ("ps -n x", 125, "'x'"),
        ("ps -n 1 -l", 125, "cannot be used with"),
        ("version x", 125, "'x'"),
        ("info --debug", 125, "'--debug'"),
        ("nothing", 125, "'nothing'"),
        ("--nothing", 125, "'--nothing'"),
        ("--storage-driver btrfs ps", 125, "'btrfs'"),
    ] {
        home.refuses(line, status, said);
    }
    for name in ["", "\n", "a\u{1b}[2J"] {
        let output = home.ctr("rm --").arg(name).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && !said.contains('\u{1b}'), "{said}");
    }
}

#[test]
fn inspect_prints_what_it_found_and_says_what_not() {
    let home = Home::new();
    for (line, said) in [
        ("inspect nothing", "no container or image"),
        ("inspect --type image nothing", "no image"),
        ("image inspect nothing", "no image"),
        ("container inspect nothing", "no container"),
    ] {
        let (code, out, err) = home.run(line);
        assert!(code == 125 && out == "[]\n" && err.contains(said), "{line}: {out}{err}");
    }
}

#[test]
fn info() {
    let home = Home::new();
    let (code, yaml, err) = home.run("info");
    assert!(
        code == 0 && err.is_empty() && yaml.contains("\n  containerStore:\n    damaged: 0\n"),
        "{yaml}{err}"
    );
    let (_, json, _) = home.run("info -f json");
    let info: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(info["store"]["graphRoot"], home.0.path().join("data/ctr").to_str().unwrap());
    assert!(
        info["host"]["helpers"]["newuidmap"].is_string()
            || info["host"]["helpers"]["newuidmap"]["hint"].is_string()
    );
    assert_eq!(fs::read_dir(home.0.path().join("data/ctr/tmp")).unwrap().count(), 0);
}

#[test]
fn the_store_is_private_under_any_umask() {
    let home = Home::new();
    let binary = assert_cmd::cargo::cargo_bin("ctr");
    let root = home.0.path().join("root");
    let script = format!(
        "umask 000; {} --root {root} --runroot {root}-run ps",
        binary.display(),
        root = root.display()
    );
    Command::new("sh").args(["-c", &script]).assert().success();
    assert_eq!(mode(&root), 0o700);
}

/// Nobody reads on, or there is no room: the verb ends like any program, without a panic.
#[test]
fn a_closed_pipe_and_a_full_disk() {
    let home = Home::new();
    for verb in ["--help", "info", "ps -a"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let stdout = |to: std::process::Stdio| {
            let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("ctr"));
            command.arg("--root").arg(home.0.path()).arg("--runroot").arg(home.0.path());
            command.env("HOME", home.0.path()).args(verb.split(' ')).stdout(to).output().unwrap()
        };
        let closed = stdout(writer.into());
        assert_eq!((closed.status.signal(), closed.stderr.as_slice()), (Some(13), &b""[..]), "{verb}");
        let full = stdout(fs::File::options().write(true).open("/dev/full").unwrap().into());
        let said = String::from_utf8(full.stderr).unwrap();
        assert!(full.status.code() == Some(125) && said.contains("No space left"), "{verb}: {said}");
    }
}

/// What a container has left, and a container whose record is damaged, both without its monitor.
#[test]
fn dead_containers() {
    let home = Home::new();
    home.prints("ps -q", "");
    let ids = ["a", "b"].map(|digit| digit.repeat(64));
    let data = home.0.path().join("data/ctr");
    for (id, name) in ids.iter().zip(["web", "damaged"]) {
        let dir = data.join("containers").join(id);
        fs::create_dir_all(dir.join("upper/etc")).unwrap();
        fs::create_dir_all(dir.join("work/work")).unwrap();
        for (file, text) in [("lock", ""), ("layers", ""), ("upper/etc/file", "x")] {
            fs::write(dir.join(file), text).unwrap();
        }
        std::os::unix::fs::symlink(id, data.join("names").join(name)).unwrap();
    }
    let record = format!(
        r#"{{"id":"{}","name":"web","created":"2020-01-01T00:00:00Z","image":"docker.io/library/a:b","args":["sh","-c","echo a long command"],"labels":{{"team":"x"}}}}"#,
        ids[0]
    );
    fs::write(data.join("containers").join(&ids[0]).join("container.json"), record).unwrap();
    let exit = r#"{"code":137,"started":"2020-01-01T00:00:00Z","finished":null}"#;
    fs::write(data.join("containers").join(&ids[0]).join("exit"), exit).unwrap();
    fs::write(data.join("containers").join(&ids[1]).join("container.json"), "{").unwrap();

    home.ctr("ps")
        .assert()
        .success()
        .stdout("CONTAINER ID  IMAGE       COMMAND     CREATED     STATUS      PORTS       NAMES\n");
    let (code, out, err) = home.run("ps -a --noheading");
    let columns: Vec<_> = out.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!(code, 0);
    assert_eq!(columns[..3], ["aaaaaaaaaaaa", "docker.io/library/a:b", "sh -c echo a long..."]);
    assert!(columns[3].ends_with(" years ago") && columns[4..] == ["Exited (137)", "web"], "{columns:?}");
    assert!(err.starts_with("warning: read container bbbbbbbbbbbb"), "{err}");
    for (filter, shown) in [
        ("label=team=x", true),
        ("label=team=y", false),
        ("name=we", true),
        ("status=exited", true),
        ("status=running", false),
        ("ancestor=a", true),
        ("id=aaa", true),
        ("id=bbb", false),
    ] {
        let (_, out, _) = home.run(&format!("ps -aq --filter {filter}"));
        assert_eq!(out.contains("aaaaaaaaaaaa"), shown, "{filter}");
    }
    let (_, json, _) = home.run("inspect web");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json[0]["Id"].as_str(), &json[0]["State"]["ExitCode"]), (Some(ids[0].as_str()), &137.into()));
    home.prints("rm web bbb", "web\nbbb\n");
    for dir in ["containers", "names", "trash", "tmp"] {
        assert_eq!(fs::read_dir(data.join(dir)).unwrap().count(), 0, "{dir}");
    }
}
