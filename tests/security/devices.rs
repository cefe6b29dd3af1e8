//! Rows 4 and 11: the devices of a container are its own, and no other opens.

use crate::{
    layer,
    support::{Ctr, Layer, TestImage, User},
};
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

#[test]
fn device_nodes_of_an_image_open_nothing() {
    for &user in User::all() {
        // random and zero stand for a disk: what they are is seen by reading, and nothing breaks.
        let devices = layer().device("zero", 1, 5).device("dev/random2", 1, 8).device("etc/zero", 1, 5);
        let ctr = Ctr::new(user).with_hub().with_image("nodes", TestImage::new([Layer::busybox(), devices]));
        let script = "for f in /zero /dev/random2 /etc/zero; do head -c 8 $f 2>/dev/null | wc -c; done";
        for options in [&[][..], &["--storage-driver=overlay"], &["--cap-add=MKNOD"]] {
            let (global, options): (Vec<&str>, Vec<&str>) =
                options.iter().partition(|option| option.starts_with("--storage"));
            let arguments =
                [&global[..], &["run", "--rm", "--network=none"], &options, &["nodes", "sh", "-c", script]];
            assert_eq!(ctr.run(arguments.concat()).ok(), "0\n0\n0", "as {user:?} {options:?}");
        }
    }
}

#[test]
fn dev_has_exactly_its_own() {
    let script = "cd /dev; for f in $(ls); do [ -L $f ] && echo \"$f -> $(readlink $f)\" || echo \"$f $(stat -c '%A %t:%T' $f)\"; done";
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let listing = [
            "fd -> /proc/self/fd",
            "full crw-rw-rw- 1:7",
            "mqueue drwxrwxrwt 0:0",
            "null crw-rw-rw- 1:3",
            "ptmx -> pts/ptmx",
            "pts drwxr-xr-x 0:0",
            "random crw-rw-rw- 1:8",
            "shm drwxrwxrwt 0:0",
            "stderr -> /proc/self/fd/2",
            "stdin -> /proc/self/fd/0",
            "stdout -> /proc/self/fd/1",
            "tty crw-rw-rw- 5:0",
            "urandom crw-rw-rw- 1:9",
            "zero crw-rw-rw- 1:5",
        ];
        assert_eq!(ctr.script(&[], script).lines().collect::<Vec<_>>(), listing, "as {user:?}");
        let with_terminal = ctr.script(&["-t"], script).replace('\r', "");
        let names: BTreeSet<&str> =
            with_terminal.lines().map(|line| line.split(' ').next().unwrap_or("")).collect();
        let plain: BTreeSet<&str> = listing.iter().map(|line| line.split(' ').next().unwrap_or("")).collect();
        assert_eq!(names.difference(&plain).collect::<Vec<_>>(), [&"console"], "as {user:?}");
    }
}

/// Mode of a device of the host.
fn mode(path: &str) -> u32 {
    fs::metadata(path).expect("look at a device").permissions().mode() & 0o7777
}

#[test]
fn a_device_that_is_handed_in_is_the_containers_own() {
    let before = mode("/dev/fuse");
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        for (option, inside) in
            [("/dev/fuse", "/dev/fuse"), ("/dev/fuse:/dev/a/b", "/dev/a/b"), ("/dev/fuse:/srv/f", "/srv/f")]
        {
            // A sticky bit means nothing there: a host survives the failure of this test.
            let script =
                format!("stat -c '%t:%T %a' {inside}; : <{inside} && echo opens; chmod 1600 {inside}");
            let said = ctr.payload(&["--device", option], &["sh", "-c", &script]).stdout();
            assert_eq!(said, format!("a:e5 {before:o}\nopens\n"), "as {user:?} {option}");
            let now = mode("/dev/fuse");
            if now != before {
                fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(before)).expect("mend /dev/fuse");
                panic!("a container changed the host's /dev/fuse, as {user:?}");
            }
        }
    }
}

#[test]
fn no_other_device_opens() {
    let script = "for dir in /dev /dev/shm; do \
        mknod -m 666 $dir/z c 1 5 2>/dev/null && head -c 1 $dir/z 2>/dev/null | wc -c; done; \
        rm -f /dev/zero 2>/dev/null; mv /dev/full /dev/zero 2>/dev/null; head -c 1 /dev/zero | wc -c; echo x >/dev/null";
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        // Root's can be made and don't open; with one id there is nothing, whatever mknod(1) says.
        let expected = if user == User::Rootless { "1" } else { "0\n0\n1" };
        for options in [&["--cap-add=MKNOD"][..], &["--cap-add=MKNOD", "--read-only"]] {
            assert_eq!(ctr.script(options, script), expected, "as {user:?} {options:?}");
        }
    }
    if User::all().contains(&User::Root) {
        let ctr = Ctr::with_box(User::Root);
        let script = "mknod /dev/z c 1 5 && head -c 1 /dev/z | wc -c";
        assert_eq!(ctr.script(&["--privileged"], script), "1", "all devices are a privileged container's");
    }
}
