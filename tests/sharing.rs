//! Namespaces that containers have in common with others or with the host (podman-run(1), `--pid`, `--ipc`, `--uts`): what
//! each then sees, through `exec` and a second start, too.

mod support;

use support::{Ctr, User};

/// A container of this name that waits, with a file in its /dev/shm.
fn owner(ctr: &Ctr, options: &[&str]) {
    let line = ["run", "-d", "--network=none", "--name", "owner", "--hostname", "pool"];
    let command = ["box", "sh", "-c", "echo shared >/dev/shm/file; exec sleep 1000"];
    ctr.run([&line[..], options, &command].concat()).ok();
    let seen = ["exec", "owner", "sh", "-c", "until [ -s /dev/shm/file ]; do :; done"];
    ctr.run(seen).ok();
}

const LINKS: &str = "for kind in pid ipc uts user; do readlink /proc/self/ns/$kind; done";

fn links(ctr: &Ctr, options: &[&str]) -> Vec<String> {
    let said = ctr.payload_of("box", options, &["sh", "-c", LINKS]).ok();
    said.lines().map(str::to_owned).collect()
}

#[test]
fn a_container_joins_another() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        owner(&ctr, &[]);
        let of_owner = ctr.run(["exec", "owner", "sh", "-c", LINKS]);
        let of_owner: Vec<String> = of_owner.ok().lines().map(str::to_owned).collect();
        let alone = links(&ctr, &[]);
        let joined =
            links(&ctr, &["--pid=container:owner", "--ipc=container:owner", "--uts=container:owner"]);
        assert_eq!(joined, of_owner, "{user:?}");
        assert!(alone[..3].iter().zip(&of_owner).all(|(one, other)| one != other), "{alone:?}");
        let script = "hostname; cat /dev/shm/file; ps -o comm | grep -c sleep; echo more >/dev/shm/other";
        let options = ["--pid=container:owner", "--ipc=container:owner", "--uts=container:owner"];
        let said = ctr.payload_of("box", &options, &["sh", "-c", script]).ok();
        assert_eq!(said, "pool\nshared\n1", "{user:?}");
        assert_eq!(ctr.run(["exec", "owner", "cat", "/dev/shm/other"]).ok(), "more");
        // One of them alone: the others are its own.
        let one = links(&ctr, &["--ipc=container:owner"]);
        assert_eq!((&one[1], one[0] == of_owner[0], one[2] == of_owner[2]), (&of_owner[1], false, false));
        ctr.run(["rm", "-f", "-t0", "owner"]).ok();
    }
}

#[test]
fn it_lives_and_is_entered_like_any_other() {
    let ctr = Ctr::with_box(User::Rootless);
    owner(&ctr, &[]);
    let line =
        ["run", "-d", "--network=none", "--name", "joined", "--pid=container:owner", "--ipc=container:owner"];
    ctr.run([&line[..], &["box", "sleep", "2000"]].concat()).ok();
    let said =
        ctr.run(["exec", "joined", "sh", "-c", "cat /dev/shm/file; ps -o args | grep -c '[s]leep .000'"]);
    assert_eq!(said.ok(), "shared\n2");
    let modes = ctr.run([
        "inspect",
        "--format",
        "{{.HostConfig.PidMode}} {{.HostConfig.IpcMode}} {{.HostConfig.UTSMode}}",
        "joined",
    ]);
    let id = ctr.run(["inspect", "--format", "{{.Id}}", "owner"]).ok();
    assert_eq!(modes.ok(), format!("container:{id} container:{id} private"));
    ctr.run(["cp", "joined:/etc/passwd", "passwd"]).ok();
    ctr.run(["stop", "-t0", "joined"]).ok();
    // The end of one is not that of the other.
    assert_eq!(ctr.run(["exec", "owner", "cat", "/dev/shm/file"]).ok(), "shared");
    ctr.run(["start", "joined"]).ok();
    assert_eq!(ctr.run(["exec", "joined", "cat", "/dev/shm/file"]).ok(), "shared");
    ctr.run(["rm", "-f", "-t0", "joined"]).ok();
    // The one whose namespaces they are starts first.
    ctr.run([&["create"], &line[2..], &["box", "cat", "/dev/shm/file"]].concat()).ok();
    ctr.run(["stop", "-t0", "owner"]).ok();
    ctr.run(["start", "joined"]).ok();
    assert_eq!(ctr.run(["ps", "--filter", "name=owner", "--format", "{{.State}}"]).ok(), "running");
    ctr.run(["rm", "-f", "-t0", "joined", "owner"]).ok();
}

