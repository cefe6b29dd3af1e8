//! Networks where systemd is, and where the kernel has netem: loss, repetition and disorder on both ways of a device.

use crate::ground::{alice, root};

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn a_network_outlives_the_service_of_its_first_member() {
    let script = "ctr network create apart >/dev/null
        systemd-run --user -q --collect --unit=one --service-type=exec -p Environment=PATH=$PATH ctr run --name=one --network=apart box sleep 1000
        until ctr exec one true 2>/dev/null; do :; done
        ctr run -d --name=two --network=apart box sleep 1000 >/dev/null
        own() { grep -o 'ctr-network-apart-.*[.]scope' /proc/$(pgrep -f '^ctr-network apart')/cgroup; }
        until own >/dev/null; do :; done
        systemctl --user stop one
        own | sed 's/[0-9]*[.]scope//'; ctr exec two cat /sys/class/net/eth0/carrier
        ctr rm -f -t0 one two >/dev/null; ctr network rm apart";
    assert_eq!(alice(script).ok(), "ctr-network-apart-\n1\napart");
}

#[test]
#[ignore = "needs the guest: scripts/test --vm"]
fn a_bad_wire_changes_no_byte() {
    let said = root(include_str!("netem.sh")).ok();
    let (done, lost) = said.rsplit_once('\n').expect("a number");
    assert_eq!(done, "out\nin\nacross");
    assert!(lost.parse::<u32>().expect("a number") > 0, "{said}");
}
