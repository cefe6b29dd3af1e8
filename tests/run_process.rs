//! What a payload finds when it starts, by the options of `ctr run` and by its image: environment, directory, user, command,
//! limits, host name; and which signals reach it.

mod support;

use rustix::process::Signal;
use serde_json::json;
use std::time::Instant;
use support::{Compression, Ctr, Layer, Registry, TestImage, User};

/// Waits for a signal and says so. `sleep` and `wait`: only a shell that waits runs its traps at once.
const TRAPS: &str = r#"for s in TERM HUP INT USR1 USR2; do trap "echo got $s; exit 5" $s; done
    echo ready; sleep 1000 & wait"#;

#[test]
fn environment() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.file("env", "# a comment\n\nFROM_FILE=a b\nBOTH=file\nHOST_1\n");
    let arguments = [
        "run",
        "--rm",
        "--network=none",
        "--env-file",
        "env",
        "-e",
        "A=x=y",
        "-eBOTH=option",
        "-e",
        "HOST_2",
        "--env=PFX_*",
        "-e",
        "UNSET",
        "-e",
        "EMPTY=",
        "box",
        "env",
    ];
    let mut command = ctr.command(arguments);
    for (name, value) in
        [("HOST_1", "one"), ("HOST_2", "two"), ("HOST_3", "no"), ("PFX_A", "a"), ("PFX_B", "b")]
    {
        command.env(name, value);
    }
    let output = command.output().expect("start ctr");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("HOSTNAME=")).collect();
    lines.sort();
    let expected = [
        "A=x=y",
        "BOTH=option",
        "EMPTY=",
        "FROM_FILE=a b",
        "HOME=/root",
        "HOST_1=one",
        "HOST_2=two",
        "PATH=/bin:/usr/bin",
        "PFX_A=a",
        "PFX_B=b",
        "container=ctr",
    ];
    assert_eq!(lines, expected, "nothing else of the host");
}

#[test]
fn working_directory() {
    let image = TestImage::new([Layer::busybox()])
        .config(json!({ "Env": ["PATH=/bin"], "WorkingDir": "/srv/of/image" }));
    let ctr = Ctr::with_box(User::Rootless).with_image("workdir", image);
    assert_eq!(ctr.script(&[], "pwd"), "/");
    assert_eq!(ctr.script(&["-w", "/etc"], "pwd; ls passwd"), "/etc\npasswd");
    assert_eq!(ctr.script(&["--workdir=/made/when/missing"], "pwd; touch x; ls"), "/made/when/missing\nx");
    assert_eq!(ctr.payload_of("workdir", &[], &["pwd"]).ok(), "/srv/of/image");
    assert_eq!(ctr.payload_of("workdir", &["-w", "/"], &["pwd"]).ok(), "/");
    ctr.payload(&["-w", "/etc/passwd"], &["pwd"])
        .fails("enter working directory /etc/passwd: not a directory");
    ctr.payload(&["-w", "etc"], &["pwd"]).fails("--workdir etc");
}

#[test]
fn what_the_image_has_in_the_way() {
    let image = TestImage::new([Layer::busybox(), Layer::new(Compression::Gzip).symlink("proc", "/etc")]);
    let ctr = Ctr::with_box(User::Rootless).with_image("link", image);
    ctr.payload_of("link", &[], &["true"]).fails("the image has a symbolic link there");
    ctr.payload(&["--tmpfs=/etc/passwd"], &["true"]).fails("tmpfs on /etc/passwd: not a directory");
    ctr.payload(&["--device=/dev/null:/etc/passwd/x"], &["true"]).fails("to /etc/passwd/x: not a directory");
    ctr.payload(&["--sysctl=net.ipv4.nothing=1"], &["true"]).fails("sysctl net.ipv4.nothing");
    assert!(ctr.list("containers").is_empty());
}

#[test]
fn user_and_groups() {
    let ctr = Ctr::with_box(User::Rootless);
    let script = "id -u; id -g; id -G; echo $HOME";
    for (options, said) in [
        (&[][..], "0\n0\n0\n/root"),
        (&["-u", "user"], "1000\n1000\n1000 50\n/home"),
        (&["-u", "1000"], "1000\n1000\n1000 50\n/home"),
        (&["-u", "user:staff"], "1000\n50\n50\n/home"),
        (&["-u", "1000:7"], "1000\n7\n7\n/home"),
        (&["-u", "4242"], "4242\n0\n0\n/"),
        (&["-u", "nobody", "--group-add", "staff,99"], "65534\n65534\n65534 50 99\n/"),
        (&["-u", "user", "-e", "HOME=/elsewhere"], "1000\n1000\n1000 50\n/elsewhere"),
    ] {
        assert_eq!(ctr.script(options, script), said, "{options:?}");
    }
    let before = ctr.store();
    for (option, value) in [
        ("-u", "stranger"),
        ("-u", "user:strangers"),
        ("--group-add", "strangers"),
        ("-u", "-1"),
        ("-u", "70000"),
        ("-u", "0:70000"),
        ("--group-add", "70000"),
    ] {
        ctr.payload(&[option, value], &["echo", "ran"]).fails(value.rsplit(':').next().unwrap_or(value));
    }
    assert_eq!(ctr.store(), before);
}