#[test]
fn the_hosts() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let host = |name: &str| {
            std::fs::read_link(format!("/proc/self/ns/{name}")).expect("a namespace").display().to_string()
        };
        let seen = links(&ctr, &["--pid=host", "--ipc=host", "--uts=host"]);
        assert_eq!(seen[..3], [host("pid"), host("ipc"), host("uts")], "{user:?}");
        // The host's processes are there, and what is masked stays masked.
        let pid = std::process::id().to_string();
        let script = format!(
            "test -d /proc/{pid} && hostname && head -c1 /proc/kcore | wc -c && cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
        );
        let said = ctr.payload_of("box", &["--pid=host", "--uts=host"], &["sh", "-c", &script]).ok();
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        assert_eq!(said, format!("{name}\n0\n0"), "{user:?}");
        ctr.payload_of("box", &["--pid=host"], &["sh", "-c", "echo 1 >/proc/sys/kernel/panic"]).exits(1);
    }
}

#[test]
fn what_cannot_be() {
    let ctr = Ctr::with_box(User::Rootless);
    owner(&ctr, &[]);
    let run = |options: &[&str]| ctr.payload_of("box", options, &["true"]);
    for bad in ["--pid=pod", "--pid=container:", "--ipc=hosts", "--uts=ns:x", "--pid=none"] {
        run(&[bad]).exits(125).fails(bad.split('=').next().unwrap_or_default());
    }
    run(&["--pid=container:nobody"]).exits(125).fails("nobody");
    run(&["--uts=host", "--hostname=x"]).exits(125).fails("--hostname");
    run(&["--ipc=host", "--sysctl=kernel.msgmax=1"]).exits(125).fails("kernel.msgmax");
    run(&["--pid=container:owner", "--userns=keep-id"]).exits(125).fails("user namespace");
    run(&["--pid=ns:/proc/1/ns/pid"]).exits(125).fails("/proc/1/ns/pid");
    ctr.run(["run", "-d", "--network=none", "--name", "other", "box", "sleep", "1000"]).ok();
    run(&["--pid=container:owner", "--ipc=container:other"]).exits(125).fails("another user namespace");
    assert_eq!(ctr.run(["ps", "-aq"]).ok().lines().count(), 2, "nothing else was made");
    // Whoever shares its processes is not stopped with them.
    let line =
        ["run", "-d", "--network=none", "--name", "joined", "--pid=container:owner", "box", "sleep", "1000"];
    ctr.run(line).ok();
    ctr.run(["pause", "joined"]).exits(125).fails("shares");
    ctr.run(["rm", "-f", "-t0", "joined", "owner", "other"]).ok();
}

#[test]
fn who_is_shared_stays() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        owner(&ctr, &[]);
        let member = |name: &str, of: &str| {
            let space = format!("--uts=container:{of}");
            ctr.run(["run", "-d", "--network=none", "--name", name, &space, "box", "sleep", "1000"]).ok()
        };
        let id = member("first", "owner");
        member("second", "first");
        ctr.run(["rm", "-f", "owner"]).exits(125).fails(&id).hints("ctr rm --depend");
        ctr.run(["stop", "-t0", "owner"]).ok();
        ctr.run(["container", "prune", "-f"]).exits(125).fails("dependent containers");
        ctr.run(["rm", "-f", "--depend", "owner"]).ok();
        assert_eq!(ctr.run(["ps", "-aq"]).ok(), "", "{user:?}");
        owner(&ctr, &[]);
        member("first", "owner");
        // All are all, in whatever order.
        ctr.run(["rm", "-fa"]).ok();
        assert_eq!(ctr.run(["ps", "-aq"]).ok(), "", "{user:?}");
    }
}
