//! The options of `ctr run` that change what is around the payload: root file system, network, privileges, devices, image;
//! and what is refused.

mod support;

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    process::Command,
};
use support::{Compression, Ctr, Faults, Flavour, Layer, Live, Registry, TestImage, User, index};

#[test]
fn read_only() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let script = "for d in / /etc /bin /run /tmp /var/tmp /dev/shm; do touch $d/x 2>/dev/null && echo $d; done; true";
        assert_eq!(ctr.script(&["--read-only"], script), "/run\n/tmp\n/var/tmp\n/dev/shm", "as {user:?}");
        assert_eq!(ctr.script(&[], "touch /x /etc/x && ls /x"), "/x", "as {user:?}");
    }
}

#[test]
fn tmpfs() {
    let layer = Layer::busybox().file("srv/file", "of the image").dir("srv/dir", 0o755).dir("run", 0o1770);
    let ctr = Ctr::with_box(User::Rootless).with_image("tmpfs", TestImage::new([layer]));
    let script = "grep ' /srv ' /proc/mounts; stat -c %a /srv; ls /srv; cat /srv/file";
    let run = |options: &[&str], script| ctr.payload_of("tmpfs", options, &["sh", "-c", script]);
    let said = run(&["--tmpfs", "/srv:size=1m,mode=1750,noexec"], script).ok();
    let lines: Vec<&str> = said.lines().collect();
    for option in ["tmpfs", "size=1024k", "noexec", "nosuid", "nodev"] {
        assert!(lines[0].contains(option), "no {option} in {}", lines[0]);
    }
    assert_eq!(lines[1..], ["1750", "dir", "file", "of the image"]);
    assert_eq!(run(&["--read-only"], "stat -c %a /run").ok(), "1770", "as the image has it");
    assert_eq!(run(&["--tmpfs=/run"], "stat -c %a /run").ok(), "1770", "as the image has it");
    assert_eq!(run(&["--tmpfs=/new"], "stat -c %a /new").ok(), "1777", "as tmpfs(5) has it");
    assert_eq!(run(&["--tmpfs", "/srv:notmpcopyup"], "ls /srv | wc -l").ok(), "0");
    assert_eq!(run(&["--tmpfs", "/new/place"], "touch /new/place/x && ls /new/place").ok(), "x");
    run(&["--tmpfs", "/srv:size=64k"], "head -c 100000 /dev/zero > /srv/big").exits(1);
}

#[test]
fn shared_memory_sysctls_and_time_zone() {
    let ctr = Ctr::with_box(User::Rootless);
    assert!(ctr.script(&["--shm-size=1m"], "grep /dev/shm /proc/mounts").contains("size=1024k"));
    assert!(ctr.script(&[], "grep /dev/shm /proc/mounts").contains("size=65536k"));
    let options = ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=1234"];
    let script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax";
    assert_eq!(ctr.script(&options, script), "1\n1234");
    let mut hosts = fs::read_to_string("/proc/sys/kernel/msgmax").expect("the host's value");
    hosts.truncate(hosts.trim_end().len());
    assert_ne!(hosts, "1234");
    assert_eq!(ctr.script(&["--tz", "Asia/Kathmandu"], "date -d @1600000000 +%H:%M"), "18:11");
    assert_eq!(ctr.script(&[], "date -d @1600000000 +%H:%M"), "12:26");
}

#[test]
fn hosts_and_name_servers() {
    let ctr = Ctr::with_box(User::Rootless);
    let hosts =
        ctr.script(&["--add-host", "db;data:10.1.2.3", "--add-host", "six:[2001:db8::1]"], "cat /etc/hosts");
    for line in ["10.1.2.3\tdb data", "2001:db8::1\tsix", "127.0.0.1\tlocalhost"] {
        assert!(hosts.lines().any(|found| found.starts_with(line)), "no {line:?} in\n{hosts}");
    }
    let dns = |options: &[&str]| {
        let run = ["run", "--rm", "--network=host"];
        ctr.run([&run[..], options, &["box", "grep", "nameserver", "/etc/resolv.conf"]].concat()).stdout()
    };
    assert_eq!(
        dns(&["--dns", "9.9.9.9", "--dns=2001:db8::2"]),
        "nameserver 9.9.9.9\nnameserver 2001:db8::2\n"
    );
    assert_eq!(dns(&["--dns=none"]), "", "the image has none");
}

