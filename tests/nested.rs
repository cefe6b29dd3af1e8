//! `ctr` inside other containers: its own, Podman's, Docker's, bubblewrap's. Each surrounding is built for real; the inner `ctr` is the
//! program under test, and loads its image from an archive.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod support;

use rustix::process::{Pid, Signal};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    process::{Child, Command},
    time::Duration,
};
use support::{Ctr, Outcome, User};

/// What the inner `ctr` does. It has to work wherever it runs at all.
const WORK: &str = r#"
set -e
/ctr load -qi /box.tar >/dev/null
run() { /ctr run --rm "$@" 2>>/tmp/said; }
run --network=none box sh -c 'echo inner $(id -u); touch /new; [ -c /dev/null ]; ls / | grep -c .'
run --network=host box sh -c 'echo host; exit 0'
run box echo default
/ctr run -d --name=c --network=none box sleep 1000 >/dev/null 2>&1
/ctr exec c sh -c 'echo x >/tmp/f; rm /etc/group'
/ctr diff c
/ctr cp c:/tmp/f /tmp/f
/ctr commit -q c made >/dev/null
run --network=none made sh -c 'cat /tmp/f; ls /etc/group 2>/dev/null || echo gone'
run -t --network=none box tty
run --network=none -v /tmp:/o:O box sh -c 'echo y >/o/f; cat /o/f'; cat /tmp/f
image=type=image,src=made,dst=/i
run --network=none --mount $image box sh -c 'cat /i/tmp/f; touch /i/x 2>/dev/null || echo ro'
run --network=none --mount $image,rw=true,subpath=tmp box sh -c 'touch /i/g; ls /i'
run --network=none --userns=keep-id --init -v /tmp:/w box cat /w/f || [ $(id -u) = 0 ]
/ctr rm -f -t0 c
/ctr ps -aq
/ctr doctor --format 'mapping={{.mapping.rung}} storage={{.storage.rung}} proc={{.proc.rung}} network={{.network.rung}} cgroups={{.cgroups.rung}} '
"#;

/// Its output up to the first line that depends on who runs it.
const SAID: &str =
    "host\ndefault\nC /etc\nD /etc/group\nC /tmp\nA /tmp/f\nx\ngone\n/dev/pts/0\ny\nx\nx\nro\nf\ng\n";

/// A home with the image `box`, and an archive of it.
fn outer() -> Ctr {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["save", "-q", "-o", "box.tar", "box"]).ok();
    fs::set_permissions(ctr.home().join("box.tar"), fs::Permissions::from_mode(0o644)).expect("chmod");
    ctr
}

fn program(ctr: &Ctr) -> String {
    ctr.command([""; 0]).get_program().to_string_lossy().into_owned()
}

/// [`WORK`] in a container of our own.
fn within(ctr: &Ctr, options: &[&str]) -> Outcome {
    let (program, archive) = (
        format!("{}:/ctr:ro", program(ctr)),
        format!("{}:/box.tar:ro", ctr.home().join("box.tar").display()),
    );
    let mounts = ["-v", &program, "-v", &archive];
    ctr.payload(&[options, &mounts].concat(), &["sh", "-c", WORK])
}

/// It did all of its work, and stood on these rungs.
#[track_caller]
fn works(outcome: Outcome, rungs: &[&str]) {
    let said = outcome.exits(0).stdout().replace('\r', "");
    assert!(said.contains(SAID) && said.starts_with("inner "), "{said}");
    for rung in rungs {
        assert!(said.contains(&format!("{rung} ")), "not {rung}: {said}");
    }
}

#[test]
fn in_a_container_of_ours() {
    let ctr = outer();
    let open = "--security-opt=seccomp=unconfined";
    works(
        within(&ctr, &[open]),
        &["mapping=single", "storage=plain", "proc=outer", "network=none", "cgroups=none"],
    );
    works(within(&ctr, &["--privileged"]), &["mapping=root", "storage=plain", "proc=own"]);
    // A volume is no overlay.
    works(within(&ctr, &["--privileged", "-v", "/var/lib/ctr"]), &["mapping=root", "storage=overlay"]);
    works(within(&ctr, &[open, "-v", "/root"]), &["mapping=single", "storage=plain"]);
    works(within(&ctr, &[open, "--user=4711", "--env=HOME=", "--tmpfs=/tmp"]), &["mapping=single"]);
}

