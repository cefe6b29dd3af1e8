set -e
modprobe sch_netem; modprobe ifb numifbs=0; modprobe act_mirred; modprobe cls_matchall; modprobe sch_ingress
# Out of the container and into it: what leaves eth0, and what comes in there by way of ifb0.
bad() {
    in="nsenter -t $(runuser -u alice -- env -C / XDG_RUNTIME_DIR=/run/user/1000 ctr inspect -f '{{.State.Pid}}' $1) -n"
    how="netem limit 10000 delay 1ms loss 2% duplicate 2% reorder 80% 50%"
    $in tc qdisc add dev eth0 root $how
    $in ip link add ifb0 type ifb; $in ip link set ifb0 up; $in tc qdisc add dev ifb0 root $how
    $in tc qdisc add dev eth0 ingress
    $in tc filter add dev eth0 ingress matchall action mirred egress redirect dev ifb0
}
alice() { runuser -u alice -- env -C / XDG_RUNTIME_DIR=/run/user/1000 ctr "$@"; }
alice network create --opt mtu=1500 bad >/dev/null
alice run -d --name=from --network=bad -p 127.0.0.1:8000:8000 box sleep 1000 >/dev/null
alice run -d --name=to --network=bad box sleep 1000 >/dev/null
bad from; bad to
text='seq 1 60000'
sum=$($text | sha256sum)
address=$(ip -4 -o addr show dev eth0 | sed 's/.*inet \([0-9.]*\).*/\1/')
# Container to host.
socat -u TCP-LISTEN:9000,reuseaddr - | sha256sum >/tmp/out & until ss -ltn | grep -q :9000; do :; done
alice exec from sh -c "$text | nc $address 9000"; wait; [ "$(cat /tmp/out)" = "$sum" ] && echo out
# Host to container, through a published port.
alice exec from nc -l -p 8000 -e sh -c "cat >/tmp/in" & until alice exec from grep -q ':1F40 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done
$text | socat -u - TCP:127.0.0.1:8000; wait; [ "$(alice exec from sha256sum /tmp/in | cut -d' ' -f1)" = "${sum%% *}" ] && echo in
# Member to member.
alice exec to nc -l -p 8000 -e sh -c "cat >/tmp/in" & until alice exec to grep -q ':1F40 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done
alice exec from sh -c "$text | nc \$(nslookup to | grep -A9 ^Name | grep -m1 -o '10[.][0-9.]*') 8000"; wait
[ "$(alice exec to sha256sum /tmp/in | cut -d' ' -f1)" = "${sum%% *}" ] && echo across
nsenter -t $(alice inspect -f '{{.State.Pid}}' from) -n tc -s qdisc show | grep -o 'dropped [1-9][0-9]*' | head -n1 | cut -d' ' -f2
alice rm -fa -t0 >/dev/null; alice network rm bad >/dev/null
