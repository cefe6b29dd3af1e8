//! What a service manager gives to the program that it starts, without one: the tests talk as systemd does.
//! tests/guest has the real thing.

mod support;

use std::{os::unix::net::UnixDatagram, process::Command, time::Duration};
use support::{Ctr, Outcome, User};

/// `ctr` as the last arguments of a shell script.
fn under(ctr: &Ctr, script: &str, arguments: &[&str]) -> Command {
    ctr.wrapped(&["sh", "-c", &format!("{script}; exec \"$@\""), "sh"], arguments)
}

fn outcome(mut command: Command) -> Outcome {
    Outcome::new(format!("{command:?}"), command.output().expect("run ctr"))
}

fn manager(ctr: &Ctr) -> UnixDatagram {
    let path = ctr.home().join("run/manager");
    let socket = UnixDatagram::bind(&path).expect("listen");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("chmod");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set a timeout");
    socket
}

fn hear(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let length = socket.recv(&mut bytes).expect("hear from ctr");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn open_sockets_are_the_payloads() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.file("three", "of three\n").file("five", "of five\n");
        let run = ["run", "--rm", "--network=none", "box", "sh", "-c"];
        let given = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web; exec 3<three";
        let say = "echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; cat <&3";
        assert_eq!(
            outcome(under(&ctr, given, &[&run[..], &[say]].concat())).ok(),
            "1 1 web\nof three",
            "as {user:?}"
        );
        // Another's are not ours to pass on.
        let others = "export LISTEN_PID=1 LISTEN_FDS=1; exec 3<three";
        let look = "echo -$LISTEN_FDS-; ls /proc/self/fd | wc -l";
        assert_eq!(outcome(under(&ctr, others, &[&run[..], &[look]].concat())).ok(), "--\n4", "as {user:?}");
    }
}

#[test]
fn listed_descriptors_alone() {
    let ctr = Ctr::with_box(User::all()[0]);
    ctr.file("three", "of three\n").file("five", "of five\n");
    let run = [
        "run",
        "--rm",
        "--network=none",
        "--preserve-fd=5",
        "box",
        "sh",
        "-c",
        "cat <&5; ls /proc/self/fd | wc -l",
    ];
    // 4 is not open, 3 is not listed.
    assert_eq!(outcome(under(&ctr, "exec 3<three 5<five", &run)).ok(), "of five\n5");
    outcome(under(&ctr, "true", &run)).fails("--preserve-fd 5");
}

#[test]
fn a_manager_hears_of_the_start() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let socket = manager(&ctr);
        let notify = format!("export NOTIFY_SOCKET={}", ctr.home().join("run/manager").display());
        let run = ["run", "--rm", "--network=none", "--sdnotify=conmon", "box", "true"];
        outcome(under(&ctr, &notify, &run)).ok();
        assert_eq!(hear(&socket), "READY=1", "as {user:?}");
        let run = [
            "run",
            "-d",
            "--name=x",
            "--network=none",
            "--sdnotify=healthy",
            "--health-cmd=true",
            "box",
            "sleep",
            "1000",
        ];
        outcome(under(&ctr, &notify, &run)).ok();
        let monitor = ctr.run(["inspect", "--format={{.State.ConmonPid}}", "x"]).ok();
        assert_eq!(hear(&socket), format!("MAINPID={monitor}"), "as {user:?}");
        assert_eq!(hear(&socket), "READY=1", "as {user:?}");
        ctr.run(["rm", "-f", "x"]).ok();
        let run = [
            "run",
            "--rm",
            "--network=none",
            "box",
            "sh",
            "-c",
            "echo $NOTIFY_SOCKET; ls -l $NOTIFY_SOCKET | cut -c1-10",
        ];
        assert_eq!(
            outcome(under(&ctr, &notify, &run)).ok(),
            "/run/notify/notify.sock\nsrw-rw-rw-",
            "as {user:?}"
        );
        let run = [
            "run",
            "--rm",
            "--network=none",
            "--sdnotify=ignore",
            "box",
            "sh",
            "-c",
            "echo -$NOTIFY_SOCKET-",
        ];
        assert_eq!(outcome(under(&ctr, &notify, &run)).ok(), "--", "as {user:?}");
        // A watchdog is ours to feed where we say that it is ready.
        let watched = format!("{notify} WATCHDOG_USEC=300000 WATCHDOG_PID=$$");
        let run = ["run", "--rm", "--network=none", "--sdnotify=conmon", "box", "sleep", "0.2"];
        outcome(under(&ctr, &watched, &run)).ok();
        assert_eq!([hear(&socket), hear(&socket)], ["READY=1", "WATCHDOG=1"], "as {user:?}");
        socket.set_nonblocking(true).expect("not wait");
        while socket.recv(&mut [0; 10]).is_ok() {}
        let run = ["run", "--rm", "--network=none", "--sdnotify=ignore", "box", "true"];
        outcome(under(&ctr, &watched, &run)).ok();
        assert!(socket.recv(&mut [0; 10]).is_err(), "as {user:?}");
    }
}

