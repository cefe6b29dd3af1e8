//! What can go wrong between us and a registry, told apart: whether trying again helps, whether another place may do, and
//! what the user can do about it.

use crate::error::{self, Explain};
use anyhow::anyhow;
use reqwest::StatusCode;
use rustls::AlertDescription as Alert;
use std::{convert::Infallible, env, error::Error as _, io, time::Duration};

/// One failed exchange with a registry.
#[derive(Debug)]
pub struct Failure {
    /// Of which sort.
    pub kind: Kind,
    /// With its hint, ready to be told.
    pub cause: anyhow::Error,
}

/// What to make of a failure; in the order in which they tell most about several failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// There is no such image.
    NotFound,
    /// Nobody answers, or nobody we trust.
    Unreachable,
    /// The connection broke, or the server said to come back (after this time): worth another try.
    Passing(Option<Duration>),
    /// Credentials are missing or wrong.
    Denied,
    /// What came is not what it should be.
    Broken,
    /// Our own side: no other registry can help.
    Ours,
}

/// A failure of this sort, with `hint`.
pub fn failure(kind: Kind, message: impl Into<String>, hint: impl Into<String>) -> Failure {
    Failure { kind, cause: with_hint(anyhow!(message.into()), hint) }
}

/// `cause` with `hint`.
pub fn with_hint(cause: anyhow::Error, hint: impl Into<String>) -> anyhow::Error {
    let Err(hinted) = Err::<Infallible, _>(cause).hint(hint);
    hinted
}

/// What the registry sent is wrong.
pub fn broken(cause: anyhow::Error) -> Failure {
    let cause = match crate::error::hint(&cause) {
        Some(_) => cause,
        None => with_hint(
            cause,
            "the fault is the registry's or the image's: push it again, or pull from elsewhere",
        ),
    };
    Failure { kind: Kind::Broken, cause }
}

/// Something on this machine failed.
pub fn ours(cause: anyhow::Error) -> Failure {
    Failure { kind: Kind::Ours, cause }
}

/// No answer from `host`: why. The error's URL is never told: it may hold a signature.
pub fn transport(error: reqwest::Error, host: &str) -> Failure {
    let error = error.without_url();
    let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
    if error.is_timeout() && error.is_connect() {
        let hint =
            format!("check the address, the network and a firewall or proxy: curl -v https://{host}/v2/");
        return failure(Kind::Unreachable, format!("{host} does not answer"), beside_proxy(hint));
    }
    if error.is_timeout() {
        let hint = "check the network and run the command again: what was received is kept until it ends";
        return failure(Kind::Passing(None), format!("{host} went silent"), hint);
    }
    let mut deepest = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        deepest = cause.to_string();
        if deepest.contains("dns error") {
            let hint = format!("check the spelling, and the DNS of this machine: getent hosts {bare}");
            return failure(Kind::Unreachable, format!("host name {bare} does not resolve"), hint);
        }
        if let Some(tls) = tls_error(cause) {
            return tls_failure(tls, host);
        }
        // h2 keeps nothing of an error but its words. An alert may come after the handshake (RFC 8446 section 4.6.2).
        let alerts = [Alert::CertificateRequired, Alert::BadCertificate].map(rustls::Error::AlertReceived);
        if let Some(alert) = alerts.iter().find(|alert| deepest.ends_with(&alert.to_string())) {
            return tls_failure(alert, host);
        }
        if let Some(cause) = cause.downcast_ref::<io::Error>()
            && cause.kind() == io::ErrorKind::ConnectionRefused
        {
            let hint = format!("is the registry running, and is the port right? curl -v https://{host}/v2/");
            return failure(Kind::Unreachable, format!("{host} refuses the connection"), beside_proxy(hint));
        }
        source = cause.source();
    }
    if error.is_redirect() {
        return broken(anyhow!("{host} redirects where we don't follow: {deepest}"));
    }
    let what = if deepest.is_empty() { error.to_string() } else { deepest };
    let kind = if error.is_connect() { Kind::Unreachable } else { Kind::Passing(None) };
    let hint = beside_proxy(format!("check the network: curl -v https://{host}/v2/"));
    failure(kind, format!("connection to {host}: {what}"), hint)
}

