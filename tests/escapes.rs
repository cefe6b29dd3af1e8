//! Ways out of a container that others have had (the list of published holes), and that lead nowhere here.

mod support;

use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};
use support::{Compression, Ctr, Layer, TestImage, User, compile, probe_layer};

/// A layer over others.
fn layer() -> Layer {
    Layer::new(Compression::Plain)
}

/// A wrapper with 64 descriptors open from 3 on: directories, the host's root among them, and files.
const MANY_DESCRIPTORS: [&str; 4] = [
    "bash",
    "-c",
    "for n in {3..66}; do if (( n % 2 )); then eval \"exec $n</\"; else eval \"exec $n</etc/hostname\"; fi; done; exec \"$@\"",
    "bash",
];

fn words(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn no_descriptor_of_the_caller_comes_in() {
    for &user in User::all() {
        let ctr = Ctr::with_probe(user);
        for options in [&[][..], &["-i"], &["-t"], &["--init"], &["--init", "-t"], &["--network=private"]] {
            let arguments =
                [&["run", "--rm", "--network=none"], options, &["probe", "probe", "fds"]].concat();
            let output = ctr.wrapped(&MANY_DESCRIPTORS, &arguments).output().expect("start ctr");
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(said.trim(), "0 1 2", "as {user:?} {options:?}: {}", words(&output));
        }
    }
}

#[test]
fn a_working_directory_is_no_descriptor() {
    for &user in User::all() {
        let links = (3..=64)
            .fold(layer(), |layer, n| layer.symlink(&format!("fd{n}"), &format!("/proc/self/fd/{n}")));
        let links =
            links.symlink("out", "/proc/1/root").symlink("cwd", "/proc/self/cwd").symlink("dir", "bin");
        let ctr = Ctr::new(user).with_hub().with_image("wd", TestImage::new([Layer::busybox(), links]));
        let refused = |directory: &str| {
            let arguments = ["run", "--rm", "--network=none", "-w", directory, "wd", "ls"];
            let output = ctr.wrapped(&MANY_DESCRIPTORS, &arguments).output().expect("start ctr");
            assert_eq!(output.status.code(), Some(125), "as {user:?} {directory}: {}", words(&output));
            assert!(output.stdout.is_empty(), "as {user:?} {directory}: {}", words(&output));
        };
        // The paths are the same for all; one kind of user tries each number.
        for n in (3..=64).step_by(if user == User::Rootless { 1 } else { 8 }) {
            refused(&format!("/proc/self/fd/{n}"));
        }
        for n in [3, 8, 13] {
            refused(&format!("/fd{n}"));
            refused(&format!("/fd{n}/../.."));
            refused(&format!("/proc/1/fd/{n}"));
        }
        for directory in
            ["/out", "/cwd", "/proc/self/root", "/proc/1/cwd", "/proc/thread-self/root", "/out/tmp"]
        {
            refused(directory);
        }
        assert_eq!(ctr.payload_of("wd", &["-w", "/dir"], &["pwd", "-P"]).ok(), "/bin");
        assert_eq!(ctr.payload_of("wd", &["-w", "/not/there/yet"], &["pwd", "-P"]).ok(), "/not/there/yet");
    }
}

/// Path to kind, mode, owner and content of everything below `dir`.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).expect("look at a canary");
        let content = if meta.is_file() { fs::read(&path).expect("read a canary") } else { Vec::new() };
        if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).expect("list").map(|entry| entry.expect("list").path()));
        }
        found.insert(path, format!("{:o} {}:{} {content:?}", meta.mode(), meta.uid(), meta.gid()));
    }
    found
}

/// Directories and files like those of a root, in the user's home, under names that a link could lead to.
fn canary(ctr: &Ctr) -> PathBuf {
    for name in
        ["hosts", "hostname", "resolv.conf", ".containerenv", "passwd", "null", "sys/x", "self/x", "kcore"]
    {
        ctr.file(&format!("canary/{name}"), "CANARY\n");
    }
    ctr.home().join("canary")
}

