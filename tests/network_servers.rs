//! Debian's servers and their clients: members of a network among themselves, and from the host through published ports. Nightly, for
//! their image takes minutes to make.

mod support;

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};
use support::{Ctr, Proxy, User};

#[test]
fn servers_of_debian_are_served() {
    if std::env::var_os("CTR_TEST_NIGHTLY").is_none() {
        return;
    }
    for user in [User::Rootless, User::Root] {
        if !User::all().contains(&user) {
            continue;
        }
        let ground = Ground::new(user);
        ground.web();
        ground.redis();
        ground.postgresql();
        ground.openssh();
        ground.dig();
        ground.iperf3();
        ground.apt();
    }
}

/// A network of servers, `client` among them, and `host`, which is where the host is.
struct Ground {
    ctr: Ctr,
    net: String,
}

/// The container that asks, and what it calls the server and its port.
type View = (&'static str, String, String);

impl Ground {
    fn new(user: User) -> Ground {
        let ctr = Ctr::new(user);
        load(&ctr);
        let id = ctr.run(["images", "-q"]).ok();
        ctr.run(["tag", &id, "servers"]).ok();
        let net = format!("servers{}", std::process::id());
        ctr.run(["network", "create", "--ipv6", &net]).ok();
        let ground = Ground { ctr, net };
        ground.start("client", &["--network", &ground.net], "sleep infinity");
        ground.start("host", &["--network", "host"], "sleep infinity");
        ground
    }

    fn start(&self, name: &str, options: &[&str], script: &str) {
        let begin = ["run", "-d", "--init", "-t", "--name", name];
        self.ctr.run([&begin[..], options, &["servers", "sh", "-ec", script]].concat()).ok();
    }

    /// A server that listens at `port`, which is published.
    fn serve(&self, name: &str, port: u16, script: &str) -> [View; 3] {
        let ports = [format!("127.0.0.1::{port}"), format!("[::1]::{port}")];
        self.start(name, &["--network", &self.net, "-p", &ports[0], "-p", &ports[1]], script);
        self.listens(name, port);
        let said = self.ctr.run(["port", name, &port.to_string()]).ok();
        let at = |start: &str| {
            let found = said.lines().find_map(|line| line.strip_prefix(start));
            found.unwrap_or_else(|| panic!("{start} of {said}")).to_owned()
        };
        [
            ("client", name.into(), port.to_string()),
            ("host", "127.0.0.1".into(), at("127.0.0.1:")),
            ("host", "::1".into(), at("[::1]:")),
        ]
    }

    fn listens(&self, name: &str, port: u16) {
        let until = format!("until grep -q ':{port:04X} .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done");
        self.does(name, &until);
    }

    fn does(&self, who: &str, script: &str) -> String {
        self.ctr.run(["exec", who, "bash", "-ec", &format!("set -o pipefail; {script}")]).ok()
    }

    fn web(&self) {
        let script = "head -c 50M /dev/urandom >/var/www/html/big; echo small >/var/www/html/small; exec nginx -g 'daemon off;'";
        let views = self.serve("web", 80, script);
        let sum = self.does("web", "sha256sum </var/www/html/big");
        for (who, host, port) in &views {
            let url = format!("http://{}:{port}", bracketed(host));
            assert_eq!(self.does(who, &format!("curl -sS {url}/big | sha256sum")), sum, "{url}");
            // One connection for all of them.
            let many = format!(
                "curl -sS -o /dev/null -w '%{{num_connects}}\\n' {url}/small?[1-200] | sort | uniq -c"
            );
            let counts = self.does(who, &many);
            assert_eq!(counts.split_whitespace().collect::<Vec<_>>(), ["199", "0", "1", "1"], "{url}");
            for header in ["Connection: keep-alive", "Connection: close"] {
                let said = self.does(who, &format!("wrk -t1 -c64 -d1s -H '{header}' {url}/small"));
                // On a loaded machine a client may not come to read its answers in time; none may break.
                let broken = said.contains("Socket errors") && !said.contains("connect 0, read 0, write 0");
                assert!(said.contains("Requests/sec") && !broken, "{url}: {said}");
            }
        }
    }

    fn redis(&self) {
        let script = "exec redis-server --bind '*' '-::*' --protected-mode no --save ''";
        for (who, host, port) in &self.serve("cache", 6379, script) {
            let cli = format!("redis-cli -h {host} -p {port}");
            self.does(who, &format!("head -c 10M /dev/urandom | {cli} -x set big"));
            assert_eq!(self.does(who, &format!("{cli} strlen big")), "10485760", "{host}");
            let said = self.does(
                who,
                &format!("redis-benchmark -h {host} -p {port} --csv -n 5000 -c 50 -P 4 -t set,get,lpush"),
            );
            assert_eq!(said.lines().count(), 4, "{host}: {said}");
        }
    }

    fn postgresql(&self) {
        let script = "install -d -o postgres /run/postgresql; cd /etc/postgresql/*/main; printf 'host all all all trust\\n' >pg_hba.conf; echo 'local all all trust' >>pg_hba.conf
            exec su postgres -c \"exec /usr/lib/postgresql/*/bin/postgres -c config_file=$PWD/postgresql.conf -c listen_addresses='*' -c fsync=off\"";
        for (who, host, port) in &self.serve("db", 5432, script) {
            let to = format!("-h {host} -p {port} -U postgres");
            self.does(who, &format!("until pg_isready -q {to}; do :; done; pgbench {to} -q -i postgres"));
            let sum = self.does(
                who,
                &format!("psql {to} -Atc 'select count(*), sum(length(repeat(md5(n::text), 100))) from generate_series(1, 5000) n'"),
            );
            assert_eq!(sum, "5000|16000000", "{host}");
            let rows = format!(
                "psql {to} -Atc 'select repeat(md5(n::text), 100) from generate_series(1, 5000) n' | wc -c"
            );
            assert_eq!(self.does(who, &rows), "16005000", "{host}");
            let said = self.does(who, &format!("pgbench {to} -n -c 8 -t 40 postgres"));
            assert!(said.contains("320/320"), "{host}: {said}");
        }
    }

    fn openssh(&self) {
        let key = self.does("client", "ssh-keygen -q -t ed25519 -N '' -f /root/key; cat /root/key.pub");
        let secret = self.does("client", "cat /root/key");
        let script = format!(
            "mkdir -p /run/sshd /root/.ssh; echo '{key}' >/root/.ssh/authorized_keys; exec /usr/sbin/sshd -D -e"
        );
        let give = format!("umask 77; echo '{secret}' >/root/key; head -c 20M /dev/urandom >/root/file");
        for (who, host, port) in &self.serve("shell", 22, &script) {
            self.does(who, &give);
            let options = "-q -i /root/key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";
            let ssh = format!("ssh {options} -p {port} root@{host}");
            assert_eq!(
                self.does(who, &format!("{ssh} cat /etc/hostname; cat /etc/hostname | {ssh} cat | wc -l"))
                    .lines()
                    .last(),
                Some("1")
            );
            let there = format!("root@{}", bracketed(host));
            let copied = format!(
                "scp {options} -P {port} /root/file {there}:/root/there; scp {options} -P {port} {there}:/root/there /root/back; cmp /root/file /root/back && echo same"
            );
            assert_eq!(self.does(who, &copied), "same", "{host}");
        }
    }

    fn dig(&self) {
        let inspect = format!(
            "{{{{with index .NetworkSettings.Networks \"{}\"}}}}{{{{.IPAddress}}}} {{{{.GlobalIPv6Address}}}}{{{{end}}}}",
            self.net
        );
        let addresses = self.ctr.run(["inspect", "--format", &inspect, "web"]).ok();
        let (v4, v6) = addresses.split_once(' ').expect("both");
        for transport in ["+notcp", "+tcp"] {
            let dig = |question: &str| self.does("client", &format!("dig +short {transport} {question}"));
            assert_eq!((dig("web A"), dig("web AAAA"), dig("web MX")), (v4.into(), v6.into(), String::new()));
            assert_eq!((dig(&format!("-x {v4}")), dig(&format!("-x {v6}"))), ("web.".into(), "web.".into()));
            assert_eq!(dig("web A web AAAA WEB A +nocookie cache A").lines().count(), 4);
            // Nobody is there; of the world outside an internal network knows nothing.
            let gone = format!(
                "dig {transport} -x {} | grep -o 'status: [A-Z]*'",
                v4.rsplit_once('.').expect("octets").0.to_owned() + ".250"
            );
            assert_eq!(self.does("client", &gone), "status: NXDOMAIN");
        }
        let inner = format!("{}in", self.net);
        self.ctr.run(["network", "create", "--internal", &inner]).ok();
        let script = "for way in +tcp +notcp; do dig $way nobody A | grep -o 'status: [A-Z]*'; done";
        let said = self.ctr.run(["run", "--rm", "--network", &inner, "servers", "sh", "-c", script]).ok();
        assert_eq!(said, "status: NXDOMAIN\nstatus: NXDOMAIN");
    }

    fn iperf3(&self) {
        // Control and data have the same port.
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").port();
        let ports = ["tcp", "udp"].map(|kind| format!("127.0.0.1:{port}:5201/{kind}"));
        self.start("speed", &["--network", &self.net, "-p", &ports[0], "-p", &ports[1]], "exec iperf3 -s");
        self.listens("speed", 5201);
        for (who, to) in [
            ("client", "-c speed -4".to_owned()),
            ("client", "-c speed -6".into()),
            ("host", format!("-c 127.0.0.1 -p {port}")),
        ] {
            for how in ["", "-R", "-P 8", "-u -b 50M", "-u -b 50M -R", "-u -b 20M -l 8000"] {
                self.does(who, &format!("iperf3 {to} -t 1 {how}"));
            }
        }
    }

    /// apt asks a proxy on the host's loopback for an archive that only the proxy reaches.
    fn apt(&self) {
        let archive = "mkdir -p /tmp/p/DEBIAN /var/www/html/repo; cd /var/www/html/repo
            printf 'Package: served\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b>\\nDescription: d\\n' >/tmp/p/DEBIAN/control
            head -c 3M /dev/urandom >/tmp/p/served; dpkg-deb -b /tmp/p served.deb >/dev/null
            { dpkg-deb -f served.deb; echo \"Filename: ./served.deb\"; echo \"Size: $(stat -c %s served.deb)\"; echo \"SHA256: $(sha256sum <served.deb | cut -d' ' -f1)\"; } >Packages
            sha256sum </tmp/p/served";
        let sum = self.does("web", archive);
        let web = self.ctr.run(["port", "web", "80"]).ok();
        let web =
            web.lines().find(|line| line.starts_with("127.")).expect("a port").parse().expect("an address");
        let proxy = Proxy::new(web, None);
        let url = proxy.url().replace("127.0.0.1", "10.0.2.2");
        let script = "echo 'deb [trusted=yes] http://archive.test/repo ./' >/etc/apt/sources.list
            rm -f /etc/apt/sources.list.d/*; apt-get -q update >&2; apt-get -q install -y served >&2; sha256sum </served";
        let proxied = format!("http_proxy={url}");
        let run = [
            "run",
            "--rm",
            "--network",
            "private:host-loopback",
            "-e",
            &proxied,
            "servers",
            "sh",
            "-ec",
            script,
        ];
        assert_eq!(self.ctr.run(run).ok(), sum);
        assert!(proxy.seen().iter().any(|head| head.first.contains("http://archive.test/repo/./served.deb")));
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = self.ctr.run(["rm", "-fa", "-t0"]);
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// The image, which is made once; its directory may be closed to the user.
fn load(ctr: &Ctr) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/image");
    let built = Command::new(script).args(["build", "servers"]).output().expect("run scripts/image");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let layout = String::from_utf8_lossy(&built.stdout).trim().to_owned();
    let mut tar =
        Command::new("tar").args(["-c", "-C", &layout, "."]).stdout(Stdio::piped()).spawn().expect("run tar");
    let loaded =
        ctr.command(["load", "-q"]).stdin(tar.stdout.take().expect("a pipe")).status().expect("run ctr");
    assert!(loaded.success() && tar.wait().expect("tar").success());
}
