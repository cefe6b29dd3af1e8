//! `ctr exec`, `pause` and `top`: one more process in a running container, through the binary and as each kind of user.

mod support;

use rustix::{
    process::{Pid, Signal, kill_process},
    termios::{tcgetwinsize, tcsetwinsize},
};

use support::{Ctr, Layer, Live, Outcome, Terminal, TestImage, User, wait_gone};

/// A container `c` that stays until the end of the test.
struct Running(Ctr);

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\napp:x:1000:\nextra:x:77:app\n";

impl Running {
    /// With these options of `run`; process 1 says when it is up and obeys SIGTERM.
    fn new(user: User, options: &[&str]) -> Running {
        let layer = Layer::busybox().file("etc/passwd", PASSWD).file("etc/group", GROUP);
        let running = Running(Ctr::new(user).with_hub().with_image("users", TestImage::new([layer])));
        running.begin("users", options, "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done");
        running
    }

    fn begin(&self, image: &str, options: &[&str], script: &str) {
        let line = [&["run", "-d", "--name=c", "--network=none"], options, &[image, "sh", "-c", script]];
        self.0.run(line.concat()).ok();
    }

    fn exec(&self, options: &[&str], command: &[&str]) -> Outcome {
        self.0.run([&["exec"], options, &["c"], command].concat())
    }

    #[track_caller]
    fn script(&self, options: &[&str], script: &str) -> String {
        self.exec(options, &["sh", "-c", script]).ok()
    }

    fn live(&self, options: &[&str], script: &str) -> Live {
        self.0.start([&["exec"], options, &["c", "sh", "-c", script]].concat())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.run(["rm", "-af"]);
    }
}

/// Those whose containers have more users than root.
fn with_users() -> impl Iterator<Item = User> {
    User::all().iter().copied().filter(|user| *user != User::Single)
}

#[test]
fn exit_statuses() {
    for &user in User::all() {
        let c = Running::new(user, &[]);
        for (command, code) in [
            (&["true"][..], 0),
            (&["sh", "-c", "exit 42"], 42),
            (&["sh", "-c", "kill -9 $$"], 137),
            (&["sh", "-c", "kill -TERM $$"], 143),
            (&["no-such-command"], 127),
            (&["/no/such/command"], 127),
            (&["/etc/passwd"], 126),
            (&["/etc"], 126),
        ] {
            let outcome = c.exec(&[], command).exits(code);
            assert_eq!(outcome.stderr().is_empty(), !matches!(code, 126 | 127), "as {user:?} {command:?}");
        }
        c.0.run(["exec", "c"]).fails("non-empty command");
        c.exec(&["--user=nobody-here"], &["true"]).fails("nobody-here");
        c.exec(&["--workdir=/nowhere"], &["true"]).exits(127);
        c.exec(&["--detach-keys=nonsense"], &["true"]).fails("nonsense");
        c.0.run(["exec", "nothing", "true"]).exits(1);
        c.0.run(["stop", "-t0", "c"]).ok();
        c.exec(&[], &["true"])
            .fails("can only create exec sessions on running containers: container state improper");
    }
}

#[test]
fn environment_directory_and_streams() {
    for &user in User::all() {
        let c =
            Running::new(user, &["-e", "A=container", "-e", "B=container", "--workdir=/tmp", "--umask=077"]);
        c.0.file("variables", "C=file\nB=file\n");
        let file = format!("--env-file={}", c.0.home().join("variables").display());
        let said = c.script(&[&file, "-e", "A=exec"], "echo $A $B $C $HOME; pwd; umask; ulimit -n; tty; :");
        let lines: Vec<&str> = said.lines().collect();
        let open_files = lines[3].parse::<u64>();
        assert_eq!(lines[..3], ["exec file file /root", "/tmp", "0077"], "as {user:?}");
        assert!(open_files.is_ok() && lines[4] == "not a tty", "{said}");
        assert_eq!(c.script(&["-w", "/etc"], "pwd"), "/etc");
        let outcome = c.exec(&[], &["sh", "-c", "echo out; echo err >&2"]);
        assert_eq!((outcome.stdout().as_str(), outcome.stderr().as_str()), ("out\n", "err\n"));
        // Without -i there is no stdin; with it every byte comes through, and its end.
        assert_eq!(c.script(&[], "cat; echo end"), "end");
        let mut live = c.live(&["-i"], "cat; echo end");
        live.write("one\n");
        live.says("one");
        live.close_stdin();
        live.says("end");
        live.end().exits(0);
        assert_eq!(c.script(&[], "seq 1 100000").lines().count(), 100_000, "nothing is lost at the end");
        // The newest container.
        assert_eq!(c.0.run(["exec", "-l", "echo", "-l"]).ok(), "-l");
        assert_eq!(c.0.run(["container", "exec", "c", "echo", "x"]).ok(), "x");
    }
}

