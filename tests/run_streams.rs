//! stdin, stdout and stderr of a container: apart, byte by byte, any amount, and closed when they should be.

mod support;

use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{Read, Write},
    process::{ChildStdout, Command, Stdio},
    thread,
};
use support::{Ctr, User, wait_gone};

/// `ctr run` of `command` with pipes for all three streams.
fn piped(ctr: &Ctr, options: &[&str], command: &[&str]) -> Command {
    let arguments = [&["run", "--rm", "--network=none"], options, &["box"], command].concat();
    let mut ctr = ctr.command(arguments);
    ctr.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    ctr
}

/// Bytes without a pattern, a block at a time.
fn noise(blocks: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0x9e37_79b9_u64;
    (0..blocks).map(move |_| {
        let word = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        (0..BLOCK / 8).flat_map(word).collect()
    })
}

const BLOCK: usize = 1 << 16;

#[test]
fn stdout_and_stderr_are_apart() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.payload(&[], &["true"]).ok();
        let outcome =
            ctr.payload(&[], &["sh", "-c", "echo out; echo err >&2; echo out2 >/dev/stdout"]).exits(0);
        assert_eq!(
            (outcome.stdout(), outcome.stderr()),
            ("out\nout2\n".into(), "err\n".into()),
            "as {user:?}"
        );
    }
}

#[test]
fn fifty_megabytes_of_anything_come_back_as_they_went_in() {
    const BLOCKS: usize = 800;
    let ctr = Ctr::with_box(User::Rootless);
    let mut child = piped(&ctr, &["-i"], &["cat"]).spawn().expect("start ctr");
    let mut stdin = child.stdin.take().expect("a pipe");
    let sent = thread::spawn(move || {
        let mut sum = Sha256::new();
        for block in noise(BLOCKS) {
            sum.update(&block);
            stdin.write_all(&block).expect("write to ctr");
        }
        sum.finalize().to_vec()
    });
    let (received, length) = hash(child.stdout.take().expect("a pipe"));
    assert_eq!(length, BLOCKS * BLOCK);
    assert_eq!(sent.join().expect("the writer"), received);
    assert!(child.wait().expect("wait for ctr").success());
}

#[test]
fn files_as_streams() {
    let ctr = Ctr::with_box(User::Rootless);
    let data: Vec<u8> = noise(8).flatten().collect();
    ctr.file("in", &data).file("out", "").file("log", "first\n");
    let path = |name: &str| ctr.home().join(name);
    let status = piped(&ctr, &["-i"], &["cat"])
        .stdin(File::open(path("in")).expect("the input"))
        .stdout(File::create(path("out")).expect("the output"))
        .status();
    assert!(status.expect("start ctr").success());
    assert_eq!(fs::read(path("out")).expect("the output"), data);
    // splice(2) refuses files that are open for appending.
    let log = File::options().append(true).open(path("log")).expect("the log");
    let status = piped(&ctr, &[], &["sh", "-c", "echo second; echo third >&2"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("duplicate"))
        .stderr(log)
        .status();
    assert!(status.expect("start ctr").success());
    let mut lines: Vec<String> =
        fs::read_to_string(path("log")).expect("the log").lines().map(str::to_owned).collect();
    lines[1..].sort();
    assert_eq!(lines, ["first", "second", "third"]);
}

#[test]
fn without_interactive_stdin_is_empty() {
    let ctr = Ctr::with_box(User::Rootless);
    let mut child = piped(&ctr, &[], &["wc", "-c"]).spawn().expect("start ctr");
    // More than a pipe holds: nobody may wait for it either.
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"not for the container").expect("write to ctr");
    let output = child.wait_with_output().expect("wait for ctr");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0");
    assert!(output.status.success());
}

#[test]
fn the_payload_may_leave_its_stdin_alone() {
    let ctr = Ctr::with_box(User::Rootless);
    for (command, said) in [
        (&["head", "-n", "1"][..], "line\n"),
        (&["true"], ""),
        (&["sh", "-c", "exec <&-; echo closed"], "closed\n"),
    ] {
        let mut child = piped(&ctr, &["-i"], command).spawn().expect("start ctr");
        // Never closed before the end of ctr, and written to for as long as anybody takes it.
        let mut stdin = child.stdin.take().expect("a pipe");
        let writer = thread::spawn(move || {
            while stdin.write_all(b"line\n").is_ok() {}
            stdin
        });
        let output = child.wait_with_output().expect("wait for ctr");
        assert_eq!((String::from_utf8_lossy(&output.stdout).as_ref(), output.status.code()), (said, Some(0)));
        writer.join().expect("the writer");
    }
    // The same when nothing is written at all.
    let mut idle = ctr.live(&[], &["echo", "said"]);
    idle.says("said");
    idle.end().ok();
}

#[test]
fn a_reader_that_goes_away_ends_the_writer() {
    for options in [&[][..], &["--init"]] {
        let ctr = Ctr::with_box(User::Rootless);
        let mut child = piped(&ctr, options, &["yes"]).spawn().expect("start ctr");
        let mut stdout = child.stdout.take().expect("a pipe");
        let mut line = [0; 2];
        stdout.read_exact(&mut line).expect("read a line");
        assert_eq!(&line, b"y\n");
        drop(stdout);
        let output = child.wait_with_output().expect("wait for ctr");
        assert_eq!(output.status.code(), Some(141), "{}", String::from_utf8_lossy(&output.stderr));
        let listed = ctr.run(["ps", "-aq"]).ok();
        assert_eq!(listed, "", "nothing is left");
    }
}

