//! Hosts that lack something: no user namespaces, no tun device, no helpers for ids, a store that can't be written.

mod support;

use std::process::Output;
use support::{Ctr, Layer, Registry, TestImage, User};

/// A `ctr` that holds busybox, and the name of the image.
fn ground(user: User) -> (Ctr, String) {
    let registry = Registry::plain();
    TestImage::new([Layer::busybox()]).push(registry, "host/busybox:latest");
    let ctr = Ctr::new(user);
    ctr.registries(&registry.as_docker_hub());
    let name = registry.name("host/busybox");
    ctr.run(["pull", "-q", &name]).ok();
    (ctr, name)
}

/// A script that takes `program` away from /usr/bin.
fn without(program: &str) -> String {
    format!(
        "mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w && \
         mount -t overlay none -o lowerdir=/usr/bin,upperdir=/mnt/u,workdir=/mnt/w /usr/bin && rm /usr/bin/{program}"
    )
}

/// Run `ctr` as its user in a mount namespace that `setup` (a shell script, as root) prepared.
fn after(ctr: &Ctr, setup: &str, arguments: &[&str]) -> Option<Output> {
    let (uid, gid) = ctr.user().ids()?;
    let script = format!("{setup} && exec setpriv --reuid={uid} --regid={gid} --clear-groups \"$@\"");
    let wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    Some(ctr.outside(&wrapper, arguments).output().expect("start unshare"))
}

