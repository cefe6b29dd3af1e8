//! Every published way out of a container that docs/security.md tells of, tried through the binary as each kind of user.
//! The table there names the test of each row, the defence, and how to switch that off: `scripts/test --bite` sees each
//! test fail without its defence. `scripts/test --nightly` runs the races for longer.

#[path = "../support/mod.rs"]
mod support;

mod binary;
mod capabilities;
mod claims;
mod credentials;
mod dependencies;
mod descriptors;
mod devices;
mod files;
mod host;
mod ids;
mod joining;
mod layers;
mod limits;
mod mounts;
mod names;
mod network;
mod places;
mod registry;
mod store;
mod syscalls;
mod volumes;

use std::{collections::BTreeMap, process::Output};
use support::{Compression, Ctr, Layer, Live, Outcome};

/// A layer over others.
fn layer() -> Layer {
    Layer::new(Compression::Plain)
}

fn words(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// How often a race is run.
fn rounds() -> usize {
    if nightly() { 10_000 } else { 200 }
}

/// There is all the time in the world.
fn nightly() -> bool {
    std::env::var_os("CTR_TEST_NIGHTLY").is_some_and(|value| value == "1")
}

/// Podman's eleven: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP.
const DEFAULT: u64 = 0x8004_05fb;
const NET_ADMIN: u64 = 1 << 12;
const SYS_RESOURCE: u64 = 1 << 24;

/// `Name:\tvalue` lines of proc(5).
fn fields(text: &str) -> BTreeMap<String, String> {
    let pair =
        |line: &str| line.split_once(":\t").map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    text.lines().filter_map(pair).collect()
}

/// CapInh, CapPrm, CapEff, CapBnd and CapAmb.
fn sets(status: &BTreeMap<String, String>) -> [u64; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .map(|name| u64::from_str_radix(&status[name], 16).expect("a set of capabilities"))
}

/// A container `c` that stays until the end of the test.
struct Running(Ctr);

impl Running {
    /// Process 1 runs `script`, and ends when it is asked to.
    fn new(ctr: Ctr, image: &str, options: &[&str], script: &str) -> Running {
        let line = [&["run", "-d", "--name=c", "--network=none"], options, &[image, "sh", "-c", script]];
        ctr.run(line.concat()).ok();
        Running(ctr)
    }

    /// Its container `c` is there already.
    fn of(ctr: Ctr) -> Running {
        Running(ctr)
    }

    fn exec(&self, options: &[&str], command: &[&str]) -> Outcome {
        self.0.run([&["exec"], options, &["c"], command].concat())
    }

    #[track_caller]
    fn script(&self, options: &[&str], script: &str) -> String {
        self.exec(options, &["sh", "-c", script]).ok()
    }

    fn live(&self, options: &[&str], script: &str) -> Live {
        self.0.start([&["exec"], options, &["c", "sh", "-c", script]].concat())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.run(["rm", "-af"]);
    }
}

/// Waits for a signal.
const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
