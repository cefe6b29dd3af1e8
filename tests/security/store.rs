//! Rows 19, 24 and 27: the store and the logs are their user's alone.

use crate::{
    Running, WAIT,
    support::{Ctr, User},
    words,
};
use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        process::CommandExt,
    },
    process::Command,
};

#[test]
fn the_store_is_its_users_alone() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let fresh = ctr.home().join("fresh");
        let path = fresh.display().to_string();
        ctr.file("fresh/x", "");
        let wrapper = ["sh", "-c", "umask 000; exec \"$@\"", "sh"];
        let arguments = [
            "--root",
            &format!("{path}/data"),
            "--runroot",
            &format!("{path}/run"),
            "run",
            "--network=none",
            "box",
            "true",
        ];
        let output = ctr.wrapped(&wrapper, &arguments).output().expect("start ctr");
        assert!(output.status.success(), "as {user:?}: {}", words(&output));
        for dir in ["data", "run"] {
            let mode = fs::metadata(fresh.join(dir)).expect("look at the store").mode();
            assert_eq!(mode & 0o7777, 0o700, "{dir} as {user:?}");
        }
        let containers = fs::read_dir(fresh.join("data/containers")).expect("list containers");
        for container in containers.map(|entry| entry.expect("list containers")) {
            assert_eq!(container.metadata().expect("look").mode() & 0o7777, 0o700, "as {user:?}");
        }
        // Somebody else gets nothing, not even a listing.
        if rustix::process::getuid().is_root() {
            let script =
                format!("ls {path}/data || ls {path}/run || cat {path}/data/containers/*/config.json");
            let mut other = Command::new("sh");
            other.args(["-c", &script]).uid(65534).gid(65534).current_dir("/");
            let output = other.output().expect("start sh");
            assert!(!output.status.success() && output.stdout.is_empty(), "as {user:?}: {}", words(&output));
        }
    }
}

/// Whoever can move `containers` away and put another one there says what runs.
#[test]
fn a_store_that_others_may_write_is_refused() {
    for &user in User::all() {
        let ctr = Ctr::new(user);
        for (option, mode) in [("--root", 0o777), ("--root", 0o1777), ("--root", 0o770), ("--runroot", 0o777)]
        {
            ctr.file("shared/x", "");
            let shared = ctr.home().join("shared");
            fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).expect("chmod");
            let place = shared.display().to_string();
            ctr.run([option, &place, "ps"]).fails("other users").hints("chmod 700");
            fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).expect("chmod");
            ctr.run([option, &place, "ps"]).ok();
        }
    }
}

/// The container has the pidfile's directory, and is started again.
#[test]
fn a_link_in_the_place_of_a_pidfile() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.file("secret", "kept\n").file("shared/x", "");
    let script = "rm /s/pid; ln -s ../secret /s/pid; exit 1";
    let run = ["run", "-d", "--name=c", "--network=none", "--restart=on-failure:2", "--pidfile=shared/pid"];
    ctr.run([&run[..], &["-v", "./shared:/s", "box", "sh", "-c", script]].concat()).ok();
    while ctr.run(["inspect", "--format", "{{.State.Status}}", "c"]).ok() != "exited" {}
    assert_eq!(fs::read_to_string(ctr.home().join("secret")).expect("read"), "kept\n");
}

#[test]
fn a_link_in_the_place_of_a_log() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.file("secret", "kept\n").file("logs/x", "");
    let at = |name: &str| ctr.home().join(name);
    let path = format!("--log-opt=path={}", at("logs/x").display());
    ctr.run(["create", "--network=none", "--name=x", &path, "box", "echo", "evil"]).ok();
    fs::remove_file(at("logs/x")).expect("remove");
    symlink(at("secret"), at("logs/x")).expect("link");
    ctr.payload(&[&path], &["true"]).fails("symbolic link").hints("points to");
    assert_eq!(ctr.run(["start", "-a", "x"]).ok(), "evil", "its output is not held up");
    assert_eq!(fs::read_to_string(at("secret")).expect("read"), "kept\n");
    fs::remove_file(at("logs/x")).expect("remove");
    rustix::fs::mkfifoat(rustix::fs::CWD, at("logs/x"), rustix::fs::Mode::RWXU).expect("a FIFO");
    assert_eq!(ctr.run(["start", "-a", "x"]).ok(), "evil");
    fs::remove_file(at("logs/x")).expect("remove");
    assert_eq!(ctr.run(["start", "-a", "x"]).ok(), "evil");
    assert_eq!(ctr.run(["logs", "x"]).ok(), "evil");
}

/// Should somebody open the runtime directory, others still have no orders to give.
#[test]
fn a_monitor_obeys_its_user_alone() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let ctr = Ctr::with_box(User::Rootless);
    let probe = ctr.probe_file();
    let c = Running::new(ctr, "box", &[], WAIT);
    let run = c.0.home().join("run");
    let open = |path: &std::path::Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("open it");
        path.to_owned()
    };
    let entries = fs::read_dir(open(&open(&run).join("ctr"))).expect("list the runtime directory");
    let mut paths = entries.map(|entry| entry.expect("list").path());
    let socket = open(&paths.find(|path| path.extension().is_some_and(|e| e == "sock")).expect("a socket"));
    let order = r#"{"Stop":{"signal":9,"milliseconds":0}}"#;
    let said = |uid: Option<u32>| {
        let mut command = Command::new(&probe);
        command.arg("order").arg(&socket).arg(order).current_dir("/");
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        String::from_utf8_lossy(&command.output().expect("start the probe").stdout).into_owned()
    };
    assert_eq!(said(Some(65534)), "order refused\n");
    // We don't work in one that is open.
    fs::set_permissions(run.join("ctr"), fs::Permissions::from_mode(0o700)).expect("close it");
    assert_eq!(c.0.run(["ps", "-q"]).ok().lines().count(), 1, "it runs on");
    let own = c.0.user().ids().map(|(uid, _)| uid);
    assert_eq!(said(own), "order obeyed\n");
}

/// What replaces a file of ours replaces all of it.
#[test]
fn a_shorter_record_has_no_tail_of_the_longer_one() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let long = "x".repeat(250);
        ctr.run(["create", "--network=none", "--name", &long, "box", "true"]).ok();
        ctr.run(["rename", &long, "y"]).ok();
        let id = &ctr.list("containers")[0];
        let record =
            fs::read(ctr.data().join("containers").join(id).join("container.json")).expect("its record");
        let value: serde_json::Value = serde_json::from_slice(&record).expect("JSON and nothing behind it");
        assert_eq!(value["name"], "y", "as {user:?}");
        ctr.run(["inspect", "y"]).ok();
    }
}