#[test]
fn users() {
    for user in with_users() {
        let c = Running::new(user, &["--group-add=78"]);
        for (asked, id) in [
            ("app", "uid=1000(app) gid=1000(app) groups=77(extra),78,1000(app)"),
            ("1000:77", "uid=1000(app) gid=77(extra) groups=77(extra),78"),
            ("0", "uid=0(root) gid=0(root) groups=0(root),78"),
            ("4242", "uid=4242 gid=0(root) groups=0(root),78"),
        ] {
            assert_eq!(c.exec(&["-u", asked], &["id"]).ok(), id, "as {user:?}");
        }
        assert_eq!(c.script(&["-u", "app"], "echo $HOME"), "/home/app");
        // Somebody who came later is known, too.
        c.script(&[], "echo late:x:55:56::/late:/bin/sh >> /etc/passwd");
        assert_eq!(c.script(&["-u", "late"], "id -u; id -g; echo $HOME"), "55\n56\n/late");
    }
    let c = Running::new(User::Single, &[]);
    c.exec(&["-u", "app"], &["id"]).fails("beyond the ids");
}

#[test]
fn what_it_may() {
    let sets = "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status | tr -d '\\n\\t'";
    let all = |set: &str| {
        format!("CapInh:0000000000000000CapPrm:{set}CapEff:{set}CapBnd:{set}CapAmb:0000000000000000")
    };
    for &user in User::all() {
        let c = Running::new(user, &[]);
        let expected = all("00000000800405fb");
        assert_eq!(c.script(&[], sets), format!("{expected}NoNewPrivs:0Seccomp:2"), "as {user:?}");
        let privileged = c.script(&["--privileged"], sets);
        assert!(privileged.contains("Seccomp:2") && !privileged.contains(&expected), "{privileged}");
        let same = "for n in user pid mnt net ipc uts cgroup; do readlink /proc/self/ns/$n; done";
        assert_eq!(c.script(&[], same), c.script(&[], &same.replace("self", "1")), "as {user:?}");
    }
    for user in with_users() {
        let none = "0000000000000000";
        let c =
            Running::new(user, &["--security-opt=no-new-privileges", "--cap-drop=all", "--cap-add=chown"]);
        let expected = all(&format!("{:016x}", 1));
        assert_eq!(c.script(&[], sets), format!("{expected}NoNewPrivs:1Seccomp:2"), "as {user:?}");
        let said = c.script(&["-u", "app"], sets);
        // What --cap-add named is kept by any user, as with Podman; nothing else is.
        assert!(
            said.contains("CapEff:0000000000000001") && said.contains("CapBnd:0000000000000001"),
            "{said}"
        );
        drop(c);
        let c = Running::new(user, &[]);
        let said = c.script(&["-u", "app"], sets);
        assert!(
            said.starts_with(&format!("CapInh:{none}CapPrm:{none}CapEff:{none}CapBnd:00000000800405fb")),
            "{said}"
        );
    }
}

#[test]
fn in_the_background() {
    for &user in User::all() {
        let c = Running::new(user, &[]);
        c.script(&[], "mkfifo /tmp/go /tmp/done");
        let id = c.exec(&["-d"], &["sh", "-c", "cat /tmp/go > /tmp/done"]).ok();
        assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        // It lives on after its client.
        assert_eq!(c.script(&[], "echo yes > /tmp/go & cat /tmp/done"), "yes", "as {user:?}");
        c.exec(&["-d"], &["no-such-command"]).exits(127);
        c.exec(&["-d", "-t"], &["sh", "-c", "tty > /tmp/done"]).exits(0);
        assert!(c.script(&[], "cat /tmp/done").starts_with("/dev/pts/"));
    }
}

#[test]
fn a_client_that_is_killed_takes_it_along() {
    for &user in User::all() {
        let c = Running::new(user, &[]);
        let mut live = c.live(&[], "echo $$; exec sleep 1000");
        let inside = live.line().expect("a process id");
        let hpids = c.0.run(["top", "c", "pid", "hpid"]).ok();
        let outside =
            hpids.lines().find_map(|line| line.strip_prefix(&format!("{inside} "))?.trim().parse().ok());
        live.signal(Signal::KILL);
        wait_gone(outside.expect("it is listed"));
        // And with it what it had started.
        let mut live = c.live(&[], "sleep 1001 & echo up; sleep 1002");
        live.says("up");
        live.signal(Signal::KILL);
        let began = std::time::Instant::now();
        while c.0.run(["top", "c", "args"]).ok().contains("sleep 1001") {
            assert!(began.elapsed().as_secs() < 10, "as {user:?}: it is left");
        }
        // A signal that can be passed on is.
        let mut live =
            c.live(&[], "trap 'echo caught; exit 9' TERM; echo up; while :; do sleep 1000 & wait; done");
        live.says("up");
        live.signal(Signal::TERM);
        live.says("caught");
        live.end().exits(9);
        // The end of the container is the end of all that joined it.
        let mut live = c.live(&[], "echo up; exec sleep 1000");
        live.says("up");
        c.0.run(["kill", "c"]).ok();
        live.end().exits(137);
    }
}

