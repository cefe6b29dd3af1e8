//! `ctr push` against Debian's docker-registry, with faults in between: what is sent, what is not, and what comes out at the
//! other end, which other tools read, too.

mod support;

use std::{fs, process::Command};
use support::{
    Compression, Ctr, Fault, Faults, Flavour, Layer, Pushed, Registry, TestImage, User, ids, index, noise,
    tiny,
};

/// An image that was pulled from the registry itself, and a proxy in front of it: another registry, as far as `ctr` can know.
fn ground(user: User, target: &str, image: TestImage) -> (Ctr, Faults, Pushed) {
    let registry = Registry::plain();
    let image = image.push(registry, target);
    let faults = Faults::new(registry);
    let ctr = Ctr::new(user);
    ctr.registries(&format!("{}{}", faults.conf(), registry.as_docker_hub()));
    ctr.run(["pull", "-q", &registry.name(target)]).ok();
    (ctr, faults, image)
}

/// One layer of 3 MB that no compressor makes smaller.
fn big(seed: u32) -> TestImage {
    TestImage::new([Layer::new(Compression::Gzip).file("noise", noise(seed, 3_000_000))])
}

/// What the registry has under `target`: `skopeo inspect --raw`.
fn raw(target: &str) -> Vec<u8> {
    let output = Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false"])
        .arg(format!("docker://{}", Registry::plain().name(target)))
        .output()
        .expect("start skopeo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    format!("sha256:{}", sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// Requests that carried bytes of blobs, or began to.
fn uploads(faults: &Faults) -> usize {
    ["POST", "PATCH", "PUT"].iter().map(|method| faults.asked(method, "/blobs/").len()).sum()
}

#[test]
fn what_was_pulled_is_pushed_bit_for_bit_and_once() {
    for (number, &user) in User::all().iter().enumerate() {
        let source = format!("push/bits{number}:latest");
        let (ctr, faults, image) = ground(user, &source, big(31 + number as u32));
        let target = format!("push/copied{number}:v1");
        let pushed = ctr.run(["push", &Registry::plain().name(&source), &faults.name(&target)]);
        assert!(pushed.stderr().contains(&format!("Pushing {}", faults.name(&target))), "{pushed}");
        assert_eq!(pushed.ok(), "", "as {user:?}");
        assert_eq!(digest(&raw(&target)), image.manifest, "as {user:?}");
        // Layer and config, each begun once; the layer in one piece.
        assert_eq!(faults.asked("POST", "/blobs/uploads/").len(), 2);
        assert_eq!(faults.asked("PATCH", "/blobs/uploads/").len(), 1);
        let before = uploads(&faults);
        let again = ctr.run(["push", "-q", &Registry::plain().name(&source), &faults.name(&target)]);
        assert_eq!(again.stderr(), "");
        assert_eq!((again.code(), uploads(&faults)), (0, before), "nothing is sent twice");
        assert_eq!(faults.asked("PUT", "/manifests/").len(), 1, "nor a manifest that is there");
        let other = Ctr::new(user);
        other.registries(&faults.conf());
        other.run(["pull", "-q", &faults.name(&target)]).ok();
        assert_eq!(ids(&other), [image.short_id()]);
        assert_eq!(ctr.list("tmp"), [""; 0]);
    }
}

#[test]
fn the_image_s_own_name_and_another_tag() {
    let (ctr, faults, image) = ground(User::Rootless, "push/own:latest", tiny("own"));
    ctr.run(["push", "-q", &Registry::plain().name("push/own")]).ok();
    ctr.run([
        "image",
        "push",
        "-q",
        image.short_id(),
        &format!("docker://{}", faults.name("push/own:other")),
    ])
    .ok();
    assert_eq!(digest(&raw("push/own:other")), image.manifest);
    let by_digest = faults.name(&format!("push/own@{}", image.manifest));
    ctr.run(["push", "-q", image.short_id(), &by_digest]).ok();
    let wrong = faults.name(&format!("push/own@sha256:{}", "0".repeat(64)));
    ctr.run(["push", "-q", image.short_id(), &wrong]).exits(125);
    ctr.run(["push", "no-such-image"]).fails("no image").hints("ctr images");
    ctr.run(["push", image.short_id(), "dir:/tmp/x"]).fails("dir:").hints("ctr save");
    ctr.run(["push", "--format=v2s1", image.short_id()]).exits(125);
}

#[test]
fn blobs_are_mounted_from_a_repository_that_we_know() {
    let (ctr, faults, image) = ground(User::Rootless, "push/mounted:latest", big(41));
    ctr.run(["pull", "-q", &faults.name("push/mounted")]).ok();
    ctr.run(["push", "-q", &faults.name("push/mounted"), &faults.name("push/elsewhere:latest")]).ok();
    let mounts = faults.asked("POST", "/push/elsewhere/blobs/uploads/?mount=");
    assert_eq!(mounts.len(), 2, "{mounts:?}");
    assert!(mounts.iter().all(|seen| seen.path.ends_with("&from=push/mounted")), "{mounts:?}");
    assert_eq!(uploads(&faults), 2, "and nothing else");
    assert_eq!(digest(&raw("push/elsewhere")), image.manifest);
    // A registry that mounts nothing is sent the bytes.
    faults.spoil_any("POST", "mount=", Fault::status("405 Method Not Allowed"), 9);
    ctr.run(["push", "-q", &faults.name("push/mounted"), &faults.name("push/sent:latest")]).ok();
    assert_eq!(digest(&raw("push/sent")), image.manifest);
}

#[test]
fn an_upload_that_is_cut_goes_on_where_the_registry_stopped() {
    let (ctr, faults, image) = ground(User::Rootless, "push/cut:latest", big(51));
    faults.spoil_any("PATCH", "/blobs/uploads/", Fault::Taken(1_234_567), 1);
    ctr.run(["push", "-q", &Registry::plain().name("push/cut"), &faults.name("push/resumed:latest")]).ok();
    let ranges: Vec<String> =
        faults.asked("PATCH", "/blobs/").into_iter().filter_map(|seen| seen.content_range).collect();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(ranges[0].starts_with("0-") && ranges[1].starts_with("1234567-"), "{ranges:?}");
    assert_eq!(faults.asked("POST", "/blobs/uploads/").len(), 2, "no upload was begun anew");
    assert_eq!(digest(&raw("push/resumed")), image.manifest);
}

#[test]
fn an_upload_that_the_registry_forgot_begins_anew() {
    let (ctr, faults, image) = ground(User::Rootless, "push/forgot:latest", big(52));
    faults
        .spoil_any("PATCH", "/blobs/uploads/", Fault::Broken(1_000_000), 1)
        .spoil_any("PUT", "/blobs/uploads/", Fault::status("503 Service Unavailable"), 1)
        .spoil_any("PUT", "/manifests/", Fault::status("500 Internal Server Error"), 1);
    ctr.run(["push", "-q", &Registry::plain().name("push/forgot"), &faults.name("push/anew:latest")]).ok();
    assert_eq!(digest(&raw("push/anew")), image.manifest);
}

#[test]
fn what_the_registry_says_it_has_is_not_believed_blindly() {
    let (ctr, faults, image) = ground(User::Rootless, "push/lies:latest", big(60));
    let name = Registry::plain().name("push/lies");
    for (number, range) in ["0-99999999999", "0-10", "nonsense"].into_iter().enumerate() {
        let lie = Fault::Answer("204 No Content", vec![("range", range.to_owned())], Vec::new());
        faults.spoil_any("PATCH", "/blobs/uploads/", Fault::Broken(1_000_000), 1).spoil(
            "/blobs/uploads/",
            lie,
            1,
        );
        let target = format!("push/truth{number}:latest");
        let outcome = ctr.run(["push", "-q", &name, &faults.name(&target)]);
        assert_eq!(outcome.code(), 0, "{range} {outcome}");
        assert_eq!(digest(&raw(&target)), image.manifest, "{range}");
    }
}

#[test]
fn a_token_that_ends_in_the_middle_is_renewed() {
    let source = Registry::plain();
    let image = big(71).push(source, "push/expiring:latest");
    let front = Faults::new(Registry::token());
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&format!("{}{}", front.conf(), source.as_docker_hub()));
    ctr.run(["pull", "-q", &source.name("push/expiring")]).ok();
    let push = |creds: &str| {
        ctr.run([
            "push",
            "-q",
            "--creds",
            creds,
            &source.name("push/expiring"),
            &front.name("push/renewed:latest"),
        ])
    };
    push("alice:wrong").fails("denied").hints("ctr login");
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"test\"", Registry::tokens().address());
    let expired = || Fault::Answer("401 Unauthorized", vec![("www-authenticate", realm.clone())], Vec::new());
    front
        .spoil_any("PATCH", "/blobs/uploads/", expired(), 1)
        .spoil_any("PUT", "/blobs/uploads/", expired(), 1)
        .spoil_any("PUT", "/manifests/", expired(), 1);
    push("alice:wonder").ok();
    assert_eq!(digest(&raw("push/renewed")), image.manifest);
    let scopes = Registry::tokens().seen();
    assert!(scopes.iter().any(|(line, _)| line.contains("push%2Frenewed%3Apull%2Cpush")), "{scopes:?}");
}

