//! Registries that fail, lie and stall: each is one clear error with a hint, exit 125, and a store that is as it was;
//! what can be mended by asking again is mended.

mod support;

use support::{Fault, User, first_blob, ground, manifest, refused, spoiled};

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
