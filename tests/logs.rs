//! `ctr logs` and the log drivers: what was printed comes back, in order, whole, from whatever state the container is in.

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::{fs, io::Read, os::unix::net::UnixDatagram, process::Stdio};
use support::{Ctr, User, wait_gone};

/// A container `name` that has run `script` to its end.
#[track_caller]
fn ran(ctr: &Ctr, name: &str, options: &[&str], script: &str) {
    let named = ["run", "-d", "--network=none", "--name", name];
    ctr.run([&named[..], options, &["box", "sh", "-c", script]].concat()).ok();
    ctr.run(["wait", name]).ok();
}

fn logs(ctr: &Ctr, arguments: &[&str]) -> (String, String) {
    let outcome = ctr.run([&["logs"], arguments].concat()).exits(0);
    (outcome.stdout(), outcome.stderr())
}

fn inspected(ctr: &Ctr, name: &str, what: &str) -> String {
    ctr.run(["inspect", "--format", what, name]).ok()
}

#[test]
fn streams_apart_and_from_the_end() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        for driver in ["k8s-file", "json-file"] {
            let script = "echo out; echo err >&2; echo 'a \\ \"b\"'; printf part";
            ran(&ctr, driver, &["--log-driver", driver], script);
            let got = logs(&ctr, &[driver]);
            assert_eq!(got, ("out\na \\ \"b\"\npart".into(), "err\n".into()), "as {user:?}: {driver}");
            // Which of two pipes is read first is nobody's promise: one stream alone.
            let alone = format!("{driver}-alone");
            ran(&ctr, &alone, &["--log-driver", driver], "echo out; echo 'a \\ \"b\"'; printf part");
            for (tail, out) in [("0", ""), ("1", "part"), ("2", "a \\ \"b\"\npart"), ("-1", &*got.0)] {
                assert_eq!(logs(&ctr, &["--tail", tail, &alone]).0, out, "{driver} {tail}");
            }
            let (out, _) = logs(&ctr, &["-t", "--tail=2", driver]);
            for line in out.lines() {
                let (time, _) = line.split_once(' ').expect("a time");
                assert!(time.len() >= 30 && time.parse::<jiff::Timestamp>().is_ok(), "{line}");
            }
            assert_eq!(logs(&ctr, &["--since", "1h", driver]), got);
            assert_eq!(logs(&ctr, &["--until", "1h", driver]), (String::new(), String::new()));
            assert_eq!(logs(&ctr, &["--since", "2999-01-01", driver]), (String::new(), String::new()));
        }
    }
}

#[test]
fn followed_until_the_end() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        // Several rotations happen on the way.
        let mut container = ctr.live(&["--name=x", "--log-opt=max-size=4k"], &["cat"]);
        container.write("first\n");
        container.says("first");
        let mut follower = ctr.start(["logs", "-f", "x"]);
        follower.says("first");
        for turn in 0..500 {
            let line = format!("{turn:080}");
            container.write(&format!("{line}\n"));
            follower.says(&line);
        }
        let log = inspected(&ctr, "x", "{{.LogPath}}");
        assert!(fs::metadata(&log).expect("the log").len() <= 4096);
        assert!(fs::metadata(format!("{log}.1")).expect("the older log").len() <= 4096);
        let (kept, _) = logs(&ctr, &["x"]);
        let numbers: Vec<usize> = kept.lines().map(|line| line.parse().expect("a number")).collect();
        let expected: Vec<usize> = (500 - numbers.len()..500).collect();
        assert!(numbers.len() > 30 && numbers == expected, "as {user:?}: {numbers:?}");
        container.write("no end");
        container.close_stdin();
        assert_eq!(follower.end().exits(0).stdout(), "no end", "as {user:?}");
        container.end().exits(0);
    }
}

#[test]
fn restarts_are_followed() {
    let ctr = Ctr::with_box(User::Rootless);
    let policy = ["run", "-d", "--network=none", "--name=x", "--restart=on-failure:2", "box"];
    ctr.run([&policy[..], &["sh", "-c", "echo try; exit 1"]].concat()).ok();
    assert_eq!(ctr.run(["logs", "-f", "x"]).ok(), "try\ntry\ntry");
    assert_eq!(ctr.run(["logs", "-f", "x"]).ok(), "try\ntry\ntry", "one that has ended");
}