#[test]
fn networks_none_and_host() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        assert_eq!(
            ctr.script(&[], "ls /sys/class/net; cat /sys/class/net/lo/flags"),
            "lo\n0x9",
            "as {user:?}"
        );
        // Over loopback to itself, on a low port.
        let script = "nc -l -p 80 -e echo answered & until nc 127.0.0.1 80 2>/dev/null; do :; done";
        assert_eq!(ctr.script(&["--timeout=20"], script), "answered", "as {user:?}");
        let inside = ctr.run(["run", "--rm", "--network=host", "box", "cat", "/proc/net/dev"]).ok();
        let names = |text: &str| {
            text.lines()
                .skip(2)
                .filter_map(|l| Some(l.split_once(':')?.0.trim().to_owned()))
                .collect::<Vec<_>>()
        };
        let outside = fs::read_to_string("/proc/net/dev").expect("the host's interfaces");
        assert_eq!(names(&inside), names(&outside), "as {user:?}");
    }
}

#[test]
fn a_private_network_or_a_hint() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.payload(&[], &["true"]).ok();
        let outcome = ctr.run(["run", "--rm", "box", "ls", "/sys/class/net"]).exits(0);
        let interfaces = outcome.stdout().lines().count();
        let hints = outcome.stderr().lines().filter(|line| line.starts_with("hint: ")).count();
        assert_eq!(outcome.stderr().lines().count(), hints, "{outcome}");
        // One beside loopback, or one line that says why not.
        let usable = File::options().write(true).open("/dev/net/tun").is_ok();
        assert_eq!((interfaces, hints), if usable { (2, 0) } else { (1, 1) }, "{outcome}");
    }
}

#[test]
fn without_the_device_there_is_one_hint_and_no_network() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let ctr = Ctr::with_box(User::Rootless);
    let Some((uid, gid)) = ctr.user().ids() else { return };
    let become_user = format!("exec setpriv --reuid={uid} --regid={gid} --clear-groups \"$@\"");
    let script = format!("mount -t tmpfs none /dev/net; {become_user}");
    let wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let run = |network: &[&str]| {
        let arguments = [&["run", "--rm"], network, &["box", "ls", "/sys/class/net"]].concat();
        Live::start(ctr.outside(&wrapper, &arguments)).end()
    };
    let outcome = run(&[]).exits(0);
    assert_eq!(outcome.stdout(), "lo\n");
    let said = outcome.stderr();
    assert!(
        said.starts_with("hint: ") && said.lines().count() == 1 && said.contains("/dev/net/tun"),
        "{outcome}"
    );
    // Asked for by name it is an error where nothing but this machine's set-up is in the way.
    run(&["--network=private"]).exits(125);
}

#[test]
fn capabilities() {
    let ctr = Ctr::with_box(User::Rootless);
    let script = "sed -n 's/^Cap\\(Eff\\|Bnd\\|Amb\\):\\t//p' /proc/self/status";
    let default = "00000000800405fb";
    for (options, expected) in [
        // In the order of the file: effective, bounding, ambient.
        (&[][..], [default, default, "0000000000000000"]),
        (&["--cap-drop=ALL"], ["0000000000000000"; 3]),
        (&["--cap-add", "net_admin"], ["00000000800415fb", "00000000800415fb", "0000000000000000"]),
        (&["--cap-drop=CAP_CHOWN,kill"], ["00000000800405da", "00000000800405da", "0000000000000000"]),
        (
            &["--cap-drop=all", "--cap-add=CHOWN"],
            ["0000000000000001", "0000000000000001", "0000000000000000"],
        ),
        (&["-u", "user"], ["0000000000000000", default, "0000000000000000"]),
        (
            &["-u", "user", "--cap-add=NET_ADMIN"],
            ["0000000000001000", "00000000800415fb", "0000000000001000"],
        ),
    ] {
        let said = ctr.script(options, script);
        assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{options:?}");
    }
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        assert_eq!(ctr.script(&[], script).lines().next(), Some(default), "as {user:?}");
        let all = ctr.script(&["--privileged"], script);
        let all = u64::from_str_radix(all.lines().next().expect("a mask"), 16).expect("hexadecimal");
        assert_eq!(all & 0x20_1000, 0x20_1000, "SYS_ADMIN and NET_ADMIN at least: {all:x}, as {user:?}");
    }
}

