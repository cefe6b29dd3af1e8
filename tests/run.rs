//! The life of a container, from `ctr run` to its exit code, and what is left of it.

mod support;

use rustix::process::Signal;
use std::{collections::BTreeMap, fs, path::PathBuf};
use support::{Ctr, Faults, Layer, Live, Registry, TestImage, User, probe_layer, wait_gone};

/// What the store has below `directory`.
fn below(ctr: &Ctr, directory: &str) -> BTreeMap<PathBuf, String> {
    let mut found = ctr.store();
    found.retain(|path, _| path.starts_with(directory));
    found
}

/// The whole ids of all containers.
fn ids(ctr: &Ctr) -> Vec<String> {
    ctr.run(["ps", "-aq", "--no-trunc"]).ok().lines().map(str::to_owned).collect()
}

/// The host's id of the first process of container `name`.
fn first_process(ctr: &Ctr, name: &str) -> i32 {
    let text = ctr.run(["inspect", name]).ok();
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    value[0]["State"]["Pid"].as_i64().expect("a process id") as i32
}

/// The command lines of all processes of the machine.
fn command_lines() -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("list /proc").flatten();
    let text = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    text.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect()
}

#[test]
fn from_the_registry_to_the_exit_code() {
    let registry = Registry::plain();
    TestImage::new([Layer::busybox()]).push(registry, "run/first:latest");
    for &user in User::all() {
        let faults = Faults::new(registry);
        let ctr = Ctr::new(user);
        ctr.registries(&faults.conf());
        let image = faults.name("run/first");
        let run = |command: &[&str]| ctr.run([&["run", "--network=none", &image], command].concat());
        assert_eq!(run(&["echo", "Hello", "World"]).ok(), "Hello World", "as {user:?}");
        let asked = faults.seen().len();
        assert!(asked > 0, "the image came from the registry");
        run(&["sh", "-c", "exit 7"]).exits(7);
        assert_eq!(faults.seen().len(), asked, "the second run asks no registry, as {user:?}");
    }
}

#[test]
fn exit_codes() {
    let files = Layer::busybox()
        .mode_file("bin/no-interpreter", "#!/no/such/interpreter\n", 0o755)
        .mode_file("bin/garbage", [0x7f, 0, 1, 2, 3], 0o755)
        .mode_file("bin/text", "not executable", 0o644)
        .mode_file("bin/script", "#!/bin/sh\nexit 9\n", 0o755);
    let ctr = Ctr::with_box(User::Rootless).with_image("codes", TestImage::new([files]));
    for (code, command) in [
        (0, &["true"][..]),
        (1, &["false"]),
        (255, &["sh", "-c", "exit 255"]),
        (9, &["script"]),
        (126, &["/etc"]),
        (126, &["/bin/text"]),
        (126, &["text"]),
        (126, &["/bin/garbage"]),
        (127, &["/bin/no-interpreter"]),
        (127, &["/no/such/file"]),
        (127, &["/etc/passwd/x"]),
        (127, &["no-such-command"]),
        (127, &[""]),
    ] {
        let outcome = ctr.payload_of("codes", &[], command).exits(code);
        let told = outcome.stderr();
        let lines = |start| told.lines().filter(|line| line.starts_with(start)).count();
        let expected = usize::from(code == 126 || code == 127);
        assert_eq!((lines("error: "), lines("hint: ")), (expected, expected), "{outcome}");
        assert!(expected == 0 || told.contains(&format!("{:?}", command[0])), "{outcome}");
    }
    // Longer than what a monitor says at once.
    let outcome = ctr.payload_of("codes", &[], &[&"a".repeat(30_000)]);
    assert!(outcome.code() == 127 && outcome.stderr().contains("a\": not found"), "{}", outcome.stderr());
    assert_eq!(ids(&ctr), [""; 0]);
    ctr.run(["run", "--pull=never", "no-such-image", "true"]).fails("no-such-image");
}

#[test]
fn a_signal_that_ends_the_payload_is_128_and_its_number() {
    let ctr = Ctr::with_box(User::Rootless);
    for (name, number) in [("KILL", 9), ("TERM", 15), ("SEGV", 11)] {
        let script = format!("kill -{name} $$");
        ctr.payload(&["--init"], &["sh", "-c", &script]).exits(128 + number);
    }
    let mut live = ctr.live(&["--name", "killed"], &["cat"]);
    live.write("ready\n");
    live.says("ready");
    let pid = rustix::process::Pid::from_raw(first_process(&ctr, "killed")).expect("a process id");
    rustix::process::kill_process(pid, Signal::KILL).expect("kill the payload");
    live.end().exits(137);
}