#[test]
fn a_registry_that_refuses_is_told_as_it_is() {
    let (ctr, faults, _) = ground(User::Rootless, "push/refused:latest", tiny("refused"));
    let name = Registry::plain().name("push/refused");
    faults.spoil_any("POST", "/push/denied/", Fault::status("403 Forbidden"), 9);
    ctr.run(["push", &name, &faults.name("push/denied")]).fails("push/denied").hints("ctr login");
    faults.spoil_any("PUT", "/push/invalid/manifests/", Fault::status("400 Bad Request"), 9);
    ctr.run(["push", &name, &faults.name("push/invalid")]).fails("400");
    faults.spoil_any("POST", "/push/placeless/", Fault::status("202 Accepted"), 9);
    ctr.run(["push", &name, &faults.name("push/placeless")]).fails("no place");
    let other = vec![("docker-content-digest", format!("sha256:{}", "0".repeat(64)))];
    faults.spoil_any("PUT", "/push/other/manifests/", Fault::Answer("201 Created", other, Vec::new()), 9);
    ctr.run(["push", &name, &faults.name("push/other")]).fails("sha256:0000");
    ctr.run(["push", &name, "127.0.0.1:1/any"]).fails("127.0.0.1:1");
    // Too long a pause to wait for by itself.
    let later =
        Fault::Answer("503 Service Unavailable", vec![("retry-after", "3600".to_owned())], Vec::new());
    faults.spoil_any("HEAD", "/push/failing/blobs/", later, 2);
    let push =
        |retry| ctr.run(["push", "-q", retry, "--retry-delay=1ms", &name, &faults.name("push/failing")]);
    push("--retry=0").fails("503");
    push("--retry=2").ok();
}

