//! Where docs/security.md says that we agree with Podman, a payload sees the same in both.

mod support;

use serde_json::{Value, json};
use std::process::Command;
use support::{Compression, Ctr, Flavour, Layer, Outcome, Registry, TestImage, User};

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

/// An image that says everything that `inspect` shows, in `flavour`.
fn talkative(flavour: Flavour) -> TestImage {
    let layers = ["one", "two"].map(|name| Layer::new(Compression::Gzip).dir("dir", 0o755).file(name, name));
    let config = json!({
        "Cmd": ["sh"], "Entrypoint": ["/bin/env"], "Env": ["A=b"], "Labels": {"team": "x"}, "User": "7",
        "WorkingDir": "/dir", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGINT",
    });
    let step =
        |second: u32, by: &str| json!({"created": format!("2024-01-01T00:00:0{second}Z"), "created_by": by});
    let mut steps = vec![
        step(1, "ADD one"),
        step(2, "RUN something that is longer than forty-five characters"),
        step(3, "CMD"),
    ];
    steps[0]["comment"] = "the first".into();
    steps[2]["empty_layer"] = true.into();
    TestImage::new(layers).flavour(flavour).config(config).details(json!({
        "created": "2024-01-01T00:00:03Z", "author": "me", "history": steps,
    }))
}

/// What both show of an image is the same: all of `inspect` but sizes and directories, all of `history` but sizes.
#[test]
fn an_image_is_what_it_is_in_podman() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let ctr = Ctr::new(User::Rootless).with_hub();
    for (name, flavour) in [("talks-oci", Flavour::Oci), ("talks-docker", Flavour::Docker)] {
        talkative(flavour).push(Registry::plain(), &format!("{name}:latest"));
        let name = format!("{}/{name}:latest", Registry::plain().address());
        podman(&ctr, &["pull", "-q", "--tls-verify=false", &name]).ok();
        ctr.run(["pull", "-q", &name]).ok();
        let both = |arguments: &[&str]| {
            let parse = |text: String| serde_json::from_str::<Value>(&text).unwrap_or(Value::String(text));
            (parse(ctr.run(arguments).ok()), parse(podman(&ctr, arguments).ok()))
        };
        let (ours, theirs) = both(&["image", "inspect", &name]);
        let keys: Vec<_> = theirs[0].as_object().expect("an object").keys().collect();
        for key in keys
            .into_iter()
            .filter(|key| !["Size", "VirtualSize", "GraphDriver", "Config"].contains(&key.as_str()))
        {
            assert_eq!(ours[0][key], theirs[0][key], "{key} of {name}");
        }
        for (key, value) in theirs[0]["Config"].as_object().expect("an object") {
            assert_eq!(ours[0]["Config"][key], *value, "Config.{key} of {name}");
        }
        let (ours, theirs) = both(&["history", "--format=json", &name]);
        for (ours, theirs) in ours.as_array().expect("steps").iter().zip(theirs.as_array().expect("steps")) {
            for key in ["id", "created", "CreatedBy", "comment", "tags"] {
                assert_eq!(ours[key], theirs[key], "{key} of {name}");
            }
        }
        for arguments in [
            &[
                "images",
                "--no-trunc",
                "--digests",
                "--format",
                "{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}} {{.CreatedAt}} {{.Names}} {{.History}}",
            ][..],
            &[
                "history",
                "--no-trunc",
                "--format",
                "{{.ID}} {{.CreatedBy}} {{.Comment}} {{.CreatedAt}}",
                &name,
            ],
            &["history", "-q", &name],
            &["image", "exists", &name],
            &["diff", &name],
            &["image", "diff", &name],
            &["diff", "--format=json", &name],
            &["tag", &name, "mine", "other:x"],
            &["image", "inspect", "mine", "--format", "{{.RepoTags}} {{.RepoDigests}} {{.NamesHistory}}"],
            &["untag", "mine", "other:x"],
            &["images", "-q", "--no-trunc"],
            &["rmi", "mine", &name],
            &["images", "-a", "-n"],
        ] {
            let (ours, theirs) = both(arguments);
            assert_eq!(ours, theirs, "{arguments:?}");
        }
        let status = |arguments: &[&str]| (ctr.run(arguments).code(), podman(&ctr, arguments).code());
        for arguments in [
            &["rmi", "nothing"][..],
            &["rmi", "-f", "nothing"],
            &["rmi", "-i", "nothing"],
            &["rmi"],
            &["tag", "nothing", "x"],
            &["tag"],
            &["untag", "nothing"],
            &["image", "exists", "nothing"],
            &["image", "inspect", "nothing"],
            &["image", "tree", "nothing"],
            &["history", "nothing"],
            &["image", "prune", "-f"],
            &["system", "prune", "-f"],
        ] {
            let (ours, theirs) = status(arguments);
            assert_eq!(ours, theirs, "{arguments:?}");
        }
    }
    podman(&ctr, &["system", "reset", "-f"]).ok();
}