#[test]
fn privileged_lifts_masks_and_filter() {
    let ctr = Ctr::with_box(User::Rootless);
    let script = "grep Seccomp: /proc/self/status; mkdir /m && mount -t tmpfs none /m 2>/dev/null && echo mounted; true";
    assert_eq!(ctr.script(&["--privileged"], script), "Seccomp:\t0\nmounted");
    assert_eq!(ctr.script(&[], script), "Seccomp:\t2");
}

#[test]
fn security_options() {
    let ctr = Ctr::with_box(User::Rootless);
    let profile = |deny: &str| {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64"],
            "syscalls":[{{"names":{deny},"action":"SCMP_ACT_ERRNO","errnoRet":95}}]}}"#
        )
    };
    ctr.file("deny.json", profile(r#"["mkdir","mkdirat"]"#)).file("bad.json", "{");
    let status = "sed -n 's/^\\(NoNewPrivs\\|Seccomp\\):\\t//p' /proc/self/status";
    for (option, said) in [
        ("no-new-privileges", "1\n2"),
        ("no-new-privileges=false", "0\n2"),
        ("seccomp=unconfined", "0\n0"),
        ("seccomp=deny.json", "0\n2"),
    ] {
        assert_eq!(ctr.script(&["--security-opt", option], status), said, "{option}");
    }
    let outcome = ctr.payload(&["--security-opt", "seccomp=deny.json"], &["mkdir", "/denied"]).exits(1);
    assert!(outcome.stderr().contains("not supported"), "errno 95, {outcome}");
    ctr.payload(&[], &["mkdir", "/fine"]).ok();
    ctr.payload(&["--security-opt", "seccomp=bad.json"], &["echo", "ran"]).exits(125);
}

#[test]
fn devices() {
    let ctr = Ctr::with_box(User::Rootless);
    let inside =
        |options: &[&str]| ctr.payload(options, &["sh", "-c", "stat -c %t:%T /dev/fuse && : </dev/fuse"]);
    inside(&[]).exits(1);
    let device = rustix::fs::stat("/dev/fuse").expect("the tests need /dev/fuse").st_rdev;
    let numbers = format!("{:x}:{:x}", rustix::fs::major(device), rustix::fs::minor(device));
    assert_eq!(inside(&["--device", "/dev/fuse"]).ok(), numbers);
    assert_eq!(inside(&["--device=/dev/net/tun:/dev/fuse:rw"]).ok(), "a:c8");
}

#[test]
fn a_directory_as_the_root() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.payload(&[], &["true"]).ok();
        ctr.file("root/bin/busybox", fs::read("/bin/busybox").expect("busybox")).file("root/file", "outside");
        let program = ctr.home().join("root/bin/busybox");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("chmod");
        let run = |root: &str, script: &str| {
            let options =
                ["run", "--rm", "--network=none", "--rootfs", root, "/bin/busybox", "sh", "-c", script];
            ctr.run(options).ok()
        };
        let file = ctr.home().join("root/file");
        let change = "read a </file; echo $a; echo inside >/file";
        assert_eq!(run("root:O", change), "outside", "as {user:?}");
        assert_eq!(fs::read_to_string(&file).expect("the file"), "outside", "thrown away, as {user:?}");
        assert_eq!(run("root", change), "outside", "as {user:?}");
        assert_eq!(fs::read_to_string(&file).expect("the file"), "inside\n", "as {user:?}");
    }
}

