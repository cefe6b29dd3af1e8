#!/bin/sh
# Quadlet as systemd runs it, as root and as an ordinary user. Runs as root in a throw-away guest: it installs generators.
# Usage: quadlet.sh CTR ROOTFS USER     our binary, the tar archive of a root file system with a shell, a user who lingers
set -eu
user=$3
uid=$(id -u "$user")
run=/run/user/$uid
fault() { echo "quadlet: $*" >&2; exit 1; }
is() { [ "$2" = "$3" ] || fault "$1: $2, not $3"; }

[ "$1" = /usr/local/bin/ctr ] || install -m 755 "$1" /usr/local/bin/ctr
mkdir -p /usr/local/lib/systemd/system-generators /etc/systemd/user-generators
ln -sf /usr/local/bin/ctr /usr/local/lib/systemd/system-generators/ctr-generator
ln -sf /usr/local/bin/ctr /etc/systemd/user-generators/ctr-user-generator
# Podman's own generator reads the same files.
for kind in system user; do
    mkdir -p /etc/systemd/$kind-generators
    ln -sf /dev/null /etc/systemd/$kind-generators/podman-$kind-generator
done

# The rest twice: as root with systemd, as the user with the user's.
as() { if [ "$who" = root ]; then "$@"; else runuser -u "$user" -- env -u XDG_CONFIG_HOME HOME="$home" XDG_RUNTIME_DIR="$run" "$@"; fi; }
sc() { if [ "$who" = root ]; then systemctl "$@"; else as systemctl --user "$@"; fi; }
show() { sc show -P "$2" "$1"; }
journal() { journalctl --sync; if [ "$who" = root ]; then journalctl -o cat -u "$1"; else journalctl -o cat "_UID=$uid" "_SYSTEMD_USER_UNIT=$1"; fi; }

for who in root "$user"; do
    home=$(getent passwd "$who" | cut -d: -f6)
    echo "== as $who"
    cp "$2" /var/tmp/rootfs.tar
    as ctr import --quiet /var/tmp/rootfs.tar localhost/box >/dev/null
    work=$(as mktemp -d)
    cat >"$work/site.container" <<'UNIT'
[Container]
Image=localhost/box
Exec=sh -c 'trap "echo stopping; exit 0" TERM; echo up in "$$PWD" %n; cat /data/word; while :; do sleep 0.1; done'
Volume=data.volume:/data
Network=none
[Service]
MemoryMax=64M
[Install]
WantedBy=default.target
UNIT
    printf '[Volume]\n' >"$work/data.volume"
    cat >"$work/job@.container" <<'UNIT'
[Container]
Image=localhost/box
Exec=sh -c "echo job %i; exit %i"
Network=none
[Service]
Type=oneshot
UNIT
    cat >"$work/cut.container" <<'UNIT'
[Container]
Image=localhost/box
Exec=sleep 1000
Network=none
[Service]
Restart=on-failure
RestartSec=100ms
UNIT
    cat >"$work/words.container" <<'UNIT'