#[test]
fn a_user_added_by_a_layer_is_known() {
    let more = Layer::new(support::Compression::Gzip).file("etc/passwd", "late:x:77:78::/late:/bin/sh\n");
    let image =
        TestImage::new([Layer::busybox(), more]).config(json!({ "Env": ["PATH=/bin"], "User": "late" }));
    let ctr = Ctr::with_box(User::Rootless).with_image("late", image);
    assert_eq!(ctr.payload_of("late", &[], &["sh", "-c", "id -u; id -g; echo $HOME"]).ok(), "77\n78\n/late");
    assert_eq!(ctr.payload_of("late", &["-u", "0"], &["id", "-u"]).ok(), "0");
}

#[test]
fn users_that_only_their_owner_may_read_are_known() {
    for &user in User::all() {
        let private = Layer::new(Compression::Plain)
            .mode_file("etc/passwd", "root:x:0:0::/root:/bin/sh\nmine:x:0:50::/mine:/bin/sh\n", 0)
            .mode_file("etc/group", "staff:x:50:\n", 0);
        let ctr =
            Ctr::new(user).with_hub().with_image("private", TestImage::new([Layer::busybox(), private]));
        let payload = ["sh", "-c", "echo $HOME"];
        let group = if user == User::Single { "mine:0" } else { "mine" };
        assert_eq!(ctr.payload_of("private", &["-u", group], &payload).ok(), "/mine", "as {user:?}");
        ctr.run(["run", "-d", "--name=c", "--network=none", "private", "sleep", "1000"]).ok();
        let exec = ["exec", "-u", group, "c", "id", "-g"];
        let expected = if user == User::Single { "0" } else { "50" };
        assert_eq!(ctr.run(exec).ok(), expected, "as {user:?}");
        ctr.run(["rm", "-f", "c"]).ok();
    }
}

