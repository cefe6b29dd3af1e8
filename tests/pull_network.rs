//! How `ctr pull` reaches a registry: proxies, HTTP/2, places of certificates, mirrors for some images, tokens that run out.

mod support;

use support::{Ctr, Fault, Faults, Outcome, Proxy, Registry, User, ground, ids, tiny};

fn through(ctr: &Ctr, proxy: &[(&str, &str)], name: &str) -> Outcome {
    let mut command = ctr.command(["pull", "-q", "--retry=0", name]);
    command.envs(proxy.iter().copied());
    Outcome::new(format!("pull {name} with {proxy:?}"), command.output().expect("start ctr"))
}

/// The proxy alone knows where this host is.
#[test]
fn a_proxy_of_each_kind() {
    let image = tiny("proxied").push(Registry::plain(), "proxied:latest");
    for &user in User::all() {
        let ctr = Ctr::new(user);
        let tunnel = Proxy::new(Registry::tls().address(), None);
        ctr.registries("[[registry]]\nlocation = \"registry.invalid:5999\"\ninsecure = true\n");
        through(&ctr, &[("HTTPS_PROXY", &tunnel.url())], "registry.invalid:5999/proxied").ok();
        assert_eq!(ids(&ctr), [image.short_id()], "as {user:?}");
        let seen = tunnel.seen();
        assert!(
            !seen.is_empty()
                && seen.iter().all(|head| head.first.starts_with("CONNECT registry.invalid:5999 ")),
            "{seen:?}"
        );
        assert!(seen.iter().all(|head| head.get("proxy-authorization") == Some("Basic dXNlcjpzZWNyZXQ=")));
        let ctr = Ctr::new(user);
        ctr.registries("[[registry]]\nlocation = \"registry.invalid\"\ninsecure = true\n");
        let plain = Proxy::new(Registry::plain().address(), None);
        // https is tried first: it goes nowhere.
        through(&ctr, &[("http_proxy", &plain.url())], "registry.invalid/proxied").ok();
        assert!(plain.seen().iter().any(|head| head.first.starts_with("GET http://registry.invalid/v2/")));
        assert_eq!(ids(&ctr), [image.short_id()], "as {user:?}");
    }
}

#[test]
fn no_proxy_is_heeded() {
    let image = tiny("direct").push(Registry::plain(), "direct:latest");
    let proxy = Proxy::new(Registry::plain().address(), None);
    let outside = Faults::outside(Registry::plain());
    for faults in [Some(Faults::new(Registry::plain())), outside].into_iter().flatten() {
        let ip = faults.address().ip();
        // As in Go's programs, this machine itself is never behind a proxy.
        let own = if ip.is_loopback() {
            Vec::new()
        } else {
            vec![ip.to_string(), format!("a.b,{ip}/24"), "*".to_owned()]
        };
        let unnamed = ip.is_loopback().then(String::new);
        for exception in unnamed.into_iter().chain(own) {
            let ctr = Ctr::new(User::Rootless);
            ctr.registries(&faults.conf());
            let set = [("HTTP_PROXY", proxy.url()), ("HTTPS_PROXY", proxy.url()), ("NO_PROXY", exception)];
            let set = set.each_ref().map(|(name, value)| (*name, value.as_str()));
            through(&ctr, &set, &faults.name("direct")).ok();
            assert_eq!(ids(&ctr), [image.short_id()]);
        }
    }
    assert!(proxy.seen().is_empty());
}

#[test]
fn a_proxy_that_fails_is_named() {
    let ctr = Ctr::new(User::Rootless);
    let refusing = Proxy::new(Registry::tls().address(), Some("403 Forbidden"));
    let wanting = Proxy::new(Registry::tls().address(), Some("407 Proxy Authentication Required"));
    for proxy in [refusing.url(), wanting.url(), "http://127.0.0.1:1".to_owned()] {
        let outcome =
            through(&ctr, &[("HTTPS_PROXY", &proxy)], "registry.example.com/x").fails("registry.example.com");
        let outcome = outcome.hints("HTTPS_PROXY");
        assert!(!outcome.stderr().contains("secret"), "{outcome}");
    }
    assert_eq!(ctr.list("images"), [""; 0]);
}

