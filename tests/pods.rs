//! Pods (podman-pod(1)): containers that share a network, a host name and memory, held by a process of ours that waits.

mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};
use support::{Ctr, User};

const LISTENS: &str = "until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";

#[test]
fn members_share_and_are_reached_from_outside() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let id = ctr.run(["pod", "create", "--name", "web", "-p", "127.0.0.1::80", "--label", "a=b"]).ok();
        assert_eq!(
            ctr.run(["pod", "ls", "--format", "{{.Name}} {{.Status}} {{.NumberOfContainers}}"]).ok(),
            "web Created 0"
        );
        let serve = "echo hello >/dev/shm/word; nc -ll -p 80 -e sh -c 'read line; echo got $line'";
        ctr.run(["run", "-d", "--pod", "web", "--name", "server", "box", "sh", "-c", serve]).ok();
        let seen = format!(
            "{LISTENS}; hostname; cat /dev/shm/word; cat /etc/hostname; echo inside | nc 127.0.0.1 80; ps -o comm | grep -c nc; true"
        );
        let said = ctr.run(["run", "--rm", "--pod", "web", "box", "sh", "-c", &seen]).ok();
        assert_eq!(said, "web\nhello\nweb\ngot inside\n0", "{user:?}");
        let address: SocketAddr = ctr.run(["port", "web", "80"]).ok().parse().expect("an address");
        let mut stream = TcpStream::connect(address).expect("a published port");
        stream.write_all(b"outside\n").expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer, "got outside\n");
        assert_eq!(
            ctr.run(["pod", "ps", "--format", "{{.Status}} {{.ContainerNames}}"]).ok(),
            "Running server"
        );
        let inspected =
            ctr.run(["pod", "inspect", "--format", "{{.Id}} {{.State}} {{.NumContainers}}", "web"]).ok();
        assert_eq!(inspected, format!("{id} Running 2"));
        // The pod's own process can do nothing.
        let caps = ctr.run([
            "run",
            "--rm",
            "--pod",
            "web",
            "--pid=container:web",
            "box",
            "sh",
            "-c",
            "grep CapEff /proc/1/status; readlink /proc/1/exe",
        ]);
        assert_eq!(caps.ok(), "CapEff:\t0000000000000000\n/memfd:ctr-pod (deleted)", "{user:?}");
        ctr.run(["pod", "stop", "-t0", "web"]).ok();
        assert_eq!(ctr.run(["pod", "ls", "--format", "{{.Status}}"]).ok(), "Exited");
        // A member starts its pod.
        ctr.run(["start", "server"]).ok();
        assert_eq!(ctr.run(["pod", "ls", "--format", "{{.Status}}"]).ok(), "Running");
        ctr.run(["rm", "-f", "web"]).exits(2);
        ctr.run(["pod", "rm", "web"]).exits(2);
        ctr.run(["pod", "rm", "-f", "web"]).ok();
        assert_eq!(ctr.run(["ps", "-aq"]).ok(), "");
    }
}

#[test]
fn what_is_shared_is_chosen() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["pod", "create", "--share", "+pid", "all"]).ok();
    ctr.run(["pod", "create", "--share", "none", "bare"]).ok();
    ctr.run(["run", "-d", "--pod", "all", "--network=none", "box", "sleep", "1000"]).ok();
    let count = [
        "run",
        "--rm",
        "--pod",
        "all",
        "--network=none",
        "box",
        "sh",
        "-c",
        "ps -o comm | grep -c -e sleep -e ctr-pod",
    ];
    assert_eq!(ctr.run(count).ok(), "2");
    let alone = ctr.run([
        "run",
        "--rm",
        "--pod",
        "bare",
        "--network=none",
        "box",
        "sh",
        "-c",
        "ps -o comm | grep -c ctr-pod; hostname | wc -c",
    ]);
    assert_eq!(alone.ok(), "0\n13");
    // One may say otherwise.
    let other = ctr.run([
        "run",
        "--rm",
        "--pod",
        "all",
        "--uts=private",
        "--hostname=mine",
        "--network=none",
        "box",
        "hostname",
    ]);
    assert_eq!(other.ok(), "mine");
    ctr.run(["pod", "rm", "-fa"]).ok();
}