fn words(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn one_error_and_a_hint(output: &Output, about: &str) {
    let (code, stderr) = words(output);
    assert_eq!(code, Some(125), "{stderr}");
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert!(errors[0].contains(about) && stderr.contains("\nhint: "), "{stderr}");
}

#[test]
fn no_user_namespaces() {
    let (ctr, name) = ground(User::Rootless);
    // Root of a user namespace may forbid more of them below it, as the sysctl does for the whole host.
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    let wrapper = ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", forbid, "sh"];
    let before = ctr.store();
    for arguments in [&["run", "--rm", "--network=none", &name, "true"][..], &["pull", "-q", &name]] {
        let output = ctr.wrapped(&wrapper, arguments).output().expect("start unshare");
        one_error_and_a_hint(&output, "namespace");
        assert_eq!(ctr.store(), before, "{arguments:?}");
    }
}

#[test]
fn no_tun_device() {
    let (ctr, name) = ground(User::Rootless);
    let hide = "mount -t tmpfs none /dev/net";
    let Some(output) = after(&ctr, hide, &["run", "--rm", "--network=private", &name, "true"]) else {
        return;
    };
    one_error_and_a_hint(&output, "/dev/net/tun");
    // Nobody asked for a network: one hint, and the container runs without.
    let Some(output) = after(&ctr, hide, &["run", "--rm", &name, "echo", "ran"]) else { return };
    assert_eq!(output.status.code(), Some(0), "{:?}", words(&output));
    assert_eq!(output.stdout, b"ran\n");
    assert_eq!(words(&output).1.lines().filter(|line| line.starts_with("hint: ")).count(), 1);
}

#[test]
fn no_pasta() {
    // Nobody needs it; who asks for it by name is told.
    let (ctr, name) = ground(User::Rootless);
    let Some(output) = after(&ctr, &without("pasta"), &["run", "--rm", &name, "echo", "ran"]) else { return };
    let (code, stderr) = words(&output);
    assert_eq!((code, output.stdout), (Some(0), b"ran\n".to_vec()), "{stderr}");
}

#[test]
fn no_helpers_for_ids() {
    let (ctr, name) = ground(User::Single);
    // This user has no ranges: one id does, which is said once and not again.
    let first = ctr.run(["run", "--rm", "--network=none", &name, "id", "-u"]);
    let again = ctr.run(["run", "--rm", "--network=none", &name, "id", "-u"]);
    assert!(first.stderr().contains("hint: "), "{first}");
    assert_eq!(again.stderr(), "");
    assert_eq!((first.ok(), again.ok()), ("0".to_owned(), "0".to_owned()));
    // A user with ranges but without the program that maps them.
    let (ctr, name) = ground(User::Rootless);
    let arguments = ["run", "--rm", "--network=none", &name, "id", "-u"];
    let Some(output) = after(&ctr, &without("newuidmap"), &arguments) else { return };
    let (code, stderr) = words(&output);
    assert!(stderr.contains("hint: ") && stderr.contains("uidmap"), "{code:?}: {stderr}");
}

#[test]
fn a_store_that_cannot_be_written() {
    let (ctr, name) = ground(User::Rootless);
    let data = ctr.data();
    let read_only = format!("mount --bind {0} {0} && mount -o remount,ro,bind {0}", data.display());
    let Some(output) = after(&ctr, &read_only, &["run", "--rm", "--network=none", &name, "true"]) else {
        return;
    };
    one_error_and_a_hint(&output, "");
    assert!(words(&output).1.contains("remount,rw"), "{:?}", words(&output));
    let new = data.join("new").display().to_string();
    let Some(output) = after(&ctr, &read_only, &["--root", &new, "images"]) else { return };
    one_error_and_a_hint(&output, "");
    assert!(
        words(&output).1.contains("--root") && !words(&output).1.contains("space"),
        "{:?}",
        words(&output)
    );
    let Some(output) = after(&ctr, &read_only, &["images", "-q"]) else { return };
    assert_eq!(output.status.code(), Some(0), "{:?}", words(&output));
}

#[test]
fn helpers_that_refuse() {
    let (ctr, name) = ground(User::Rootless);
    if ctr.user().ids().is_none() {
        return;
    }
    // Root's and with the bit, as the real one is; it says no.
    let fake = ctr.home().join("fake/newuidmap");
    ctr.file("fake/newuidmap", "#!/bin/sh\necho 'newuidmap: not today' >&2\nexit 1\n");
    std::os::unix::fs::chown(&fake, Some(0), Some(0)).expect("chown");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    std::fs::set_permissions(&fake, mode).expect("chmod");
    let path = format!("{}:/usr/bin:/bin", ctr.home().join("fake").display());
    for arguments in [&["run", "--rm", "--network=none", &name, "true"][..], &["pull", "-q", &name]] {
        // A process that waits for its ids hears that there will be none.
        let mut command = ctr.wrapped(&["timeout", "20"], arguments);
        one_error_and_a_hint(&command.env("PATH", &path).output().expect("start ctr"), "not today");
    }
}

#[test]
fn a_umask_that_takes_everything() {
    for &user in User::all() {
        let (ctr, name) = ground(user);
        let root = ctr.home().join("data/new").display().to_string();
        let run = |arguments: &[&str]| {
            let arguments = [&["--root", &root], arguments].concat();
            let output = ctr.wrapped(&["sh", "-c", "umask 777; exec \"$@\"", "sh"], &arguments).output();
            let output = output.expect("start ctr");
            assert_eq!(output.status.code(), Some(0), "as {user:?} {arguments:?}: {:?}", words(&output));
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        assert_eq!(run(&["run", "--name=c", "--network=none", &name, "sh", "-c", "umask"]), "0022");
        assert_eq!(run(&["ps", "-aq", "--no-trunc"]).lines().count(), 1, "as {user:?}");
        run(&["rm", "c"]);
    }
}

#[test]
fn a_limit_of_a_files_size() {
    for &user in User::all() {
        let (ctr, name) = ground(user);
        let limit = ["sh", "-c", "ulimit -f 1; exec \"$@\"", "sh"];
        let arguments = ["run", "--network=none", &name, "true"];
        let output = ctr.wrapped(&limit, &arguments).output().expect("start ctr");
        one_error_and_a_hint(&output, "File too large");
        assert!(words(&output).1.contains("ulimit -f unlimited"), "{:?}", words(&output));
        let long = format!("--add-host={};b:10.0.0.1", vec!["a"; 400].join(";"));
        let output = ctr.wrapped(&limit, &["run", &long, "--network=none", &name, "true"]).output();
        let output = output.expect("start ctr");
        one_error_and_a_hint(&output, "/hosts: File too large");
        assert!(words(&output).1.contains("ulimit -f unlimited"), "{:?}", words(&output));
        assert_eq!(ctr.list("containers"), [""; 0], "as {user:?}");
        // What we ignore, the payload doesn't.
        let ignored =
            ctr.run(["run", "--rm", "--network=none", &name, "grep", "SigIgn", "/proc/self/status"]);
        assert_eq!(ignored.ok(), "SigIgn:\t0000000000000000", "as {user:?}");
    }
}
