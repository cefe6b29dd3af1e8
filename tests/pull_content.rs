//! What `ctr pull` leaves in the store, and what `ctr rmi` takes out of it: formats, layers, owners, sharing.

mod support;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::{Command, Stdio},
};
use support::{
    Compression, Ctr, Faults, Flavour, Layer, Registry, TestImage, User, ids, index, layer, noise, tiny,
};

#[test]
fn both_flavours_and_every_compression() {
    let registry = Registry::plain();
    for flavour in [Flavour::Oci, Flavour::Docker] {
        for compression in [Compression::Plain, Compression::Gzip, Compression::Zstd] {
            if (flavour, compression) == (Flavour::Docker, Compression::Zstd) {
                continue;
            }
            let name = format!("{flavour:?}/{compression:?}:latest").to_lowercase();
            let text = name.repeat(10_000);
            let layer_of = Layer::new(compression).dir("d", 0o755).file("d/file", &text);
            let image = TestImage::new([layer_of]).flavour(flavour).push(registry, &name);
            let ctr = Ctr::new(User::Rootless);
            ctr.registries(&registry.as_docker_hub());
            ctr.run(["pull", "-q", &registry.name(&name)]).ok();
            let read = fs::read_to_string(layer(&ctr, &image, 0).join("d/file")).expect("the file");
            assert!(read == text, "{name}: {} of {} bytes", read.len(), text.len());
        }
    }
}

/// What follows a layer's frames in zstd:chunked: its table of contents and where that is, in frames to be skipped.
#[test]
fn zstd_chunked_as_podman_and_as_others_write_it() {
    let registry = Registry::plain();
    let skippable = |number: u8, length: usize| {
        let mut frame = vec![0x50 | number, 0x2a, 0x4d, 0x18];
        frame.extend((length as u32).to_le_bytes());
        frame.extend(noise(9, length));
        frame
    };
    let behind = [skippable(1, 3000), skippable(0, 64), skippable(15, 0)].concat();
    let text = "chunked".repeat(50_000);
    let made = Layer::new(Compression::Zstd).file("file", &text).behind(behind);
    let image = TestImage::new([made]).push(registry, "chunked/made:latest");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    ctr.run(["pull", "-q", &registry.name("chunked/made")]).ok();
    assert_eq!(fs::read_to_string(layer(&ctr, &image, 0).join("file")).expect("the file"), text);
    // Behind it nothing but such frames may come.
    let made = Layer::new(Compression::Zstd).file("file", "x").behind(b"more".to_vec());
    TestImage::new([made]).push(registry, "chunked/bad:latest");
    ctr.run(["pull", "-q", &registry.name("chunked/bad")]).fails("decompress");
}

/// What Podman itself makes: many frames, with a window of 32 MiB.
#[test]
fn zstd_chunked_of_podman() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let registry = Registry::plain();
    let dir = tempfile::tempdir_in("/var/tmp").expect("make a directory");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("make a directory");
    for number in 0..8u8 {
        fs::write(root.join(number.to_string()), noise(number.into(), 200_000)).expect("write a file");
    }
    let target = registry.name("chunked/podman:latest");
    let script = "p() { podman --root \"$1/s\" --runroot \"$1/r\" --storage-driver vfs \"${@:2}\"; }; set -e
        tar -C \"$1/root\" -b1 -c . | p \"$1\" import - chunked:1
        p \"$1\" push --tls-verify=false --compression-format=zstd:chunked chunked:1 \"docker://$2\"
        p \"$1\" rmi -a -f";
    let dir_text = dir.path().display().to_string();
    let output =
        Command::new("bash").args(["-c", script, "bash", &dir_text, &target]).output().expect("start bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    ctr.run(["pull", "-q", &target]).ok();
    let blobs = ctr.data().join("blobs/sha256");
    let manifest =
        ctr.list("blobs/sha256").into_iter().map(|blob| fs::read(blobs.join(blob)).expect("a blob"));
    let is_chunked = |blob: Vec<u8>| String::from_utf8_lossy(&blob).contains("io.containers.zstd-chunked");
    assert!(manifest.into_iter().any(is_chunked), "Podman made it zstd:chunked");
    let layers = ctr.list("layers");
    let file = ctr.data().join("layers").join(&layers[0]).join("fs/7");
    assert!(fs::read(file).expect("the file") == noise(7, 200_000));
}

