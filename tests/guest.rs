//! What takes systemd and control groups of version 2, in the guest of `scripts/vm`: limits that hold, delegation, units of
//! every type. Run by `scripts/test --vm`; one after the other, as they share the guest.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "guest/networks.rs"]
mod networks;

use std::{
    path::Path,
    process::{Command, Output},
    sync::Once,
};

/// The exit status and both streams of what ran in the guest.
struct Said {
    code: i32,
    text: String,
}

impl Said {
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.text);
        self.text.trim().to_owned()
    }
}

fn vm(arguments: &[&str]) -> Said {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let share = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    let mut command = Command::new(root.join("scripts/vm"));
    command.args(arguments).current_dir(root);
    command.env("VM_NAME", std::env::var("VM_NAME").unwrap_or("test".into())).env("VM_SHARE", share);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Said { code: status.code().unwrap_or(255), text }
}

/// The guest with `ctr`, an image and the units of examples/ in it.
fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let share = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
        std::fs::create_dir_all(&share).unwrap();
        let strip = Command::new("strip").args(["-o"]).arg(share.join("ctr")).arg(env!("CARGO_BIN_EXE_ctr")).status();
        assert!(strip.unwrap().success());
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, share.join(path.file_name().unwrap())).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/quadlet.sh");
        std::fs::copy(script, share.join("quadlet.sh")).unwrap();
        let root = "install -m 755 /host/ctr /usr/local/bin/; cp /host/web.service /host/echo.* /etc/systemd/system/
            install -D -m 644 /host/worker.service /etc/xdg/systemd/user/worker.service; systemctl daemon-reload";
        vm(&["run", "--root", "--", "sh", "-ec", root]).ok();
        let user = "systemctl --user daemon-reload; ctr image exists box || ctr import -q ~/busybox.tar box";
        vm(&["run", "--", "sh", "-ec", user]).ok();
    });
}

/// As alice, in a login session.
fn alice(script: &str) -> Said {
    prepare();
    vm(&["run", "--timeout", "120", "--", "bash", "-c", script])
}

/// As alice, in a scope that is delegated.
fn delegated(script: &str) -> Said {
    prepare();
    vm(&["run", "--scope", "--timeout", "120", "--", "bash", "-c", script])
}

fn root(script: &str) -> Said {
    prepare();
    vm(&["run", "--root", "--timeout", "500", "--", "bash", "-c", script])
}