#[test]
fn several_are_merged_by_time() {
    let ctr = Ctr::with_box(User::Rootless);
    for name in ["a", "b"] {
        ctr.run(["create", "-i", "--network=none", "--name", name, "box", "cat"]).ok();
    }
    let mut all: Vec<_> = ["a", "b"].map(|name| ctr.start(["start", "-ai", name])).into();
    for (at, text) in [(0, "one"), (1, "two"), (0, "three"), (0, "four"), (1, "five")] {
        all[at].write(&format!("{text}\n"));
        all[at].says(text);
    }
    all[0].write("begun ");
    all.drain(..).for_each(|mut container| {
        container.close_stdin();
        container.end().exits(0);
    });
    let names = "a one\nb two\na three\na four\nb five\na begun ";
    assert_eq!(logs(&ctr, &["-n", "a", "b"]).0, names);
    let [a, b] = ["a", "b"].map(|name| inspected(&ctr, name, "{{.Id}}")[..12].to_owned());
    let ids = format!("{a} four\n{b} five\n");
    assert!(logs(&ctr, &["b", "a"]).0.contains(&ids));
    assert_eq!(
        logs(&ctr, &["--names", "--tail=1", "--color", "b", "b"]).0.lines().next(),
        Some("\x1b[37mb five\x1b[0m")
    );
    assert_eq!(ctr.run(["logs", "-l", "--tail=2"]).ok(), logs(&ctr, &["--tail=2", "b"]).0.trim_end());
}

#[test]
fn a_line_without_an_end() {
    const LENGTH: usize = 64 << 20;
    let ctr = Ctr::with_box(User::Rootless);
    for driver in ["k8s-file", "json-file"] {
        ran(
            &ctr,
            driver,
            &["--log-driver", driver],
            "head -c 67108864 /dev/zero | tr '\\0' x; echo; echo end",
        );
        for arguments in [&["logs"][..], &["logs", "--tail=2"]] {
            let limit = ["prlimit", "--as=50000000"];
            let mut bounded = ctr.wrapped(&limit, &[arguments, &[driver]].concat());
            let mut child = bounded.stdout(Stdio::piped()).spawn().expect("start ctr");
            let mut text = Vec::new();
            child.stdout.take().expect("a pipe").read_to_end(&mut text).expect("read");
            assert!(child.wait().expect("wait").success(), "{driver} {arguments:?}");
            assert!(text.len() == LENGTH + 5 && text.ends_with(b"x\nend\n"), "{driver}: {}", text.len());
        }
        assert_eq!(logs(&ctr, &["--tail=1", driver]).0, "end\n");
    }
}

#[test]
fn without_a_monitor_and_on_a_read_only_store() {
    let ctr = Ctr::with_box(User::Root);
    if !rustix::process::getuid().is_root() {
        return;
    }
    let script = "echo up; read -r line";
    ctr.run(["run", "-d", "-i", "--network=none", "--name=x", "box", "sh", "-c", script]).ok();
    ctr.start(["logs", "-f", "x"]).says("up");
    let monitor: i32 = inspected(&ctr, "x", "{{.State.ConmonPid}}").parse().expect("a process id");
    kill_process(Pid::from_raw(monitor).expect("a process id"), Signal::KILL).expect("kill the monitor");
    wait_gone(monitor);
    for follow in [&[][..], &["-f"]] {
        assert_eq!(logs(&ctr, &[follow, &["x"]].concat()).0, "up\n", "{follow:?}");
    }
    let data = ctr.data();
    let script = format!("mount --bind -o ro {0} {0} && exec \"$@\"", data.display());
    let mut command = ctr.outside(&["unshare", "--mount", "sh", "-c", &script, "sh"], &["logs", "x"]);
    let output = command.output().expect("start ctr");
    assert_eq!((&*output.stdout, output.status.code()), (&b"up\n"[..], Some(0)), "{output:?}");
    ctr.run(["rm", "-f", "x"]).ok();
}

