//! Which containers a verb acts on: names, the newest, all, those of a filter or of a file; through the binary.

mod support;

use support::{Ctr, User};

/// Containers `a` and `b` that run and `c` that was only made; `a` and `c` are of team x.
fn three() -> Ctr {
    let ctr = Ctr::with_box(User::Rootless);
    let options = "-d --network=none --stop-timeout=0";
    for (name, label) in [("a", "team=x"), ("b", "team=y")] {
        let line = format!("run {options} --name {name} --label {label} box sleep 1000");
        ctr.run(line.split(' ')).ok();
    }
    ctr.run("create --network=none --name c --label team=x box true".split(' ')).ok();
    ctr
}

fn states(ctr: &Ctr) -> String {
    let rows = ctr.run(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok();
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.sort_unstable();
    rows.join(", ")
}

/// How many containers the verb named.
#[track_caller]
fn acts(ctr: &Ctr, line: &str, on: usize) {
    assert_eq!(ctr.run(line.split(' ')).ok().lines().count(), on, "{line}");
}

#[test]
fn filters_choose() {
    let ctr = three();
    acts(&ctr, "pause --filter label=team=x", 1);
    assert_eq!(states(&ctr), "a paused, b running, c created");
    acts(&ctr, "unpause -f name=b -f name=a", 1);
    acts(&ctr, "kill --filter name=^b$ --signal KILL", 1);
    acts(&ctr, "wait b", 1);
    assert_eq!(states(&ctr), "a running, b exited, c created");
    acts(&ctr, "start -f label=team=y", 1);
    acts(&ctr, "restart -f label=team=y -t 0", 1);
    acts(&ctr, "restart --running -t 0", 2);
    acts(&ctr, "stop -f label=team=x -f name=nothing", 0);
    acts(&ctr, "stop -f label=team=x", 1);
    assert_eq!(states(&ctr), "a exited, b running, c created");
    acts(&ctr, "rm --filter label=team=x", 2);
    assert_eq!(states(&ctr), "b running");
    acts(&ctr, "rm -f --all --filter status=exited", 0);
    acts(&ctr, "rm -f --filter before=b", 0);
}

#[test]
fn prune_takes_what_its_filters_say() {
    let ctr = three();
    ctr.run(["stop", "b"]).ok();
    acts(&ctr, "container prune -f --filter until=1h", 0);
    acts(&ctr, "container prune -f --filter label!=team --filter until=0s", 0);
    acts(&ctr, "container prune -f --filter label!=team=x", 1);
    acts(&ctr, "container prune -f --filter until=0s", 1);
    assert_eq!(states(&ctr), "a running");
    ctr.run("container prune -f --filter name=a".split(' ')).fails("until, label and label!");
}

#[test]
fn two_ways_at_once_are_refused() {
    let ctr = Ctr::new(User::Rootless);
    for verb in ["start", "stop", "restart", "rm", "kill", "pause", "unpause"] {
        ctr.run([verb]).fails("<CONTAINER>");
        ctr.run([verb, "--filter", "name=a", "b"]).fails("cannot be used with");
        ctr.run([verb, "--filter", "name=a", "--latest"]).fails("cannot be used with");
        ctr.run([verb, "--filter", "colour=a"]).fails("the filter \"colour\" is not built");
    }
}

#[test]
fn a_name_of_the_other_kind() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run("create --network=none --name a box true".split(' ')).ok();
    let hint = |line: &str| ctr.run(line.split(' ')).fails("has the name or id").stderr();
    assert!(hint("image inspect a").contains("\"a\" is a container"));
    assert!(hint("container inspect box").contains("\"box\" is an image"));
}
