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

/// A root file system of busybox in the home, for `--rootfs`: what is written there would be written for real.
fn rootfs(ctr: &Ctr, name: &str) -> PathBuf {
    let dir = ctr.home().join(name);
    ctr.file(&format!("{name}/bin/busybox"), fs::read("/bin/busybox").expect("read busybox"));
    let mode = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
    mode(&dir.join("bin/busybox"));
    for applet in ["sh", "cat", "grep", "id", "true", "find", "ls", "stat"] {
        symlink("busybox", dir.join("bin").join(applet)).expect("make a link");
    }
    dir
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
            for target in [&absolute, &up, &magic, &host] {
                let file = place.contains('/');
                let target = if file { format!("{target}/hosts") } else { target.clone() };
                number += 1;
                let root = rootfs(&ctr, &format!("root{number}"));
                let link = root.join(place);
                fs::create_dir_all(link.parent().expect("a parent")).expect("make a directory");
                symlink(&target, &link).expect("make a link");
                if let Some((uid, gid)) = ctr.user().ids() {
                    std::os::unix::fs::chown(link.parent().expect("a parent"), Some(uid), Some(gid))
                        .expect("chown");
                }
                let script =
                    "cat /etc/* /run/.* /run/* 2>/dev/null; grep -rs CANARY /etc /run /dev/shm; true";
                for suffix in if user == User::Rootless { &["", ":O"][..] } else { &[""] } {
                    let dir = format!("{}{suffix}", root.display());
                    let arguments = ["run", "--rm", "--network=none", "--rootfs", &dir, "sh", "-c", script];
                    let outcome = ctr.run(arguments);
                    assert_eq!(snapshot(&canary), before, "{place} -> {target}: {outcome}");
                    assert!(!outcome.stdout().contains("CANARY"), "{place} -> {target}: {outcome}");
                    let refused = ["proc", "sys", "dev"].contains(&place);
                    let named = || {
                        outcome.stderr().contains(&format!("/{place}"))
                            || outcome.stderr().contains(" /etc/hosts")
                    };
                    assert!(
                        if outcome.code() == 125 {
                            named() || outcome.stderr().contains("/run/")
                        } else {
                            outcome.code() == 0 && !refused
                        },
                        "{place} -> {target}: {outcome}"
                    );
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

/// What id(1) says, without a look into /etc/passwd.
const IDS: &str = "stat -Lc %u /proc/self; stat -Lc %g /proc/self; echo \"[$HOME]\"";

#[test]
fn users_of_a_hostile_file() {
    for &user in User::all() {
        let ctr = Ctr::new(user);
        let root = rootfs(&ctr, "root");
        ctr.file("root/etc/group", "app:x:7:\n");
        let passwd = root.join("etc/passwd");
        let root = root.display().to_string();
        let run = |who: &str| {
            ctr.run(["run", "--rm", "--network=none", "--rootfs", "-u", who, &root, "sh", "-c", IDS])
        };
        let own = |path: &Path| {
            if let Some((uid, gid)) = ctr.user().ids() {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("chown");
            }
        };
        let other = if user == User::Single { "0" } else { "5" };
        let started = std::time::Instant::now();

        rustix::fs::mkfifoat(rustix::fs::CWD, &passwd, rustix::fs::Mode::RWXU).expect("make a FIFO");
        own(&passwd);
        run("app").fails("not in the image's /etc/passwd");
        let ids = run(other).ok();
        assert!(ids.starts_with(&format!("{other}\n0\n")), "as {user:?}: {ids}");
        fs::remove_file(&passwd).expect("remove the FIFO");

        let lines = "minus:x:-1:0::/:\nbig:x:4294967296:0::/:\nhuge:x:4294967295:0::/:\nhex:x:0x0:0::/:\nempty:x:::/:\n\
            root:x:0:0:root:/ro\rot\u{1b}[31m:/bin/sh\nsplit:x:0:0::/home\nSECRET=1:/bin/sh\n";
        ctr.file("root/etc/passwd", lines);
        for name in [
            "minus",
            "big",
            "huge",
            "hex",
            "empty",
            "-1",
            "4294967296",
            "4294967295",
            "0x0",
            "0:4294967295",
            "SECRET=1",
        ] {
            run(name).exits(125);
        }
        assert_eq!(run("root").ok(), "0\n0\n[/root]", "a home of control characters is none, as {user:?}");
        assert_eq!(run("split").ok(), "0\n0\n[/home]", "as {user:?}");

        fs::File::options()
            .write(true)
            .open(&passwd)
            .and_then(|file| file.set_len(2 << 30))
            .expect("make it huge");
        assert_eq!(run("split").ok(), "0\n0\n[/home]", "as {user:?}");
        assert!(started.elapsed().as_secs() < 10, "nothing was waited for, as {user:?}");
    }
}

#[test]
fn users_that_an_image_names() {
    let ctr = Ctr::new(User::Rootless).with_hub();
    for (number, name) in
        ["4294967296", "-1", "0x0", "nobody2", "root:nogroup2", "a\nb", "1000:-1"].into_iter().enumerate()
    {
        let image = format!("user{number}");
        let config = serde_json::json!({ "Env": ["PATH=/bin"], "User": name });
        TestImage::new([Layer::busybox()])
            .config(config)
            .push(support::Registry::plain(), &format!("library/{image}:latest"));
        ctr.payload_of(&image, &[], &["id", "-u"]).exits(125);
    }
    let config = serde_json::json!({ "Env": ["PATH=/bin"], "User": "1000:" });
    let ctr = ctr.with_image("user", TestImage::new([Layer::busybox()]).config(config));
    assert_eq!(ctr.payload_of("user", &[], &["sh", "-c", "id -u; id -g"]).ok(), "1000\n1000");
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
fn nothing_of_the_callers_environment_comes_in() {
    let config = serde_json::json!({
        "Env": ["PATH=/bin", "SECRET", "*", "SECRET*", "SEC*", "=SECRET", "LD_PRELOAD", "HOME*"], "Cmd": ["env"],
    });
    for &user in User::all() {
        let image = TestImage::new([Layer::busybox()]).config(config.clone());
        let ctr = Ctr::new(user).with_hub().with_image("env", image);
        for options in [&[][..], &["--init"], &["-t"]] {
            let script =
                "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; cat /proc/*/cmdline | tr '\\0' '\\n'";
            let arguments =
                [&["run", "--rm", "--network=none"], options, &["env", "sh", "-c", script]].concat();
            let mut command = ctr.command(arguments);
            let output =
                command.env("SECRET", "canary").env("SECRETS", "canary").output().expect("start ctr");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                output.status.success() && said.contains("container=ctr"),
                "as {user:?}: {}",
                words(&output)
            );
            for word in ["canary", "SECRET", "XDG", "--network", &ctr.home().display().to_string()] {
                assert!(!said.contains(word), "{word} as {user:?} {options:?}: {}", words(&output));
            }
        }
        // Asked for by its user, it does.
        let mut command = ctr.command(["run", "--rm", "--network=none", "-e", "SECRET", "env"]);
        let output = command.env("SECRET", "canary").output().expect("start ctr");
        assert!(words(&output).contains("SECRET=canary"), "as {user:?}: {}", words(&output));
    }
}

/// config.json of a container of `image`, without what differs from one container to the next.
fn specification(ctr: &Ctr, image: &str) -> serde_json::Value {
    let cidfile = ctr.home().join("id");
    let path = cidfile.display().to_string();
    ctr.run(["run", "--network=none", "--cidfile", &path, image, "true"]).ok();
    let id = fs::read_to_string(&cidfile).expect("the id");
    fs::remove_file(&cidfile).expect("remove the cidfile");
    let text =
        fs::read_to_string(ctr.data().join("containers").join(&id).join("config.json")).expect("config.json");
    let mut value = serde_json::from_str(&text.replace(&id, "ID").replace(&id[..12], "ID")).expect("JSON");
    sort(&mut value);
    value
}

/// Sets come in no order.
fn sort(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(list) if list.iter().all(serde_json::Value::is_string) => {
            list.sort_by_key(|item| item.as_str().unwrap_or_default().to_owned());
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(sort),
        serde_json::Value::Object(map) => map.values_mut().for_each(sort),
        _ => {}
    }
}

#[test]
fn what_an_image_says_of_itself_changes_no_policy() {
    let words = [
        "run.oci.keep_original_groups",
        "run.oci.handler",
        "run.oci.systemd.subgroup",
        "run.oci.delegate-cgroup",
        "run.oci.hooks.stdout",
        "run.oci.mount_context_type",
        "run.oci.seccomp.receiver",
        "run.oci.seccomp_fail_unknown_syscall",
        "org.criu.config",
        "org.systemd.property.DeviceAllow",
        "io.podman.annotations.privileged",
        "io.podman.annotations.seccomp",
        "io.podman.annotations.label",
        "io.podman.annotations.userns",
        "io.podman.annotations.autoremove",
        "io.containers.seccomp.profile",
        "io.containers.trace-syscall",
        "io.containers.capabilities",
        "io.containers.autoupdate",
        "io.kubernetes.cri-o.userns-mode",
        "io.kubernetes.cri-o.Devices",
        "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel",
        "io.kubernetes.cri-o.umask",
        "module.wasm.image/variant",
        "com.docker.security.privileged",
        "seccomp-profile.kubernetes.cri-o.io",
        "container.apparmor.security.beta.kubernetes.io/x",
    ];
    let value =
        |word: &&str| ((*word).to_owned(), serde_json::Value::from("unconfined 1 --cap-add=ALL /:/host"));
    let map: serde_json::Map<String, serde_json::Value> = words.iter().map(value).collect();
    let loud = serde_json::json!({
        "Env": ["PATH=/bin"], "Labels": map, "Privileged": true, "CapAdd": ["ALL"], "SecurityOpt": ["seccomp=unconfined"],
        "Binds": ["/:/host"], "Devices": ["/dev/kmsg"], "NetworkMode": "host", "Annotations": map, "Mounts": [{ "Source": "/" }],
        "ExposedPorts": { "80/tcp": {} }, "Healthcheck": { "Test": ["CMD", "x"] }, "OnBuild": ["RUN x"], "Tty": true,
        "Shell": ["/x"], "Hostname": "evil", "Domainname": "evil", "ArgsEscaped": true, "MacAddress": "02:00:00:00:00:01",
    });
    let plain = serde_json::json!({ "Env": ["PATH=/bin"] });
    for &user in User::all() {
        let annotations = map.clone();
        let image = TestImage::new([Layer::busybox()]).config(loud.clone()).tweak(move |manifest| {
            manifest["annotations"] = annotations.clone().into();
            manifest["config"]["annotations"] = annotations.clone().into();
            manifest["layers"][0]["annotations"] = annotations.clone().into();
        });
        let ctr = Ctr::new(user).with_hub().with_image("loud", image);
        let ctr = ctr.with_image("plain", TestImage::new([Layer::busybox()]).config(plain.clone()));
        assert_eq!(specification(&ctr, "loud"), specification(&ctr, "plain"), "as {user:?}");
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