/// `hint`, and which proxy may be meant by what went wrong.
fn beside_proxy(hint: String) -> String {
    let variables = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    match variables.into_iter().find(|variable| env::var_os(variable).is_some_and(|value| !value.is_empty()))
    {
        Some(variable) => {
            format!("{hint}; the way there is the proxy of {variable}, unless NO_PROXY names the host")
        }
        None => hint,
    }
}

/// `status` in place of content. `told` is what the registry says about it, `name` the image's without tag.
pub fn refused(status: StatusCode, after: Option<Duration>, told: &str, host: &str, name: &str) -> Failure {
    let said = if told.is_empty() { String::new() } else { format!(": {told}") };
    let code = status.as_u16();
    match code {
        401 | 403 => {
            let what = format!("access denied, or no such image ({code}{said})");
            // Credentials are filed under the name of the registry, which may not be its host.
            let registry = name.split('/').next().unwrap_or(host);
            let hint = format!(
                "check the spelling; to see a private image, or to push, log in: ctr login {registry}"
            );
            failure(Kind::Denied, what, hint)
        }
        404 => {
            let hint = format!("check the spelling of name and tag: skopeo list-tags docker://{name}");
            failure(Kind::NotFound, format!("not found ({code}{said})"), hint)
        }
        429 => {
            let hint = format!("wait, or pull with an account at {host}: --creds USER:PASSWORD");
            failure(Kind::Passing(after), format!("{host} limits the rate of requests ({code}{said})"), hint)
        }
        300..=399 => broken(anyhow!("{host} redirects where we don't follow ({code}{said})")),
        408 | 500.. => {
            let hint = "the fault is the registry's: try again later, or set up a mirror in registries.conf";
            failure(Kind::Passing(after), format!("{host} fails ({code}{said})"), hint)
        }
        _ => broken(anyhow!("{host} refuses the request ({code}{said})")),
    }
}

/// An io::Error keeps what it wraps out of the chain, and there may be several around rustls' own.
fn tls_error<'a>(mut cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    while let Some(inner) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        cause = inner;
    }
    cause.downcast_ref()
}

fn tls_failure(error: &rustls::Error, host: &str) -> Failure {
    let (what, hint) = match error {
        rustls::Error::InvalidMessage(_) => (
            format!("{host} does not speak TLS"),
            format!(
                "if it is meant to speak plain http: --tls-verify=false, or insecure = true for {host} in registries.conf"
            ),
        ),
        rustls::Error::AlertReceived(Alert::CertificateRequired | Alert::BadCertificate) => (
            format!("TLS with {host} fails: it wants a client certificate, and one that it trusts"),
            format!("put it into ~/.config/containers/certs.d/{host}/ as client.cert and client.key"),
        ),
        error => {
            use rustls::{CertificateError as C, Error::InvalidCertificate};
            let why = match error {
                InvalidCertificate(C::UnknownIssuer | C::Other(_)) => {
                    "its certificate is signed by nobody whom this machine trusts".to_owned()
                }
                error => error.to_string(),
            };
            let hint = format!(
                "put the registry's CA into ~/.config/containers/certs.d/{host}/ca.crt, or trust it blindly with \
                 --tls-verify=false"
            );
            (format!("TLS with {host} fails: {why}"), hint)
        }
    };
    failure(Kind::Unreachable, what, hint)
}

/// One error for all places; its hint is that of the place whose failure tells most.
pub fn all_of(name: &str, mut given_up: Vec<(String, Failure)>) -> anyhow::Error {
    if given_up.len() == 1
        && let Some((place, failure)) = given_up.pop()
    {
        return failure.cause.context(format!("pull {place}"));
    }
    let told =
        given_up.iter().map(|(place, failure)| format!("{place}: {:#}", failure.cause)).collect::<Vec<_>>();
    let all = anyhow!("pull {name:?}: {}", told.join("; "));
    let telling = given_up.iter().max_by_key(|(_, failure)| failure.kind);
    match telling.and_then(|(_, failure)| error::hint(&failure.cause)) {
        Some(hint) => with_hint(all, hint),
        None => all,
    }
}