[Container]
Image=localhost/box
Network=none
Environment="A=b c" 'D=100%%'
Exec=sh -c 'printf "<%%s>" "$@" "$$A" "$$D"; echo' - "a b" "it's" ";" "" x\x20y é \\ '"'
[Service]
Type=oneshot
UNIT
    printf '[Container]\nImage=localhost/box\nFoo=1\n' >"$work/wrong.container"
    chown -R "$who" "$work"

    # What can't be is not even installed; put there by hand it is left out, and all others are made.
    as ctr quadlet install --reload-systemd=false "$work/wrong.container" 2>/dev/null && fault 'an unknown key was installed'
    as ctr quadlet install --reload-systemd=false "$work/data.volume" >/dev/null
    as ctr quadlet install "$work/site.container" "$work/wrong.container" 2>/dev/null && fault 'an unknown key was installed'
    # A reload takes seconds in an emulated guest: one for all.
    for name in site job@ cut; do as ctr quadlet install --reload-systemd=false "$work/$name.container" >/dev/null; done
    as ctr quadlet install "$work/words.container" >/dev/null
    as ctr quadlet list

    is 'wanted by default.target' "$(sc is-enabled site.service)" generated
    sc list-dependencies --plain default.target | grep -q site.service || fault 'site.service is not wanted'
    sc start data-volume.service
    is volume "$(as ctr volume exists systemd-data && echo yes)" yes
    as ctr run --rm --network=none -v systemd-data:/data localhost/box sh -c 'echo kept >/data/word'
    sc start site.service
    is state "$(show site.service ActiveState)" active
    while ! journal site.service | grep -q kept; do sleep 0.2; done
    journal site.service | grep -qx 'up in / site.service' || fault "journal: $(journal site.service)"
    is 'name' "$(as ctr ps --format '{{.Names}}')" systemd-site

    # In the unit's own cgroup, under the unit's limits; the main process is the unit's.
    pid=$(as ctr inspect -f '{{.State.Pid}}' systemd-site)
    group=$(show site.service ControlGroup)
    case $(sed 's/^0:://' "/proc/$pid/cgroup") in "$group"/*) ;; *) fault "the container is in $(cat "/proc/$pid/cgroup"), not below $group" ;; esac
    is 'memory.max' "$(cat "/sys/fs/cgroup$group/memory.max")" 67108864
    grep -q "^$(show site.service MainPID)$" "/sys/fs/cgroup$group/cgroup.procs" "/sys/fs/cgroup$group"/*/cgroup.procs || fault 'the main process is elsewhere'

    sc stop site.service
    is 'result of stop' "$(show site.service Result)" success
    journal site.service | grep -qx stopping || fault 'it was not asked to stop'
    is 'what is left' "$(as ctr ps -aq)" ''
    [ ! -d "/sys/fs/cgroup$group" ] || fault "$group is left"

    sc start job@0.service
    sc start job@3.service 2>/dev/null && fault 'a job that fails has succeeded'
    is 'status' "$(show job@3.service ExecMainStatus)" 3
    journal job@3.service | grep -qx 'job 3' || fault 'a job without output'

    # Words reach the container as they are written.
    sc start words.service
    is 'words' "$(journal words.service | grep '^<')" '<a b><it'"'"'s><;><><x y><é><\><"><b c><100%>'

    # Killed, it is started again.
    sc start cut.service
    first=$(show cut.service MainPID)
    while [ "$(as ctr inspect -f '{{.State.Status}}' systemd-cut 2>/dev/null)" != running ]; do sleep 0.2; done
    as ctr kill -s KILL systemd-cut >/dev/null
    while [ "$(show cut.service NRestarts)" = 0 ] || [ "$(show cut.service ActiveState)" != active ]; do sleep 0.2; done
    [ "$(show cut.service MainPID)" != "$first" ] || fault 'the same process'
    as ctr quadlet rm cut.container 2>/dev/null && fault 'a running one was removed'
    as ctr quadlet rm -f cut.container >/dev/null
    is 'after rm -f' "$(show cut.service LoadState)" not-found

    # By hand, past `install`.
    dir=$home/.config/containers/systemd
    [ "$who" != root ] || dir=/etc/containers/systemd
    as cp "$work/wrong.container" "$dir/wrong.container"
    sc daemon-reload
    is 'one that is refused' "$(show wrong.service LoadState)" not-found
    is 'all others' "$(show site.service LoadState)" loaded
    if [ "$who" = root ]; then
        dmesg | grep -q 'ctr-generator.*wrong.container: .Container. has no key Foo' || fault 'the kernel log says nothing'
    fi
    as rm "$dir/wrong.container"
    as ctr quadlet rm -a -f >/dev/null
    is 'after rm -a' "$(show site.service LoadState)" not-found
    rm -r "$work"
done

echo '== whose files are whose'
etc=/etc/containers/systemd
mkdir -p $etc/users/"$uid"/below $etc/users/4711 $etc/users/team /run/containers/systemd
for name in $etc/users/all $etc/users/"$uid"/below/own $etc/users/4711/other $etc/users/team/team $etc/system; do
    echo '[Volume]' >"$name.volume"
done
printf '[Volume]\nVolumeName=of-run\n' >/run/containers/systemd/system.volume
made() { as ctr quadlet generate "$@" --dryrun | sed -n 's/^---\(.*\)-volume.service---/\1/p' | sort | xargs; }
who=root
is 'of root' "$(made)" system
as ctr quadlet generate --dryrun | grep -q ' of-run$' || fault '/run does not take precedence'
who=$user
is 'of the user' "$(made --user)" 'all own team'
rm -r $etc/users /run/containers/systemd $etc/system.volume
echo 'quadlet: all as it should be'
