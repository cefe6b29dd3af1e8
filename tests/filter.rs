//! The default system call filter, asked about every call there is: by number, in each convention, as the kernel applies
//! it to a payload. What to expect comes from a reading of default.json that shares no code with `ctr`.

mod support;

use serde_json::Value;
use std::{fmt::Write, fs, path::Path, sync::OnceLock};
use support::{Ctr, Layer, Outcome, TestImage, User, compile};

#[cfg(target_arch = "aarch64")]
use syscalls::aarch64::Sysno;
#[cfg(target_arch = "x86_64")]
use syscalls::x86_64::Sysno;

const SIGSYS: &str = "signal 31";

/// A call of the native convention.
#[derive(Clone, Copy)]
struct Call {
    number: u64,
    arguments: [u64; 2],
}

/// uretprobe and uprobe, about which the kernel asks no filter (seccomp_is_const_allow); outside its own trampolines they
/// are SIGILL.
#[cfg(target_arch = "x86_64")]
const UNFILTERED: [u64; 2] = [335, 336];
#[cfg(target_arch = "aarch64")]
const UNFILTERED: [u64; 0] = [];

/// Every number with a margin, with all bits of the arguments clear and set; and whatever the profile looks at.
fn calls() -> Vec<Call> {
    let mut calls: Vec<Call> = (0..1024)
        .filter(|number| !UNFILTERED.contains(number))
        .flat_map(|number| [0, u64::MAX].map(|all| Call { number, arguments: [all; 2] }))
        .collect();
    let number = |call: Sysno| call.id() as u64;
    for family in (0..64).chain([1 << 32 | 2, 1 << 32 | 38, 1 << 32 | 40]) {
        for call in [Sysno::socket, Sysno::socketpair] {
            calls.extend([1, 2, 3, 5].map(|kind| Call { number: number(call), arguments: [family, kind] }));
        }
    }
    for bit in 0..64 {
        // CLONE_NEW* among the flags of clone, what weakens a process among personalities, TIOCSTI and TIOCLINUX.
        calls.push(Call { number: number(Sysno::clone), arguments: [1 << bit | 17, 0] });
        calls.push(Call { number: number(Sysno::personality), arguments: [1 << bit, 0] });
        for request in [0x5412, 0x541c] {
            calls.push(Call { number: number(Sysno::ioctl), arguments: [0, 1 << bit | request] });
        }
    }
    calls
}

/// The program that asks. Its source is support/calls.c.
fn prober() -> &'static [u8] {
    static PROBER: OnceLock<Vec<u8>> = OnceLock::new();
    PROBER.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/calls.c");
        compile(&["-static"], &fs::read_to_string(source).expect("the prober's source"))
    })
}

fn ground(user: User) -> Ctr {
    let layer = Layer::busybox().mode_file("bin/calls", prober(), 0o755);
    Ctr::new(user).with_hub().with_image("calls", TestImage::new([layer]))
}

fn ask(ctr: &Ctr, options: &[&str], questions: &str) -> Vec<String> {
    fed(ctr, &[&["run", "--rm", "-i", "--network=none"], options, &["calls", "calls"]].concat(), questions)
}

fn fed(ctr: &Ctr, arguments: &[&str], input: &str) -> Vec<String> {
    let path = ctr.file("questions", input).home().join("questions");
    let output = ctr.command(arguments).stdin(fs::File::open(path).expect("open")).output().expect("run ctr");
    Outcome::new(format!("{arguments:?}"), output).ok().lines().map(str::to_owned).collect()
}

