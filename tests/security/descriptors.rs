//! Row 2: no descriptor and no working directory of the host's comes in.

use crate::{
    Running, WAIT, layer,
    support::{Ctr, Layer, Outcome, Registry, TestImage, User},
    words,
};
use std::fs;

/// A wrapper with 64 descriptors open from 3 on: directories, the host's root among them, and files.
const MANY_DESCRIPTORS: [&str; 4] = [
    "bash",
    "-c",
    "for n in {3..66}; do if (( n % 2 )); then eval \"exec $n</\"; else eval \"exec $n</etc/hostname\"; fi; done; exec \"$@\"",
    "bash",
];

#[test]
fn no_descriptor_of_the_caller_comes_in() {
    for &user in User::all() {
        let ctr = Ctr::with_probe(user);
        for options in [&[][..], &["-i"], &["-t"], &["--init"], &["--init", "-t"], &["--network=private"]] {
            let arguments =
                [&["run", "--rm", "--network=none"], options, &["probe", "probe", "fds"]].concat();
            let output = ctr.wrapped(&MANY_DESCRIPTORS, &arguments).output().expect("start ctr");
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(said.trim(), "0 1 2", "as {user:?} {options:?}: {}", words(&output));
        }
    }
}

#[test]
fn a_working_directory_is_no_descriptor() {
    for &user in User::all() {
        let links = (3..=64)
            .fold(layer(), |layer, n| layer.symlink(&format!("fd{n}"), &format!("/proc/self/fd/{n}")));
        let links =
            links.symlink("out", "/proc/1/root").symlink("cwd", "/proc/self/cwd").symlink("dir", "bin");
        let ctr = Ctr::new(user).with_hub().with_image("wd", TestImage::new([Layer::busybox(), links]));
        let refused = |directory: &str| {
            let arguments = ["run", "--rm", "--network=none", "-w", directory, "wd", "ls"];
            let output = ctr.wrapped(&MANY_DESCRIPTORS, &arguments).output().expect("start ctr");
            assert_eq!(output.status.code(), Some(125), "as {user:?} {directory}: {}", words(&output));
            assert!(output.stdout.is_empty(), "as {user:?} {directory}: {}", words(&output));
        };
        // The paths are the same for all; one kind of user tries each number.
        for n in (3..=64).step_by(if user == User::Rootless { 1 } else { 8 }) {
            refused(&format!("/proc/self/fd/{n}"));
        }
        for n in [3, 8, 13] {
            refused(&format!("/fd{n}"));
            refused(&format!("/fd{n}/../.."));
            refused(&format!("/proc/1/fd/{n}"));
        }
        for directory in
            ["/out", "/cwd", "/proc/self/root", "/proc/1/cwd", "/proc/thread-self/root", "/out/tmp"]
        {
            refused(directory);
        }
        assert_eq!(ctr.payload_of("wd", &["-w", "/dir"], &["pwd", "-P"]).ok(), "/bin");
        assert_eq!(ctr.payload_of("wd", &["-w", "/not/there/yet"], &["pwd", "-P"]).ok(), "/not/there/yet");
    }
}

#[test]
fn nothing_of_ours_is_inside() {
    for &user in User::all() {
        let c = Running::new(Ctr::with_box(user), "box", &[], WAIT);
        // The fourth is that of `ls` itself.
        assert_eq!(c.script(&[], "ls /proc/self/fd"), "0\n1\n2\n3", "as {user:?}");
        let mut inherited = c.0.command(["exec", "c", "ls", "/proc/self/fd"]);
        let file = fs::File::open("/etc/hostname").expect("a file");
        for number in 5..20 {
            let copy = rustix::io::fcntl_dupfd_cloexec(&file, number).expect("a copy");
            rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).expect("inherit it");
            std::mem::forget(copy);
        }
        let outcome = Outcome::new("with descriptors".to_owned(), inherited.output().expect("start ctr"));
        assert_eq!(outcome.ok(), "0\n1\n2\n3", "as {user:?}");
        for number in 3..64 {
            let workdir = format!("--workdir=/proc/self/fd/{number}");
            assert!(c.exec(&[&workdir], &["pwd"]).code() != 0, "as {user:?}: {workdir}");
        }
        assert_eq!(c.script(&[], "cd /proc/self/cwd && pwd -P"), "/");
    }
}