#[test]
fn on_a_terminal() {
    for &user in User::all() {
        let c = Running::new(user, &[]);
        let of = |options: &[&str], script: &str| {
            let line = [&["exec"], options, &["c", "sh", "-c", script]].concat();
            Terminal::of(c.0.wrapped(&["setsid", "--ctty", "--wait"], &line))
        };
        let script = "trap 'stty size' WINCH; stty size; tty; echo $TERM; while read -r line; do echo got $line; done; exit 5";
        let mut terminal = of(&["-ti"], script);
        terminal.expect("33 77\r\n/dev/pts/0\r\nxterm\r\n");
        assert!(terminal.is_raw());
        let mut size = tcgetwinsize(&terminal.slave).expect("the size");
        (size.ws_row, size.ws_col) = (44, 99);
        tcsetwinsize(&terminal.master, size).expect("change the size");
        terminal.key("\r");
        terminal.expect("44 99\r\n");
        terminal.key("\u{4}");
        assert_eq!(terminal.ends(), 5, "as {user:?}");
        // ^C is the container's.
        let mut terminal = of(&["-ti"], "trap 'exit 6' INT; echo up; while :; do sleep 1000 & wait; done");
        terminal.expect("up\r\n");
        terminal.key("\u{3}");
        assert_eq!(terminal.ends(), 6, "as {user:?}");
        // Detached, it goes on, with its terminal.
        c.script(&[], "mkfifo /tmp/go");
        let mut terminal = of(
            &["-ti", "--detach-keys=ctrl-x,q"],
            "echo up; cat /tmp/go; test -t 0 && echo still > /tmp/said; sleep 1000",
        );
        terminal.expect("up\r\n");
        terminal.key("\u{18}q");
        assert_eq!(terminal.ends(), 0, "as {user:?}");
        c.script(&[], "echo go > /tmp/go");
        while c.script(&[], "cat /tmp/said 2>/dev/null; :") != "still" {}
        // Without a terminal outside there is one inside all the same.
        assert_eq!(c.exec(&["-t"], &["sh", "-c", "test -t 1 && echo yes"]).exits(0).stdout(), "yes\r\n");
    }
}

#[test]
fn paused() {
    for &user in User::all() {
        let c = Running::new(user, &[]);
        let counts = "while :; do i=$((i + 1)); echo $i > /tmp/count.new; mv /tmp/count.new /tmp/count; done";
        c.exec(&["-d"], &["sh", "-c", counts]).exits(0);
        assert_eq!(c.0.run(["pause", "c"]).ok(), "c");
        let states =
            || c.0.run(["top", "c", "state"]).ok().lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        assert!(
            states().iter().all(|state| state == "T") && states().len() >= 3,
            "as {user:?}: {:?}",
            states()
        );
        assert_eq!(c.0.run(["inspect", "--format", "{{.State.Status}}", "c"]).ok(), "paused");
        c.exec(&[], &["true"]).fails("container state improper");
        c.0.run(["pause", "c"]).fails("already paused");
        assert!(!c.0.run(["unpause", "--all"]).ok().is_empty());
        assert!(states().iter().all(|state| state != "T"), "as {user:?}: {:?}", states());
        c.exec(&[], &["true"]).exits(0);
        c.0.run(["unpause", "c"]).fails("is not paused");
        // What is paused can be killed.
        c.0.run(["container", "pause", "-a"]).ok();
        let pid = c.0.run(["inspect", "--format", "{{.State.Pid}}", "c"]).ok().parse().expect("a process id");
        kill_process(Pid::from_raw(pid).expect("a process id"), Signal::KILL).expect("kill it");
        assert_eq!(c.0.run(["wait", "c"]).ok(), "137");
        c.0.run(["pause", "c"]).fails("is not running, can't pause");
    }
}

#[test]
fn listed() {
    for user in with_users() {
        let c = Running::new(user, &[]);
        let mut live = c.live(&["-i", "-u", "app"], "echo up; read -r line");
        live.says("up");
        let said = c.0.run(["top", "c"]).ok();
        let mut lines = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let headings = lines.next().expect("headings");
        assert_eq!(headings, ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"]);
        let first = lines.next().expect("process 1");
        assert_eq!((&first[..3], first[5]), (&["root", "1", "0"][..], "?"), "as {user:?}: {said}");
        assert!(
            said.lines().any(|line| line.starts_with("app ") && line.ends_with("read -r line")),
            "{said}"
        );
        let said = c.0.run(["top", "c", "huser,hpid", "capeff", "seccomp", "state", "%c"]).ok();
        let app = said.lines().find(|line| line.contains(" none ")).expect("one without capabilities");
        assert!(said.starts_with("HUSER") && said.contains("filter"), "{said}");
        assert!(!app.starts_with("app "), "{said}");
        // Other words are options of the container's own ps.
        let said = c.0.run(["top", "c", "-o", "pid,comm"]).ok();
        assert!(said.lines().any(|line| line.split_whitespace().eq(["1", "sh"])), "{said}");
        c.0.run(["stop", "-t0", "c"]).ok();
        c.0.run(["top", "c"]).fails("top can only be used on running containers");
    }
}