#[test]
fn links_of_a_root_lead_to_no_place_of_the_host() {
    for &user in User::all() {
        let ctr = Ctr::new(user);
        let canary = canary(&ctr);
        let before = snapshot(&canary);
        let absolute = canary.display().to_string();
        let up = format!("../../../../../../../..{absolute}");
        let magic = format!("/proc/self/root{absolute}");
        let host = format!("/proc/1/cwd{absolute}");
        // Another place in the same root: harmless for /etc, but a /proc of the image's choice is none.
        let inside = "/inside".to_owned();
        let mut number = 0;
        for place in [
            "proc",
            "sys",
            "dev",
            "etc",
            "run",
            "etc/hosts",
            "etc/hostname",
            "etc/resolv.conf",
            "run/.containerenv",
        ] {
            for target in [&absolute, &up, &magic, &host, &inside] {
                let file = place.contains('/');
                let target = if file { format!("{target}/hosts") } else { target.clone() };
                number += 1;
                let root = ctr.rootfs(&format!("root{number}"));
                let link = root.join(place);
                fs::create_dir_all(link.parent().expect("a parent")).expect("make a directory");
                symlink(&target, &link).expect("make a link");
                fs::create_dir(root.join("inside")).expect("make a directory");
                if let Some((uid, gid)) = ctr.user().ids() {
                    for dir in [link.parent().expect("a parent"), &root.join("inside")] {
                        std::os::unix::fs::chown(dir, Some(uid), Some(gid)).expect("chown");
                    }
                }
                let script =
                    "cat /etc/* /run/.* /run/* 2>/dev/null; grep -rs CANARY /etc /run /dev/shm; true";
                for suffix in if user == User::Rootless { &["", ":O"][..] } else { &[""] } {
                    let dir = format!("{}{suffix}", root.display());
                    let arguments = ["run", "--rm", "--network=none", "--rootfs", &dir, "sh", "-c", script];
                    let outcome = ctr.run(arguments);
                    assert_eq!(snapshot(&canary), before, "{place} -> {target}: {outcome}");
                    assert!(!outcome.stdout().contains("CANARY"), "{place} -> {target}: {outcome}");
                    let said = outcome.stderr();
                    let contained = match place {
                        "proc" | "sys" | "dev" => outcome.code() == 125 && said.contains("symbolic link"),
                        _ if target.starts_with("/inside") => outcome.code() == 0,
                        _ => outcome.code() == 0 || outcome.code() == 125 && said.contains(place),
                    };
                    assert!(contained, "{place} -> {target}: {outcome}");
                }
            }
        }
    }
}

#[test]
fn a_dev_null_that_is_none_is_not_taken_for_it() {
    // /etc/hosts leads to /dev/null: the file bound there would become every mask.
    for &user in User::all() {
        let null = layer().symlink("etc/hosts", "/dev/null");
        let ctr = Ctr::new(user).with_hub().with_image("null", TestImage::new([Layer::busybox(), null]));
        let outcome = ctr.payload_of("null", &[], &["cat", "/proc/keys"]);
        assert_eq!((outcome.code(), outcome.stdout()), (125, String::new()), "as {user:?}: {outcome}");
    }
}

#[test]
fn device_nodes_of_an_image_open_nothing() {
    for &user in User::all() {
        // random and zero stand for a disk: what they are is seen by reading, and nothing breaks.
        let devices = layer().device("zero", 1, 5).device("dev/random2", 1, 8).device("etc/zero", 1, 5);
        let ctr = Ctr::new(user).with_hub().with_image("nodes", TestImage::new([Layer::busybox(), devices]));
        let script = "for f in /zero /dev/random2 /etc/zero; do head -c 8 $f 2>/dev/null | wc -c; done";
        for options in [&[][..], &["--storage-driver=overlay"], &["--cap-add=MKNOD"]] {
            let (global, options): (Vec<&str>, Vec<&str>) =
                options.iter().partition(|option| option.starts_with("--storage"));
            let arguments =
                [&global[..], &["run", "--rm", "--network=none"], &options, &["nodes", "sh", "-c", script]];
            assert_eq!(ctr.run(arguments.concat()).ok(), "0\n0\n0", "as {user:?} {options:?}");
        }
    }
}

/// A copy of `ctr` that its user may write to, as a user's own installation is.
fn private_copy(ctr: &Ctr) -> PathBuf {
    let program = PathBuf::from(ctr.command(["version"]).get_program());
    ctr.file("bin/ctr", fs::read(program).expect("read ctr"));
    let path = ctr.home().join("bin/ctr");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod ctr");
    path
}

/// [`Ctr::command`] with another binary.
fn with_binary(ctr: &Ctr, binary: &Path, arguments: &[&str]) -> Command {
    let usual = ctr.command(arguments);
    let mut command = Command::new(binary);
    command.args(usual.get_args()).env_clear().current_dir(ctr.home());
    command.envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some((uid, gid)) = ctr.user().ids() {
        command.uid(uid).gid(gid);
    }
    command
}

