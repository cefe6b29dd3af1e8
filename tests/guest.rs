//! What takes systemd and control groups of version 2, in the guest of `scripts/vm`: limits that hold, delegation, units of
//! every type. Run by `scripts/test --vm`; one after the other, as they share the guest.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

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
    vm(&["run", "--root", "--timeout", "180", "--", "bash", "-c", script])
}

/// A system unit of these lines under User=alice, started by `systemctl start t`; then `script`.
fn unit(lines: &str, script: &str) -> Said {
    let file = format!(
        "[Service]\\nUser=alice\\nRuntimeDirectory=t\\nEnvironment=XDG_RUNTIME_DIR=/run/t\\n{}\\n",
        lines.replace('\n', "\\n").replace('\'', "'\\''")
    );
    root(&format!(
        "printf '{file}' >/etc/systemd/system/t.service; systemctl daemon-reload; systemctl reset-failed t 2>/dev/null
         systemctl start t; started=$?; {script}; systemctl stop t 2>/dev/null; true"
    ))
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
             --device-write-bps /dev/vda:1m --blkio-weight 500 --oom-score-adj 300 box \
             sh -c 'cd /sys/fs/cgroup; cat memory.max memory.low memory.high cpu.max cpu.weight pids.max cpuset.cpus io.max; cat /proc/self/oom_score_adj'"
        ));
        // The guest's disks have no weights (CONFIG_BFQ_GROUP_IOSCHED): refused by name.
        let said = match said.text.contains("io.weight") {
            true => place(&format!(
                "{RUN} -m 32m --memory-reservation 16m --cpus 0.5 -c 512 --pids-limit 77 --cpuset-cpus 0 --cgroup-conf memory.high=31m \
                 --device-write-bps /dev/vda:1m --oom-score-adj 300 box \
                 sh -c 'cd /sys/fs/cgroup; cat memory.max memory.low memory.high cpu.max cpu.weight pids.max cpuset.cpus io.max; cat /proc/self/oom_score_adj'"
            )),
            false => said,
        }
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
                "254:0 rbps=max wbps=1048576 riops=max wiops=max",
                "300"
            ],
        );
    }
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn a_quarter_of_a_processor_is_a_quarter() {
    let said = delegated(
        "ctr run -d --name=c --network=none --cpus 0.25 box sh -c 'while :; do :; done' >/dev/null
         g=/sys/fs/cgroup$(ctr inspect -f '{{.State.CgroupPath}}' c); u() { sed -n 's/usage_usec //p' $g/cpu.stat; }
         a=$(u); s=$(date +%s%N); sleep 4; b=$(u); e=$(date +%s%N)
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
         dd if=/dev/zero of=/d/x bs=1M count=4 conv=fsync 2>/dev/null; echo $(( $(date +%s) - s ))'; rm -r ~/d"
    ))
    .ok();
    let seconds: u64 = said.parse().unwrap();
    assert!((3..15).contains(&seconds), "{said}");
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
    let said = unit(
        &format!("Type=oneshot\nExecStart=/usr/local/bin/{RUN} -m 32m box true"),
        "echo started $started; journalctl -u t -n 5 --no-pager -o cat",
    )
    .ok();
    assert!(said.contains("started 1") && said.contains("has no Delegate=yes"), "{said}");
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn systemd_boots_and_stops_in_a_container() {
    root(
        "cd / && [ -e /tmp/systemd.tar ] || tar -cf /tmp/systemd.tar --exclude='*.ko*' bin sbin lib lib64 usr/bin usr/sbin usr/lib/systemd \
         usr/lib/x86_64-linux-gnu usr/lib64 etc/passwd etc/group etc/nsswitch.conf etc/os-release usr/lib/os-release etc/systemd etc/dbus-1 usr/share/dbus-1",
    );
    let said = alice(
        "ctr image exists sysd || ctr import -q /tmp/systemd.tar sysd >/dev/null
         ctr run -d --name=s --network=none sysd /usr/lib/systemd/systemd --default-standard-output=journal >/dev/null
         for i in $(seq 60); do s=$(ctr exec s systemctl is-system-running 2>/dev/null); case $s in running|degraded) break;; esac; sleep 1; done
         echo state $s; ctr exec s systemd-detect-virt; ctr exec s cat /proc/1/cgroup; ctr inspect -f '{{.Config.StopSignal}} {{.Config.SystemdMode}}' s
         time ctr stop -t 60 s; ctr inspect -f 'ended {{.State.ExitCode}}' s; ctr logs s | tail -5; ctr rm -f s",
    )
    .ok();
    assert!(said.contains("state running") || said.contains("state degraded"), "{said}");
    assert!(
        said.contains("0::/init.scope") && said.contains("ended 130") || said.contains("ended 0"),
        "{said}"
    );
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn a_unit_without_delegation_holds_its_container() {
    let lines = format!(
        "Type=exec\nMemoryMax=64M\nKillMode=mixed\nExecStart=/usr/local/bin/{RUN} --name=t box sleep 1000"
    );
    let said = unit(
        &lines,
        "g=/sys/fs/cgroup/system.slice/t.service; sleep 3; cat $g/memory.max; for p in $(cat $g/cgroup.procs); do cat /proc/$p/comm; done; ls -d $g/*/ 2>/dev/null
         systemctl kill -s KILL --kill-whom=main t; sleep 1; systemctl show -P Result t; pgrep -c sleep",
    )
    .ok();
    for word in ["67108864", "ctr-monitor", "sleep", "signal"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("ctr-supervisor"), "{said}");
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn units_of_every_type() {
    // oneshot: the exit status, and the output under the unit's name.
    let said = unit(
        &format!(
            "Type=oneshot\nDelegate=yes\nExecStart=/usr/local/bin/{RUN} box sh -c 'echo from inside; exit 7'"
        ),
        "echo $(systemctl show -P ExecMainStatus t); journalctl -u t -n 20 --no-pager -o short | grep inside",
    )
    .ok();
    assert!(said.contains('7') && said.contains("from inside"), "{said}");
    // forking: the monitor is the main process, its status the container's.
    let said = unit(
        &format!(
            "Type=forking\nDelegate=yes\nPIDFile=/run/t/monitor\nKillMode=mixed\n\
             ExecStart=/usr/local/bin/{RUN} -d --conmon-pidfile=/run/t/monitor box sh -c 'sleep 5; exit 9'"
        ),
        "cat /proc/$(systemctl show -P MainPID t)/comm; while systemctl is-active -q t; do sleep 1; done; systemctl show -P ExecMainStatus t",
    )
    .ok();
    assert_eq!(said, "ctr-monitor\n9");
    // notify, said by us; in the foreground the main process stays ours.
    let said = unit(
        &format!(
            "Type=notify\nDelegate=yes\nExecStart=/usr/local/bin/{RUN} --sdnotify=conmon box sleep 1000"
        ),
        "echo started $started; ps -o comm= -p $(systemctl show -P MainPID t)",
    )
    .ok();
    assert!(said.contains("started 0") && said.lines().any(|line| line == "ctr"), "{said}");
    // notify, in the background, when it is well.
    let said = unit(
        &format!("Type=notify\nDelegate=yes\nExecStart=/usr/local/bin/{RUN} -d --sdnotify=healthy --health-cmd=true --health-interval=1s box sleep 1000"),
        "echo started $started; ps -o comm= -p $(systemctl show -P MainPID t)",
    )
    .ok();
    assert!(said.contains("started 0") && said.contains("ctr-monitor"), "{said}");
    // A watchdog that the payload doesn't pet.
    let said = unit(
        &format!("Type=notify\nDelegate=yes\nWatchdogSec=2\nExecStart=/usr/local/bin/{RUN} --sdnotify=conmon box sleep 1000"),
        "sleep 6; systemctl show -P Result t",
    )
    .ok();
    assert!(said.contains("watchdog"), "{said}");
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
    for line in ["web running", "success", "hello", "1 for process 2: echo.socket"] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    let said = alice(
        "systemctl --user start worker; systemctl --user show -P StatusText -P NotifyAccess worker; ctr ps --format '{{.Names}} {{.State}}'
         systemctl --user kill -s KILL worker; sleep 2; systemctl --user show -P NRestarts worker
         systemctl --user stop worker; systemctl --user show -P Result worker; ctr ps -aq | wc -l; journalctl --user CONTAINER_NAME=worker -n1 -o cat",
    )
    .ok();
    for line in ["at work", "worker running", "1", "success", "begun"] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn a_unit_is_started_again_and_a_deaf_one_killed_in_time() {
    let said = unit(
        &format!("Type=exec\nDelegate=yes\nRestart=on-failure\nRestartSec=0\nStartLimitBurst=3\nExecStart=/usr/local/bin/{RUN} --name=t --replace box false"),
        "for i in $(seq 60); do systemctl is-failed -q t && break; sleep 1; done; systemctl show -P NRestarts -P Result t",
    )
    .ok();
    assert!(said.contains("exit-code") || said.contains("start-limit-hit"), "{said}");
    let said = unit(
        &format!("Type=exec\nDelegate=yes\nTimeoutStopSec=3\nExecStart=/usr/local/bin/{RUN} --stop-timeout=100 box sh -c 'trap \"\" TERM; while :; do sleep 1; done'"),
        "sleep 3; s=$(date +%s); systemctl stop t; echo took $(( $(date +%s) - s )); systemctl show -P Result t; ls -d /sys/fs/cgroup/system.slice/t.service",
    )
    .ok();
    assert!(said.contains("timeout") && said.contains("No such file"), "{said}");
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
fn what_lives_through_a_reboot() {
    root("systemctl enable web; loginctl disable-linger alice; sync");
    alice("ctr run -d --name=r --network=none --restart=always box sleep 1000; ctr ps -q | wc -l").ok();
    root("systemctl start web").ok();
    vm(&["reboot", "--hard"]).ok();
    let web = root(
        "for i in $(seq 40); do pgrep httpd >/dev/null && break; sleep 1; done; systemctl is-active web
         systemctl disable -q web; systemctl stop web; loginctl enable-linger alice",
    );
    let own = alice("ctr ps -a --format '{{.Names}} {{.State}}'; ctr rm r; ctr system check && echo sound");
    let said = [web.ok(), own.ok()].join("\n");
    for line in ["active", "r exited", "sound"] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
}
