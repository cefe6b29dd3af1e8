//! The life of a container, through the binary: made, started, stopped, started again, waited for, removed; and what is
//! true of it after kill -9 of anybody.

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use support::{Ctr, Layer, TestImage, User, compile, wait_gone};

/// Removes what a test leaves running.
struct Containers(Ctr);

impl Containers {
    fn of(user: User) -> Containers {
        Containers(Ctr::with_box(user))
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.0.run(line.split_whitespace()).ok()
    }

    /// A container in the background, called `name`.
    #[track_caller]
    fn runs(&self, name: &str, options: &str, script: &str) {
        let options = options.split_whitespace().map(str::to_owned);
        let line = ["run", "-d", "--network=none", "--name", name].map(str::to_owned).into_iter();
        let line = line.chain(options).chain(["box", "sh", "-c", script].map(str::to_owned));
        self.0.run(line).ok();
    }

    /// One field of `inspect`.
    #[track_caller]
    fn field(&self, name: &str, template: &str) -> String {
        self.0.run(["container", "inspect", "--format", template, name]).ok()
    }

    fn state(&self, name: &str) -> String {
        self.field(name, "{{.State.Status}} {{.State.ExitCode}}")
    }

    fn pid(&self, name: &str, which: &str) -> Pid {
        let pid = self.field(name, &format!("{{{{.State.{which}}}}}"));
        Pid::from_raw(pid.parse().expect("a number")).expect("a process id")
    }

    /// The log as the monitor keeps it.
    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.field(name, "{{.LogPath}}")).unwrap_or_default()
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let _ = self.0.run(["rm", "-af"]);
    }
}

const SLEEPS: &str = "exec sleep 1000";
const OBEYS: &str = "trap 'exit 7' TERM; echo ready; while :; do sleep 1000 & wait; done";

#[test]
fn create_start_wait() {
    for &user in User::all() {
        let ctr = Containers::of(user);
        ctr.0.run(["create", "--network=none", "--name", "a", "box", "sh", "-c", "echo said; exit 4"]).ok();
        assert_eq!(ctr.state("a"), "created 0", "as {user:?}");
        assert_eq!(ctr.ok("start a"), "a");
        assert_eq!(ctr.ok("wait a"), "4");
        assert_eq!(ctr.state("a"), "exited 4");
        let again = ctr.0.run(["start", "-a", "a"]).exits(4);
        assert_eq!(again.stdout(), "said\n", "{again}");
        let lines: Vec<_> = ctr.log("a").lines().map(|line| line[35..].to_owned()).collect();
        assert_eq!(lines, [" stdout F said", " stdout F said"], "as {user:?}");
        assert_eq!(ctr.ok("rm a"), "a");
    }
}

#[test]
fn a_detached_one_runs_on_and_is_stopped() {
    for &user in User::all() {
        let ctr = Containers::of(user);
        ctr.runs("a", "", OBEYS);
        assert_eq!(ctr.state("a"), "running 0");
        assert_eq!(ctr.ok("ps --format {{.Names}}"), "a");
        assert_eq!(ctr.ok("start a"), "a", "one that runs is left alone");
        assert_eq!(ctr.ok("stop a"), "a");
        // The shell may not have set its trap yet.
        let state = ctr.state("a");
        assert!(["exited 7", "exited 137"].contains(&state.as_str()), "as {user:?}: {state}");
        assert_eq!(ctr.ok("stop a"), "a", "one that doesn't run is left alone");
        assert_eq!(ctr.ok("restart a"), "a");
        assert_eq!(ctr.state("a"), "running 0");
        assert_eq!(ctr.ok("stop -t 0 a"), "a");
        assert_eq!(ctr.ok("rm a"), "a");
        assert_eq!(ctr.ok("ps -aq"), "");
    }
}

#[test]
fn kill_and_wait() {
    let ctr = Containers::of(User::Rootless);
    ctr.runs("a", "--restart=always", SLEEPS);
    let waiting = ctr.0.start(["wait", "a"]);
    ctr.ok("kill a");
    assert_eq!(waiting.end().ok(), "137");
    assert_eq!(ctr.state("a"), "exited 137", "what the user killed is not started again");
    let refused = ctr.0.run(["kill", "a"]).exits(125);
    assert!(refused.stderr().contains("can only kill running containers"), "{refused}");
    let missing = ctr.0.run(["kill", "nosuch"]).exits(1);
    assert!(missing.stderr().contains("nosuch"), "{missing}");
}