#[test]
fn a_place_elsewhere_hears_no_credentials_and_is_not_near() {
    let (ctr, first, image) = ground(User::Rootless, "push/away:latest", big(81));
    let second = Faults::new(Registry::plain());
    ctr.file(
        "run/containers/auth.json",
        serde_json::json!({ "auths": { first.address().to_string(): { "auth": "YWxpY2U6d29uZGVy" } } })
            .to_string(),
    );
    let challenge = vec![("www-authenticate", "Basic realm=\"x\"".to_owned())];
    first.spoil("/v2/", Fault::Answer("401 Unauthorized", challenge, Vec::new()), 1);
    // Another name is another host.
    let begun = Registry::plain().begin_upload("push/went");
    let path = begun.splitn(4, '/').nth(3).expect("a path");
    let away = format!("http://localhost:{}/{path}", second.address().port());
    first.spoil_any(
        "POST",
        "/push/went/",
        Fault::Answer("202 Accepted", vec![("location", away)], Vec::new()),
        1,
    );
    let name = Registry::plain().name("push/away");
    let outcome = ctr.run(["push", "-q", &name, &first.name("push/went:latest")]).exits(0);
    assert_eq!(digest(&raw("push/went")), image.manifest);
    assert!(first.seen().iter().any(|seen| seen.authorization.is_some()), "{outcome}");
    assert!(!second.asked("PUT", "/blobs/").is_empty(), "{outcome}");
    assert!(second.seen().iter().all(|seen| seen.authorization.is_none()), "{:?}", second.seen());
    for (number, place) in
        ["http://169.254.169.254/x", "file:///etc/passwd", "http://[::ffff:169.254.169.254]/"]
            .into_iter()
            .enumerate()
    {
        let to = vec![("location", place.to_owned())];
        let target = format!("push/near{number}");
        first.spoil_any("POST", &format!("/{target}/"), Fault::Answer("202 Accepted", to, Vec::new()), 9);
        ctr.run(["push", "-q", &name, &first.name(&target)]).fails("sends the upload to");
    }
}

#[test]
fn digestfile_and_tls() {
    let source = Registry::plain();
    let image = tiny("digestfile").push(source, "push/digestfile:latest");
    let tls = Registry::tls();
    for &user in User::all() {
        let ctr = Ctr::new(user);
        ctr.registries(&source.as_docker_hub()).file("certs/ca.crt", tls.authority());
        ctr.run(["pull", "-q", &source.name("push/digestfile")]).ok();
        let push = |options: &[&str]| {
            let target = tls.name("push/tls:latest");
            ctr.run([&["push", "-q"], options, &[&source.name("push/digestfile"), &target]].concat())
        };
        push(&["--digestfile=failed"]).fails("certificate");
        assert!(!ctr.home().join("failed").exists());
        let certs = ctr.home().join("certs").display().to_string();
        push(&["--cert-dir", &certs, "--digestfile=digest"]).ok();
        push(&["--tls-verify=false"]).ok();
        assert_eq!(fs::read_to_string(ctr.home().join("digest")).expect("the digest"), image.manifest);
    }
}

