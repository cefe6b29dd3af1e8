//! Rows 13, 26 and 30: what a payload, an image or a client can make us hold is bounded.

use crate::{
    Running, SYS_RESOURCE, WAIT, fields, layer, sets,
    support::{Compression, Ctr, Layer, Registry, TestImage, User},
};
use std::fs;

#[test]
fn limits_and_masks_of_the_payload() {
    let own = fields(&fs::read_to_string("/proc/self/status").expect("read our status"));
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        assert_eq!(ctr.script(&[], "umask"), "0022", "as {user:?}");
        assert_eq!(ctr.script(&["--umask=077"], "umask"), "0077", "as {user:?}");
        // Only CAP_SYS_RESOURCE on the host raises a hard limit.
        let expected =
            if user == User::Root && sets(&own)[2] & SYS_RESOURCE != 0 { 1 << 20 } else { hard.min(1 << 20) };
        assert_eq!(
            ctr.script(&[], "ulimit -Sn; ulimit -Hn"),
            format!("{expected}\n{expected}"),
            "as {user:?}"
        );
        let limits = ["--ulimit=nofile=100:200", "--ulimit=core=0"];
        assert_eq!(ctr.script(&limits, "ulimit -Sn; ulimit -Hn; ulimit -c"), "100\n200\n0", "as {user:?}");
        let shm = ctr.script(&[], "head -c 70000000 /dev/zero > /dev/shm/x; stat -c %s /dev/shm/x; df -k /dev/shm | awk 'END {print $2}'");
        assert_eq!(shm, format!("{}\n65536", 64 << 20), "as {user:?}");
    }
}

/// Tebibytes of holes, or a gibibyte of zeros, for a few kilobytes of image.
#[test]
fn bombs_end_in_an_error() {
    let refused = |name: &str, layer: Layer, about: &str| {
        TestImage::new([layer]).push(Registry::plain(), &format!("bombs/{name}:latest"));
        let ctr = Ctr::new(User::Rootless).with_hub();
        let started = std::time::Instant::now();
        let wrapper = ["prlimit", "--data=268435456", "--"];
        let name = Registry::plain().name(&format!("bombs/{name}"));
        let output = ctr.wrapped(&wrapper, &["pull", "-q", &name]).output().expect("start ctr");
        let outcome = crate::support::Outcome::new(name, output).fails(about);
        for directory in ["layers", "tmp", "images"] {
            assert!(ctr.list(directory).is_empty(), "{directory}, {outcome}");
        }
        assert!(started.elapsed().as_secs() < 30, "{outcome}");
    };
    let sparse: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"a"),
        ("GNU.sparse.realsize", b"2199023255552"),
    ];
    let mut map = b"0\n".to_vec();
    map.resize(512, 0);
    refused("holes", layer().pax(sparse).file("a", map), "holes");
    // After the end of the archive, where they cost no disk; each frame is a few hundred bytes.
    let frame = zstd::encode_all(vec![0; 16 << 20].as_slice(), 3).expect("compress");
    let zeros = Layer::new(Compression::Zstd).file("a", "a").behind(frame.repeat(75));
    refused("zeros", zeros, "unpacks to more than");
}

/// A configuration of a mebibyte is none, whatever holds it.
#[test]
fn an_oversized_configuration_is_refused() {
    let long = "x".repeat(1100 << 10);
    let labels: serde_json::Map<_, _> = (0..2000).map(|n| (format!("l{n}"), "x".into())).collect();
    let many: Vec<String> = (0..2000).map(|n| format!("V{n}=x")).collect();
    let configs = [
        serde_json::json!({ "Env": [format!("LONG={long}")] }),
        serde_json::json!({ "Cmd": [long] }),
        serde_json::json!({ "Labels": { "long": long } }),
        serde_json::json!({ "User": long }),
        serde_json::json!({ "Labels": labels }),
        serde_json::json!({ "Env": many }),
    ];
    let ctr = Ctr::with_box(User::Rootless);
    for (number, config) in configs.into_iter().enumerate() {
        let name = format!("oversized{number}");
        TestImage::new([Layer::busybox()])
            .config(config)
            .push(Registry::plain(), &format!("library/{name}:latest"));
        let outcome = ctr.payload_of(&name, &[], &["/bin/true"]).exits(125);
        assert!(outcome.stderr().len() < 1000, "what is too long is not repeated: {number}");
        assert!(ctr.list("containers").is_empty(), "{number}");
    }
}

/// A payload prints without end and nobody reads: it waits, and nobody's memory grows.
#[test]
fn output_that_nobody_reads_is_held_by_nobody() {
    let ctr = Ctr::with_box(User::Rootless);
    let c = Running::new(ctr, "box", &["--log-driver=none"], WAIT);
    let mut live = c.live(&[], "echo up; exec head -c 10000000000 /dev/zero");
    live.says("up");
    // It stands still once it has written as much after twenty more calls as before.
    let written = || c.script(&[], "grep -h wchar /proc/$(pidof head)/io");
    let mut before = written();
    loop {
        let now = written();
        if now == before {
            break;
        }
        before = now;
    }
    let bytes: u64 = before.trim_start_matches("wchar: ").parse().expect("a number");
    assert!(bytes < 8 << 20, "{bytes} bytes were taken");
    let mut waiting = vec![live.pid().as_raw_pid().to_string()];
    let mut seen = 0;
    while let Some(pid) = waiting.pop() {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
        waiting.extend(children.split_whitespace().map(str::to_owned));
        let status = fields(&fs::read_to_string(format!("/proc/{pid}/status")).expect("its status"));
        let peak: u64 = status["VmHWM"].trim_end_matches(" kB").parse().expect("a number");
        assert!(peak < 64 << 10, "{} has {peak} kB", status["Name"]);
        seen += 1;
    }
    assert!(seen >= 3, "the client, what stands beside the payload, and the payload");
}

#[test]
fn arguments_of_mebibytes_are_cut() {
    let c = Running::new(
        Ctr::with_box(User::Rootless),
        "box",
        &[],
        &format!(
            "a=$(head -c 120000 /dev/zero | tr '\\0' a); sh -c 'sleep 1000; :' $a $a $a $a $a $a $a $a & {WAIT}"
        ),
    );
    let mut listed = String::new();
    while !listed.contains("aaaa") {
        listed = c.0.run(["top", "c", "args"]).ok();
    }
    assert!(listed.len() < 40_000, "{} bytes", listed.len());
}

/// It has to be printed, but a column that wide is no column.
#[test]
fn a_command_of_any_length_is_listed() {
    let long = "x".repeat(100_000);
    let ctr = Ctr::with_box(User::Rootless);
    for name in ["long", "short"] {
        let command = if name == "long" { long.as_str() } else { "true" };
        ctr.run(["create", "--name", name, "--network=none", "box", command]).ok();
    }
    let listed = ctr.run(["ps", "-a", "--no-trunc"]).ok();
    assert!(listed.contains(&long) && listed.len() < 110_000, "{} bytes", listed.len());
}