#[test]
fn the_binary_is_neither_run_nor_written_from_inside() {
    // Opens every executable that it finds and then, through the descriptor, again for writing: CVE-2019-5736.
    let writer = "for n in 1 2 3 4 5; do for p in /proc/[0-9]*; do (exec 7<$p/exe; echo spoiled >/proc/self/fd/7 && echo wrote $p); \
        (echo spoiled > $p/exe) && echo wrote $p; done; done 2>/dev/null; cat /proc/1/exe > /tmp/one 2>/dev/null; \
        /proc/1/exe --version 2>/dev/null; grep -c newuidmap /tmp/one; true";
    let interpreted = compile(&["-Wl,--dynamic-linker=/proc/self/exe"], "int main(void) { return 0; }");
    let files = layer()
        .mode_file("evil", "#!/proc/self/exe\n", 0o755)
        .mode_file("evil-version", "#!/proc/self/exe --version\n", 0o755)
        .mode_file("evil-init", "#!/proc/1/exe\n", 0o755)
        .mode_file("evil-fd", "#!/proc/self/fd/3\n", 0o755)
        .mode_file("evil-elf", &interpreted, 0o755)
        .mode_file("writer", format!("#!/bin/busybox sh\n{writer}\n"), 0o755);
    TestImage::new([Layer::busybox(), files]).push(support::Registry::plain(), "library/evil:latest");
    for &user in User::all() {
        let ctr = Ctr::new(user).with_hub();
        ctr.run(["pull", "-q", "evil"]).ok();
        let binary = private_copy(&ctr);
        let hash = || Sha256::digest(fs::read(&binary).expect("read ctr"));
        let before = hash();
        for init in [&[][..], &["--init"], &["-t"]] {
            let programs = [
                "/evil",
                "/evil-version",
                "/evil-init",
                "/evil-fd",
                "/evil-elf",
                "/proc/self/exe",
                "/proc/1/exe",
                "/writer",
            ];
            for program in programs {
                let arguments =
                    [&["run", "--rm", "--network=none"], init, &["evil", program, "--version"]].concat();
                let output = with_binary(&ctr, &binary, &arguments).output().expect("start ctr");
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(
                    !said.contains("ctr") && !said.contains("wrote"),
                    "as {user:?} {arguments:?}: {}",
                    words(&output)
                );
                if program == "/writer" {
                    assert_eq!(
                        output.status.code(),
                        Some(0),
                        "as {user:?} {arguments:?}: {}",
                        words(&output)
                    );
                    assert_eq!(said.trim(), "0", "as {user:?} {arguments:?}: {}", words(&output));
                } else {
                    let failed = output.status.code().is_some_and(|code| [125, 126, 127].contains(&code));
                    assert!(failed && said.is_empty(), "as {user:?} {arguments:?}: {}", words(&output));
                }
                assert_eq!(hash(), before, "as {user:?} {arguments:?}");
            }
        }
    }
}

#[test]
fn the_store_is_its_users_alone() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let fresh = ctr.home().join("fresh");
        let path = fresh.display().to_string();
        ctr.file("fresh/x", "");
        let wrapper = ["sh", "-c", "umask 000; exec \"$@\"", "sh"];
        let arguments = [
            "--root",
            &format!("{path}/data"),
            "--runroot",
            &format!("{path}/run"),
            "run",
            "--network=none",
            "box",
            "true",
        ];
        let output = ctr.wrapped(&wrapper, &arguments).output().expect("start ctr");
        assert!(output.status.success(), "as {user:?}: {}", words(&output));
        for dir in ["data", "run"] {
            let mode = fs::metadata(fresh.join(dir)).expect("look at the store").mode();
            assert_eq!(mode & 0o7777, 0o700, "{dir} as {user:?}");
        }
        let containers = fs::read_dir(fresh.join("data/containers")).expect("list containers");
        for container in containers.map(|entry| entry.expect("list containers")) {
            assert_eq!(container.metadata().expect("look").mode() & 0o7777, 0o700, "as {user:?}");
        }
        // Somebody else gets nothing, not even a listing.
        if rustix::process::getuid().is_root() {
            let script =
                format!("ls {path}/data || ls {path}/run || cat {path}/data/containers/*/config.json");
            let mut other = Command::new("sh");
            other.args(["-c", &script]).uid(65534).gid(65534).current_dir("/");
            let output = other.output().expect("start sh");
            assert!(!output.status.success() && output.stdout.is_empty(), "as {user:?}: {}", words(&output));
        }
    }
}

#[test]
fn probes_are_what_they_seem() {
    // The same questions to a container without defences: the tests above can fail.
    let ctr = Ctr::new(User::Rootless).with_hub().with_image("bare", TestImage::new([probe_layer()]));
    let bare = ctr.payload_of("bare", &["--privileged"], &["probe", "syscalls"]).ok();
    assert!(bare.contains("unshare-user OK") && bare.contains("mount OK"), "{bare}");
}