#[test]
fn options() {
    let ctr = Ctr::with_box(User::all()[0]);
    let shown = |options: &[&str], format: &str| {
        ctr.run([&["create", "--name=x", "--replace", "--network=none"], options].concat()).ok();
        ctr.run(["inspect", &format!("--format={format}"), "x"]).ok()
    };
    let systemd = "{{.Config.SystemdMode}} {{.Config.StopSignal}}";
    assert_eq!(shown(&["box", "/sbin/init"], systemd), "true SIGRTMIN+3");
    assert_eq!(shown(&["--systemd=false", "box", "/sbin/init"], systemd), "false SIGTERM");
    assert_eq!(shown(&["box", "true"], systemd), "false SIGTERM");
    assert_eq!(shown(&["--systemd=always", "--stop-signal=INT", "box", "true"], systemd), "true SIGINT");
    ctr.run(["rm", "x"]).ok();
    for (option, about) in [
        ("--sdnotify=x", "--sdnotify x"),
        ("--systemd=x", "--systemd x"),
        ("--oom-score-adj=1001", "--oom-score-adj 1001"),
        ("--preserve-fd=1", "--preserve-fd 1"),
    ] {
        ctr.run(["run", "--rm", option, "box", "true"]).fails(about);
    }
    let score =
        ["run", "--rm", "--network=none", "--oom-score-adj=700", "box", "cat", "/proc/self/oom_score_adj"];
    assert_eq!(ctr.run(score).ok(), "700");
    let tmpfs = ["run", "--rm", "--network=none", "--systemd=true", "box", "true"];
    ctr.run(tmpfs).ok();
}

/// A helper that lives beside the container, fuse-overlayfs here, would hold a socket open that is the payload's.
#[test]
fn helpers_have_no_part_in_them() {
    let ctr = Ctr::with_box(User::all()[0]);
    ctr.file("three", "of three\n");
    let run =
        ["--storage-driver=fuse-overlayfs", "run", "-d", "--name=x", "--network=none", "--preserve-fds=1"];
    outcome(under(&ctr, "exec 3<three", &[&run[..], &["box", "sleep", "1000"]].concat())).ok();
    let pids = ctr.run(["inspect", "--format={{.State.ConmonPid}} {{.State.Pid}}", "x"]).ok();
    let (monitor, payload) = pids.split_once(' ').expect("two numbers");
    let holds = |pid: &str| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let paths = open.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
        Some(paths.filter(|path| path.ends_with("three")).count())
    };
    let children =
        std::fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).expect("children");
    assert_eq!((holds(monitor), holds(payload).unwrap_or(1)), (Some(1), 1));
    let helpers: Vec<&str> = children.split_whitespace().filter(|pid| *pid != payload).collect();
    assert!(!helpers.is_empty());
    // Whose files only root may look at is left out.
    assert!(helpers.iter().all(|pid| holds(pid).unwrap_or(0) == 0));
    ctr.run(["rm", "-f", "-t0", "x"]).ok();
}