#[test]
fn what_cannot_be() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["run", "--rm", "--pod", "nothing", "box", "true"])
        .exits(125)
        .fails("no pod")
        .hints("ctr pod ls");
    for verb in ["start", "stop", "rm", "kill", "restart", "pause"] {
        let said = ctr.run(["pod", verb, "nothing"]).exits(1);
        assert!(said.stderr().contains("no pod with name or ID nothing"), "{}", said.stderr());
    }
    ctr.run(["pod", "rm", "-i", "nothing"]).ok();
    assert_eq!(ctr.run(["pod", "exists", "nothing"]).code(), 1);
    ctr.run(["pod", "create", "--share", "x", "p"]).exits(125).fails("--share");
    ctr.run(["pod", "create", "--name", "../p"]).exits(125).fails("--name");
    ctr.run(["pod", "create", "p"]).ok();
    ctr.run(["pod", "create", "p"]).exits(125).fails("p");
    ctr.run(["create", "--name", "p", "box"]).exits(125).fails("p");
    ctr.run(["pod", "create", "--replace", "p"]).ok();
    assert_eq!(ctr.run(["pod", "ls", "-q"]).ok().lines().count(), 1);
    ctr.run(["pod", "rm", "p"]).ok();
}

#[test]
fn a_pod_may_end_with_its_members() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["pod", "create", "--exit-policy=stop", "p"]).ok();
    for _ in 0..2 {
        ctr.run(["run", "--rm", "--pod=p", "--network=none", "box", "true"]).ok();
        assert_eq!(ctr.run(["wait", "p"]).ok(), "0");
        assert_eq!(ctr.run(["pod", "ls", "--format", "{{.Status}}"]).ok(), "Exited");
    }
    ctr.run(["pod", "rm", "p"]).ok();
}

#[test]
fn what_members_do_is_shown() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.run(["pod", "create", "both"]).ok();
        for name in ["one", "two"] {
            let script = format!("echo from {name}; exec sleep 1000");
            ctr.run(["run", "-d", "--pod=both", "--name", name, "box", "sh", "-c", &script]).ok();
        }
        let top = ctr.run(["pod", "top", "both", "pid", "args"]).ok();
        assert_eq!(top.matches("sleep 1000").count(), 2, "{top}, {user:?}");
        ctr.run(["pod", "top", "both", "nothing"]).exits(125).fails("nothing");
        assert_eq!(ctr.run(["pod", "top", "one"]).code(), 125);
        let mut logs: Vec<String> =
            ctr.run(["pod", "logs", "--names", "both"]).ok().lines().map(str::to_owned).collect();
        logs.sort();
        assert_eq!(logs, ["one from one", "two from two"], "{user:?}");
        assert_eq!(ctr.run(["pod", "logs", "-c", "two", "both"]).ok(), "from two");
        ctr.run(["pod", "logs", "-c", "three", "both"]).exits(125).fails("three");
        let stats =
            ctr.run(["pod", "stats", "--no-stream", "--format", "{{.Pod}} {{.Name}} {{.PIDS}}", "both"]);
        let id = ctr.run(["pod", "inspect", "--format", "{{.Id}}", "both"]).ok();
        let stats = stats.ok();
        assert!(stats.contains(&format!("{} one 1", &id[..12])), "{stats}, {user:?}");
        assert!(ctr.run(["pod", "stats", "--no-stream"]).ok().starts_with("POD "));
        let shown = ctr.run(["ps", "--pod", "--filter", "name=one"]).ok();
        assert!(shown.contains("PODNAME") && shown.trim_end().ends_with("both"), "{shown}, {user:?}");
        assert!(shown.contains(&id[..12]));
        ctr.run(["pod", "stop", "-t0", "both"]).ok();
        ctr.run(["pod", "top", "both"]).exits(125).fails("not running").hints("ctr pod start both");
        ctr.run(["rm", "--depend", "both"]).ok();
        assert_eq!(ctr.run(["ps", "-aq"]).ok(), "", "{user:?}");
    }
}