#[test]
fn the_payload_sees_itself_as_process_1_and_nothing_else() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let text = ctr.payload(&[], &["ps", "-o", "pid,args"]).ok();
        let lines: Vec<&str> = text.lines().skip(1).map(str::trim).collect();
        assert_eq!(lines, ["1 ps -o pid,args"], "as {user:?}");
    }
}

#[test]
fn what_one_run_removes_the_next_one_has() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let layers = below(&ctr, "layers");
        assert!(layers.len() > 10, "the image is there");
        let script = "rm /etc/passwd && ls /etc/passwd; echo new > /etc/group; echo $?";
        assert_eq!(ctr.script(&[], script), "0", "as {user:?}");
        assert!(ctr.script(&[], "cat /etc/passwd /etc/group").contains("nobody:x:65534"), "as {user:?}");
        assert_eq!(below(&ctr, "layers"), layers, "the image was touched, as {user:?}");
    }
    assert!(fs::read_to_string("/etc/passwd").expect("the host's file").contains("root"));
}

#[test]
fn without_rm_it_is_listed_until_it_is_removed() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let before = ctr.store();
        ctr.run(["run", "--network=none", "--name", "kept", "box", "sh", "-c", "exit 3"]).exits(3);
        assert!(!ctr.run(["ps"]).ok().contains("kept"), "it doesn't run any more");
        let listed = ctr.run(["ps", "-a"]).ok();
        let line = listed.lines().find(|line| line.contains("kept")).expect("it is listed");
        assert!(line.contains("Exited (3)"), "{listed}");
        ctr.run(["rm", "kept"]).ok();
        assert!(!ctr.run(["ps", "-a"]).ok().contains("kept"));
        assert_eq!(ctr.store(), before, "as {user:?}");
    }
}

#[test]
fn rm_leaves_nothing() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.payload(&[], &["true"]).ok();
        let (before, runtime) = (ctr.store(), ctr.home().join("run/ctr"));
        let files = |dir: &PathBuf| fs::read_dir(dir).map_or(0, |entries| entries.count());
        let in_runtime = files(&runtime);
        // Files of many kinds, a process that would live on, a directory that its owner can't enter.
        let script =
            "mkdir -m 0 /srv /srv2; mkfifo /f; ln -s x /s; chmod 0 /etc; rm -r /usr; sleep 86413 & exit 4";
        ctr.payload(&[], &["sh", "-c", script]).exits(4);
        ctr.payload(&[], &["/no/such/file"]).exits(127);
        ctr.payload(&["-u", "no-such-user"], &["true"]).fails("no-such-user");
        assert_eq!(ctr.store(), before, "as {user:?}");
        assert_eq!(files(&runtime), in_runtime, "as {user:?}");
        let home = ctr.home().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("our mounts");
        assert!(!mounts.contains(&home), "{mounts}");
        let left: Vec<_> = command_lines();
        assert!(!left.iter().any(|line| line.contains("86413") || line.contains(&home)), "{left:?}");
    }
}

#[test]
fn a_name_belongs_to_one_container() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["run", "--network=none", "--name", "taken", "box", "true"]).ok();
    let before = ctr.store();
    ctr.payload(&["--name", "taken"], &["echo", "ran"]).fails("taken");
    assert_eq!(ctr.store(), before);
    ctr.run(["rm", "taken"]).ok();
    ctr.payload(&["--name", "taken"], &["echo", "ran"]).ok();
}

#[test]
fn of_two_that_want_a_name_at_the_same_time_one_wins() {
    let ctr = Ctr::with_box(User::Rootless);
    for round in 0..4 {
        let wanting = || ctr.live(&["--name", "wanted"], &["sh", "-c", "echo won; cat"]);
        let rivals = [wanting(), wanting(), wanting()];
        let mut won = 0;
        // A loser's stdout ends without a line; the winner waits for its stdin to end.
        let mut winners: Vec<Live> = Vec::new();
        for mut rival in rivals {
            match rival.line() {
                Some(line) => {
                    assert_eq!(line, "won");
                    won += 1;
                    winners.push(rival);
                }
                None => drop(rival.end().fails("wanted")),
            }
        }
        assert_eq!(won, 1, "in round {round}");
        for mut winner in winners {
            winner.close_stdin();
            winner.end().ok();
        }
        assert_eq!(ids(&ctr), [""; 0]);
    }
}

