//! AppArmor and SELinux, as this host has them.

mod support;

use std::fs;
use support::{Ctr, User};

fn loaded(profile: &str) -> bool {
    let entries =
        fs::read_dir("/sys/kernel/security/apparmor/policy/profiles").into_iter().flatten().flatten();
    let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.any(|name| name.rsplit_once('.').is_some_and(|(name, _)| name == profile))
}

fn enabled() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

#[test]
fn a_payload_has_the_profile_that_was_asked_for() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let label = |options: &[&str]| {
            ctr.script(
                options,
                "cat /proc/self/attr/apparmor/current 2>/dev/null || cat /proc/self/attr/current || :",
            )
        };
        let default = if loaded("ctr-default") { "ctr-default (enforce)" } else { "unconfined" };
        if enabled() {
            assert_eq!(label(&[]), default, "as {user:?}");
            assert_eq!(label(&["--privileged"]), "unconfined", "as {user:?}");
        }
        assert!(!label(&["--security-opt=apparmor=unconfined"]).contains("enforce"), "as {user:?}");
        ctr.run(["create", "--name=x", "--network=none", "box", "true"]).ok();
        let said = ctr.run(["inspect", "--format={{.AppArmorProfile}}", "x"]).ok();
        assert_eq!(said, if loaded("ctr-default") { "ctr-default" } else { "" }, "as {user:?}");
    }
}

/// Neither where AppArmor is off nor where the profile is missing does a container run without what was asked for.
#[test]
fn a_profile_that_cannot_be_had_is_an_error() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let about = if enabled() { "not loaded" } else { "off on this host" };
        ctr.payload(&["--security-opt=apparmor=no-such-profile"], &["true"]).fails(about);
        assert!(ctr.list("containers").is_empty(), "as {user:?}");
        ctr.payload(&["--security-opt=apparmor="], &["true"]).fails("no such security option");
    }
}

#[test]
fn labels_without_selinux_say_nothing() {
    if fs::exists("/sys/fs/selinux/enforce").unwrap_or(false) {
        return;
    }
    let ctr = Ctr::with_box(User::all()[0]);
    for label in ["label=disable", "label=type:spc_t", "label=level:s0:c1,c2"] {
        ctr.payload(&["--security-opt", label], &["true"]).ok();
    }
    ctr.payload(&["--security-opt=label=colour:blue"], &["true"]).fails("no such security option");
}
