//! Where in the control groups a container is: delegated, in a scope of systemd's, or nowhere.

use crate::ground::{PLACES, RUN, alice, delegated, has, root, units};

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn what_is_not_delegated_is_named_with_its_cure() {
    let said = root(
        "d=/etc/systemd/system/user@.service.d; mv $d /tmp/d; systemctl daemon-reload; systemctl restart user@1000
         runuser -u alice -- env -C /home/alice XDG_RUNTIME_DIR=/run/user/1000 ctr run --rm --network=none --device-write-bps /dev/vda:1m box true; echo code $?
         runuser -u alice -- env -C /home/alice XDG_RUNTIME_DIR=/run/user/1000 ctr run --rm --network=none -m 32m box cat /sys/fs/cgroup/memory.max
         mv /tmp/d $d; systemctl daemon-reload; systemctl restart user@1000",
    )
    .ok();
    assert!(said.contains("the controller io is not delegated") && said.contains("code 125"), "{said}");
    assert!(said.contains("user@.service.d/delegate.conf") && said.contains("33554432"), "{said}");
    // In a unit without Delegate= the payload stays, and a limit of its own is refused.
    let said = units(
        &[("none", format!("Type=oneshot\nExecStart=/usr/local/bin/{RUN} -m 32m box true"))],
        "systemctl start t-none; echo started $?; journalctl -u t-none -o cat | grep error:",
    )
    .ok();
    assert!(said.contains("started 1") && said.contains("has no Delegate=yes"), "{said}");
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn a_group_is_where_it_was_asked_for() {
    let look = |option: &str| {
        format!(
            "echo \"$(ctr run -d --name=p --network=none {option} box sleep 1000 2>&1)\" | grep -v '^[0-9a-f]*$'
             group() {{ sed \"s,^0::,{option} $1 ,; s,$(sed s/^0::// /proc/self/cgroup | sed s,/ctr-supervisor,,),OURS,; s,ctr-[0-9a-f]\\{{64\\}},ID,\"; }}
             id=$(ctr inspect -f '{{{{.State.Pid}}}} {{{{.State.ConmonPid}}}}' p 2>/dev/null) && {{ group payload </proc/${{id% *}}/cgroup; group monitor </proc/${{id#* }}/cgroup; ctr exec p cat /proc/self/cgroup | group inside; }}
             ctr rm -f -t 0 p >/dev/null 2>&1\n"
        )
    };
    let options = [
        "--cgroups=enabled",
        "--cgroups=no-conmon",
        "--cgroups=split",
        "--cgroup-parent=a.slice",
        "--cgroups=disabled",
        "--cgroupns=host",
    ];
    let script: String = options.map(look).concat();
    let users = "/user.slice/user-1000.slice/user@1000.service";
    let scope = |slice: &str| format!("{users}/{slice}/ID.scope");
    let (app, a) = (scope("app.slice"), scope("a.slice"));
    let said = alice(&script).ok();
    has(
        &said,
        &[
            &format!("--cgroups=enabled payload {app}/container"),
            &format!("--cgroups=enabled monitor {app}/ctr-supervisor"),
            "--cgroups=enabled inside /",
            &format!("--cgroups=no-conmon payload {app}/container"),
            "--cgroups=no-conmon monitor OURS",
            "hint: it takes a group that is delegated to you, as in a unit with Delegate=yes; `ctr info` says what there is",
            &format!("--cgroup-parent=a.slice payload {a}/container"),
            "--cgroups=disabled payload OURS",
            &format!("--cgroupns=host inside {app}/container"),
        ],
    );
    let said = delegated(&script).ok();
    has(
        &said,
        &[
            "--cgroups=enabled payload OURS/ID",
            "--cgroups=enabled monitor OURS/ctr-supervisor",
            "--cgroups=split payload OURS/ID",
            &format!("--cgroup-parent=a.slice payload {a}/container"),
            "--cgroups=disabled payload OURS/ctr-supervisor",
            "--cgroupns=host inside OURS/ID",
        ],
    );
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn a_monitor_that_is_killed_leaves_nothing() {
    for place in PLACES {
        let said = place(
            "ctr run -d --name=k --network=none box sleep 12345 >/dev/null; g=$(ctr inspect -f '{{.State.CgroupPath}}' k)
             kill -9 $(ctr inspect -f '{{.State.ConmonPid}}' k); ctr wait k; ctr rm k; pgrep -fc '^sleep 12345'; sleep 1; ls -d /sys/fs/cgroup$g 2>&1; echo $g",
        )
        .ok();
        assert!(said.starts_with("137") && said.contains("No such file"), "{said}");
    }
}

/// As in a CI container: no systemd, a tree that may be written.
#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn who_may_write_the_tree_divides_it() {
    let said = delegated(&format!(
        "{RUN} --privileged -v /usr/local/bin/ctr:/bin/ctr:ro -v ~/busybox.tar:/box.tar:ro box sh -c \
             'ctr import -q /box.tar box >/dev/null; {RUN} -m 32m box cat /sys/fs/cgroup/memory.max'"
    ))
    .ok();
    assert!(said.ends_with("33554432"), "{said}");
}
