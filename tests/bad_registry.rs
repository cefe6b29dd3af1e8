//! Registries that fail, lie and stall: each is one clear error with a hint, exit 125, and a store that is as it was;
//! what can be mended by asking again is mended.

mod support;

use serde_json::json;
use std::{os::unix::process::ExitStatusExt, process::Stdio};
use support::{Compression, Ctr, Fault, Faults, Layer, Outcome, Pushed, Registry, TestImage, User};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Bytes that don't compress, so that a cut after N bytes of the blob is in the middle of it.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(step).collect()
}

/// A two-layer image of about 3 MB behind a proxy, and a `ctr` that already holds another image.
fn ground(user: User, target: &str) -> (Ctr, Faults, Pushed) {
    let registry = Registry::plain();
    let part =
        |seed: u32| Layer::new(Compression::Gzip).file(&format!("noise{seed}"), noise(seed, 1_500_000));
    let image = TestImage::new([part(1), part(2)]).push(registry, target);
    TestImage::new([Layer::new(Compression::Gzip).file("kept", "kept")]).push(registry, "bad/kept:latest");
    let faults = Faults::new(registry);
    let ctr = Ctr::new(user);
    ctr.registries(&faults.conf());
    ctr.run(["pull", "-q", &faults.name("bad/kept")]).ok();
    (ctr, faults, image)
}

/// The pull fails with `about` in its error and leaves the store as it was.
#[track_caller]
fn refused(ctr: &Ctr, name: &str, about: &str) -> Outcome {
    let before = ctr.store();
    let outcome = ctr.run(["pull", "-q", name]).fails(about);
    assert_eq!(ctr.store(), before, "the store changed, {outcome}");
    outcome
}

/// The same for each kind of user, with a blob or manifest that is always spoiled the same way.
#[track_caller]
fn spoiled(target: &str, path: impl Fn(&Pushed) -> String, fault: Fault, about: &str) {
    for &user in User::all() {
        let (ctr, faults, image) = ground(user, target);
        faults.spoil(&path(&image), fault.clone(), usize::MAX);
        refused(&ctr, &faults.name(target), about);
        assert!(faults.seen().len() < 60, "{} requests: it gives up", faults.seen().len());
    }
}

fn first_blob(image: &Pushed) -> String {
    image.blobs[0].clone()
}

fn manifest(_: &Pushed) -> String {
    "/bad/".to_owned()
}

#[test]
fn an_unknown_image_tag_or_registry() {
    let (ctr, faults, _) = ground(User::Rootless, "bad/known:latest");
    refused(&ctr, &faults.name("bad/known:missing"), "missing");
    refused(&ctr, &faults.name("bad/unknown"), "bad/unknown");
    refused(&ctr, &faults.name(&format!("bad/known@sha256:{}", "0".repeat(64))), "sha256:0000");
    refused(&ctr, "127.0.0.1:1/any", "127.0.0.1:1");
    // RFC 6761: this name never resolves.
    refused(&ctr, "registry.invalid/any", "registry.invalid");
    // `run` says the same.
    ctr.run(["run", "--rm", &faults.name("bad/unknown"), "true"]).fails("bad/unknown");
}

#[test]
fn a_blob_cut_once_is_resumed_by_a_range_request() {
    for &user in User::all() {
        let (ctr, faults, image) = ground(user, "bad/cut-once:latest");
        faults.spoil(&image.blobs[0], Fault::Cut(700_000), 1);
        ctr.run(["pull", "-q", &faults.name("bad/cut-once")]).ok();
        let ranges: Vec<_> = faults
            .seen()
            .into_iter()
            .filter(|seen| seen.method == "GET" && seen.path.contains(&image.blobs[0]))
            .map(|seen| seen.range)
            .collect();
        assert_eq!(ranges, [None, Some("bytes=700000-".to_owned())], "as {user:?}");
    }
}

#[test]
fn a_blob_that_always_stops_is_given_up() {
    spoiled("bad/cut:latest", first_blob, Fault::Cut(0), "sha256:");
}

#[test]
fn a_resumed_blob_of_other_bytes_is_refused() {
    let (ctr, faults, image) = ground(User::Rootless, "bad/resume:latest");
    faults.spoil(&image.blobs[0], Fault::Cut(700_000), 1).spoil(&image.blobs[0], Fault::Corrupt, usize::MAX);
    refused(&ctr, &faults.name("bad/resume"), "sha256:");
}

#[test]
fn wrong_bytes_are_refused() {
    spoiled("bad/bytes:latest", first_blob, Fault::Corrupt, "sha256:");
}