#[test]
fn cidfile_and_pidfile() {
    let ctr = Ctr::with_box(User::Rootless);
    let mut live = ctr.live(&["--cidfile", "id", "--pidfile", "pid"], &["cat"]);
    // Through the container and back: from then on both files are there.
    live.write("ready\n");
    live.says("ready");
    let read = |name: &str| fs::read_to_string(ctr.home().join(name)).expect("the file");
    assert_eq!(ids(&ctr), [read("id")]);
    let status = fs::read_to_string(format!("/proc/{}/status", read("pid"))).expect("the process");
    let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("its ids");
    assert_eq!(inside.split_whitespace().next_back(), Some("1"), "{inside}");
    assert!(status.contains("Name:\tcat"), "{status}");
    live.close_stdin();
    live.end().ok();

    let (id, before) = (read("id"), ctr.store());
    let outcome = ctr.payload(&["--cidfile", "id"], &["echo", "ran"]).fails("id");
    assert_eq!((outcome.stdout(), read("id"), ctr.store()), (String::new(), id, before));
    ctr.payload(&["--cidfile", "no/such/dir"], &["echo", "ran"]).fails("no/such/dir");
}

#[test]
fn two_containers_side_by_side() {
    let ctr = Ctr::with_box(User::Rootless);
    let start = |name: &str| {
        ctr.live(&["--name", name], &["sh", "-c", "hostname; set -- /proc/[0-9]*; echo $#; exec cat"])
    };
    let (mut one, mut two) = (start("one"), start("two"));
    let (first, second) = (one.line(), two.line());
    assert!(first.is_some() && first != second, "{first:?} {second:?}");
    for live in [&mut one, &mut two] {
        live.says("1");
    }
    let listed = ctr.run(["ps"]).ok();
    assert!(listed.contains("one") && listed.contains("two") && listed.contains("Up"), "{listed}");
    one.close_stdin();
    one.end().ok();
    two.write("still here\n");
    two.says("still here");
    two.close_stdin();
    two.end().ok();
    assert_eq!(ids(&ctr), [""; 0]);
}

#[test]
fn a_container_dies_with_its_starter() {
    for options in [&["--name", "orphan"][..], &["--name", "orphan", "--init"]] {
        let ctr = Ctr::with_box(User::Rootless);
        // It outlives the end of its streams, which its starter's death brings.
        let mut live = ctr.live(options, &["sh", "-c", "head -n 1; trap '' PIPE; sleep 1000"]);
        live.write("ready\n");
        live.says("ready");
        let pid = first_process(&ctr, "orphan");
        live.signal(Signal::KILL);
        live.end().exits(137);
        wait_gone(pid);
        // Nobody was left to remove it; the next one who looks does.
        assert_eq!(ids(&ctr), [""; 0]);
        ctr.payload(&["--name", "orphan"], &["true"]).ok();
    }
}

#[test]
fn kill_9_of_ctr_ends_the_container_and_ps_says_so() {
    TestImage::new([probe_layer()]).push(Registry::plain(), "library/probe:latest");
    for &user in User::all() {
        let ctr = Ctr::with_probe(user);
        let switches = if user == User::Single { None } else { Some(&["su", "user", "-c", "cat"][..]) };
        for command in [Some(&["cat"][..]), Some(&["probe", "outlive"]), switches].into_iter().flatten() {
            let mut live =
                ctr.start([&["run", "--network=none", "-i", "--name=x", "probe"], command].concat());
            if command[0] != "probe" {
                live.write("ready\n");
            }
            live.says("ready");
            let pid = first_process(&ctr, "x");
            live.signal(Signal::KILL);
            live.end().exits(137);
            wait_gone(pid);
            let listed = ctr.run(["ps", "-a"]).ok();
            // Its stdin ended as well: cat may have been faster than the signal.
            let ends = if command[0] == "probe" { "Exited (137)" } else { "Exited (" };
            assert!(listed.contains(ends), "as {user:?} {command:?}: {listed}");
            ctr.run(["rm", "x"]).ok();
            assert!(
                ctr.list("containers").is_empty() && ctr.list("names").is_empty(),
                "as {user:?} {command:?}"
            );
        }
    }
}