#[test]
fn restart_policies() {
    let ctr = Containers::of(User::Rootless);
    ctr.runs("a", "--restart=on-failure:2", "echo try; exit 3");
    let again = || ctr.0.run(["wait", "--condition=exited", "a"]).ok();
    // Each wait ends with an attempt; the last one is for good.
    while ctr.field("a", "{{.State.Status}}") != "exited" {
        again();
    }
    assert_eq!(ctr.field("a", "{{.State.ExitCode}} {{.RestartCount}}"), "3 2");
    assert_eq!(ctr.log("a").matches(" F try").count(), 3);
    ctr.runs("b", "--restart=always", "exit 1");
    assert_eq!(ctr.ok("update --restart=no b"), ctr.field("b", "{{.Id}}"));
    ctr.ok("stop b");
    assert_eq!(ctr.state("b"), "exited 1");
}

#[test]
fn a_client_stays_through_restarts() {
    let ctr = Containers::of(User::Rootless);
    let line = ["run", "--network=none", "--restart=on-failure:2", "box", "sh", "-c", "echo try; exit 3"];
    let outcome = ctr.0.run(line).exits(3);
    assert_eq!(outcome.stdout(), "try\ntry\ntry\n", "{outcome}");
}

#[test]
fn init_stops_before_the_command() {
    let ctr = Containers::of(User::Rootless);
    ctr.ok("create --network=none --name a box sleep 1000");
    assert_eq!(ctr.ok("init a"), "a");
    assert_eq!(ctr.state("a"), "initialized 0");
    let pid = ctr.pid("a", "Pid");
    let command =
        || std::fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_pid())).unwrap_or_default();
    assert!(!command().starts_with("sleep"), "{:?}", command());
    assert_eq!(ctr.ok("start a"), "a");
    assert_eq!(ctr.state("a"), "running 0");
    assert!(command().starts_with("sleep"), "{:?}", command());
}

#[test]
fn rename_and_replace() {
    let ctr = Containers::of(User::Rootless);
    ctr.runs("x", "", SLEEPS);
    let id = ctr.field("x", "{{.Id}}");
    ctr.ok("rename x y");
    assert_eq!(ctr.field("y", "{{.Id}} {{.Name}}"), format!("{id} y"));
    ctr.0.run(["container", "exists", "x"]).exits(1);
    ctr.runs("x", "", SLEEPS);
    ctr.0.run(["rename", "x", "y"]).fails("y");
    assert_eq!(ctr.field("x", "{{.Name}}"), "x");
    ctr.runs("y", "--replace", SLEEPS);
    assert_ne!(ctr.field("y", "{{.Id}}"), id);
}

#[test]
fn a_foreground_one_ends_with_its_client() {
    for &user in User::all() {
        let ctr = Containers::of(user);
        let line = ["run", "--network=none", "--name", "a", "--stop-timeout=0", "box", "sh", "-c"];
        let mut live = ctr.0.start(line.into_iter().chain(["echo ready; exec sleep 1000"]));
        live.says("ready");
        let (pid, monitor) = (ctr.pid("a", "Pid"), ctr.pid("a", "ConmonPid"));
        live.signal(Signal::KILL);
        wait_gone(pid.as_raw_pid());
        wait_gone(monitor.as_raw_pid());
        assert_eq!(ctr.state("a"), "exited 137", "as {user:?}");
    }
}

/// Who is killed, and then: the container's state is told truly, and it can be started, stopped and removed.
#[test]
fn after_kill_9_of_anybody() {
    for &user in User::all() {
        let ctr = Containers::of(user);
        for killed in ["Pid", "ConmonPid"] {
            ctr.runs("a", "", SLEEPS);
            let (pid, monitor) = (ctr.pid("a", "Pid"), ctr.pid("a", "ConmonPid"));
            kill_process(ctr.pid("a", killed), Signal::KILL).expect("kill it");
            wait_gone(pid.as_raw_pid());
            wait_gone(monitor.as_raw_pid());
            assert_eq!(ctr.state("a"), "exited 137", "as {user:?}, {killed} killed");
            assert_eq!(ctr.ok("ps -q"), "");
            assert_eq!(ctr.ok("start a"), "a", "as {user:?}, {killed} killed");
            assert_eq!(ctr.state("a"), "running 0");
            assert_eq!(ctr.ok("rm -f a"), "a");
            assert_eq!(ctr.ok("ps -aq"), "");
        }
    }
}

