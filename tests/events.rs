//! `ctr events`: what happened is there to be read, and followed.

mod support;

use support::{Ctr, User};

/// The words of the events that `options` choose, in order.
fn told(ctr: &Ctr, options: &[&str]) -> String {
    let format = ["events", "--stream=false", "--format", "{{.Type}}:{{.Status}}"];
    ctr.run([&format[..], options].concat()).ok().replace('\n', " ")
}

#[test]
fn a_life() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let mut follower = ctr.start(["events", "--filter=type=container", "--format={{.Status}} {{.Name}}"]);
        // It listens once it says something.
        while !follower.has_said() {
            ctr.run(["create", "--name=early", "box", "true"]).ok();
            ctr.run(["rm", "early"]).ok();
        }
        let run =
            ["run", "-d", "--network=none", "--name=x", "--label=team=web", "--stop-signal=KILL", "box"];
        ctr.run([&run[..], &["sh", "-c", "read -r line < /dev/zero"]].concat()).ok();
        ctr.run(["pause", "x"]).ok();
        ctr.run(["unpause", "x"]).ok();
        ctr.run(["rename", "x", "y"]).ok();
        ctr.run(["stop", "y"]).ok();
        ctr.run(["start", "y"]).ok();
        ctr.run(["kill", "y"]).ok();
        ctr.run(["wait", "y"]).ok();
        ctr.run(["rm", "y"]).ok();
        ctr.run(["rmi", "box"]).ok();
        let events = told(&ctr, &["-f", "container=x", "-f", "container=y"]);
        let (first, last) = events.split_once(" container:start container:").expect("two starts");
        assert_eq!(first, "container:create", "as {user:?}");
        let (stopped, killed) = last.split_once(" container:start ").expect("two starts");
        assert_eq!(stopped, "pause container:unpause container:rename container:died container:stop");
        assert!(killed.contains("container:kill") && killed.contains("container:died"), "{killed}");
        assert!(killed.ends_with("container:remove"), "{killed}");
        assert_eq!(told(&ctr, &["-f", "type=image"]), "image:pull image:untag image:remove");
        assert_eq!(told(&ctr, &["-f", "event=die", "-f", "label=team=web"]), "container:died container:died");
        assert_eq!(told(&ctr, &["-f", "label=team=other"]), "");
        assert_eq!(told(&ctr, &["-f", "event=rename", "--since=1h"]), "container:rename");
        assert_eq!(told(&ctr, &["--until=1h"]), "");
        let died = ctr.run(["events", "--stream=false", "-f", "event=died", "--format=json"]).ok();
        let died: serde_json::Value =
            serde_json::from_str(died.lines().next().expect("a line")).expect("JSON");
        assert_eq!((&died["ContainerExitCode"], &died["Type"]), (&137.into(), &"container".into()));
        assert_eq!(died["Attributes"]["team"], "web");
        let line = ctr.run(["events", "--stream=false", "-f", "event=rename"]).ok();
        assert!(line.contains(" container rename ") && line.contains(", name=y, team=web)"), "{line}");
        while let Some(line) = follower.line() {
            if line == "remove y" {
                break;
            }
        }
        ctr.run(["events", "-f", "color=red"]).fails("color");
    }
}

#[test]
fn bounded() {
    let ctr = Ctr::with_box(User::Rootless);
    let old = format!("{{\"filler\":\"{}\"}}\n", "x".repeat(1000));
    ctr.file("data/ctr/events", old.repeat(1100));
    ctr.run(["create", "--name=x", "box", "true"]).ok();
    ctr.run(["rm", "x"]).ok();
    let size = |name: &str| std::fs::metadata(ctr.data().join(name)).expect("a file").len();
    assert!(size("events") < 2000 && size("events.1") > 1 << 20);
    assert_eq!(told(&ctr, &[]), "container:create container:remove");
}
