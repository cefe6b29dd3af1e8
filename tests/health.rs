//! Health checks, run by a container's monitor, through the binary.

mod support;

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
};
use serde_json::{Value, json};
use support::{Ctr, Layer, TestImage, User};

/// A home whose containers are removed at the end.
struct Home(Ctr);

const SLEEPS: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

impl Home {
    #[track_caller]
    fn runs(&self, image: &str, options: &[&str]) {
        let line = [&["run", "-d", "--name=c", "--network=none"], options, &[image, "sh", "-c", SLEEPS]];
        self.0.run(line.concat()).ok();
    }

    #[track_caller]
    fn field(&self, template: &str) -> String {
        self.0.run(["container", "inspect", "--format", template, "c"]).ok()
    }

    #[track_caller]
    fn json(&self, template: &str) -> Value {
        serde_json::from_str(&self.field(&format!("{{{{json {template}}}}}"))).expect("JSON")
    }

    /// Wait until `template` says `expected`; the container's files change whenever something happens.
    #[track_caller]
    fn until(&self, template: &str, expected: &str) {
        let events = inotify::init(CreateFlags::CLOEXEC).expect("inotify");
        let dir = self.0.data().join("containers").join(self.field("{{.Id}}"));
        inotify::add_watch(&events, &dir, WatchFlags::MOVED_TO).expect("watch the container");
        loop {
            let said = self.field(template);
            if said == expected {
                return;
            }
            let deadline = Timespec { tv_sec: 30, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&deadline)).expect("poll");
            assert_eq!(
                ready,
                1,
                "{template} stays {said:?} in place of {expected:?}: {}",
                self.json(".State.Health")
            );
            rustix::io::read(&events, &mut [0; 4096]).expect("read events");
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.0.run(["rm", "-af"]);
    }
}

const STATUS: &str = "{{.State.Health.Status}}";

#[test]
fn from_starting_to_healthy_to_unhealthy_and_back() {
    for &user in User::all() {
        let home = Home(Ctr::with_box(user));
        let check = "--health-cmd=echo looked; test -e /tmp/well";
        home.runs("box", &[check, "--health-interval=50ms", "--health-retries=2", "--health-start-period=0"]);
        home.until(STATUS, "unhealthy");
        let log = home.json(".State.Health.Log");
        let last = log.as_array().expect("a list").last().expect("an outcome");
        assert_eq!((&last["ExitCode"], &last["Output"]), (&json!(1), &json!("looked\n")), "as {user:?}");
        assert!(home.json(".State.Health.FailingStreak").as_u64().expect("a number") >= 2);
        home.0.run(["exec", "c", "touch", "/tmp/well"]).ok();
        home.until(STATUS, "healthy");
        assert_eq!(home.field("{{.State.Health.FailingStreak}}"), "0");
        assert!(home.0.run(["ps"]).ok().contains("(healthy)"), "as {user:?}");
        assert!(!home.0.run(["ps", "-q", "--filter", "health=healthy"]).ok().is_empty());
        assert!(home.0.run(["ps", "-q", "--filter", "health=unhealthy"]).ok().is_empty());
        home.0.run(["healthcheck", "run", "c"]).exits(0);
        // While it is paused nobody looks.
        home.0.run(["pause", "c"]).ok();
        home.0.run(["unpause", "c"]).ok();
        home.0.run(["exec", "c", "rm", "/tmp/well"]).ok();
        home.until(STATUS, "unhealthy");
        assert_eq!(home.0.run(["healthcheck", "run", "c"]).exits(1).stdout(), "unhealthy\n");
        assert!(home.json(".State.Health.Log").as_array().expect("a list").len() <= 5);
        home.0.run(["stop", "c"]).ok();
        home.0.run(["healthcheck", "run", "c"]).fails("container state improper");
        assert!(!home.0.run(["ps", "-a"]).ok().contains("healthy"));
    }
}

#[test]
fn what_takes_too_long_has_failed() {
    let home = Home(Ctr::with_box(User::Rootless));
    home.runs(
        "box",
        &[
            "--health-cmd=sleep 1000",
            "--health-timeout=100ms",
            "--health-interval=50ms",
            "--health-retries=1",
        ],
    );
    home.until(STATUS, "unhealthy");
    let last = home.json("(index .State.Health.Log 0)");
    assert_eq!((&last["ExitCode"], &last["Output"]), (&json!(-1), &json!("Health check exceeded timeout")));
    let processes = home.0.run(["top", "c", "args"]).ok();
    assert!(processes.matches("sleep 1000").count() <= 3, "no check is left: {processes}");
}

#[test]
fn what_prints_much_is_cut() {
    let home = Home(Ctr::with_box(User::Rootless));
    home.runs("box", &["--health-cmd=yes | head -c 10000000", "--health-interval=disable"]);
    assert_eq!(home.field(STATUS), "starting");
    home.0.run(["healthcheck", "run", "c"]).exits(0);
    assert_eq!(home.field(STATUS), "healthy");
    let output = home.json("(index .State.Health.Log 0).Output");
    assert_eq!(output.as_str().expect("text").len(), 500);
}