#[test]
fn pull_policies() {
    let registry = Registry::plain();
    let version = |text: &str| {
        let image = TestImage::new([Layer::busybox(), Layer::new(Compression::Gzip).file("version", text)]);
        image.push(registry, "run/versions:latest");
    };
    let ctr = Ctr::new(User::Rootless);
    let faults = Faults::new(registry);
    ctr.registries(&faults.conf());
    let name = faults.name("run/versions");
    let run = |policy: &str| {
        let pull = format!("--pull={policy}");
        ctr.run(["run", "--rm", "--network=none", "-q", &pull, &name, "cat", "/version"])
    };
    version("1");
    run("never").fails("versions");
    assert_eq!(faults.seen().len(), 0, "never asks nobody");
    assert_eq!(run("missing").ok(), "1");
    version("2");
    let asked = faults.seen().len();
    assert_eq!(run("missing").ok(), "1");
    assert_eq!(run("never").ok(), "1");
    assert_eq!(faults.seen().len(), asked, "what is there is not asked for");
    assert_eq!(run("newer").ok(), "2");
    version("3");
    assert_eq!(run("always").ok(), "3");
    // Out of reach: nothing listens where the name leads.
    let address = faults.address();
    ctr.registries(&format!(
        "[[registry]]\nprefix = \"{address}\"\nlocation = \"127.0.0.1:1\"\ninsecure = true\n"
    ));
    run("always").exits(125);
    assert_eq!(run("newer").ok(), "3", "what is there will do");
}

#[test]
fn platforms() {
    let registry = Registry::plain();
    let push = |arch: &str| {
        // The programs are this machine's all the same, or nothing could run.
        let layer = Layer::new(Compression::Gzip).file("arch", arch);
        let target = format!("run/platforms:{arch}");
        TestImage::new([Layer::busybox(), layer]).architecture(arch).push(registry, &target)
    };
    index(registry, "run/platforms:latest", Flavour::Oci, &[push("amd64"), push("arm64")]);
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    let name = registry.name("run/platforms");
    let run = |options: &[&str]| {
        ctr.run([&["run", "--rm", "-q", "--network=none"], options, &[&name, "cat", "/arch"]].concat())
    };
    let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    assert_eq!(run(&[]).ok(), own);
    for arch in ["arm64", "amd64"] {
        assert_eq!(run(&["--platform", &format!("linux/{arch}")]).ok(), arch);
    }
    run(&["--platform=linux/s390x"]).fails("s390x");
}

#[test]
fn bad_values_are_refused_before_anything_happens() {
    let ctr = Ctr::with_box(User::Rootless);
    let before = ctr.store();
    for option in [
        "--add-host=x",
        "--annotation=x",
        "--cap-add=bogus",
        "--cap-drop=bogus",
        "--device=/etc/passwd",
        "--dns=x",
        "--env==x",
        "--env-file=/no/such/file",
        "--group-add=a:b",
        "--hostname=a b",
        "--label==x",
        "--name=../x",
        "--network=slirp4netns",
        "--pid=pod",
        "--publish=x",
        "--platform=x",
        "--pull=sometimes",
        "--security-opt=bogus",
        "--security-opt=seccomp=/no/such/file",
        "--shm-size=1x",
        "--stop-signal=SIGNO",
        "--stop-timeout=x",
        "--sysctl=kernel.core_pattern=x",
        "--timeout=-1",
        "--tmpfs=/t:bogus",
        "--tz=../x",
        "--ulimit=nofile",
        "--umask=9",
        "--user=-1x",
        "--workdir=srv",
        "--sig-proxy=maybe",
        "--rm=maybe",
    ] {
        let outcome = ctr.payload(&[option], &["echo", "ran"]);
        let name = option.split('=').next().unwrap_or(option);
        let outcome = outcome.fails(name);
        assert_eq!(outcome.stdout(), "", "{outcome}");
    }
    for option in ["--volume=/:x", "--memory=x", "--no-such-option"] {
        ctr.payload(&[option], &["echo", "ran"]).fails(option.split('=').next().unwrap_or(option));
    }
    ctr.run(["run", "--rm", "--rootfs", "/no/such/dir", "true"]).fails("/no/such/dir");
    ctr.run(["run"]).exits(125);
    assert_eq!(ctr.store(), before);
    let help = Command::new(ctr.command(["run", "--help"]).get_program()).args(["run", "--help"]).output();
    assert!(help.expect("start ctr").status.success());
}