/// System units of these names (`t-NAME`) and lines under User=alice, which `script` starts; then none of them is left.
fn units(units: &[(&str, String)], script: &str) -> Said {
    let file = |(name, lines): &(&str, String)| {
        format!(
            "cat >/etc/systemd/system/t-{name}.service <<'UNIT'\n[Service]\nUser=alice\nRuntimeDirectory=t-{name}\n\
             Environment=XDG_RUNTIME_DIR=/run/t-{name}\n{lines}\nUNIT\n"
        )
    };
    let files: String = units.iter().map(file).collect();
    root(&format!(
        "{files}systemctl daemon-reload
         show() {{ systemctl show -P \"$2\" \"t-$1\"; }}
         await() {{ local end=$((SECONDS + 60)); while [ $SECONDS -lt $end ]; do [ \"$(show \"$1\" \"$2\")\" = \"$3\" ] && return; sleep 0.2; done; echo \"$1: $2 is $(show $1 $2), not $3\"; }}
         {script}
         systemctl stop 't-*.service' 2>/dev/null; rm /etc/systemd/system/t-*.service; systemctl reset-failed 't-*' 2>/dev/null; true"
    ))
}

/// All of `lines` are lines of what was said.
fn has(said: &str, lines: &[&str]) {
    for line in lines {
        assert!(said.lines().any(|said| said == *line), "{line}: {said}");
    }
}

const RUN: &str = "ctr run --rm --network=none";
const PLACES: [fn(&str) -> Said; 2] = [alice, delegated];

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn memory_max_kills_and_everybody_is_told() {
    for place in PLACES {
        let said = place(
            "ctr run --name=m --network=none -m 20m --memory-swap 20m box \
             sh -c 'x=$(head -c 100m /dev/zero | tr \"\\0\" x); echo survived'; echo code $?
             ctr inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' m; ctr ps -a --filter name=m
             ctr events --stream=false --filter container=m --filter event=oom --format '{{.Status}}'; ctr rm m",
        )
        .ok();
        assert!(said.contains("code 137") && said.contains("true 137"), "{said}");
        assert!(said.lines().any(|line| line == "oom"), "{said}");
    }
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn limits_are_in_the_kernels_files() {
    for place in PLACES {
        let said = place(&format!(
            "{RUN} -m 32m --memory-reservation 16m --cpus 0.5 -c 512 --pids-limit 77 --cpuset-cpus 0 --cgroup-conf memory.high=31m \
             --device-write-bps /dev/vda:1m --io-max /dev/vda:riops=50 --blkio-weight 505 \
             --oom-score-adj 300 box sh -c 'cd /sys/fs/cgroup; cat memory.max memory.low memory.high cpu.max cpu.weight pids.max \
             cpuset.cpus io.max io.weight; cat /proc/self/oom_score_adj'"
        ))
        .ok();
        assert_eq!(
            said.lines().collect::<Vec<_>>(),
            [
                "33554432",
                "16777216",
                "32505856",
                "50000 100000",
                "20",
                "77",
                "0",
                "254:0 rbps=max wbps=1048576 riops=50 wiops=max",
                "default 5000",
                "300"
            ],
        );
    }
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn a_disk_without_weights_is_named() {
    // Its scheduler is none.
    let said = alice(&format!("{RUN} --blkio-weight-device /dev/vda:10 box true; echo code $?")).ok();
    assert!(said.contains("code 125") && said.contains("queue/scheduler"), "{said}");
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn a_quarter_of_a_processor_is_a_quarter() {
    let said = delegated(
        "ctr run -d --name=c --network=none --cpus 0.25 box sh -c 'while :; do :; done' >/dev/null
         g=/sys/fs/cgroup$(ctr inspect -f '{{.State.CgroupPath}}' c); u() { sed -n 's/usage_usec //p' $g/cpu.stat; }
         a=$(u); s=$(date +%s%N); sleep 3; b=$(u); e=$(date +%s%N)
         echo $(( (b - a) * 100000 / (e - s) )) $(sed -n 's/nr_throttled //p' $g/cpu.stat); ctr rm -f -t 0 c >/dev/null",
    )
    .ok();
    let numbers: Vec<u64> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!((15..32).contains(&numbers[0]) && numbers[1] > 5, "{said}");
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn a_fork_bomb_is_the_containers_own() {
    let said = delegated(&format!(
        "{RUN} --pids-limit 10 box sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 3 & done; cat /sys/fs/cgroup/pids.events'; \
         echo alive"
    ))
    .ok();
    assert!(said.contains("can't fork") && said.contains("alive"), "{said}");
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn a_disk_is_as_slow_as_was_asked_for() {
    // A directory of the user's: where a container is thrown away fsync(2) does nothing.
    let said = delegated(&format!(
        "mkdir -p ~/d; {RUN} -v ~/d:/d --device-write-bps /dev/vda:1m box sh -c 's=$(date +%s)
         dd if=/dev/zero of=/d/x bs=1M count=3 conv=fsync 2>/dev/null; echo $(( $(date +%s) - s ))'; rm -r ~/d"
    ))
    .ok();
    let seconds: u64 = said.parse().unwrap();
    assert!((2..15).contains(&seconds), "{said}");
}

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
                "Type=exec\nDelegate=yes\nRestart=on-failure\nRestartSec=0\nStartLimitBurst=3\n{run} --name=t --replace box false"
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

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn a_container_that_lives_is_changed_measured_frozen_and_killed() {
    for place in PLACES {
        let said = place(
            "ctr run -d --name=u -m 64m --io-max /dev/vda:rbps=1m,wiops=100 -v ~:/home box sh -c \
                 'dd if=/dev/urandom of=/home/u bs=1M count=2 conv=fsync; sleep 1000 & setsid sleep 1000 & sleep 1000' >/dev/null
             g=/sys/fs/cgroup$(ctr inspect -f '{{.State.CgroupPath}}' u); until [ $(pgrep -xc sleep) -ge 3 ]; do sleep 0.1; done; rm ~/u
             ctr update -m 32m --memory-swap 32m --cpus 0.5 --pids-limit 33 --cpuset-cpus 1 --io-max /dev/vda:rbps=max,wbps=2m u >/dev/null
             cd $g; echo $(cat io.max memory.max memory.swap.max cpu.max pids.max cpuset.cpus)
             ctr inspect -f '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{range .HostConfig.BlkioDeviceWriteBps}}{{.Path}} {{.Rate}}{{end}}' u
             ctr inspect -f '{{json .State.MemoryPressure}}' u | jq -r '.some|keys|join(\" \")'
             ctr update --memory-swappiness 9 u
             ctr exec u nslookup nobody 10.0.2.3 >/dev/null 2>&1
             counts='{{.PIDs}} {{gt .NetInput 0}} {{gt .NetOutput 0}} {{gt .CPUNano 0}} {{.MemLimit}} {{ge .BlockOutput 2097152}}'
             ctr stats --no-stream --format \"stats $counts\" u
             (sleep 3; ctr rm -f -t 0 u) & ctr stats -i 1 --format '{{.Name}} {{.PIDS}}' u | sort | uniq -c | sed 's/ *[2-9] /many /' & sleep 1
             ctr pause u >/dev/null; echo $(cat cgroup.freeze) $(grep frozen cgroup.events) $(ctr ps --filter name=u --format '{{.Status}}'); ctr unpause u >/dev/null; cat cgroup.freeze
             wait %1; cd; pgrep -xc sleep; ls -d $g 2>&1 | grep -o 'No such file'",
        )
        .ok();
        let limits = "254:0 rbps=max wbps=2097152 riops=max wiops=100 33554432 0 50000 100000 33 1";
        has(
            &said,
            &[limits, "33554432 33 /dev/vda 2097152", "avg10 avg300 avg60 total", "1 frozen 1 Paused"],
        );
        has(&said, &["stats 3 true true true 33554432 true", "many u 3", "0", "No such file"]);
        assert!(said.contains("version 2 have no such limit"), "{said}");
    }
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

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn quadlet() {
    let said = root("sh /host/quadlet.sh /usr/local/bin/ctr /home/alice/busybox.tar alice").ok();
    has(&said, &["quadlet: all as it should be"]);
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