#[test]
fn what_the_outer_container_forbids_is_said() {
    let ctr = outer();
    let refused = within(&ctr, &[]);
    assert_ne!(refused.code(), 0, "{refused}");
    let script = "/ctr doctor --format json; /ctr load -qi /box.tar; exit 0";
    let (program, archive) = (
        format!("{}:/ctr:ro", program(&ctr)),
        format!("{}:/box.tar:ro", ctr.home().join("box.tar").display()),
    );
    let said = ctr.payload(&["-v", &program, "-v", &archive], &["sh", "-c", script]).exits(0);
    let found: serde_json::Value = serde_json::from_str(&said.stdout()).expect("JSON");
    assert_eq!(found["mapping"]["rung"], "none", "{said}");
    assert!(found["mapping"]["next"].to_string().contains("seccomp=unconfined"), "{said}");
    assert!(said.stderr().contains("seccomp=unconfined"), "{said}");
}

/// A root file system for others' containers, with the program and the archive in it.
fn tree(ctr: &Ctr) -> String {
    let tree = ctr.rootfs("tree");
    for applet in ["sleep", "touch", "rm", "tty", "echo", "["] {
        let _ = std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet));
    }
    for dir in ["proc", "sys", "dev", "tmp", "etc", "var/tmp", "root", "run"] {
        ctr.file(&format!("tree/{dir}/keep"), "");
    }
    for dir in ["tmp", "var/tmp"] {
        fs::set_permissions(tree.join(dir), fs::Permissions::from_mode(0o1777)).expect("chmod");
    }
    for (from, to) in [(program(ctr), "ctr"), (ctr.home().join("box.tar").display().to_string(), "box.tar")] {
        ctr.file(&format!("tree/{to}"), fs::read(from).expect("read it"));
        fs::set_permissions(tree.join(to), fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    tree.to_string_lossy().into_owned()
}

#[test]
fn in_bubblewrap() {
    if Command::new("bwrap").arg("--version").output().is_err() {
        eprintln!("skipped: bubblewrap is not installed (Debian: apt install bubblewrap)");
        return;
    }
    let ctr = outer();
    let tree = tree(&ctr);
    let base =
        ["bwrap", "--bind", &tree, "/", "--proc", "/proc", "--dev", "/dev", "--unshare-pid", "--clearenv"];
    let path = ["--setenv", "PATH", "/bin"];
    for more in [
        &["--setenv", "HOME", "/root"][..],
        &["--unshare-all", "--uid", "4711", "--gid", "4711", "--tmpfs", "/var/tmp"],
    ] {
        let wrapper = [&base[..], &path, more, &["sh", "-c", WORK]].concat();
        let mut command = ctr.wrapped(&wrapper, &[]);
        let output = command.output().expect("start bwrap");
        works(
            Outcome::new(format!("bwrap {more:?}"), output),
            &["mapping=single", "storage=overlay", "proc=own"],
        );
    }
}

/// crun refuses the older hierarchies of cgroups, so it gets to see the new one.
const NEW_CGROUPS: &str =
    "[ -e /sys/fs/cgroup/cgroup.controllers ] || mount -t cgroup2 none /sys/fs/cgroup; exec \"$@\"";

#[test]
fn in_podman() {
    if !rustix::process::getuid().is_root() || Command::new("podman").arg("--version").output().is_err() {
        eprintln!("skipped: needs root for its user, and Podman (Debian: apt install podman)");
        return;
    }
    let ctr = outer();
    let (tree, home) = (tree(&ctr), ctr.home().display().to_string());
    let (uid, gid) = ctr.user().ids().expect("ids");
    let podman = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", NEW_CGROUPS, "sh", "setpriv", "--init-groups"]);
        command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
        command.args(["env", "-i", &format!("HOME={home}"), &format!("XDG_RUNTIME_DIR={home}/run")]);
        command.args(["PATH=/usr/bin:/bin:/usr/sbin:/sbin", "podman"]);
        command.args([format!("--root={home}/podman"), format!("--runroot={home}/run/podman")]);
        command.args(["--storage-driver=overlay", "--cgroup-manager=cgroupfs", "--events-backend=none"]);
        let output = command.args(arguments).current_dir(ctr.home()).output().expect("start podman");
        Outcome::new(format!("podman {arguments:?}"), output)
    };
    let base = ["run", "--rm", "--network=none", "--cgroups=disabled", "--env=PATH=/bin"];
    for (options, rungs) in [
        (&["--security-opt=seccomp=unconfined"][..], &["mapping=single", "proc=outer"][..]),
        (
            &["--security-opt=seccomp=unconfined", "--security-opt=unmask=ALL"],
            &["mapping=single", "proc=own"],
        ),
        (&["--privileged"], &["mapping=root", "proc=own"]),
    ] {
        works(podman(&[&base, options, &["--rootfs", &tree, "sh", "-c", WORK]].concat()), rungs);
        podman(
            &[&base, options, &["--rootfs", &tree, "sh", "-c", "rm -rf /var/lib/ctr /root/.local"]].concat(),
        )
        .ok();
    }
    podman(&["system", "reset", "-f"]).ok();
}