#[test]
fn a_wrong_config_is_refused() {
    spoiled("bad/config:latest", |image| image.config.clone(), Fault::Corrupt, "sha256:");
}

#[test]
fn a_wrong_size_is_refused() {
    spoiled("bad/short:latest", first_blob, Fault::Shorter(1000), "sha256:");
    spoiled("bad/long:latest", first_blob, Fault::Longer(1000), "sha256:");
}

#[test]
fn an_endless_blob_is_refused_after_its_size() {
    for length in [None, Some(u64::MAX >> 1)] {
        let (ctr, faults, image) = ground(User::Rootless, "bad/endless-blob:latest");
        faults.spoil(&image.blobs[0], Fault::Endless(length), usize::MAX);
        refused(&ctr, &faults.name("bad/endless-blob"), "sha256:");
        assert!(faults.bytes() < 200 << 20, "{} bytes were taken", faults.bytes());
    }
}

#[test]
fn an_endless_manifest_is_refused() {
    for length in [None, Some(4 << 30)] {
        let (ctr, faults, _) = ground(User::Rootless, "bad/endless:latest");
        faults.spoil("/bad/endless/manifests/", Fault::Endless(length), usize::MAX);
        refused(&ctr, &faults.name("bad/endless"), "manifest");
        assert!(faults.bytes() < 200 << 20, "{} bytes were taken", faults.bytes());
    }
}

#[test]
fn error_answers_name_the_image_and_the_status() {
    spoiled("bad/401:latest", manifest, Fault::status("401 Unauthorized"), "bad/401");
    spoiled("bad/403:latest", manifest, Fault::status("403 Forbidden"), "bad/403");
    spoiled("bad/404:latest", manifest, Fault::status("404 Not Found"), "bad/404");
    spoiled("bad/blob404:latest", first_blob, Fault::status("404 Not Found"), "sha256:");
}

#[test]
fn a_short_failure_is_retried() {
    let (ctr, faults, image) = ground(User::Rootless, "bad/retry:latest");
    let wait = Fault::Answer("429 Too Many Requests", vec![("retry-after", "1".to_owned())], Vec::new());
    faults
        .spoil("/bad/retry/manifests/", Fault::status("500 Internal Server Error"), 1)
        .spoil(&image.blobs[0], wait, 1)
        .spoil(&image.blobs[1], Fault::status("503 Service Unavailable"), 1);
    ctr.run(["pull", "-q", &faults.name("bad/retry")]).ok();
}

#[test]
fn a_date_to_come_back_is_kept() {
    let (ctr, faults, _) = ground(User::Rootless, "bad/date:latest");
    // Dates have whole seconds: one to two of them from now.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{}", now + 2), "+%a, %d %b %Y %H:%M:%S GMT"])
        .env("LC_ALL", "C")
        .output()
        .expect("start date");
    let date = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let wait = Fault::Answer("429 Too Many Requests", vec![("retry-after", date)], Vec::new());
    faults.spoil("/bad/date/manifests/", wait, 1);
    ctr.run(["pull", "-q", &faults.name("bad/date")]).ok();
    let after = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    assert!(after.as_secs() >= now + 2, "it came back early");
}

#[test]
fn a_date_far_away_is_not_waited_for() {
    let (ctr, faults, _) = ground(User::Rootless, "bad/century:latest");
    let date = "Wed, 21 Oct 2099 07:28:00 GMT".to_owned();
    let wait = Fault::Answer("429 Too Many Requests", vec![("retry-after", date)], Vec::new());
    faults.spoil("/bad/century/manifests/", wait, 1);
    refused(&ctr, &faults.name("bad/century"), "429");
}

#[test]
fn a_lasting_failure_is_given_up() {
    spoiled("bad/500:latest", manifest, Fault::status("500 Internal Server Error"), "500");
    let wait = Fault::Answer("429 Too Many Requests", vec![("retry-after", "0".to_owned())], Vec::new());
    spoiled("bad/429:latest", manifest, wait, "429");
}

#[test]
fn a_registry_cannot_make_us_wait_for_a_year() {
    let wait =
        Fault::Answer("429 Too Many Requests", vec![("retry-after", "31536000".to_owned())], Vec::new());
    let (ctr, faults, _) = ground(User::Rootless, "bad/year:latest");
    faults.spoil("/bad/year/manifests/", wait, usize::MAX);
    refused(&ctr, &faults.name("bad/year"), "429");
}

