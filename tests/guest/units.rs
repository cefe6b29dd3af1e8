//! Containers as units of systemd, and systemd in a container.

use crate::ground::{RUN, alice, has, root, units};

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn units_of_every_type() {
    let run = format!("ExecStart=/usr/local/bin/{RUN}");
    let host = "-v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro";
    let all = [
        ("once", format!("Type=oneshot\nDelegate=yes\n{run} box sh -c 'echo from inside; exit 7'")),
        (
            "fork",
            format!(
                "Type=forking\nDelegate=yes\nPIDFile=/run/t-fork/monitor\nKillMode=mixed\n\
                 {run} -d --name=fork --conmon-pidfile=/run/t-fork/monitor box sh -c 'until [ -e /end ]; do sleep 0.2; done; exit 9'"
            ),
        ),
        (
            "exec",
            format!(
                "Type=exec\nDelegate=yes\n{run} --sdnotify=ignore box sh -c 'echo -$NOTIFY_SOCKET-; sleep 1000'"
            ),
        ),
        // In the foreground the main process stays ours; its watchdog is fed by us.
        (
            "conmon",
            format!("Type=notify\nDelegate=yes\nWatchdogSec=8\n{run} --sdnotify=conmon box sleep 1000"),
        ),
        // In the background, when it is well, and as long as it is.
        (
            "healthy",
            format!(
                "Type=notify\nDelegate=yes\nWatchdogSec=8\n{run} -d --sdnotify=healthy --health-cmd='test ! -e /ill' \
                 --health-interval=1s --health-retries=1 box sh -c 'sleep 10; touch /ill; sleep 1000'"
            ),
        ),
        // The payload feeds it for a while.
        (
            "payload",
            format!(
                "Type=notify\nDelegate=yes\nWatchdogSec=8\n{run} {host} box sh -c \
                 'systemd-notify --ready --status=fed; for i in 1 2 3 4 5 6 7 8 9; do sleep 1; systemd-notify WATCHDOG=1; done; sleep 1000'"
            ),
        ),
        (
            "again",
            format!(
                "Type=exec\nDelegate=yes\nRestart=on-failure\nRestartSec=0\nStartLimitBurst=3\nStartLimitInterval=600\n{run} --name=t --replace box false"
            ),
        ),
        (
            "deaf",
            format!(
                "Type=exec\nDelegate=yes\nTimeoutStopSec=3\n{run} --stop-timeout=100 box \
                 sh -c 'trap \"\" TERM; echo deaf; while :; do sleep 1; done'"
            ),
        ),
    ];
    let said = units(
        &all,
        "systemctl start --no-block t-conmon t-healthy t-payload t-once t-fork t-exec t-again t-deaf
         await conmon ActiveState active; await healthy ActiveState active; await payload ActiveState active; since=$(date +%s)
         for t in conmon healthy; do echo $t $(ps -o comm= -p $(show $t MainPID)); done; echo payload $(show payload StatusText)
         await once ActiveState failed; echo once $(show once ExecMainStatus); journalctl -u t-once -o cat | grep -x 'from inside'
         await fork ActiveState active; echo fork $(ps -o comm= -p $(show fork MainPID))
         runuser -u alice -- env XDG_RUNTIME_DIR=/run/t-fork ctr exec fork touch /end; await fork ActiveState failed; echo fork $(show fork ExecMainStatus)
         await exec ActiveState active; journalctl -u t-exec -o cat | grep -x -- --
         until journalctl -u t-deaf -o cat | grep -qx deaf; do sleep 0.2; done; s=$(date +%s); systemctl stop t-deaf; echo deaf $(show deaf Result) $(( $(date +%s) - s < 8 ))
         ls -d /sys/fs/cgroup/system.slice/t-deaf.service 2>&1 | grep -o 'No such file'
         await again ActiveState failed; echo again $(show again NRestarts) $(show again Result)
         await healthy Result watchdog; await payload Result watchdog; echo long $(( $(date +%s) - since > 11 ))
         echo conmon $(show conmon ActiveState) $(show conmon NRestarts)",
    )
    .ok();
    has(
        &said,
        &[
            "conmon ctr",
            "healthy ctr-monitor",
            "payload fed",
            "once 7",
            "from inside",
            "fork ctr-monitor",
            "fork 9",
            "--",
        ],
    );
    has(&said, &["deaf timeout 1", "No such file", "long 1", "conmon active 0"]);
    assert!(said.lines().any(|line| line.starts_with("again ") && line.ends_with(" exit-code")), "{said}");
    assert!(!said.contains(", not "), "{said}");
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn a_unit_without_delegation_holds_its_container() {
    let lines = format!(
        "Type=exec\nMemoryMax=64M\nKillMode=mixed\nExecStart=/usr/local/bin/{RUN} --name=t box sleep 1000"
    );
    let said = units(
        &[("held", lines)],
        "systemctl start t-held; g=/sys/fs/cgroup/system.slice/t-held.service; until grep -qs sleep /dev/null $(sed 's,.*,/proc/&/comm,' $g/cgroup.procs); do sleep 0.2; done
         cat $g/memory.max; for p in $(cat $g/cgroup.procs); do cat /proc/$p/comm; done; ls -d $g/*/ 2>/dev/null
         systemctl kill -s KILL --kill-whom=main t-held; await held ActiveState failed; show held Result; pgrep -c sleep",
    )
    .ok();
    has(&said, &["67108864", "ctr-monitor", "sleep", "signal", "0"]);
    assert!(!said.contains("ctr-supervisor"), "{said}");
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn the_examples_start_serve_and_stop() {
    let said = root(
        "systemctl start web; for i in $(seq 20); do pgrep httpd >/dev/null && break; sleep 1; done
         runuser -u alice -- env XDG_RUNTIME_DIR=/run/web ctr ps --format '{{.Names}} {{.State}}'
         systemctl stop web; systemctl show -P Result web
         systemctl start echo.socket; (echo hello; sleep 9) | socat -t 9 - TCP:127.0.0.1:7007; journalctl -u echo -n 20 -o cat --no-pager | grep process
         systemctl stop echo.socket echo; systemctl show -P Result echo",
    )
    .ok();
    has(&said, &["web running", "success", "hello", "1 for process 2: echo.socket"]);
    let said = alice(
        "systemctl --user start worker; systemctl --user show -P StatusText -P NotifyAccess worker; ctr ps --format '{{.Names}} {{.State}}'
         systemctl --user kill -s KILL worker; until [ $(systemctl --user show -P NRestarts worker) = 1 ] && systemctl --user -q is-active worker; do sleep 0.3; done; systemctl --user show -P NRestarts worker
         systemctl --user stop worker; systemctl --user show -P Result worker; ctr ps -aq | wc -l; journalctl --user CONTAINER_NAME=worker -n1 -o cat",
    )
    .ok();
    has(&said, &["at work", "worker running", "1", "success", "begun"]);
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn quadlet() {
    let said = root("sh /host/quadlet.sh /usr/local/bin/ctr /home/alice/busybox.tar alice").ok();
    has(&said, &["quadlet: all as it should be"]);
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn systemd_boots_and_stops_in_a_container() {
    let said = alice(
        "ctr run -d --name=s --systemd=always --network=none --tmpfs /var/log -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro \
             box /usr/lib/systemd/systemd --unit=basic.target >/dev/null
         for i in $(seq 120); do s=$(ctr exec s systemctl is-system-running 2>/dev/null); case $s in running|degraded) break;; esac; sleep 0.3; done
         echo state $s; ctr exec s cat /proc/1/cgroup; ctr exec s systemctl show -P ControlGroup systemd-journald
         ctr stop -t 60 s; ctr inspect -f 'ended {{.State.ExitCode}} {{.Config.StopSignal}}' s; ctr rm -f s",
    )
    .ok();
    assert!(said.contains("state running") || said.contains("state degraded"), "{said}");
    has(&said, &["0::/init.scope", "/system.slice/systemd-journald.service", "ended 0 SIGRTMIN+3"]);
}
