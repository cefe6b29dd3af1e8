//! Limits that the kernel holds, what is told of them, and what changes them while a container lives.

use crate::ground::{PLACES, RUN, alice, delegated, has};

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
        assert!(said.contains("ago (out of memory)"), "{said}");
        assert!(said.lines().any(|line| line == "oom"), "{said}");
    }
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn limits_are_in_the_kernels_files() {
    for place in PLACES {
        let said = place(&format!(
            "{RUN} -m 32m --memory-reservation 16m --cpus 0.5 -c 512 --pids-limit 77 --cpuset-cpus 0 --cgroup-conf memory.high=31m \
             --device-write-bps /dev/vda:1m --device-read-bps /dev/vda:2m --cpuset-mems 0 --io-max /dev/vda:riops=50 --blkio-weight 505 \
             --oom-score-adj 300 box sh -c 'cd /sys/fs/cgroup; cat memory.max memory.low memory.high cpu.max cpu.weight pids.max \
             cpuset.cpus cpuset.mems io.max io.weight; cat /proc/self/oom_score_adj'"
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
                "0",
                "254:0 rbps=2097152 wbps=1048576 riops=50 wiops=max",
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