#[test]
fn what_is_done_about_it() {
    for (action, state) in [("kill", "exited 137"), ("stop", "exited 0")] {
        let home = Home(Ctr::with_box(User::Rootless));
        let action = format!("--health-on-failure={action}");
        home.runs("box", &["--health-cmd=false", &action, "--health-retries=1"]);
        home.until("{{.State.Status}} {{.State.ExitCode}}", state);
    }
    let home = Home(Ctr::with_box(User::Rootless));
    // The file is of the first run: the second finds it.
    let check = "--health-cmd=test -e /second || { touch /second; false; }";
    home.runs("box", &[check, "--health-on-failure=restart", "--health-retries=1"]);
    home.until(STATUS, "healthy");
    assert_eq!(home.field("{{.State.Status}}"), "running");
}

#[test]
fn first_it_has_to_start() {
    let home = Home(Ctr::with_box(User::Rootless));
    let options = [
        "--health-cmd=true",
        "--health-startup-cmd=test -e /tmp/up",
        "--health-startup-interval=50ms",
        "--health-startup-success=2",
    ];
    home.runs("box", &options);
    home.until("{{len .State.Health.Log}}", "3");
    assert_eq!(home.field(STATUS), "starting");
    home.0.run(["exec", "c", "touch", "/tmp/up"]).ok();
    home.until(STATUS, "healthy");
}

#[test]
fn the_images_check() {
    let healthcheck =
        json!({"Test": ["CMD", "test", "-e", "/tmp/well"], "Interval": 50_000_000, "Retries": 1});
    let image = TestImage::new([Layer::busybox()]).config(json!({"Healthcheck": healthcheck}));
    let home = Home(Ctr::new(User::Rootless).with_hub().with_image("checked", image));
    home.runs("checked", &[]);
    home.until(STATUS, "unhealthy");
    assert_eq!(home.json(".Config.Healthcheck.Test"), json!(["CMD", "test", "-e", "/tmp/well"]));
    home.0.run(["rm", "-f", "c"]).ok();
    home.runs("checked", &["--no-healthcheck"]);
    assert_eq!(home.json(".State.Health"), Value::Null);
    home.0.run(["healthcheck", "run", "c"]).fails("has no defined healthcheck");
    home.0.run(["rm", "-f", "c"]).ok();
    home.runs("checked", &["--health-cmd=true"]);
    home.until(STATUS, "healthy");
}

#[test]
fn bad_options() {
    let ctr = Ctr::with_box(User::Rootless);
    for (option, about) in [
        ("--health-interval=often", "--health-interval often"),
        ("--health-timeout=-1s", "--health-timeout -1s"),
        ("--health-on-failure=panic", "--health-on-failure"),
        ("--health-retries=0", "--health-retries"),
        ("--health-startup-cmd=true", "must define a healthcheck command"),
    ] {
        ctr.run(["run", "--rm", option, "box", "true"]).fails(about);
    }
    let startup = ["run", "--health-cmd=true", "--health-startup-interval=1s", "box", "true"];
    ctr.run(startup).fails("startup healthcheck command is not set").hints("--health-startup-cmd");
    assert!(ctr.list("containers").is_empty());
}

/// The monitor hears of it: a check that was a long way off, or none at all, is there at once.
#[test]
fn update_of_one_that_runs() {
    let home = Home(Ctr::with_box(User::Rootless));
    home.runs("box", &[]);
    assert_eq!(home.json(".State.Health"), Value::Null);
    let update = |options: &[&str]| home.0.run([&["update"], options, &["c"]].concat());
    update(&["--health-interval=1s"]).fails("must define a healthcheck command");
    update(&["--health-cmd=exit 0", "--health-interval=1h"]).ok();
    home.until(STATUS, "healthy");
    update(&["--health-cmd=exit 1", "--health-retries=1"]).ok();
    home.until(STATUS, "unhealthy");
    let said = home.json(".Config.Healthcheck");
    assert_eq!(
        (&said["Interval"], &said["Retries"]),
        (&json!(3_600_000_000_000_u64), &json!(1)),
        "what was, stays"
    );
    update(&["--no-healthcheck", "--health-retries=2"]).fails("cannot specify both --no-healthcheck");
    update(&["--no-healthcheck", "--restart=always"]).ok();
    assert_eq!(home.json(".State.Health"), Value::Null);
    home.0.run(["healthcheck", "run", "c"]).fails("no defined healthcheck");
    update(&["--health-cmd=exit 1", "--health-retries=1", "--health-on-failure=stop"]).ok();
    home.0.run(["wait", "c"]).ok();
}

/// What is to be done is said when it is unhealthy already.
#[test]
fn update_of_one_that_is_unhealthy() {
    let home = Home(Ctr::with_box(User::all()[0]));
    home.runs("box", &["--health-cmd=exit 1", "--health-retries=1", "--health-interval=100ms"]);
    home.until(STATUS, "unhealthy");
    home.0.run(["update", "--health-on-failure=kill", "c"]).ok();
    assert_eq!(home.0.run(["wait", "c"]).ok(), "137");
}

#[test]
fn update_of_one_that_is_stopped() {
    let home = Home(Ctr::with_box(User::Rootless));
    home.0.run(["create", "--name=c", "--network=none", "box", "sh", "-c", SLEEPS]).ok();
    let update = |options: &[&str]| home.0.run([&["update"], options, &["c"]].concat());
    update(&["--health-cmd=exit 0", "--health-startup-cmd=exit 1", "--health-startup-retries=2"]).ok();
    update(&["--health-startup-cmd=exit 0", "--health-interval=disable"]).ok();
    assert_eq!(home.field("{{.State.Status}}"), "created");
    home.0.run(["start", "c"]).ok();
    home.until("{{len .State.Health.Log}}", "1");
    assert_eq!(home.json(".Config.StartupHealthCheck.Retries"), json!(2));
}