#[test]
fn manifests_that_are_none() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let layer = |digest: &str, size: i64| {
        json!({ "schemaVersion": 2, "mediaType": MANIFEST,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2 },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size }] })
    };
    let mut ambiguous = layer(&digest, 3);
    ambiguous["manifests"] = json!([]);
    let deep = "[".repeat(100_000);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("no JSON", b"<html>captive portal</html>".to_vec()),
        ("deep", deep.into_bytes()),
        ("an array", b"[]".to_vec()),
        ("a path for a digest", layer("sha256:../../../x", 3).to_string().into_bytes()),
        ("another algorithm", layer("md5:aaaa", 3).to_string().into_bytes()),
        ("a negative size", layer(&digest, -1).to_string().into_bytes()),
        ("layers and manifests", ambiguous.to_string().into_bytes()),
        ("schema 1", br#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#.to_vec()),
    ];
    for (what, body) in cases {
        let (ctr, faults, _) = ground(User::Rootless, "bad/manifest:latest");
        faults.spoil("/bad/manifest/manifests/", Fault::json(MANIFEST, body), usize::MAX);
        let outcome = refused(&ctr, &faults.name("bad/manifest"), "manifest");
        assert!(outcome.stderr().len() < 4000, "{what}: the input is not repeated whole");
    }
}

#[test]
fn a_manifest_that_is_not_the_digest_asked_for() {
    let (ctr, faults, image) = ground(User::Rootless, "bad/digest:latest");
    faults.spoil("/manifests/sha256:", Fault::Corrupt, usize::MAX);
    refused(&ctr, &faults.name(&format!("bad/digest@{}", image.manifest)), "sha256:");
}

#[test]
fn an_index_that_points_to_itself() {
    // Its own digest can't be in it, but a registry may answer every request with the same index.
    let index = "application/vnd.oci.image.index.v1+json";
    let own = json!({ "schemaVersion": 2, "mediaType": index, "manifests": [{
        "mediaType": index, "digest": format!("sha256:{}", "b".repeat(64)), "size": 300,
        "platform": { "os": "linux", "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" } },
    }]});
    let (ctr, faults, _) = ground(User::Rootless, "bad/cycle:latest");
    faults.spoil("/bad/cycle/manifests/", Fault::json(index, own.to_string()), usize::MAX);
    refused(&ctr, &faults.name("bad/cycle"), "bad/cycle");
    assert!(faults.seen().len() < 30, "{} requests", faults.seen().len());
}

#[test]
fn diff_ids_that_do_not_match_the_layers() {
    // Two layers in the manifest, one of which the config does not know.
    let registry = Registry::plain();
    let extra = TestImage::new([Layer::new(Compression::Gzip).file("extra", "extra")])
        .push(registry, "bad/diff:extra");
    TestImage::new([Layer::new(Compression::Gzip).file("one", "one")])
        .tweak(move |manifest| {
            let layers = manifest["layers"].as_array_mut().expect("layers");
            let mut more = layers[0].clone();
            more["digest"] = json!(extra.blobs[0]);
            layers.push(more);
        })
        .push(registry, "bad/diff:latest");
    let (ctr, faults, _) = ground(User::Rootless, "bad/diff-ground:latest");
    refused(&ctr, &faults.name("bad/diff"), "layer");
}