/// A payload may free itself from its monitor's death, as one that changes its ids does: it runs on, and that is what is
/// told; orders reach it all the same.
#[test]
fn one_that_outlives_its_monitor_is_still_ours() {
    let source = "#include <sys/prctl.h>\n#include <unistd.h>\n\
        int main() { prctl(PR_SET_PDEATHSIG, 0); write(1, \"free\\n\", 5); for (;;) pause(); }";
    let layer = Layer::busybox().mode_file("bin/free", compile(&["-static"], source), 0o755);
    let ctr = Containers(Ctr::new(User::Rootless).with_hub().with_image("free", TestImage::new([layer])));
    ctr.ok("run -d --network=none --name a free free");
    // Waits for the line in the log, which is there when the payload is free.
    let (pid, monitor) = (ctr.pid("a", "Pid"), ctr.pid("a", "ConmonPid"));
    while !ctr.log("a").contains("free") {
        std::thread::yield_now();
    }
    kill_process(monitor, Signal::KILL).expect("kill the monitor");
    wait_gone(monitor.as_raw_pid());
    assert_eq!(ctr.state("a"), "running 0");
    assert_eq!(ctr.ok("start a"), "a");
    assert_eq!(ctr.pid("a", "Pid"), pid, "it was not started twice");
    ctr.0.run(["rm", "a"]).exits(2);
    assert_eq!(ctr.ok("stop -t 0 a"), "a");
    wait_gone(pid.as_raw_pid());
    assert_eq!(ctr.state("a"), "exited 137");
    assert_eq!(ctr.ok("rm a"), "a");
}

#[test]
fn nothing_is_left() {
    let ctr = Containers::of(User::Rootless);
    let (containers, runtime) = (ctr.0.list("containers"), ctr.0.home().join("run/ctr"));
    ctr.runs("a", "--rm", SLEEPS);
    ctr.runs("b", "--rm", "exit 0");
    let _ = ctr.0.run(["wait", "b"]);
    ctr.ok("stop -t 0 a");
    for name in ["a", "b"] {
        let _ = ctr.0.run(["wait", name]);
    }
    assert_eq!(ctr.0.list("containers"), containers);
    assert!(ctr.0.list("names").is_empty() && ctr.0.list("tmp").is_empty());
    let left: Vec<_> =
        std::fs::read_dir(runtime).expect("list").map(|e| e.expect("an entry").file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains('.')), "{left:?}");
}

#[test]
fn prune_takes_what_does_not_run() {
    let ctr = Containers::of(User::Rootless);
    ctr.runs("a", "", SLEEPS);
    ctr.ok("create --name b box");
    ctr.0.run(["container", "prune"]).fails("nobody is there to be asked");
    let id = ctr.field("b", "{{.Id}}");
    assert_eq!(ctr.ok("container prune -f"), id);
    assert_eq!(ctr.ok("ps -a --format {{.Names}}"), "a");
}

