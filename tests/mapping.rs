//! The three ways in which ids of a container map to ids of the host, and the two ways in which layers become a root.

mod support;

use std::{fs, path::PathBuf};
use support::{Compression, Ctr, Layer, TestImage, User, wait_gone};

/// Files of several owners. 70000 is beyond what 65536 subordinate ids and the user's own make.
fn owned() -> TestImage {
    let files = Layer::new(Compression::Gzip)
        .owned_file("owned/root", "", 0o600, 0, 0)
        .owned_file("owned/user", "", 0o600, 1000, 50)
        .owned_file("owned/nobody", "", 0o640, 65534, 65534)
        .owned_file("owned/beyond", "", 0o644, 70000, 70001)
        .owned_file("owned/setuid", "", 0o4755, 1000, 0);
    TestImage::new([Layer::busybox(), files])
}

const STAT: &str = "cd /owned && stat -c '%n %u:%g %a' *";

/// A file of the top layer of `owned`, as the host has it.
fn on_host(ctr: &Ctr, name: &str) -> PathBuf {
    let layers = ctr.list("layers").into_iter();
    let mut paths = layers.map(|layer| ctr.data().join("layers").join(layer).join("fs/owned").join(name));
    paths.find(|path| path.exists()).expect("the file in a layer")
}

/// What fuse-overlayfs reads, too: uid, gid, mode and kind.
fn recorded(path: &PathBuf) -> String {
    let mut value = [0; 100];
    match rustix::fs::lgetxattr(path, "user.containers.override_stat", &mut value) {
        Ok(length) => String::from_utf8_lossy(&value[..length]).into_owned(),
        Err(errno) => errno.to_string(),
    }
}

#[test]
fn with_subordinate_ids_every_owner_is_itself() {
    let ctr = Ctr::with_box(User::Rootless).with_image("owned", owned());
    let said = ctr.payload_of("owned", &[], &["sh", "-c", STAT]).ok();
    let lines: Vec<&str> = said.lines().collect();
    for line in ["nobody 65534:65534 640", "root 0:0 600", "setuid 1000:0 4755", "user 1000:50 600"] {
        assert!(lines.contains(&line), "no {line:?} in\n{said}");
    }
    assert!(
        recorded(&on_host(&ctr, "beyond")).starts_with("70000:70001:"),
        "{}",
        recorded(&on_host(&ctr, "beyond"))
    );
    let may = "cd /owned; for f in root user nobody; do cat $f 2>/dev/null && echo $f; done; true";
    assert_eq!(ctr.payload_of("owned", &["-u", "1000:1000"], &["sh", "-c", may]).ok(), "user");
    assert_eq!(ctr.payload_of("owned", &["-u", "nobody"], &["sh", "-c", may]).ok(), "nobody");
    let chown = "chown 65535:65535 /owned/user && stat -c %u:%g /owned/user";
    assert_eq!(ctr.payload_of("owned", &[], &["sh", "-c", chown]).ok(), "65535:65535");
}

#[test]
fn without_subordinate_ids_one_id_takes_over_and_says_so_once() {
    if !User::all().contains(&User::Single) {
        return;
    }
    let ctr = Ctr::with_box(User::Single).with_image("owned", owned());
    let first = ctr.payload_of("owned", &[], &["sh", "-c", STAT]).exits(0);
    let hints: Vec<String> =
        first.stderr().lines().filter(|line| line.starts_with("hint: ")).map(str::to_owned).collect();
    assert_eq!(hints.len(), 1, "{first}");
    assert!(hints[0].contains("usermod --add-subuids"), "{first}");
    for line in first.stdout().lines() {
        assert!(line.contains(" 0:0 "), "{first}");
    }
    assert_eq!(ctr.payload(&[], &["true"]).exits(0).stderr(), "", "once is enough");
    assert!(recorded(&on_host(&ctr, "user")).starts_with("1000:50:"), "{}", recorded(&on_host(&ctr, "user")));
    assert_eq!(ctr.script(&[], "id -u; cat /proc/self/uid_map | wc -l"), "0\n1");
    ctr.payload(&["-u", "1000"], &["true"]).exits(125);
}

#[test]
fn without_the_setuid_helpers_one_id_takes_over() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let ctr = Ctr::with_box(User::Rootless);
    // What no_new_privs forbids is the same as what a missing setuid bit does.
    let arguments = ["run", "--rm", "--network=none", "box", "cat", "/proc/self/uid_map"];
    let output = ctr.wrapped(&["setpriv", "--no-new-privs"], &arguments).output().expect("start setpriv");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let map: Vec<&str> = stdout.split_whitespace().collect();
    let uid = ctr.user().ids().map(|(uid, _)| uid.to_string()).unwrap_or_default();
    assert_eq!(map, ["0", &uid, "1"], "{stderr}");
    assert!(stderr.starts_with("hint: ") && stderr.contains("no_new_privs"), "{stderr}");
}

#[test]
fn root_needs_no_namespace_of_users() {
    if !User::all().contains(&User::Root) {
        return;
    }
    let ctr = Ctr::with_box(User::Root).with_image("owned", owned());
    let said = ctr.payload_of("owned", &[], &["sh", "-c", STAT]).ok();
    for line in ["beyond 70000:70001 644", "nobody 65534:65534 640", "setuid 1000:0 4755"] {
        assert!(said.lines().any(|found| found == line), "no {line:?} in\n{said}");
    }
    let inside = ctr.payload(&[], &["readlink", "/proc/self/ns/user"]).ok();
    let outside = fs::read_link("/proc/self/ns/user").expect("our namespace");
    assert_eq!(PathBuf::from(inside), outside);
    assert_eq!(ctr.script(&["-u", "4242"], "id -u"), "4242");
}

#[test]
fn fuse_overlayfs_runs_the_same() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user).with_image("owned", owned());
        ctr.payload(&[], &["true"]).ok();
        let before = ctr.store();
        let run = |options: &[&str], image: &str, command: &[&str]| {
            let base = ["--storage-driver=fuse-overlayfs", "run", "--rm", "--network=none"];
            ctr.run([&base[..], options, &[image], command].concat())
        };
        let script = "grep -q '^fuse-overlayfs / fuse' /proc/mounts && rm /etc/passwd && echo new >/new && cat /new; exit 3";
        assert_eq!(run(&[], "box", &["sh", "-c", script]).exits(3).stdout(), "new\n", "as {user:?}");
        assert!(run(&[], "box", &["cat", "/etc/passwd"]).ok().contains("nobody"), "as {user:?}");
        run(&[], "box", &["no-such-command"]).exits(127);
        run(&["--init"], "box", &["sh", "-c", "kill -TERM $$"]).exits(143);
        assert_eq!(run(&["--read-only"], "box", &["sh", "-c", "touch /x 2>/dev/null || echo no"]).ok(), "no");
        if user == User::Rootless {
            let said = run(&[], "owned", &["sh", "-c", STAT]).ok();
            assert!(said.contains("user 1000:50 600") && said.contains("nobody 65534:65534 640"), "{said}");
            assert_eq!(run(&["-u", "user"], "box", &["id", "-u"]).ok(), "1000");
        }
        assert_eq!(ctr.store(), before, "as {user:?}");
        let home = ctr.home().display().to_string();
        // It ends with its container, a moment later.
        for process in fs::read_dir("/proc").expect("list /proc").flatten() {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&home) {
                wait_gone(process.file_name().to_string_lossy().parse().expect("a process id"));
            }
        }
    }
}