#[test]
fn layers_that_climb_out() {
    let canary = tempfile::tempdir_in("/var/tmp").expect("a directory outside");
    let outside = canary.path().display().to_string();
    std::fs::set_permissions(canary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("chmod");
    let new = || Layer::new(Compression::Gzip);
    let up = format!("{}{}", "../".repeat(20), outside.trim_start_matches('/'));
    let attempts: Vec<(&str, Layer)> = vec![
        ("dot-dot", new().file(&format!("{up}/a"), "out")),
        ("dot-dot below a directory", new().dir("d", 0o755).file(&format!("d/{up}/b"), "out")),
        ("a symlink", new().symlink("s", &outside).file("s/c", "out")),
        ("a relative symlink", new().symlink("r", &up).file("r/d", "out")),
        ("a hard link", new().hardlink("h", "/etc/passwd")),
        ("a hard link upwards", new().hardlink("h2", &format!("{}etc/passwd", "../".repeat(20)))),
        ("a hard link through a symlink", new().symlink("e", "/etc").hardlink("h3", "e/passwd")),
        ("a whiteout through a symlink", new().symlink("w", &outside).file("w/.wh.victim", "")),
        ("the root as a symlink", new().symlink(".", &outside).file("f", "out")),
        ("a whiteout of the parent", new().file(".wh...", "").file(".wh.", "").file(".wh..", "")),
    ];
    std::fs::write(canary.path().join("victim"), "alive").expect("write a canary");
    for (number, (what, layer)) in attempts.into_iter().enumerate() {
        let target = format!("climb/n{number}:latest");
        TestImage::new([layer]).push(Registry::plain(), &target);
        for &user in User::all() {
            let ctr = Ctr::new(user);
            ctr.registries(&Registry::plain().as_docker_hub());
            // Both a refusal and a pull that keeps it inside the layer are right; a file outside never is.
            let outcome = ctr.run(["pull", "-q", &Registry::plain().name(&target)]);
            assert!(matches!(outcome.code(), 0 | 125), "{what}: {outcome}");
            let mut left = std::fs::read_dir(canary.path()).expect("list the canary");
            assert!(
                left.next().is_some_and(|e| e.is_ok_and(|e| e.file_name() == "victim")),
                "{what}: {outcome}"
            );
            assert!(left.next().is_none(), "{what}: {outcome}");
            let passwd = std::fs::metadata("/etc/passwd").expect("stat /etc/passwd");
            assert_eq!(std::os::unix::fs::MetadataExt::nlink(&passwd), 1, "{what}: {outcome}");
        }
    }
}

#[test]
fn layers_that_are_no_archives() {
    let (ctr, faults, _) = ground(User::Rootless, "bad/archive-ground:latest");
    let registry = Registry::plain();
    // Valid digests over bytes that are neither gzip nor tar.
    for (name, bytes) in [("noise", noise(7, 10_000)), ("text", b"hello".to_vec())] {
        registry.put_blob("bad/archive", &bytes);
        let digest = {
            use sha2::Digest;
            let hex =
                sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            format!("sha256:{hex}")
        };
        let size = bytes.len();
        TestImage::new([Layer::new(Compression::Gzip).file("a", "a")])
            .tweak(move |manifest| {
                manifest["layers"][0]["digest"] = json!(digest);
                manifest["layers"][0]["size"] = json!(size);
            })
            .push(registry, &format!("bad/archive:{name}"));
        refused(&ctr, &faults.name(&format!("bad/archive:{name}")), "sha256:");
    }
}

#[test]
fn an_interrupted_pull_leaves_nothing_and_the_next_one_succeeds() {
    for &user in User::all() {
        let (ctr, faults, image) = ground(user, "bad/interrupted:latest");
        let before = ctr.store();
        faults.spoil(&image.blobs[1], Fault::Stall(600_000), 1);
        let name = faults.name("bad/interrupted");
        let mut child = ctr
            .command(["pull", "-q", &name])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("start ctr");
        faults.wait_stalled(1);
        // As a terminal does, only to the process that the user sees.
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("send SIGINT");
        let status = child.wait().expect("wait for ctr");
        assert!(status.code() == Some(130) || status.signal() == Some(2), "as {user:?}: {status}");
        faults.release();
        // A layer that was complete may stay; no image names it yet, and no draft is left.
        assert_eq!(ctr.run(["images", "-q"]).ok().lines().count(), 1, "as {user:?}");
        ctr.run(["pull", "-q", &name]).ok();
        assert_eq!(ctr.list("tmp"), [""; 0], "as {user:?}");
        ctr.run(["rmi", &name]).ok();
        assert_eq!(ctr.store(), before, "as {user:?}");
    }
}

#[test]
fn a_killed_pull_is_cleaned_up_by_a_later_one() {
    let (ctr, faults, image) = ground(User::Rootless, "bad/killed:latest");
    let before = ctr.store();
    faults.spoil(&image.blobs[1], Fault::Stall(600_000), 1);
    let name = faults.name("bad/killed");
    let mut child = ctr
        .command(["pull", "-q", &name])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("start");
    faults.wait_stalled(1);
    child.kill().expect("kill ctr");
    child.wait().expect("wait for ctr");
    faults.release();
    ctr.run(["pull", "-q", &name]).ok();
    ctr.run(["rmi", &name]).ok();
    assert_eq!(ctr.store(), before);
}

#[test]
fn a_full_disk_is_one_error_and_leaves_the_store_usable() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let (ctr, faults, _) = ground(User::Rootless, "bad/full:latest");
    // A mount namespace of its own, where the store lies on a tmpfs that is too small for the image.
    let Some((uid, gid)) = ctr.user().ids() else { return };
    let script = format!(
        "mount -t tmpfs -o size=2m,mode=700,uid={uid},gid={gid} none {data} && \
         exec setpriv --reuid={uid} --regid={gid} --clear-groups \"$@\"",
        data = ctr.data().display()
    );
    let wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let output =
        ctr.outside(&wrapper, &["pull", "-q", &faults.name("bad/full")]).output().expect("start unshare");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("error:")).count(), 1, "{stderr}");
    assert!(stderr.contains("space") && stderr.contains("hint: "), "{stderr}");
}
