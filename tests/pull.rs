//! Where `ctr pull` finds an image, against Debian's docker-registry: names, configuration, transports, logins.

mod support;

use std::fs;
use support::{Ctr, Fault, Faults, Registry, User, ids, layer, tiny};

#[test]
fn pull_prints_the_id_and_images_lists_it() {
    let registry = Registry::plain();
    let image = tiny("hello").push(registry, "library/ubuntu:latest");
    for &user in User::all() {
        let ctr = Ctr::new(user);
        ctr.registries(&registry.as_docker_hub());
        assert_eq!(ctr.run(["pull", "-q", "ubuntu"]).ok(), image.config["sha256:".len()..], "as {user:?}");
        let listed = ctr.run(["images"]).ok();
        let line = listed.lines().nth(1).unwrap_or_default();
        for part in ["docker.io/library/ubuntu", "latest", image.short_id()] {
            assert!(line.contains(part), "no {part} as {user:?} in\n{listed}");
        }
        assert_eq!(fs::read_to_string(layer(&ctr, &image, 0).join("hello")).expect("the file"), "hello");
        // Nothing of the work in progress stays.
        assert_eq!(ctr.list("tmp"), [""; 0]);
    }
}

#[test]
fn quiet_is_silent_and_without_it_plain_lines_go_to_stderr() {
    let registry = Registry::plain();
    tiny("quiet").push(registry, "quiet:latest");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    let quiet = ctr.run(["pull", "-q", &registry.name("quiet")]);
    assert_eq!(quiet.stderr(), "");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    let loud = ctr.run(["pull", &registry.name("quiet")]);
    assert!(!loud.stderr().is_empty(), "{loud}");
    assert!(!loud.stderr().contains(['\r', '\u{1b}']), "no terminal codes into a file, {loud}");
}

#[test]
fn names_tags_digests_and_ports() {
    let registry = Registry::plain();
    let old = tiny("old").push(registry, "team/app:v1");
    let new = tiny("new").push(registry, "team/app:latest");
    let hub = tiny("hub").push(registry, "library/names:latest");
    let cases = [
        (registry.name("team/app:v1"), &old),
        (registry.name("team/app"), &new),
        (registry.name(&format!("team/app@{}", old.manifest)), &old),
        (registry.name(&format!("team/app:latest@{}", old.manifest)), &old),
        (format!("docker.io/team/app@{}", new.manifest), &new),
        ("docker.io/names".to_owned(), &hub),
        ("docker.io/library/names:latest".to_owned(), &hub),
        ("names".to_owned(), &hub),
        ("team/app:v1".to_owned(), &old),
        (format!("docker://{}", registry.name("team/app:v1")), &old),
    ];
    for (name, image) in cases {
        let ctr = Ctr::new(User::Rootless);
        ctr.registries(&registry.as_docker_hub());
        ctr.run(["pull", "-q", &name]).ok();
        assert_eq!(ids(&ctr), [image.short_id()], "{name}");
    }
}

#[test]
fn malformed_names_are_refused() {
    let ctr = Ctr::new(User::Rootless);
    for name in [
        "",
        "UPPER",
        "a b",
        "../x",
        "a//b",
        "x:",
        "x@sha256:123",
        "x:tag:tag",
        "host:99999999/x",
        &"a".repeat(65536),
    ] {
        let outcome = ctr.run(["pull", "-q", name]).exits(125);
        assert!(outcome.stderr().starts_with("error: "), "{outcome}");
        assert!(outcome.stderr().len() < 2000, "a long name is not repeated whole");
    }
    assert_eq!(ctr.list("images"), [""; 0]);
}

#[test]
fn an_alias_of_registries_conf_names_the_image() {
    let registry = Registry::plain();
    let image = tiny("alias").push(registry, "team/aliased:v3");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&format!(
        "[aliases]\nmine = \"{}\"\n{}",
        registry.name("team/aliased"),
        registry.as_docker_hub()
    ));
    ctr.run(["pull", "-q", "mine:v3"]).ok();
    assert_eq!(ids(&ctr), [image.short_id()]);
}

#[test]
fn unqualified_search_registries_are_tried_in_order() {
    let registry = Registry::plain();
    let faults = Faults::new(registry);
    faults.spoil("/v2/searched/", Fault::status("404 Not Found"), 9);
    let image = tiny("searched").push(registry, "searched:latest");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&format!(
        "unqualified-search-registries = [\"{}\", \"{}\"]\nshort-name-mode = \"disabled\"\n{}{}",
        faults.address(),
        registry.address(),
        faults.conf(),
        registry.as_docker_hub()
    ));
    ctr.run(["pull", "-q", "searched"]).ok();
    assert_eq!(ids(&ctr), [image.short_id()]);
    assert!(!faults.seen().is_empty(), "the first registry was asked");
    assert!(ctr.run(["images"]).stdout().contains(&registry.address().to_string()));
}

