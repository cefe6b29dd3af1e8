//! Where docs/security.md says that we agree with Podman, a payload sees the same in both.

mod support;

use std::process::Command;
use support::{Ctr, Outcome, Registry, User};

/// What a process may, as the kernel tells it.
const ASK: &str =
    "grep -E '^(Uid|Gid|Cap|NoNewPrivs|Seccomp)' /proc/self/status; umask; ulimit -c; echo $HOME $PATH";

/// crun refuses the older hierarchies of cgroups, so it gets to see the new one.
const NEW_CGROUPS: &str =
    "[ -e /sys/fs/cgroup/cgroup.controllers ] || mount -t cgroup2 none /sys/fs/cgroup; exec \"$@\"";

fn podman(ctr: &Ctr, arguments: &[&str]) -> Outcome {
    let (uid, gid) = ctr.user().ids().expect("ids");
    let home = ctr.home().display();
    ctr.file(".config/containers/policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", NEW_CGROUPS, "sh", "setpriv", "--init-groups"]);
    command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
    command.args(["env", "-i", &format!("HOME={home}"), &format!("XDG_RUNTIME_DIR={home}/run")]);
    command.args(["PATH=/usr/bin:/bin:/usr/sbin:/sbin", "podman"]);
    command.args([format!("--root={home}/podman"), format!("--runroot={home}/run/podman")]);
    command.args(["--storage-driver=overlay", "--cgroup-manager=cgroupfs", "--events-backend=none"]);
    let output = command.args(arguments).current_dir(ctr.home()).output().expect("start podman");
    Outcome::new(format!("podman {arguments:?}"), output)
}

#[test]
fn a_payload_may_what_it_may_in_podman() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let ctr = Ctr::with_box(User::Rootless);
    let image = format!("{}/library/box", Registry::plain().address());
    podman(&ctr, &["pull", "-q", "--tls-verify=false", &image]).ok();
    for options in [
        &[][..],
        &["-u", "1234:1234"],
        &["--cap-add=NET_RAW,SYS_PTRACE"],
        &["--cap-add=CHOWN", "-u", "1234"],
        &["--cap-drop=ALL"],
        &["--cap-drop=SETUID,SETGID"],
        &["--security-opt=no-new-privileges"],
        &["--security-opt=seccomp=unconfined"],
        &["--privileged"],
        &["--umask=0027"],
    ] {
        let theirs =
            [&["run", "--rm", "--network=none", "--cgroups=disabled"], options, &[&image, "sh", "-c", ASK]];
        let theirs = podman(&ctr, &theirs.concat()).ok();
        assert!(theirs.contains("CapEff"), "{theirs}");
        assert_eq!(ctr.script(options, ASK), theirs, "{options:?}");
    }
    // Ends the process that holds rootless podman's namespaces, and what only they can remove.
    podman(&ctr, &["system", "reset", "-f"]).ok();
}