#[test]
fn stats_of_what_runs() {
    for &user in User::all() {
        let ctr = Containers::of(user);
        ctr.runs("busy", "", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; exec sleep 1000");
        while !ctr.log("busy").contains("done") {
            std::thread::yield_now();
        }
        ctr.0.run(["create", "--name", "idle", "--network=none", "box"]).ok();
        let line = ctr
            .0
            .run(["stats", "--no-stream", "--format", "{{.Name}} {{.PIDS}} {{.CPUNano}} {{.MemUsage}}"])
            .ok();
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!((words[0], words[1]), ("busy", "1"), "as {user:?}: {line}");
        assert!(words[2].parse::<u64>().expect("a number") > 0, "as {user:?}: {line}");
        assert!(words[3] != "0" && line.contains("B / "), "as {user:?}: {line}");
        let table = ctr.0.run(["stats", "--no-stream"]).ok();
        assert!(table.starts_with("ID ") && table.contains("CPU %") && table.lines().count() == 2, "{table}");
    }
}

#[test]
fn preserved_descriptors_and_no_others() {
    for &user in User::all() {
        let ctr = Containers::of(user);
        ctr.0.file("three", "of three\n").file("four", "of four\n");
        let files = |line: &str| {
            let script = format!("exec 3<three 4<four 5<four; exec \"$@\" {line}");
            let wrapped = ctr.0.wrapped(&["sh", "-c", &script, "sh"], &["run", "--rm", "--network=none"]);
            support::Outcome::new(line.to_owned(), { wrapped }.output().expect("run ctr"))
        };
        let read = "sh -c 'cat <&3; cat <&4; ls /proc/self/fd | wc -l'";
        // Of ls itself: 0 to 4 and the directory.
        let expected = "of three\nof four\n6";
        assert_eq!(files(&format!("--preserve-fds=2 box {read}")).ok(), expected, "as {user:?}");
        let without = files("box sh -c 'ls /proc/self/fd | wc -l'").ok();
        assert_eq!(without, "4", "as {user:?}");
        files("--preserve-fds=9 box true").fails("descriptor");
    }
}

#[test]
fn two_that_start_or_remove_at_once() {
    let ctr = Containers::of(User::Rootless);
    for verb in [["start", "web"], ["rm", "web"]] {
        ctr.runs("web", "--replace", "[ -e /ran ] && exec sleep 1000; touch /ran");
        ctr.ok("wait web");
        let both = [ctr.0.start(["start", "web"]), ctr.0.start(verb)];
        // Neither waits for the end of what the other has started.
        let [_, second] = both.map(|live| live.end().code());
        assert!([0, 1, 2, 125].contains(&second), "{verb:?}: {second}");
        assert_eq!(ctr.ok("ps --format {{.Names}}").is_empty(), ctr.ok("ps -aq").is_empty(), "{verb:?}");
    }
}

#[test]
fn orders_for_the_paused_and_the_initialized() {
    let ctr = Containers::of(User::Rootless);
    ctr.ok("create --network=none --name set-up box sleep 1000");
    ctr.ok("init set-up");
    ctr.0.run(["init", "set-up"]).fails("not created");
    ctr.0.run(["pause", "set-up"]).fails("not running").hints("ctr start");
    ctr.0.run(["exec", "set-up", "true"]).fails("running containers").hints("ctr start");
    assert_eq!(ctr.state("set-up"), "initialized 0", "it was not let go");
    ctr.runs("obeys", "", OBEYS);
    while !ctr.log("obeys").contains("ready") {
        std::thread::yield_now();
    }
    ctr.ok("pause obeys");
    ctr.0.run(["start", "obeys"]).fails("paused").hints("ctr unpause");
    ctr.0.run(["attach", "obeys"]).fails("paused").hints("ctr unpause");
    ctr.0.run(["pause", "obeys"]).fails("paused").hints("ctr unpause");
    ctr.ok("stop obeys");
    assert_eq!(ctr.state("obeys"), "exited 7", "it could obey");
}

/// Whoever wants a paused one to end: it hears of it at once.
#[test]
fn a_paused_one_ends_as_it_is_asked_to() {
    let ctr = Containers::of(User::Rootless);
    let began = std::time::Instant::now();
    for who in ["client", "monitor", "check"] {
        let options: &[&str] = match who {
            "check" => &[
                "--health-cmd=test ! -e /ill",
                "--health-interval=50ms",
                "--health-retries=1",
                "--health-on-failure=stop",
            ],
            _ => &[],
        };
        let line = [&["run", "--network=none", "--name=a"], options, &["box", "sh", "-c", OBEYS]].concat();
        let mut live = ctr.0.start(line);
        live.says("ready");
        if who == "check" {
            // One that is paused is not looked at.
            ctr.ok("pause a");
            let log = ctr.field("a", "{{len .State.Health.Log}}");
            for _ in 0..5 {
                ctr.ok("ps");
            }
            assert_eq!(ctr.field("a", "{{len .State.Health.Log}}"), log);
            ctr.ok("unpause a");
            ctr.ok("exec a touch /ill");
            assert_eq!(live.end().code(), 7, "{who}");
        } else {
            ctr.ok("pause a");
            let monitor = ctr.pid("a", "ConmonPid");
            match who {
                "client" => live.signal(Signal::KILL),
                _ => kill_process(monitor, Signal::TERM).expect("ask the monitor"),
            }
            wait_gone(monitor.as_raw_pid());
            assert_eq!(ctr.state("a"), "exited 7", "{who}");
        }
        ctr.ok("rm a");
    }
    assert!(began.elapsed().as_secs() < 10, "nobody waited for a stop timeout");
}

#[test]
fn only_pause_pauses() {
    let ctr = Containers::of(User::Rootless);
    ctr.runs("a", "", OBEYS);
    let stat = format!("/proc/{}/stat", ctr.pid("a", "Pid").as_raw_pid());
    let is =
        |state: &str| std::fs::read_to_string(&stat).unwrap_or_default().contains(&format!(") {state} "));
    kill_process(ctr.pid("a", "Pid"), Signal::STOP).expect("stop it");
    while !is("T") {}
    assert_eq!(ctr.state("a"), "running 0", "somebody stopped it, but not us");
    ctr.0.run(["unpause", "a"]).fails("not paused");
    ctr.ok("pause a");
    assert_eq!(ctr.state("a"), "paused 0");
    kill_process(ctr.pid("a", "Pid"), Signal::CONT).expect("continue it");
    assert_eq!(ctr.state("a"), "paused 0", "its children are still stopped");
    ctr.ok("unpause a");
    assert_eq!(ctr.state("a"), "running 0");
}

/// strace keeps the first one for a second at its new name, while the second comes.
#[test]
fn two_renames_at_once() {
    let ctr = Containers::of(User::Rootless);
    ctr.ok("create --network=none --name a box");
    let slow = [
        "strace",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=symlink",
        "-e",
        "inject=symlink:delay_exit=1000000",
    ];
    let mut first = ctr.0.wrapped(&slow, &["rename", "a", "b"]).spawn().expect("start strace");
    while !ctr.0.list("names").contains(&"b".to_owned()) {
        std::thread::yield_now();
    }
    ctr.0.run(["rename", "a", "c"]).ok();
    assert!(first.wait().expect("wait for it").success());
    assert_eq!(ctr.0.list("names"), ["c"]);
    assert_eq!(ctr.field("c", "{{.Name}}"), "c");
    // And what a rename that was killed left behind goes with the next.
    let killed =
        ["strace", "-qq", "-o", "/dev/null", "-e", "trace=symlink", "-e", "inject=symlink:signal=KILL"];
    let _ = ctr.0.wrapped(&killed, &["rename", "c", "d"]).status();
    ctr.ok("rename c e");
    assert_eq!(ctr.0.list("names"), ["e"]);
}

#[test]
fn who_comes_while_a_reader_stalls_hears_of_the_end() {
    let ctr = Containers::of(User::Rootless);
    // More than the foreground's pipe holds, less than the container's.
    let script = "echo up; head -c 300000 /dev/zero; exec sleep 1000";
    let mut reader = ctr.0.start(["run", "--network=none", "--name=a", "box", "sh", "-c", script]);
    reader.says("up");
    let (first, monitor) = (ctr.pid("a", "Pid"), ctr.pid("a", "ConmonPid"));
    let of = |pid: Pid, file: &str| fs::read_to_string(format!("/proc/{}/{file}", pid.as_raw_pid()));
    while !of(first, "cmdline").expect("its command").starts_with("sleep") {}
    // The monitor hears of the client and of the end at once.
    kill_process(monitor, Signal::STOP).expect("stop the monitor");
    let waits = ctr.0.start(["wait", "a"]);
    while !of(waits.pid(), "wchan").unwrap_or_default().contains("skb_wait_for_more_packets") {}
    kill_process(first, Signal::KILL).expect("kill the container");
    while !of(first, "stat").expect("its state").contains(") Z ") {}
    kill_process(monitor, Signal::CONT).expect("let the monitor go on");
    assert_eq!(waits.end().ok(), "137");
    for line in [&["wait", "a"][..], &["logs", "-f", "a"], &["stop", "a"], &["start", "a"]] {
        ctr.0.start(line).read_to_end().exits(0);
    }
    assert_eq!(reader.read_to_end().exits(137).bytes().len(), 300_000);
}