/// A Docker daemon of the test's own, which keeps away from the host's network. Dropped, it ends.
struct Docker {
    daemon: Child,
    socket: String,
}

impl Docker {
    fn new(home: &Path) -> Docker {
        let dir = home.join("docker");
        fs::create_dir(&dir).expect("mkdir");
        let place = |name: &str| dir.join(name).display().to_string();
        let ready = UnixDatagram::bind(dir.join("ready")).expect("bind");
        let socket = format!("unix://{}", place("socket"));
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", NEW_CGROUPS, "sh", "dockerd", "--host", &socket, "--data-root"]);
        command.args([place("data"), "--exec-root".into(), place("exec"), "--pidfile".into(), place("pid")]);
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
        command.args(["--storage-driver=vfs", "--exec-opt=native.cgroupdriver=cgroupfs", "--ip-masq=false"]);
        let log = fs::File::create(place("log")).expect("create");
        command.env("NOTIFY_SOCKET", place("ready")).stdout(log.try_clone().expect("dup")).stderr(log);
        let docker = Docker { daemon: command.spawn().expect("start dockerd"), socket };
        let mut word = [0; 256];
        ready.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        while !ready.recv(&mut word).map(|length| word[..length].starts_with(b"READY=1")).expect("dockerd") {}
        docker
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let output = Command::new("docker").args(["-H", &self.socket]).args(arguments).output();
        Outcome::new(format!("docker {arguments:?}"), output.expect("start docker"))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // It takes its containerd along.
        let _ = rustix::process::kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        let _ = self.daemon.wait();
    }
}

#[test]
fn in_docker() {
    if !rustix::process::getuid().is_root() || Command::new("dockerd").arg("--version").output().is_err() {
        eprintln!("skipped: needs root, and Docker (Debian: apt install docker.io)");
        return;
    }
    let ctr = outer();
    let (tree, docker) = (tree(&ctr), Docker::new(ctr.home()));
    let archive = ctr.home().join("tree.tar").display().to_string();
    assert!(Command::new("tar").args(["-C", &tree, "-cf", &archive, "."]).status().expect("tar").success());
    docker.run(&["import", &archive, "outer"]).ok();
    let open = "--security-opt=seccomp=unconfined";
    for (options, rungs) in [
        (&[open][..], &["mapping=single", "proc=outer"][..]),
        (&[open, "--security-opt=systempaths=unconfined"], &["mapping=single", "proc=own"]),
        (&[open, "--user=4711", "--tmpfs=/tmp", "--tmpfs=/var/tmp"], &["mapping=single"]),
    ] {
        let base = ["run", "--rm", "--network=none", "--env=PATH=/bin"];
        works(docker.run(&[&base, options, &["outer", "sh", "-c", WORK]].concat()), rungs);
    }
    let refused = docker.run(&["run", "--rm", "--network=none", "outer", "/ctr", "doctor"]).exits(0);
    assert!(refused.stdout().contains("seccomp=unconfined"), "{refused}");
}