#[test]
fn refused() {
    let ctr = Ctr::with_box(User::Rootless);
    ran(&ctr, "silent", &["--log-driver=none"], "echo x");
    ctr.run(["logs", "silent"]).fails("none");
    assert_eq!(ctr.payload(&["--log-driver=none"], &["echo", "x"]).ok(), "x");
    assert_eq!(ctr.payload(&["--log-driver=passthrough", "--name=p"], &["echo", "x"]).ok(), "x");
    ran(&ctr, "through", &["--log-driver=passthrough"], "true");
    ctr.run(["logs", "through"]).fails("passthrough");
    ctr.run(["logs", "nobody"]).exits(1);
    let before = ctr.list("containers");
    for (options, about) in [
        (&["--log-driver=syslog"][..], "syslog"),
        (&["--log-driver=passthrough-tty"], "passthrough-tty"),
        (&["--log-driver=passthrough", "-t"], "passthrough"),
        (&["--log-driver=none", "--log-opt=max-size=1m"], "max-size"),
        (&["--log-opt=max-file=2"], "max-file"),
        (&["--log-opt=path=/dev/null"], "path"),
        (&["--log-opt=path=/nonexistent/x"], "path"),
        (&["--log-opt=tag={{"], "tag"),
        (&["--log-opt=tag={{.Nope}}"], "Nope"),
        (&["--detach-keys=ctrl-"], "detach-keys"),
        (&["-d", "-a", "stdout"], "--attach"),
    ] {
        ctr.payload(options, &["true"]).fails(about);
    }
    assert_eq!(ctr.list("containers"), before, "nothing was made");
}

#[test]
fn the_journal() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let ctr = Ctr::with_box(User::Root);
    ctr.run(["create", "--log-driver=k8s-file", "box", "true"]).ok();
    fs::create_dir(ctr.home().join("journal")).expect("a directory");
    let journald = UnixDatagram::bind(ctr.home().join("journal/socket")).expect("a socket");
    journald.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("a deadline");
    let journal = ctr.home().join("journal");
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind {} /run/systemd/journal && exec \"$@\"",
        journal.display()
    );
    let line =
        ["run", "--rm", "--network=none", "--name=x", "--log-driver=journald", "--log-opt=tag=t-{{.Name}}"];
    let program = "echo line; echo wrong >&2; printf 'part'";
    let all = [&line[..], &["box", "sh", "-c", program]].concat();
    let mut command = ctr.outside(&["unshare", "--mount", "sh", "-c", &script, "sh"], &all);
    let output = command.output().expect("start ctr");
    assert!(output.status.success(), "{output:?}");
    let mut entries: Vec<String> = (0..3)
        .map(|_| {
            let mut bytes = [0; 4096];
            let length = journald.recv(&mut bytes).expect("an entry");
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        })
        .collect();
    entries.sort_by_key(|entry| entry.contains("part\n"));
    let field = |key: &str, value: &str| {
        format!("{key}\n{}{value}\n", String::from_utf8_lossy(&(value.len() as u64).to_le_bytes()))
    };
    for (text, priority, partial) in [("line", 6, false), ("wrong", 3, false), ("part", 6, true)] {
        let entry = entries.iter().find(|entry| entry.contains(&field("MESSAGE", text))).expect(text);
        assert!(entry.contains(&format!("PRIORITY={priority}\n")), "{entry:?}");
        assert!(entry.contains(&field("CONTAINER_NAME", "x")) && entry.contains("CONTAINER_ID_FULL\n"));
        assert!(
            entry.contains(&field("CONTAINER_TAG", "t-x"))
                && entry.contains(&field("SYSLOG_IDENTIFIER", "t-x"))
        );
        assert_eq!(entry.contains("CONTAINER_PARTIAL_MESSAGE=true\n"), partial, "{entry:?}");
    }
    // Where nobody listens, nothing is started.
    if fs::metadata("/run/systemd/journal/socket").is_err() {
        ctr.run(["run", "--log-driver=journald", "box", "true"]).fails("journald");
    }
}
