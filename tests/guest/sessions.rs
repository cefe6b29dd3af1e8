//! What outlives a session or the machine, and what is told of it in the journal.

use crate::ground::{alice, has, root, vm};

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn the_journal_has_it_under_the_containers_name() {
    let said = alice(
        "ctr run --name=j --network=none --log-driver=journald --log-opt tag=mine box sh -c 'echo out; echo err >&2; printf part' >/dev/null 2>&1
         for i in $(seq 50); do [ $(journalctl --user CONTAINER_NAME=j -o cat | wc -l) = 3 ] && break; sleep 0.1; done
         fields='[.MESSAGE,.PRIORITY,.CONTAINER_NAME,.CONTAINER_TAG,.CONTAINER_PARTIAL_MESSAGE,.SYSLOG_IDENTIFIER,(.CONTAINER_ID|length),(.CONTAINER_ID_FULL|length)]|join(\" \")'
         journalctl --user CONTAINER_NAME=j -o json | jq -r \"$fields\"; ctr logs --tail 2 j | sed 's/^/log /'; echo; ctr rm j >/dev/null
         ctr run -d --name=j --network=none --log-driver=journald box sh -c 'for i in 1 2 3; do sleep 0.5; echo line $i; done' >/dev/null
         ctr logs -f j; ctr logs -f j | tail -n 1 | sed 's/^/again /'; ctr rm j",
    )
    .ok();
    has(&said, &["out 6 j mine  mine 12 64", "err 3 j mine  mine 12 64", "part 6 j mine true mine 12 64"]);
    has(&said, &["line 1", "line 2", "line 3", "again line 3"]);
    assert!(said.contains("log part"), "{said}");
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn who_logs_out_without_lingering_leaves_nothing_but_units() {
    let said = root(
        "id bob >/dev/null 2>&1 || { useradd -m -u 1001 bob; echo bob:200000:65536 | tee -a /etc/subuid >>/etc/subgid; }
         cat >/etc/systemd/system/bob.service <<'UNIT'
[Service]
User=bob
Type=exec
Delegate=yes
RuntimeDirectory=bob
Environment=XDG_RUNTIME_DIR=/run/bob
ExecStart=/usr/local/bin/ctr run --rm --name=unit --network=none -m 64m box sleep 1000
KillMode=mixed
SuccessExitStatus=143 137
UNIT
         systemctl daemon-reload; cp /home/alice/busybox.tar /tmp/
         systemd-run --wait --pipe --quiet -p PAMName=login -p User=bob -E XDG_RUNTIME_DIR=/run/user/1001 bash -c \
             'ctr import -q /tmp/busybox.tar box; ctr run -d --name=session --network=none --stop-timeout=1 box sleep 1000; ctr ps --format \"{{.Names}} {{.State}}\"'
         systemctl start bob; while [ -d /run/user/1001 ]; do sleep 0.3; done
         systemctl is-active bob user@1001; ls -d /sys/fs/cgroup/user.slice/user-1001.slice 2>&1 | grep -o 'No such file'
         bob() { runuser -u bob -- env XDG_RUNTIME_DIR=/run/bob ctr \"$@\"; }
         bob ps -a --format '{{.Names}} {{.State}}' | sed 's/^/later /'; cat /sys/fs/cgroup/system.slice/bob.service/ctr-*/memory.max
         bob system check >/dev/null && echo sound; bob rm session; systemctl stop bob; systemctl show -P Result bob; pgrep -c -u bob || true",
    )
    .ok();
    assert!(said.contains("loginctl enable-linger"), "{said}");
    has(
        &said,
        &[
            "session running",
            "active",
            "inactive",
            "No such file",
            "later session exited",
            "later unit running",
        ],
    );
    has(&said, &["67108864", "sound", "success", "0"]);
}

/// A reset in the middle of starts, ends, imports and removals.
#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn what_lives_through_a_reboot() {
    root(
        "systemctl enable web; loginctl disable-linger alice; ctr image exists box || ctr import -q /home/alice/busybox.tar box
         mkdir -p /usr/local/lib/systemd/system-generators /etc/containers/systemd
         ln -sf /usr/local/bin/ctr /usr/local/lib/systemd/system-generators/ctr-generator
         printf '[Container]\nImage=localhost/box\nNetwork=none\nExec=sleep 1000\n[Install]\nWantedBy=multi-user.target\n' >/etc/containers/systemd/boot.container",
    )
    .ok();
    alice(
        "ctr run -d --name=r --network=none --restart=always -m 64m box sleep 1000; ctr run -d --name=p --network=none box sleep 1000; ctr pause p
         for i in 1 2; do systemd-run --user --quiet bash -c \"cd; while :; do ctr run --rm --network=none box true; ctr import -q busybox.tar storm$i
             ctr run --name=x$i --replace --network=none storm$i touch /x; ctr rm -f x$i; ctr rmi storm$i; done\"; done; sleep 2",
    )
    .ok();
    root("systemctl start web").ok();
    vm(&["reboot", "--hard"]).ok();
    let units = root(
        "for i in $(seq 60); do [ $(pgrep -xc 'httpd|sleep') -ge 2 ] && break; sleep 0.5; done; for unit in web boot; do echo $unit $(systemctl is-active $unit); done
         rm /etc/containers/systemd/boot.container; systemctl disable -q web; systemctl stop web boot; loginctl enable-linger alice",
    );
    let own = alice(
        "ctr ps -a --filter name='^[rp]$' --format '{{.Names}} {{.State}}'; ctr system check; echo check $?; ctr rm -f -a >/dev/null
         ctr run --rm --network=none -m 64m box echo works; ctr start r 2>&1 | grep -o 'no such container'; ctr ps -aq | wc -l; ctr system check >/dev/null && echo sound",
    );
    let said = [units.ok(), own.ok()].join("\n");
    has(&said, &["web active", "boot active", "r exited", "p exited", "works", "0", "sound"]);
}
