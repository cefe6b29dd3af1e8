//! Pulls that end before their time: by a signal, by kill -9, for want of room. Nothing stays, and the next one succeeds.

mod support;

use std::{os::unix::process::ExitStatusExt, process::Stdio};
use support::{Fault, User, ground};

#[test]
fn an_interrupted_pull_leaves_nothing_and_the_next_one_succeeds() {
    for &user in User::all() {
        let (ctr, faults, image) = ground(user, "bad/interrupted:latest");
        let before = ctr.store();
        faults.spoil(&image.blobs[1], Fault::Stall(600_000), 1);
        let name = faults.name("bad/interrupted");
        let mut child = ctr
            .command(["pull", "-q", &name])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("start ctr");
        faults.wait_stalled(1);
        // As a terminal does, only to the process that the user sees.
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("send SIGINT");
        let status = child.wait().expect("wait for ctr");
        assert!(status.code() == Some(130) || status.signal() == Some(2), "as {user:?}: {status}");
        faults.release();
        // A layer that was complete may stay; no image names it yet, and no draft is left.
        assert_eq!(ctr.run(["images", "-q"]).ok().lines().count(), 1, "as {user:?}");
        ctr.run(["pull", "-q", &name]).ok();
        assert_eq!(ctr.list("tmp"), [""; 0], "as {user:?}");
        ctr.run(["rmi", &name]).ok();
        assert_eq!(ctr.store(), before, "as {user:?}");
    }
}

#[test]
fn a_killed_pull_is_cleaned_up_by_a_later_one() {
    let (ctr, faults, image) = ground(User::Rootless, "bad/killed:latest");
    let before = ctr.store();
    faults.spoil(&image.blobs[1], Fault::Stall(600_000), 1);
    let name = faults.name("bad/killed");
    let mut child = ctr
        .command(["pull", "-q", &name])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("start");
    faults.wait_stalled(1);
    child.kill().expect("kill ctr");
    child.wait().expect("wait for ctr");
    faults.release();
    ctr.run(["pull", "-q", &name]).ok();
    ctr.run(["rmi", &name]).ok();
    assert_eq!(ctr.store(), before);
}

/// A store on a tmpfs that is too small for the image, at whichever step: nothing stays, and with more space the same works.
#[test]
fn a_full_disk_is_one_error_and_gives_the_space_back() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let (ctr, faults, _) = ground(User::Rootless, "bad/full:latest");
    let Some((uid, gid)) = ctr.user().ids() else { return };
    // A mount namespace of its own.
    let script = format!(
        "mount -t tmpfs -o $1,mode=700,uid={uid},gid={gid} none {data}; shift; \
         as_user() {{ setpriv --reuid={uid} --regid={gid} --clear-groups \"$@\"; echo status $?; }}; as_user \"$@\"; \
         cd {data}; find layers tmp blobs images -mindepth 1 ! -name sha256 ! -name partial; \
         mount -o remount,size=64m,nr_inodes=10k {data}; as_user \"$@\"",
        data = ctr.data().display()
    );
    for options in ["size=100k", "size=800k", "size=2m", "size=3m", "size=5m", "nr_inodes=26", "nr_inodes=30"]
    {
        let wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh", options];
        let output =
            ctr.outside(&wrapper, &["pull", "-q", &faults.name("bad/full")]).output().expect("start unshare");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let lines: Vec<_> = stdout.lines().collect();
        assert!(
            lines.len() == 3 && lines[0] == "status 125" && lines[2] == "status 0",
            "{options}:\n{stdout}\n{stderr}"
        );
        assert_eq!(
            stderr.lines().filter(|line| line.starts_with("error:")).count(),
            1,
            "{options}: {stderr}"
        );
        assert!(stderr.contains("space") && stderr.contains("hint: "), "{options}: {stderr}");
    }
}
