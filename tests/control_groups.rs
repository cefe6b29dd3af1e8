//! Limits by control groups of version 2: where this host has a place for them they hold, else they are refused by name.

mod support;

use support::{Ctr, User};

/// Whether containers of `ctr` get a group of their own, as `info` says.
fn has_place(ctr: &Ctr) -> bool {
    !ctr.run(["info", "--format={{.Host.CgroupManager}}"]).ok().starts_with("none")
}

#[test]
fn limits_hold_or_are_refused() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let run = ["run", "--rm", "--network=none", "--memory=64m", "--pids-limit=50", "box"];
        let look = ["cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max"];
        let outcome = ctr.run([&run[..], &look].concat());
        if has_place(&ctr) {
            assert_eq!(outcome.ok(), "67108864\n50", "as {user:?}");
        } else {
            outcome.fails("limit memory: there is no control group to do so");
        }
        assert!(ctr.list("containers").is_empty(), "as {user:?}");
        ctr.run(["run", "--rm", "--network=none", "--cgroups=disabled", "box", "true"]).ok();
        let disabled = ["run", "--rm", "--cgroups=disabled", "-m=64m", "box", "true"];
        ctr.run(disabled).fails("--cgroups=disabled was asked for");
    }
}

#[test]
fn an_update_that_cannot_hold_changes_nothing() {
    let ctr = Ctr::with_box(User::all()[0]);
    ctr.run(["run", "-d", "--name=x", "--network=none", "--cgroups=disabled", "box", "sleep", "1000"]).ok();
    ctr.run(["update", "--memory=64m", "x"]).fails("runs without a control group").hints("ctr info");
    let limit =
        || ctr.run(["inspect", "--format={{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}", "x"]).ok();
    assert_eq!(limit(), "0 2048");
    ctr.run(["rm", "-f", "x"]).ok();
    ctr.run(["create", "--name=x", "--network=none", "--cpus=1.5", "box", "true"]).ok();
    ctr.run(["update", "--memory=64m", "--pids-limit=7", "x"]).ok();
    assert_eq!(limit(), "67108864 7");
    assert_eq!(ctr.run(["inspect", "--format={{.HostConfig.CpuQuota}}", "x"]).ok(), "150000");
    ctr.run(["rm", "x"]).ok();
}

#[test]
fn bad_limits() {
    let ctr = Ctr::with_box(User::all()[0]);
    for (options, about) in [
        (&["--memory=x"][..], "--memory x"),
        (&["--memory-swap=1g"], "--memory-swap needs --memory"),
        (&["--memory=2g", "--memory-swap=1g"], "it can't be below --memory"),
        (&["--memory-swappiness=60"], "version 2 have no such limit"),
        (&["--cpus=1", "--cpu-quota=5"], "--cpus can't be used"),
        (&["--cpuset-cpus=x"], "--cpuset-cpus x"),
        (&["--cgroup-parent=../x.slice"], "--cgroup-parent"),
        (&["--cgroup-conf=../x=1"], "no file of a control group"),
        (&["--cgroups=some"], "--cgroups some"),
        (&["--device-read-bps=/dev/null:1m"], "/dev/null is no disk"),
    ] {
        ctr.run([&["run", "--rm"], options, &["box", "true"]].concat()).fails(about);
    }
    assert!(ctr.list("containers").is_empty());
}
