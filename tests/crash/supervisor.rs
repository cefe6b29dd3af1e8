//! Runs a command under ptrace(2) with all its children, and lets somebody act at each call that changes something.
//!
//! Who I am: root, in the tests' mount namespace. I attach to the command before its first exec, so the kernel holds my
//! privileges to be the tracer's, and setuid programs keep theirs. All that happens on one thread, as ptrace demands.

use super::{
    calls,
    raw::{self, At, Change},
};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use std::{
    collections::{HashMap, HashSet},
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};
use syscalls::Sysno;

/// No command takes as long as this; one that does hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Before or behind a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It has not happened.
    Entry,
    /// It has.
    Exit,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It happens.
    Go,
    /// All processes die here and now.
    Kill,
    /// It doesn't happen, and fails. Only at its entry.
    Fail(Errno),
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Traced {
    /// Calls that change something, of all processes together.
    pub calls: usize,
    /// The calls that were not let go, with their paths.
    pub hit: Option<String>,
    /// How the first process ended.
    pub status: ExitStatus,
    /// It, or a child, did not end and was killed.
    pub hung: bool,
    /// Both streams.
    pub output: String,
}

/// Run `command`, which is a shell that waits for a line before it goes on ([`GATE`]), until all its processes are gone.
/// `act` sees each changing call twice, numbered from 1; plain writes are seen of files on `device`.
pub fn supervise(command: Command, device: u64, act: &mut (dyn FnMut(usize, Side) -> Act + Send)) -> Traced {
    // A thread of its own has no other children: when it has no more, all is over.
    thread::scope(|scope| {
        scope.spawn(|| on_this_thread(command, device, act)).join().expect("the supervisor")
    })
}

#[expect(clippy::zombie_processes, reason = "the loop waits for it, as its tracer")]
fn on_this_thread(
    mut command: Command,
    device: u64,
    act: &mut (dyn FnMut(usize, Side) -> Act + Send),
) -> Traced {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start a command");
    let first = child.id() as i32;
    raw::seize(first).expect("attach to the command");
    raw::interrupt(first).expect("stop the command");
    let mut gate = child.stdin.take().expect("a pipe");
    gate.write_all(b"\n").expect("let the command go on");
    drop(gate);
    let watch = Watch::over(first);
    let mut tree =
        Tree { device, act, inside: HashMap::new(), doomed: false, watch: &watch, traced: Traced::default() };
    while let Some((pid, change)) = raw::wait() {
        match change {
            Change::Gone(status) => {
                watch.forget(pid);
                tree.inside.remove(&pid);
                if pid == first {
                    tree.traced.status = ExitStatus::from_raw(status);
                }
            }
            change => tree.step(pid, change),
        }
    }
    let mut traced = tree.traced;
    traced.hung = watch.end();
    let mut bytes = Vec::new();
    // Nobody is left to write.
    let _ = child.stdout.take().expect("a pipe").read_to_end(&mut bytes);
    let _ = child.stderr.take().expect("a pipe").read_to_end(&mut bytes);
    traced.output = String::from_utf8_lossy(&bytes).into_owned();
    traced
}

/// The wrapper that [`supervise`] wants.
pub const GATE: [&str; 4] = ["sh", "-c", r#"read -r _; exec "$@" </dev/null"#, "sh"];

struct Tree<'a> {
    device: u64,
    act: &'a mut (dyn FnMut(usize, Side) -> Act + Send),
    /// Threads within a changing call.
    inside: HashMap<i32, Call>,
    doomed: bool,
    watch: &'a Watch,
    traced: Traced,
}

struct Call {
    count: usize,
    call: Sysno,
    arguments: [u64; 6],
    /// What it fails with.
    fault: Option<Errno>,
}

impl Tree<'_> {
    /// `pid` stands; decide how it goes on. Whatever fails here does because it has died meanwhile.
    fn step(&mut self, pid: i32, change: Change) {
        self.watch.note(pid);
        if self.doomed {
            kill(pid);
            return;
        }
        let signal = match change {
            Change::Call => {
                let at = raw::at(pid).unwrap_or(At::Nothing);
                self.call(pid, at);
                0
            }
            Change::GroupStop => {
                let _ = raw::listen(pid);
                return;
            }
            Change::Signal(signal) => signal,
            Change::Event | Change::Gone(_) => 0,
        };
        if self.doomed {
            self.watch.kill_all();
        }
        let _ = raw::go_on(pid, signal);
    }

    fn call(&mut self, pid: i32, at: At) {
        match at {
            At::Entry(call, arguments) if calls::changes(pid, call, &arguments, self.device) => {
                self.traced.calls += 1;
                let mut call = Call { count: self.traced.calls, call, arguments, fault: None };
                match self.ask(pid, &call, Side::Entry) {
                    Act::Fail(errno) => call.fault = Some(errno).filter(|_| raw::skip(pid).is_ok()),
                    Act::Kill => self.doomed = true,
                    Act::Go => {}
                }
                self.inside.insert(pid, call);
            }
            At::Exit => match self.inside.remove(&pid) {
                Some(Call { fault: Some(errno), .. }) => {
                    let _ = raw::answer(pid, -i64::from(errno.raw_os_error()));
                }
                Some(call) => self.doomed |= self.ask(pid, &call, Side::Exit) == Act::Kill,
                None => {}
            },
            _ => {}
        }
    }

    fn ask(&mut self, pid: i32, call: &Call, side: Side) -> Act {
        let act = (self.act)(call.count, side);
        if act != Act::Go {
            self.traced.hit = Some(calls::describe(pid, call.call, &call.arguments));
        }
        act
    }
}

/// Knows all processes, and kills them when time is up.
struct Watch {
    known: Arc<Mutex<HashSet<i32>>>,
    over: mpsc::Sender<()>,
    clock: thread::JoinHandle<bool>,
}

impl Watch {
    fn over(first: i32) -> Watch {
        let known = Arc::new(Mutex::new(HashSet::from([first])));
        let (over, is_over) = mpsc::channel();
        let all = known.clone();
        let clock = thread::spawn(move || {
            let hung = is_over.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
            if hung {
                all.lock().expect("no panic while held").iter().copied().for_each(kill);
            }
            hung
        });
        Watch { known, over, clock }
    }

    fn note(&self, pid: i32) {
        self.known.lock().expect("no panic while held").insert(pid);
    }

    fn forget(&self, pid: i32) {
        self.known.lock().expect("no panic while held").remove(&pid);
    }

    fn kill_all(&self) {
        self.known.lock().expect("no panic while held").iter().copied().for_each(kill);
    }

    fn end(self) -> bool {
        let _ = self.over.send(());
        self.clock.join().expect("the clock")
    }
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}
