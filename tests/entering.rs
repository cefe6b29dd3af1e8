//! What looks into a container finds its way: past a process 1 of ours, and without the session that started it.

mod support;

use std::fs;
use support::{Ctr, User};

#[test]
fn a_container_with_an_init_of_ours_is_entered_like_any_other() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let health = ["--health-cmd=true", "--health-interval=1h"];
        let run =
            [&["run", "-d", "--init", "--name=x", "--network=none"], &health[..], &["box", "sleep", "1000"]];
        ctr.run(run.concat()).ok();
        let said = ctr.run(["exec", "x", "sh", "-c", "cat /proc/1/comm; echo from inside"]).ok();
        assert_eq!(said, "ctr-init\nfrom inside", "as {user:?}");
        assert!(ctr.run(["top", "x"]).ok().contains("sleep 1000"), "as {user:?}");
        ctr.run(["stats", "--no-stream", "x"]).ok();
        ctr.file("note", "brought");
        ctr.run(["cp", "note", "x:/tmp/note"]).ok();
        assert_eq!(ctr.run(["exec", "x", "cat", "/tmp/note"]).ok(), "brought", "as {user:?}");
        ctr.run(["healthcheck", "run", "x"]).ok();
        ctr.run(["pause", "x"]).ok();
        ctr.run(["unpause", "x"]).ok();
        ctr.run(["rm", "-f", "x"]).ok();
    }
}

/// logind removes a user's runtime directory with the last session, unless the user lingers.
#[test]
fn a_container_outlives_the_runtime_directory() {
    let ctr = Ctr::with_box(User::all()[0]);
    ctr.run(["run", "-d", "--name=x", "--network=none", "box", "sleep", "1000"]).ok();
    fs::remove_dir_all(ctr.home().join("run/ctr")).expect("remove the runtime directory");
    let state = || ctr.run(["inspect", "--format={{.State.Status}}", "x"]).ok();
    assert_eq!(state(), "running");
    assert_eq!(ctr.run(["exec", "x", "echo", "there"]).ok(), "there");
    ctr.run(["stop", "-t0", "x"]).ok();
    assert_eq!(state(), "exited");
    assert_eq!(ctr.run(["inspect", "--format={{.State.ExitCode}}", "x"]).ok(), "137");
    ctr.run(["start", "x"]).ok();
    assert_eq!(state(), "running");
    ctr.run(["rm", "-f", "x"]).ok();
}

/// As a power cut can leave it.
#[test]
fn an_empty_exit_file_keeps_nobody_from_anything() {
    let ctr = Ctr::with_box(User::all()[0]);
    let id = ctr.run(["create", "--name=x", "--network=none", "box", "true"]).ok();
    let exit = ctr.data().join("containers").join(id).join("exit");
    ctr.run(["start", "-a", "x"]).ok();
    fs::write(&exit, "").expect("empty the file");
    assert_eq!(ctr.run(["inspect", "--format={{.State.Status}}", "x"]).ok(), "exited");
    ctr.run(["start", "-a", "x"]).ok();
    assert_eq!(ctr.run(["inspect", "--format={{.State.ExitCode}}", "x"]).ok(), "0");
    fs::write(&exit, "").expect("empty the file");
    ctr.run(["rm", "x"]).ok();
}

/// Whoever removes by force doesn't wait for the life of a container that is started meanwhile.
#[test]
fn removing_by_force_is_stronger_than_starting() {
    let ctr = Ctr::with_box(User::all()[0]);
    for round in 0..20 {
        ctr.run(["create", "--name=x", "--network=none", "box", "sleep", "1000"]).ok();
        let mut start = ctr.command(["start", "x"]).spawn().expect("start ctr");
        for _ in 0..round % 10 {
            ctr.run(["ps", "-q"]).ok();
        }
        let removed = ctr.run(["rm", "-f", "x"]);
        start.wait().expect("wait for ctr");
        removed.ok();
    }
}

/// A log that can't be written is told before anything runs, and so is a monitor's pidfile.
#[test]
fn what_cannot_be_written_is_an_error() {
    let ctr = Ctr::with_box(User::Rootless);
    for option in
        ["--log-opt=path=/etc/passwd", "--log-opt=path=/etc/new.log", "--conmon-pidfile=/nonexistent/pid"]
    {
        ctr.payload(&[option], &["true"]).fails("write");
        assert!(ctr.list("containers").is_empty(), "{option}");
    }
}

/// No name hides a container behind the id of another.
#[test]
fn an_id_is_no_name() {
    let ctr = Ctr::with_box(User::all()[0]);
    let id = ctr.run(["create", "--name=x", "--network=none", "box", "true"]).ok();
    ctr.run(["create", "--name", &id, "--network=none", "box", "true"]).fails("the form of a container's id");
    ctr.run(["rename", "x", &id]).fails("the form of a container's id");
}