#[test]
fn http_2_where_the_registry_speaks_it() {
    let registry = Registry::tls();
    let image = tiny("http2").push(Registry::plain(), "http2:latest");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.address()));
    ctr.run(["pull", "-q", &registry.name("http2")]).ok();
    for part in ["/v2/http2/manifests/latest", &image.config, &image.blobs[0]] {
        let line = registry.wait_logged(part);
        assert!(line.contains("HTTP/2.0"), "{line}");
    }
}

/// /etc is the tests' own in a mount namespace.
#[test]
fn certificates_of_docker_and_of_containers() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let registry = Registry::tls();
    let image = tiny("certs").push(Registry::plain(), "certs:latest");
    for (user, place) in [(User::Rootless, "docker"), (User::Rootless, "containers"), (User::Root, "docker")]
    {
        let ctr = Ctr::new(user);
        ctr.file("ca.crt", registry.authority());
        let dir = format!("/etc/{place}/certs.d/{}", registry.address());
        let switch = user.ids().map_or(String::new(), |(uid, gid)| {
            format!("setpriv --reuid={uid} --regid={gid} --clear-groups")
        });
        let script = format!(
            "mkdir etc upper work && mount -t tmpfs none etc && mkdir etc/upper etc/work && \
             mount -t overlay -o lowerdir=/etc,upperdir=etc/upper,workdir=etc/work none /etc && \
             mkdir -p {dir} && cp ca.crt {dir}/ && exec {switch} \"$@\"",
        );
        let wrapper = ["unshare", "--mount", "sh", "-ec", &script, "sh"];
        let output =
            ctr.outside(&wrapper, &["pull", "-q", &registry.name("certs")]).output().expect("start unshare");
        Outcome::new(format!("pull with {dir}"), output).ok();
        assert_eq!(ids(&ctr), [image.short_id()], "as {user:?} with {dir}");
    }
}

#[test]
fn mirrors_for_digests_and_for_tags() {
    let registry = Registry::plain();
    let image = tiny("mirrors").push(registry, "mirrors/kinds:latest");
    let by_digest = format!("mirrors/kinds@{}", image.manifest);
    for (table, field, target, asked) in [
        ("mirror-by-digest-only = true", "", "mirrors/kinds:latest", false),
        ("mirror-by-digest-only = true", "", by_digest.as_str(), true),
        ("", "pull-from-mirror = \"digest-only\"", "mirrors/kinds:latest", false),
        ("", "pull-from-mirror = \"digest-only\"", &by_digest, true),
        ("", "pull-from-mirror = \"tag-only\"", "mirrors/kinds:latest", true),
        ("", "pull-from-mirror = \"tag-only\"", &by_digest, false),
        ("", "pull-from-mirror = \"all\"", &by_digest, true),
    ] {
        let (own, mirror) = (Faults::new(registry), Faults::new(registry));
        let ctr = Ctr::new(User::Rootless);
        ctr.registries(&format!(
            "{}{table}\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n{field}\n",
            own.conf(),
            mirror.address()
        ));
        ctr.run(["pull", "-q", &own.name(target)]).ok();
        assert_eq!(
            (!mirror.seen().is_empty(), own.seen().is_empty()),
            (asked, asked),
            "{table} {field} {target}"
        );
        assert_eq!(ids(&ctr), [image.short_id()]);
    }
}

/// A mirror that is behind, wrong, closed or broken costs nothing but the attempt, at each step of a pull.
#[test]
fn a_mirror_that_fails_half_way_is_left() {
    let steps = [
        (0, Fault::status("401 Unauthorized")),
        (1, Fault::Corrupt),
        (2, Fault::status("404 Not Found")),
        (3, Fault::Corrupt),
    ];
    for (step, fault) in steps {
        let (ctr, own, image) = ground(User::Rootless, "mirrors/half:latest");
        let mirror = Faults::new(Registry::plain());
        let path = ["/mirrors/half/manifests/", &image.config, &image.blobs[0], &image.blobs[1]][step];
        mirror.spoil(path, fault.clone(), usize::MAX);
        let table = format!("[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n", mirror.address());
        ctr.registries(&format!("{}{table}", own.conf()));
        ctr.run(["pull", "-q", "--retry=0", &own.name("mirrors/half")]).ok();
        assert!(!mirror.asked("GET", path).is_empty(), "{fault:?} {step}");
        assert!(ctr.list("blobs/partial").is_empty() && ctr.list("tmp").is_empty(), "{fault:?} {step}");
    }
}