#[test]
fn a_list_is_resolved_by_platform() {
    let registry = Registry::plain();
    let own = tiny("own").push(registry, "multi:own");
    let foreign = tiny("foreign").architecture("s390x").push(registry, "multi:foreign");
    for flavour in [Flavour::Oci, Flavour::Docker] {
        let digest = index(registry, "multi:latest", flavour, &[foreign.clone(), own.clone()]);
        let ctr = Ctr::new(User::Rootless);
        ctr.registries(&registry.as_docker_hub());
        ctr.run(["pull", "-q", &registry.name("multi")]).ok();
        assert_eq!(ids(&ctr), [own.short_id()], "{flavour:?}");
        ctr.run(["pull", "-q", "--platform=linux/s390x", &registry.name("multi")]).ok();
        assert!(ids(&ctr).contains(&foreign.short_id().to_owned()), "{flavour:?}");
        // By the digest of the list itself.
        let ctr = Ctr::new(User::Rootless);
        ctr.registries(&registry.as_docker_hub());
        ctr.run(["pull", "-q", &registry.name(&format!("multi@{digest}"))]).ok();
        assert_eq!(ids(&ctr), [own.short_id()], "{flavour:?} by digest");
    }
    index(registry, "multi:foreign-only", Flavour::Oci, &[foreign]);
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    ctr.run(["pull", "-q", &registry.name("multi:foreign-only")]).fails("s390x");
}

#[test]
fn shared_layers_are_fetched_once() {
    let registry = Registry::plain();
    let base = || Layer::new(Compression::Gzip).file("base", "shared by both");
    TestImage::new([base(), Layer::new(Compression::Gzip).file("a", "a")]).push(registry, "shared:a");
    let second = TestImage::new([base(), Layer::new(Compression::Zstd).file("b", "b"), base()])
        .push(registry, "shared:b");
    let faults = Faults::new(registry);
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&faults.conf());
    ctr.run(["pull", "-q", &faults.name("shared:a")]).ok();
    ctr.run(["pull", "-q", &faults.name("shared:b")]).ok();
    let fetched =
        |blob: &str| faults.seen().iter().filter(|s| s.method == "GET" && s.path.contains(blob)).count();
    assert_eq!(fetched(&second.blobs[0]), 1, "the shared layer, which the second image holds twice");
    assert_eq!(fetched(&second.blobs[1]), 1);
    // Pulling what is there fetches no blob again.
    let before = faults.seen().iter().filter(|seen| seen.path.contains("/blobs/")).count();
    ctr.run(["pull", "-q", &faults.name("shared:b")]).ok();
    assert_eq!(faults.seen().iter().filter(|seen| seen.path.contains("/blobs/")).count(), before);
}

#[test]
fn an_image_without_layers_and_one_with_forty() {
    let registry = Registry::plain();
    TestImage::new([]).push(registry, "count:none");
    let layers = (0..40).map(|n| Layer::new(Compression::Gzip).file("same", n.to_string()));
    let forty = TestImage::new(layers).push(registry, "count:forty");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    ctr.run(["pull", "-q", &registry.name("count:none")]).ok();
    ctr.run(["pull", "-q", &registry.name("count:forty")]).ok();
    for number in [0, 39] {
        let read = fs::read_to_string(layer(&ctr, &forty, number).join("same")).expect("the file");
        assert_eq!(read, number.to_string());
    }
}

#[test]
fn as_many_layers_as_fit_are_run() {
    let layer =
        |n: usize| Layer::new(Compression::Gzip).file("top", n.to_string()).file(&format!("l/{n}"), "");
    let image = TestImage::new([Layer::busybox()].into_iter().chain((1..127).map(layer)));
    image.push(Registry::plain(), "library/tall:latest");
    let ctr = Ctr::new(User::Rootless).with_hub();
    ctr.run(["pull", "-q", "tall"]).ok();
    let said = ctr.payload_of("tall", &[], &["sh", "-c", "cat /top; echo; ls /l | wc -l; touch /x"]);
    assert_eq!(said.ok(), "126\n126");
}

#[test]
fn a_layer_keeps_links_modes_and_long_names() {
    let registry = Registry::plain();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let made = Layer::new(Compression::Gzip)
        .mode_file("tool", "#!/bin/sh\n", 0o4755)
        .hardlink("again", "tool")
        .symlink("link", "/etc/passwd")
        .dir(&"d".repeat(120), 0o700)
        .file(&long, "long");
    let image = TestImage::new([made]).push(registry, "kinds:latest");
    for &user in User::all() {
        let ctr = Ctr::new(user);
        ctr.registries(&registry.as_docker_hub());
        ctr.run(["pull", "-q", &registry.name("kinds")]).ok();
        let root = layer(&ctr, &image, 0);
        let stat = |name: &str| fs::symlink_metadata(root.join(name)).expect(name);
        assert_eq!(stat("tool").mode() & 0o7777, 0o4755, "as {user:?}");
        assert_eq!(stat("tool").ino(), stat("again").ino(), "as {user:?}");
        assert_eq!(stat("tool").mtime(), 1_700_000_000, "as {user:?}");
        assert_eq!(
            fs::read_link(root.join("link")).expect("a link"),
            PathBuf::from("/etc/passwd"),
            "as {user:?}"
        );
        assert_eq!(fs::read_to_string(root.join(&long)).expect("a long name"), "long", "as {user:?}");
    }
}