#[test]
fn a_detached_process_has_no_descriptor_of_the_host() {
    let host = fs::metadata("/dev/null").expect("look at /dev/null").permissions();
    for &user in User::all() {
        let c = Running::new(Ctr::with_box(user), "box", &[], WAIT);
        // A sticky bit means nothing there: a host survives the failure of this test.
        let script = "f=/proc/$$/fd; said=$(stat -Lc %d:%i $f/0 $f/1 $f/2 /dev/null | sort -u | wc -l); \
            chmod 1666 $f/0 $f/1 $f/2; echo $said >/tmp/said; mv /tmp/said /tmp/done";
        c.exec(&["-d"], &["sh", "-c", script]).ok();
        let mut said = String::new();
        while said.is_empty() {
            said = c.script(&[], "cat /tmp/done 2>/dev/null; :");
        }
        let now = fs::metadata("/dev/null").expect("look at /dev/null").permissions();
        if now != host {
            fs::set_permissions("/dev/null", host).expect("mend /dev/null");
            panic!("a container changed the host's /dev/null, as {user:?}");
        }
        assert_eq!(said, "1", "0 to 2 are the container's /dev/null, as {user:?}");
    }
}

/// The same as an image would have it, which also says where its programs are.
#[test]
fn no_descriptor_names_a_directory_or_a_program_of_an_image() {
    let user = User::Rootless;
    let numbers = 3..=66;
    let path =
        numbers.clone().map(|n| format!("/proc/self/fd/{n}/usr/bin:/proc/self/fd/{n}/bin:/proc/self/fd/{n}"));
    let path = path.collect::<Vec<_>>().join(":");
    let ctr = Ctr::new(user).with_hub();
    let run = |image: &str, command: &[&str]| {
        let arguments = [&["run", "--rm", "--network=none", image], command].concat();
        ctr.wrapped(&MANY_DESCRIPTORS, &arguments).output().expect("start ctr")
    };
    let searched = serde_json::json!({ "Env": [format!("PATH={path}")] });
    let ctr_image = |name: &str, config| {
        let layers =
            [Layer::busybox(), layer().mode_file("here/bin/id", "#!/bin/busybox sh\necho ours\n", 0o755)];
        TestImage::new(layers).config(config).push(Registry::plain(), &format!("library/{name}:latest"));
        ctr.run(["pull", "-q", name]).ok();
    };
    ctr_image("searched", searched);
    for command in [&["id"][..], &["busybox", "id"], &["sh", "-c", "id"], &["sh", "-c", "busybox id"]] {
        let output = run("searched", command);
        assert_eq!(output.status.code(), Some(127), "{command:?}: {}", words(&output));
        assert!(output.stdout.is_empty(), "{command:?}: {}", words(&output));
    }
    for n in numbers.step_by(3) {
        let name = format!("dir{n}");
        ctr_image(
            &name,
            serde_json::json!({ "Env": ["PATH=/bin"], "WorkingDir": format!("/proc/self/fd/{n}") }),
        );
        let output = run(&name, &["ls"]);
        assert_eq!(output.status.code(), Some(125), "{n}: {}", words(&output));
        assert!(output.stdout.is_empty(), "{n}: {}", words(&output));
        let output = run("searched", &[&format!("/proc/self/fd/{n}/bin/busybox"), "id"]);
        let code = output.status.code().unwrap_or(0);
        assert!([126, 127].contains(&code) && output.stdout.is_empty(), "{n}: {}", words(&output));
    }
}
