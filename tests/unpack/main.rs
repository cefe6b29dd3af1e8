//! The unpacker on real directories: friendly archives give what GNU tar gives, hostile ones never leave their directory.
//! As root, and once more as the root of a user namespace.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod differential;
mod friendly;
mod ground;
mod hostile;

use std::process::Command;

/// Everything here again, where root is the root of a user namespace and no other id exists.
#[test]
fn in_a_user_namespace() {
    let mut child = Command::new("unshare");
    child.args(["-Ur"]).arg(std::env::current_exe().unwrap());
    let output = child.args(["--skip", "in_a_user_namespace"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
