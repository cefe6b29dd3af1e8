//! The test ground itself, tried with curl: a failure here is none of `ctr`.

mod support;

use std::process::Command;
use support::{Compression, Fault, Faults, Flavour, Layer, Registry, TestImage, index};

fn curl(arguments: &[&str]) -> (String, bool) {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--header",
            "Accept: */*, application/vnd.docker.distribution.manifest.v2+json",
        ])
        .args(arguments)
        .output()
        .expect("start curl");
    (String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(), output.status.success())
}

#[test]
fn three_fronts_serve_one_storage() {
    let plain = Registry::plain();
    let image = TestImage::new([Layer::busybox(), Layer::new(Compression::Zstd).file("a", "a")])
        .flavour(Flavour::Docker)
        .push(plain, "ground/app:latest");
    index(plain, "ground/app:list", Flavour::Oci, &[image]);
    let path = "v2/ground/app/manifests/latest";
    assert!(curl(&[&format!("http://{}/{path}", plain.address())]).0.contains("schemaVersion"));

    let tls = Registry::tls();
    let authority = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&authority, tls.authority()).expect("write the CA's certificate");
    let url = format!("https://{}/{path}", tls.address());
    assert!(!curl(&[&url]).1, "the CA is private");
    assert!(curl(&["--cacert", &authority.path().display().to_string(), &url]).0.contains("schemaVersion"));

    let token = Registry::token();
    let url = format!("http://{}/{path}", token.address());
    assert!(curl(&[&url]).0.contains("UNAUTHORIZED"));
    let realm = format!(
        "http://{}/token?service=test&scope=repository%3Aground%2Fapp%3Apull",
        Registry::tokens().address()
    );
    let answer: serde_json::Value = serde_json::from_str(&curl(&[&realm]).0).expect("a token in JSON");
    let header = format!("Authorization: Bearer {}", answer["token"].as_str().expect("a token"));
    let (body, _) = curl(&["--header", &header, &url]);
    assert!(body.contains("schemaVersion"), "{body}");
}

#[test]
fn a_fault_hits_as_often_as_it_was_asked_to() {
    let plain = Registry::plain();
    let image = TestImage::new([Layer::new(Compression::Gzip).file("a", "a".repeat(100_000))])
        .push(plain, "ground/fault:latest");
    let faults = Faults::new(plain);
    faults.spoil(&image.blobs[0], Fault::Cut(10), 1);
    let url = format!("http://{}/v2/ground/fault/blobs/{}", faults.address(), image.blobs[0]);
    assert!(!curl(&["--output", "/dev/null", &url]).1);
    let (body, fine) = curl(&[
        "--range",
        "10-19",
        &url,
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code} %{size_download}",
    ]);
    assert!(fine && body == "206 10", "{body}");
    assert_eq!(faults.seen()[1].range.as_deref(), Some("bytes=10-19"));
}