#[test]
fn owners_beyond_the_range_and_devices_never_abort() {
    let registry = Registry::plain();
    let made = Layer::new(Compression::Gzip)
        .owned_file("mine", "", 0o644, 1000, 1000)
        .owned_file("far", "", 0o644, 2_000_000_000, 3_000_000_000)
        .device("null", 1, 3);
    let image = TestImage::new([made]).push(registry, "owners:latest");
    for &user in User::all() {
        let ctr = Ctr::new(user);
        ctr.registries(&registry.as_docker_hub());
        ctr.run(["pull", "-q", &registry.name("owners")]).ok();
        let root = layer(&ctr, &image, 0);
        assert!(root.join("far").exists(), "as {user:?}");
        let mine = fs::metadata(root.join("mine")).expect("the file").uid();
        match user {
            User::Root => assert_eq!(mine, 1000),
            User::Single => assert_eq!(Some(mine), user.ids().map(|ids| ids.0)),
            User::Rootless => assert_ne!(mine, 1000),
        }
    }
}

#[test]
fn rmi_removes_the_image_and_what_only_it_used() {
    let registry = Registry::plain();
    let base = || Layer::new(Compression::Gzip).file("base", "of two");
    let kept = TestImage::new([base()]).push(registry, "rmi:kept");
    let gone =
        TestImage::new([base(), Layer::new(Compression::Gzip).file("x", "x")]).push(registry, "rmi:gone");
    for &user in User::all() {
        let ctr = Ctr::new(user);
        ctr.registries(&registry.as_docker_hub());
        ctr.run(["pull", "-q", &registry.name("rmi:kept")]).ok();
        let before = ctr.store();
        ctr.run(["pull", "-q", &registry.name("rmi:gone")]).ok();
        ctr.run(["rmi", &registry.name("rmi:gone")]).ok();
        assert_eq!(ids(&ctr), [kept.short_id()], "as {user:?}");
        assert!(layer(&ctr, &kept, 0).exists() && !layer(&ctr, &gone, 1).exists(), "as {user:?}");
        assert_eq!(ctr.store(), before, "as {user:?}");
        // By id; then nothing is left.
        ctr.run(["rmi", kept.short_id()]).ok();
        assert_eq!(ctr.run(["images", "-q"]).ok(), "", "as {user:?}");
        assert_eq!((ctr.list("layers"), ctr.list("blobs/sha256")), (vec![], vec![]), "as {user:?}");
        ctr.run(["rmi", "never-there"]).exits(1);
    }
}

#[test]
fn a_moved_tag_is_pulled_anew() {
    let registry = Registry::plain();
    let first = tiny("first").push(registry, "moving:latest");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    ctr.run(["pull", "-q", &registry.name("moving")]).ok();
    assert_eq!(ids(&ctr), [first.short_id()]);
    let second = tiny("second").push(registry, "moving:latest");
    ctr.run(["pull", "-q", &registry.name("moving")]).ok();
    assert!(ids(&ctr).contains(&second.short_id().to_owned()));
}

#[test]
fn pulls_of_one_image_side_by_side() {
    let registry = Registry::plain();
    let layers = (0..6).map(|n| Layer::new(Compression::Gzip).file(&format!("f{n}"), vec![n as u8; 500_000]));
    let image = TestImage::new(layers).push(registry, "parallel:latest");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    let name = registry.name("parallel");
    let start = || ctr.command(["pull", "-q", &name]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let running: Vec<_> = (0..4).map(|_| start().expect("start ctr")).collect();
    for child in running {
        let output = child.wait_with_output().expect("wait for ctr");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(ids(&ctr), [image.short_id()]);
    assert_eq!(ctr.list("layers").len(), 6);
    assert_eq!(ctr.list("tmp"), [""; 0]);
}

#[test]
fn the_store_is_closed_to_others_under_any_umask() {
    let registry = Registry::plain();
    tiny("umask").push(registry, "umask:latest");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    let umask = ["sh", "-c", "umask 000; exec \"$@\"", "sh"];
    let status = ctr.wrapped(&umask, &["pull", "-q", &registry.name("umask")]).stdout(Stdio::null()).status();
    assert!(status.expect("start a shell").success());
    assert_eq!(fs::metadata(ctr.data()).expect("the store").mode() & 0o7777, 0o700);
}