#[test]
fn layers_are_packed_anew_on_demand() {
    let text = "text ".repeat(100_000);
    let image = TestImage::new([
        Layer::new(Compression::Gzip).file("gzip", &text),
        Layer::new(Compression::Zstd).file("zstd", &text),
        Layer::new(Compression::Plain).file("plain", &text),
    ]);
    let (ctr, faults, image) = ground(User::Rootless, "push/packed:latest", image);
    let name = Registry::plain().name("push/packed");
    let push = |options: &[&str], tag: &str| {
        let target = format!("push/repacked:{tag}");
        ctr.run([&["push", "-q"], options, &[&name, &faults.name(&target)]].concat()).ok();
        (target.clone(), json(&raw(&target)))
    };
    let layers = |manifest: &serde_json::Value| -> Vec<(String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let layers = manifest["layers"].as_array().expect("layers");
        layers.iter().map(|layer| (text(&layer["mediaType"]), text(&layer["digest"]))).collect()
    };
    let (target, zstd) = push(&["--compression-format=zstd"], "zstd");
    assert!(layers(&zstd).iter().all(|(kind, _)| kind.ends_with("+zstd")), "{zstd}");
    assert_eq!(layers(&zstd)[1].1, image.blobs[1], "what is packed so stays");
    let other = Ctr::new(User::Rootless);
    other.registries(&faults.conf());
    other.run(["pull", "-q", &faults.name(&target)]).ok();
    assert_eq!(ids(&other), [image.short_id()], "the same config, the same id");
    let (_, again) =
        push(&["--compression-format=zstd", "--compression-level=3", "--force-compression"], "forced");
    assert_eq!(layers(&again)[0], layers(&zstd)[0], "the same bytes each time");
    let (_, docker) = push(&["--format=v2s2", "--compression-format=gzip"], "docker");
    assert_eq!(docker["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert!(layers(&docker).iter().all(|(kind, _)| kind.ends_with("rootfs.diff.tar.gzip")), "{docker}");
    assert_eq!(layers(&docker)[0].1, image.blobs[0]);
    ctr.run(["push", "--format=v2s2", &name, &faults.name("push/repacked:no")]).fails("zstd");
    ctr.run(["push", "--compression-format=gzip", "--compression-level=10", &name]).fails("level 10");
    assert_eq!(ctr.list("tmp"), [""; 0]);
}

#[test]
fn an_index_with_all_its_members() {
    let registry = Registry::plain();
    let arm = tiny("arm").architecture("arm").push(registry, "push/index:arm");
    let own = tiny("own platform").push(registry, "push/index:own");
    let list = index(registry, "push/index:latest", Flavour::Oci, &[own.clone(), arm.clone()]);
    let faults = Faults::new(registry);
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&format!("{}{}", faults.conf(), registry.as_docker_hub()));
    ctr.run(["pull", "-q", &registry.name("push/index")]).ok();
    let name = registry.name("push/index");
    ctr.run(["push", "-q", &name, &faults.name("push/one:latest")]).ok();
    assert_eq!(digest(&raw("push/one")), own.manifest, "the image alone");
    ctr.run(["push", "-q", "--all", &name, &faults.name("push/whole:latest")])
        .fails("lacks linux/arm")
        .hints("--platform");
    ctr.run(["pull", "-q", &registry.name("push/index:arm")]).ok();
    ctr.run(["push", "-q", "--all", "--digestfile=digest", &name, &faults.name("push/whole:latest")]).ok();
    assert_eq!(digest(&raw("push/whole")), list);
    assert_eq!(fs::read_to_string(ctr.home().join("digest")).expect("the digest"), list);
    assert_eq!(digest(&raw(&format!("push/whole@{}", arm.manifest))), arm.manifest);
    // With members of another form the index is another one.
    ctr.run(["push", "-q", "--all", "--format=v2s2", &name, &faults.name("push/docker:latest")]).ok();
    let docker = json(&raw("push/docker"));
    assert_eq!(docker["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    assert_eq!(docker["manifests"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_damaged_blob_is_not_passed_on() {
    let (ctr, faults, image) = ground(User::Rootless, "push/damaged:latest", big(91));
    let blob = ctr.data().join("blobs/sha256").join(&image.blobs[0]["sha256:".len()..]);
    let mut bytes = fs::read(&blob).expect("read the blob");
    bytes[1_000_000] ^= 1;
    fs::write(&blob, &bytes).expect("spoil the blob");
    let name = Registry::plain().name("push/damaged");
    ctr.run(["push", "-q", &name, &faults.name("push/spoiled")]).fails("damaged").hints("pull");
    bytes.truncate(1_000_000);
    fs::write(&blob, &bytes).expect("spoil the blob");
    ctr.run(["push", "-q", &name, &faults.name("push/spoiled")]).fails("has 1000000 bytes");
}
