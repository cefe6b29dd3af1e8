//! Row 16: credentials reach the host that they are for, and nobody else.

use crate::{
    layer,
    support::{Ctr, Fault, Faults, Registry, TestImage, User},
};
use serde_json::json;

#[test]
fn a_login_of_auth_json_opens_private_images_and_reaches_its_host_alone() {
    let registry = Registry::token();
    TestImage::new([layer().file("private", "x")]).push(Registry::plain(), "private/app:latest");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    ctr.run(["pull", "-q", &registry.name("private/app")]).fails("private/app");
    let auth = json!({ "auths": { registry.address().to_string(): { "auth": "YWxpY2U6d29uZGVy" } } });
    // podman-login(1): $XDG_RUNTIME_DIR/containers/auth.json
    ctr.file("run/containers/auth.json", auth.to_string());
    ctr.run(["pull", "-q", &registry.name("private/app")]).ok();
    // Another registry that asks for a password is not told this one's.
    let other = Faults::new(Registry::plain());
    let challenge = vec![("www-authenticate", "Basic realm=\"other\"".to_owned())];
    other.spoil("/v2/", Fault::Answer("401 Unauthorized", challenge, Vec::new()), 99);
    ctr.registries(&other.conf());
    ctr.run(["pull", "-q", &other.name("private/app")]).fails("private/app");
    assert!(other.seen().iter().all(|seen| seen.authorization.is_none()));
}

/// A registry elsewhere may not send us to a service of this machine, nor any to its cloud or to a file: for a token or for a
/// blob.
#[test]
fn a_registry_sends_us_nowhere_near() {
    let near = Faults::new(Registry::plain());
    let inside = format!("http://{}/v2/", near.address());
    let place = |outside: bool| match outside {
        true => Faults::outside(Registry::plain()),
        false => Some(Faults::new(Registry::plain())),
    };
    let hops = [
        (true, inside.as_str(), "of its cloud"),
        (false, "http://169.254.169.254/latest", "of its cloud"),
        (false, "file:///etc/passwd", "only http and https"),
    ];
    for (number, (outside, to, about)) in hops.into_iter().enumerate() {
        let target = format!("hops/n{number}:latest");
        let image = TestImage::new([layer().file("file", "x")]).push(Registry::plain(), &target);
        let (Some(token), Some(blob)) = (place(outside), place(outside)) else { continue };
        let ctr = Ctr::new(User::Rootless);
        let challenge = vec![("www-authenticate", format!("Bearer realm=\"{to}\",service=\"x\""))];
        token.spoil("/v2/", Fault::Answer("401 Unauthorized", challenge, Vec::new()), 99);
        let auth = json!({ "auths": { token.address().to_string(): { "auth": "YWxpY2U6d29uZGVy" } } });
        ctr.file("run/containers/auth.json", auth.to_string()).registries(&token.conf());
        let outcome = ctr.run(["pull", "-q", &token.name(&target)]);
        assert!(near.seen().is_empty(), "{:?} {outcome}", near.seen());
        outcome.fails(about);
        let away = vec![("location", to.to_owned())];
        blob.spoil(&image.blobs[0], Fault::Answer("307 Temporary Redirect", away, Vec::new()), 99);
        ctr.registries(&blob.conf());
        let outcome = ctr.run(["pull", "-q", &blob.name(&target)]).exits(125);
        assert!(near.seen().is_empty() && ctr.list("layers").is_empty(), "{outcome}");
    }
}

/// Blobs may lie elsewhere, but who we are is nobody's business there; and no word of ours holds the secret.
#[test]
fn a_redirect_takes_no_credentials_along() {
    let image = TestImage::new([layer().file("redirected", "x")]).push(Registry::plain(), "hops/away:latest");
    let [first, second] = [(); 2].map(|()| Faults::new(Registry::plain()));
    // Another name is another host.
    let away = format!("http://localhost:{}/v2/hops/away/blobs/{}", second.address().port(), image.blobs[0]);
    let challenge = vec![("www-authenticate", "Basic realm=\"x\"".to_owned())];
    first.spoil("/manifests/", Fault::Answer("401 Unauthorized", challenge, Vec::new()), 1).spoil(
        &image.blobs[0],
        Fault::Answer("307 Temporary Redirect", vec![("location", away)], Vec::new()),
        9,
    );
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&first.conf());
    let auth = json!({ "auths": { first.address().to_string(): { "auth": "YWxpY2U6d29uZGVy" } } });
    ctr.file("run/containers/auth.json", auth.to_string());
    let outcome = ctr.run(["pull", &first.name("hops/away")]).exits(0);
    assert!(first.seen().iter().any(|seen| seen.authorization.is_some()), "{outcome}");
    assert!(!second.seen().is_empty(), "{outcome}");
    assert!(second.seen().iter().all(|seen| seen.authorization.is_none()), "{outcome}");
    let inspected = ctr.run(["inspect", &first.name("hops/away")]).ok();
    for secret in ["wonder", "YWxpY2U6d29uZGVy"] {
        assert!(!format!("{outcome}{inspected}").contains(secret), "{outcome}");
    }
}