#[test]
fn mirrors_fall_through_to_the_next() {
    let registry = Registry::plain();
    let image = tiny("mirrored").push(registry, "library/mirrored:latest");
    let broken = Faults::new(registry);
    broken.spoil("/manifests/", Fault::status("500 Internal Server Error"), 99);
    let ctr = Ctr::new(User::Rootless);
    let mirror = |address| format!("[[registry.mirror]]\nlocation = \"{address}\"\ninsecure = true\n");
    // The first mirror does not listen at all, the second fails, the third has it.
    ctr.registries(&format!(
        "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n{}{}{}",
        mirror("127.0.0.1:1".to_owned()),
        mirror(broken.address().to_string()),
        mirror(registry.address().to_string())
    ));
    ctr.run(["pull", "-q", "mirrored"]).ok();
    assert_eq!(ids(&ctr), [image.short_id()]);
    assert!(broken.seen().iter().any(|seen| seen.path.contains("library/mirrored")));
    assert!(
        ctr.run(["images"]).stdout().contains("docker.io/library/mirrored"),
        "named by what was asked for"
    );
}

#[test]
fn a_prefix_rewrites_the_location() {
    let registry = Registry::plain();
    let image = tiny("prefixed").push(registry, "mirrors/example/app:latest");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&format!(
        "[[registry]]\nprefix = \"registry.example.com\"\nlocation = \"{}/mirrors/example\"\ninsecure = true\n",
        registry.address()
    ));
    ctr.run(["pull", "-q", "registry.example.com/app"]).ok();
    assert_eq!(ids(&ctr), [image.short_id()]);
}

#[test]
fn a_blocked_registry_is_not_asked() {
    let faults = Faults::new(Registry::plain());
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&format!("{}blocked = true\n", faults.conf()));
    ctr.run(["pull", "-q", &faults.name("any")]).fails("blocked");
    assert!(faults.seen().is_empty());
}

#[test]
fn plain_http_needs_insecure() {
    let faults = Faults::new(Registry::plain());
    tiny("secure").push(Registry::plain(), "secure:latest");
    let ctr = Ctr::new(User::Rootless);
    ctr.run(["pull", "-q", &faults.name("secure")]).fails("127.0.0.1");
    assert!(faults.seen().iter().all(|seen| !seen.path.starts_with("/v2/")), "nothing was said in the clear");
}

#[test]
fn a_private_authority_is_trusted_by_certs_d_only() {
    let registry = Registry::tls();
    let image = tiny("tls").push(Registry::plain(), "tls:latest");
    for &user in User::all() {
        let ctr = Ctr::new(user);
        ctr.run(["pull", "-q", &registry.name("tls")]).fails("certificate");
        // Root's own settings are below /etc, which a test leaves alone; but what its home has counts as well.
        let config = if user == User::Root { ".config" } else { "config" };
        let dir = format!("{config}/containers/certs.d/{}", registry.address());
        ctr.file(&format!("{dir}/ca.crt"), registry.authority());
        ctr.run(["pull", "-q", &registry.name("tls")]).ok();
        let elsewhere = ctr.home().join(dir).display().to_string();
        ctr.run(["pull", "-q", "--cert-dir", &elsewhere, &registry.name("tls")]).ok();
        assert_eq!(ids(&ctr), [image.short_id()], "as {user:?}");
    }
}

#[test]
fn a_registry_that_asks_for_a_certificate_gets_that_of_certs_d() {
    let registry = Registry::mutual_tls();
    let image = tiny("mutual").push(Registry::plain(), "mutual:latest");
    let [certificate, key] = registry.identity();
    for &user in User::all() {
        let ctr = Ctr::new(user);
        ctr.file("certs/ca.crt", registry.authority());
        let dir = ctr.home().join("certs").display().to_string();
        let pull = || ctr.run(["pull", "-q", "--cert-dir", &dir, &registry.name("mutual")]);
        let refused = pull().fails("client certificate");
        assert!(refused.stderr().contains("client.cert"), "{refused}");
        ctr.file("certs/client.cert", &certificate);
        pull().fails("client.key");
        ctr.file("certs/client.key", &key);
        pull().ok();
        assert_eq!(ids(&ctr), [image.short_id()], "as {user:?}");
    }
}

#[test]
fn insecure_takes_any_certificate() {
    let registry = Registry::tls();
    let image = tiny("insecure-tls").push(Registry::plain(), "insecure-tls:latest");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.address()));
    ctr.run(["pull", "-q", &registry.name("insecure-tls")]).ok();
    assert_eq!(ids(&ctr), [image.short_id()]);
}

#[test]
fn anonymous_tokens_are_fetched() {
    let registry = Registry::token();
    let image = tiny("token").push(Registry::plain(), "library/token:latest");
    for &user in User::all() {
        let ctr = Ctr::new(user);
        ctr.registries(&registry.as_docker_hub());
        ctr.run(["pull", "-q", "token"]).ok();
        assert_eq!(ids(&ctr), [image.short_id()], "as {user:?}");
    }
    let asked = Registry::tokens().seen();
    assert!(asked.iter().any(|(line, user)| line.contains("token") && user.is_none()));
}