#[test]
fn entrypoint_and_command() {
    let config = json!({ "Env": ["PATH=/bin"], "Entrypoint": ["/bin/echo", "entry"], "Cmd": ["cmd"] });
    let plain = json!({ "Env": ["PATH=/bin"], "Cmd": ["echo", "cmd"] });
    let image = |config| TestImage::new([Layer::busybox()]).config(config);
    let ctr = Ctr::with_box(User::Rootless)
        .with_image("entry", image(config))
        .with_image("cmd", image(plain))
        .with_image("nothing", image(json!({})));
    for (image, options, command, said) in [
        ("entry", &[][..], &[][..], "entry cmd"),
        ("entry", &[], &["a", "-b"], "entry a -b"),
        ("entry", &["--entrypoint", "/bin/basename"], &["/x/y"], "y"),
        ("entry", &["--entrypoint", r#"["/bin/echo","json"]"#], &["a"], "json a"),
        ("entry", &["--entrypoint", "/bin/pwd"], &[], "/"),
        ("entry", &["--entrypoint", r#"["/bin/echo","json"]"#], &[], "json"),
        ("entry", &["--entrypoint="], &["echo", "none"], "none"),
        ("cmd", &[], &[], "cmd"),
        ("cmd", &[], &["echo", "other"], "other"),
    ] {
        assert_eq!(ctr.payload_of(image, options, command).ok(), said, "{image} {options:?} {command:?}");
    }
    ctr.payload_of("nothing", &[], &[]).fails("what to run");
}

#[test]
fn what_the_image_says() {
    let config = json!({
        "Env": ["PATH=/bin", "A=image", "B=image"], "Cmd": ["sh", "-c", "id -u; pwd; echo $A $B; ls -d /data"],
        "User": "user:staff", "WorkingDir": "/srv/app", "StopSignal": "SIGUSR2", "Volumes": { "/data": {} },
        "Labels": { "from": "image", "both": "image" },
    });
    for &user in User::all() {
        if user == User::Single {
            continue;
        }
        let image = TestImage::new([Layer::busybox()]).config(config.clone());
        let ctr = Ctr::with_box(user).with_image("says", image);
        let options = ["-e", "B=option", "--name", "says", "--label", "both=option"];
        let outcome = ctr.run([&["run", "--network=none"], &options[..], &["says"]].concat());
        assert_eq!(outcome.ok(), "1000\n/srv/app\nimage option\n/data", "as {user:?}");
        let text = ctr.run(["inspect", "says"]).ok();
        let about: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(about[0]["Config"]["StopSignal"], "SIGUSR2");
        assert_eq!(about[0]["Config"]["Labels"], json!({ "from": "image", "both": "option" }));
    }
}

#[test]
fn host_name() {
    let ctr = Ctr::with_box(User::Rootless);
    let script = "hostname; cat /etc/hostname; echo $HOSTNAME; grep -c \"\\s$(hostname)\" /etc/hosts";
    let said = ctr.script(&["--cidfile", "id"], script);
    let id = std::fs::read_to_string(ctr.home().join("id")).expect("the id");
    assert_eq!(said, format!("{0}\n{0}\n{0}\n1", &id[..12]));
    for option in [&["-h", "own.example"][..], &["--hostname=own.example"]] {
        assert_eq!(ctr.script(option, script), "own.example\nown.example\nown.example\n1");
    }
}

#[test]
fn umask_and_limits() {
    let ctr = Ctr::with_box(User::Rootless);
    let script = "umask; ulimit -n; ulimit -Hn; ulimit -c";
    let options = ["--umask=077", "--ulimit", "nofile=100:200,core=0"];
    assert_eq!(ctr.script(&options, script), "0077\n100\n200\n0");
    assert_eq!(ctr.script(&[], "umask"), "0022");
    // The caller's own umask stays outside.
    let output = ctr
        .wrapped(
            &["sh", "-c", "umask 000; exec \"$@\"", "sh"],
            &["run", "--rm", "--network=none", "box", "sh", "-c", "umask"],
        )
        .output();
    assert_eq!(String::from_utf8_lossy(&output.expect("start a shell").stdout), "0022\n");
}

#[test]
fn init_is_process_1_and_reaps() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let said = ctr.script(&["--init"], "ps -o pid,comm,args | tail -n +2; echo $$");
        let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["1", "ctr-init", "ctr-init"], "no command line of the host, as {user:?}");
        assert_eq!(lines.last().expect("lines"), &["2"], "the payload is process 2");
        assert!(!said.contains("--network"), "{said}");
        // An orphan's orphan exits; as a zombie it could be signalled for ever.
        let reaped =
            r#"(true & echo $! >/p); while kill -0 "$(cat /p)" 2>/dev/null; do :; done; echo reaped"#;
        assert_eq!(ctr.script(&["--init", "--timeout=20"], reaped), "reaped");
        ctr.payload(&["--init"], &["sh", "-c", "exit 44"]).exits(44);
        ctr.payload(&["--init"], &["/no/such/file"]).exits(127);
    }
}

#[test]
fn signals_reach_the_payload() {
    let ctr = Ctr::with_box(User::Rootless);
    for options in [&[][..], &["--init"]] {
        for (signal, name) in [
            (Signal::TERM, "TERM"),
            (Signal::HUP, "HUP"),
            (Signal::INT, "INT"),
            (Signal::USR1, "USR1"),
            (Signal::USR2, "USR2"),
        ] {
            let mut live = ctr.live(options, &["sh", "-c", TRAPS]);
            live.says("ready");
            live.signal(signal);
            live.says(&format!("got {name}"));
            live.end().exits(5);
        }
    }
}

#[test]
fn without_sig_proxy_the_stop_signal_asks_it_to_stop() {
    let image = TestImage::new([Layer::busybox()])
        .config(json!({ "Env": ["PATH=/bin"], "StopSignal": "SIGUSR2", "Cmd": ["sh", "-c", TRAPS] }));
    let ctr = Ctr::with_box(User::Rootless).with_image("stop", image);
    let run = ["run", "--rm", "--network=none", "--sig-proxy=false"];
    for (options, name) in [(&["stop"][..], "USR2"), (&["--stop-signal", "HUP", "stop"], "HUP")] {
        let mut live = ctr.start([&run[..], options].concat());
        live.says("ready");
        live.signal(Signal::USR1);
        live.signal(Signal::TERM);
        live.says(&format!("got {name}"));
        live.end().exits(5);
    }
    // Deaf: killed when the time is up.
    let script = "trap '' TERM; echo ready; sleep 1000 & wait";
    let mut live = ctr.live(&["--sig-proxy=false", "--stop-timeout=0"], &["sh", "-c", script]);
    live.says("ready");
    live.signal(Signal::TERM);
    live.end().exits(137);
}

#[test]
fn timeout_kills() {
    let ctr = Ctr::with_box(User::Rootless);
    let start = Instant::now();
    ctr.payload(&["--timeout", "1"], &["sleep", "1000"]).exits(137);
    let took = start.elapsed().as_secs_f32();
    assert!((1.0..20.0).contains(&took), "{took} s");
    ctr.payload(&["--timeout", "1000"], &["true"]).ok();
}

#[test]
fn labels_and_annotations() {
    let ctr = Ctr::with_box(User::Rootless);
    let options = ["--label", "a=b=c", "-l", "bare", "--annotation", "note=x y", "--name", "labelled"];
    ctr.run([&["run", "--network=none"], &options[..], &["box", "true"]].concat()).ok();
    let text = ctr.run(["inspect", "labelled"]).ok();
    let about: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(about[0]["Config"]["Labels"], json!({ "a": "b=c", "bare": "" }));
    assert_eq!(about[0]["HostConfig"]["Annotations"], json!({ "note": "x y" }));
    assert_eq!(ctr.run(["ps", "-aq", "--filter", "label=bare"]).ok().lines().count(), 1);
}

#[test]
fn an_image_from_elsewhere_is_named_when_it_is_missing() {
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&Registry::plain().as_docker_hub());
    ctr.payload_of("no/such/image", &[], &["true"]).fails("no/such/image");
    assert_eq!(ctr.list("containers"), [""; 0]);
}