/// The registry says no to a pass that it took before: between layers, and between the ranges of one.
#[test]
fn a_token_is_renewed_in_the_middle_of_a_pull() {
    let (registry, tokens) = (Registry::token(), Registry::tokens());
    let (_, _, image) = ground(User::Rootless, "private/renewed:latest");
    let faults = Faults::new(registry);
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&faults.conf());
    let auth =
        serde_json::json!({ "auths": { faults.address().to_string(): { "auth": "YWxpY2U6d29uZGVy" } } });
    ctr.file("run/containers/auth.json", auth.to_string());
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"test\",scope=\"x\"", tokens.address());
    let expired = || Fault::Answer("401 Unauthorized", vec![("www-authenticate", realm.clone())], Vec::new());
    faults.spoil(&image.blobs[0], Fault::Cut(600_000), 1).spoil(&image.blobs[0], expired(), 1).spoil(
        &image.blobs[1],
        expired(),
        1,
    );
    let asked = || tokens.seen().iter().filter(|(line, _)| line.contains("renewed")).count();
    let before = asked();
    ctr.run(["pull", "-q", "--retry-delay=0s", &faults.name("private/renewed")]).ok();
    assert_eq!(ids(&ctr), [image.short_id()]);
    let seen = faults.asked("GET", &image.blobs[0]);
    let ranges: Vec<_> = seen.iter().map(|seen| seen.range.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=600000-"), Some("bytes=600000-")]);
    assert_ne!(seen[1].authorization, seen[2].authorization, "another token");
    assert!((2..=3).contains(&(asked() - before)), "{} tokens", asked() - before);
    // One that is refused each time is given up.
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&faults.conf()).file("run/containers/auth.json", auth.to_string());
    faults.spoil(&image.blobs[1], expired(), usize::MAX);
    ctr.run(["pull", "-q", &faults.name("private/renewed")]).fails("401");
}

/// What answers is no registry: garbage in place of TLS, and an end in place of an answer.
#[test]
fn no_tls_and_no_http() {
    use std::io::{Read, Write};
    for answer in [
        &b"\x15\x03\x01garbage\r\n\r\n"[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x16\x03\x03\xff\xff",
        b"",
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.read(&mut [0; 100]).and_then(|_| stream.write_all(answer));
            }
        });
        let ctr = Ctr::new(User::Rootless);
        let pull = |options: &[&str]| {
            ctr.run([&["pull", "-q", "--retry=0"], options, &[&format!("{address}/x")]].concat())
        };
        pull(&[]).fails("127.0.0.1");
        pull(&["--tls-verify=false"]).fails("127.0.0.1");
        assert_eq!(ctr.list("images"), [""; 0]);
    }
}

/// Who hangs up in the middle of our words over HTTP/2 is an error: SIGPIPE ends nobody but who prints for nobody.
#[test]
fn a_peer_that_hangs_up_is_an_error() {
    let registry = Registry::mutual_tls();
    tiny("pipe").push(Registry::plain(), "pipe:latest");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.address()));
    for _ in 0..8 {
        ctr.run(["pull", "-q", "--retry=0", &registry.name("pipe")]).fails("127.0.0.1");
    }
    ctr.registries(&Registry::plain().as_docker_hub());
    let (reader, writer) = std::io::pipe().expect("make a pipe");
    drop(reader);
    let status = ctr.command(["pull", "-q", &Registry::plain().name("pipe")]).stdout(writer).status();
    let status = status.expect("start ctr");
    assert!(status.code() != Some(0) && status.code() != Some(134), "{status}");
}
