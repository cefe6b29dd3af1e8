//! Seccomp profiles: any JSON is refused or becomes a program that the kernel would take for its size.
#![no_main]

use ctr::security::{CapSet, seccomp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(program) = seccomp::from_profile(bytes, CapSet::DEFAULT) {
        // BPF_MAXINSNS (linux/bpf_common.h).
        assert!((1..=4096).contains(&program.len()));
    }
});