/// What the profile says to a container with `capabilities`, rule by rule, the first one that matches.
fn expected(profile: &Value, capabilities: &[&str], call: Call) -> String {
    let name = Sysno::new(call.number as usize).map(|call| call.name());
    let list = |value: &Value| -> Vec<Value> { value.as_array().cloned().unwrap_or_default() };
    let holds = |condition: &Value| {
        let number = |key: &str| condition[key].as_u64().unwrap_or(0);
        let argument = call.arguments[number("index") as usize];
        match condition["op"].as_str().expect("an operator") {
            "SCMP_CMP_LT" => argument < number("value"),
            "SCMP_CMP_EQ" => argument == number("value"),
            "SCMP_CMP_MASKED_EQ" => argument & number("value") == number("valueTwo"),
            other => panic!("{other} is new in default.json"),
        }
    };
    let matches = |rule: &&Value| {
        let conditions = list(&rule["args"]);
        // Conditions on one argument are alternatives (containers-seccomp.json(5)).
        list(&rule["names"]).iter().any(|n| n.as_str() == name && name.is_some())
            && list(&rule["includes"]["caps"])
                .iter()
                .all(|cap| capabilities.contains(&cap.as_str().unwrap_or("")))
            && (conditions.is_empty() || conditions.iter().any(holds))
    };
    let rules = list(&profile["syscalls"]);
    let (action, errno) = match rules.iter().find(matches) {
        Some(rule) => (&rule["action"], &rule["errnoRet"]),
        None => (&profile["defaultAction"], &profile["defaultErrnoRet"]),
    };
    match action.as_str() {
        Some("SCMP_ACT_ALLOW") => "allowed".to_owned(),
        Some("SCMP_ACT_ERRNO") => format!("errno {}", errno.as_u64().unwrap_or(1)),
        other => panic!("{other:?} is new in default.json"),
    }
}

const PRETENDED: [&str; 16] = [
    "chown",
    "lchown",
    "fchown",
    "fchownat",
    "setuid",
    "setfsuid",
    "setgid",
    "setfsgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setgroups",
    "mknod",
    "mknodat",
    "setgroups32",
];

#[test]
fn every_call_is_as_the_profile_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/security/seccomp/default.json");
    let profile: Value = serde_json::from_str(&fs::read_to_string(path).expect("read")).expect("parse");
    let calls = calls();
    let questions =
        calls.iter().fold(String::new(), |mut text, Call { number, arguments: [first, second] }| {
            let _ = writeln!(text, "native {number} {first} {second}");
            text
        });
    const DEFAULT: &[&str] = &["CAP_SYS_CHROOT"];
    for &user in User::all() {
        let ctr = ground(user);
        for (options, capabilities) in [
            (&[][..], DEFAULT),
            (&["-u", "1234"], DEFAULT),
            (&["--cap-add=SYS_ADMIN,SYS_PTRACE"], &["CAP_SYS_CHROOT", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]),
            (&["--cap-drop=ALL"], &[]),
        ] {
            if user == User::Single && options.contains(&"-u") {
                continue;
            }
            let answers = ask(&ctr, options, &questions);
            assert_eq!(answers.len(), calls.len());
            for (call, answer) in calls.iter().zip(answers) {
                let name = Sysno::new(call.number as usize).map_or("", |call| call.name());
                // A container of one id answers these with success, and does nothing.
                if user == User::Single && answer == "errno 0" && PRETENDED.contains(&name) {
                    continue;
                }
                assert_eq!(
                    answer,
                    expected(&profile, capabilities, *call),
                    "{name} ({}) {:x?} as {user:?} {options:?}",
                    call.number,
                    call.arguments
                );
            }
        }
    }
}

/// Whatever the number: a filter that looks at numbers of one convention says nothing about another's.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_other_conventions_kill() {
    let ctr = ground(User::all()[0]);
    let mut questions = String::new();
    for number in 0..600 {
        let _ = writeln!(questions, "x32 {number} 0 0\ni386 {number} 0 0");
    }
    for answer in ask(&ctr, &[], &questions) {
        assert_eq!(answer, SIGSYS);
    }
    assert!(
        ask(&ctr, &["--security-opt=seccomp=unconfined"], &questions).iter().all(|answer| answer != SIGSYS)
    );
}

/// The same filter for a process that joins.
#[test]
fn exec_has_the_filter_too() {
    for &user in User::all() {
        let ctr = ground(user);
        ctr.run(["run", "-d", "--name=x", "--network=none", "calls", "sleep", "1000"]).ok();
        let unshare = Sysno::unshare.id();
        let socket = Sysno::socket.id();
        let questions = format!("native {unshare} 268435456 0\nnative {socket} 38 5\nnative {socket} 2 1\n");
        let said = fed(&ctr, &["exec", "-i", "x", "calls"], &questions);
        assert_eq!(said, ["errno 1", "errno 97", "allowed"], "as {user:?}");
        ctr.run(["rm", "-f", "-t0", "x"]);
    }
}