#[test]
fn output_that_finds_no_room_is_a_failure() {
    let ctr = Ctr::with_box(User::Rootless);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("open /dev/full");
    let run = ctr
        .command(["run", "--network=none", "box", "echo", "lost"])
        .stdout(full)
        .output()
        .expect("start ctr");
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("error: pass on what the container printed: No space left"), "{stderr}");
    assert_eq!(ctr.run(["ps", "-aq"]).ok().lines().count(), 1, "the container itself ended well and is kept");
}

#[test]
fn a_reader_that_stalls_can_be_given_up() {
    let ctr = Ctr::with_box(User::Rootless);
    // More than both pipes hold, and nobody reads: the payload ends, its last output can't be passed on.
    let script = "head -c 100000 /dev/zero; echo done >&2";
    let mut child = piped(&ctr, &[], &["sh", "-c", script]).spawn().expect("start ctr");
    let mut stderr = child.stderr.take().expect("a pipe");
    stderr.read_exact(&mut [0; 5]).expect("hear that the payload is done");
    let pid = rustix::process::Pid::from_child(&child);
    // The shell, process 1 of the container, takes no notice of those that reach it before it has ended.
    while child.try_wait().expect("ask for ctr's end").is_none() {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("send SIGTERM");
        std::thread::yield_now();
    }
}

#[test]
fn a_payload_that_ignores_a_lost_reader_goes_on() {
    let ctr = Ctr::with_box(User::Rootless);
    let script = "trap '' PIPE; yes 2>/dev/null; echo went on >&2; exit 6";
    let mut child = piped(&ctr, &[], &["sh", "-c", script]).spawn().expect("start ctr");
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0; 2]).expect("read a line");
    drop(stdout);
    let output = child.wait_with_output().expect("wait for ctr");
    assert_eq!(
        (String::from_utf8_lossy(&output.stderr).as_ref(), output.status.code()),
        ("went on\n", Some(6))
    );
}

#[test]
fn a_slow_reader_gets_everything_and_blocks_nobody_else() {
    const LENGTH: usize = 3_000_000;
    let ctr = Ctr::with_box(User::Rootless);
    let script = format!("head -c {LENGTH} /dev/zero & echo started >&2; wait; echo done >&2");
    let (mut stdout, theirs) = std::io::pipe().expect("a pipe");
    rustix::pipe::fcntl_setpipe_size(&stdout, 4096).expect("make the pipe small");
    let mut child = piped(&ctr, &[], &["sh", "-c", &script]).stdout(theirs).spawn().expect("start ctr");
    let mut stderr = child.stderr.take().expect("a pipe");
    // Nobody reads stdout yet, so the payload stands still in the middle of it; stderr flows all the same.
    let mut started = [0; 8];
    stderr.read_exact(&mut started).expect("read stderr");
    assert_eq!(&started, b"started\n");
    assert_eq!(unhurried(&mut stdout), LENGTH);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("read stderr");
    assert_eq!(rest, "done\n");
    assert!(child.wait().expect("wait for ctr").success());
}

#[test]
fn what_was_said_last_is_not_lost() {
    const LENGTH: usize = 60_000;
    let ctr = Ctr::with_box(User::Rootless);
    let (mut stdout, theirs) = std::io::pipe().expect("a pipe");
    rustix::pipe::fcntl_setpipe_size(&stdout, 4096).expect("make the pipe small");
    let script = format!("echo ready >&2; read go; exec head -c {LENGTH} /dev/zero");
    let mut child = piped(&ctr, &["-i", "--pidfile=pid"], &["sh", "-c", &script])
        .stdout(theirs)
        .spawn()
        .expect("start ctr");
    child.stderr.take().expect("a pipe").read_exact(&mut [0; 6]).expect("read stderr");
    let pid = fs::read_to_string(ctr.home().join("pid")).expect("the process id");
    child.stdin.take().expect("a pipe").write_all(b"go\n").expect("write to ctr");
    // The payload is gone with most of what it said still on its way: ctr stays until that was read.
    wait_gone(pid.parse().expect("a number"));
    assert_eq!(unhurried(&mut stdout), LENGTH);
    assert!(child.wait().expect("wait for ctr").success());
}

#[test]
fn closed_streams_of_the_caller() {
    let ctr = Ctr::with_box(User::Rootless);
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let script = format!("exec \"$@\" {closed}");
        let command =
            ["run", "--rm", "--network=none", "-i", "box", "sh", "-c", "echo out; echo err >&2; cat; exit 3"];
        let status = ctr.wrapped(&["sh", "-c", &script, "sh"], &command).stdout(Stdio::null()).status();
        assert_eq!(status.expect("start a shell").code(), Some(3), "{closed}");
    }
}

fn hash(mut from: ChildStdout) -> (Vec<u8>, usize) {
    let (mut sum, mut length, mut buffer) = (Sha256::new(), 0, vec![0; BLOCK]);
    loop {
        match from.read(&mut buffer).expect("read from ctr") {
            0 => return (sum.finalize().to_vec(), length),
            some => {
                sum.update(&buffer[..some]);
                length += some;
            }
        }
    }
}

/// The number of bytes until the end, taken in bites smaller than a page.
fn unhurried(from: &mut impl Read) -> usize {
    let (mut length, mut bite) = (0, [0; 1000]);
    loop {
        match from.read(&mut bite).expect("read from ctr") {
            0 => return length,
            some => length += some,
        }
    }
}
