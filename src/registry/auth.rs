//! Answers a registry's 401 (RFC 9110 section 11, distribution's token specification): basic authentication, or a bearer
//! token of the token server that the registry names. Asked for once, renewed when it runs out.

use super::{
    client::body,
    credentials::Credentials,
    failure::{Failure, Kind, broken, failure, refused, transport},
    hop,
};
use anyhow::{Result, anyhow};
use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{
    Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE},
};
use serde::Deserialize;
use tokio::sync::Mutex;

/// No token server's answer is longer, in bytes.
const TOKEN_LIMIT: u64 = 1 << 20;

/// The standing of our requests with one repository of one registry.
pub struct Auth {
    name: String,
    scopes: Vec<String>,
    credentials: Option<Credentials>,
    current: Mutex<Pass>,
}

/// What goes into `Authorization`, and how many there were before it.
#[derive(Clone, Default)]
pub struct Pass {
    /// None until the registry asks.
    pub header: Option<HeaderValue>,
    count: u32,
}

/// What a challenge asks for.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Auth {
    /// `name` is the image's as the user knows it, without tag; for messages. A token server that refuses all of `scopes`
    /// together is asked for the first alone.
    pub fn new(name: String, scopes: Vec<String>, credentials: Option<Credentials>) -> Auth {
        Auth { name, scopes, credentials, current: Mutex::default() }
    }

    /// What to send now.
    pub async fn pass(&self) -> Pass {
        self.current.lock().await.clone()
    }

    /// A request with `used` to `url` was answered 401 with `headers`: make a new pass. Of several requests that are
    /// refused at once, the first does the work.
    pub async fn renew(
        &self,
        http: &reqwest::Client,
        url: &Url,
        headers: &HeaderMap,
        used: &Pass,
    ) -> Result<(), Failure> {
        let mut current = self.current.lock().await;
        if current.count != used.count {
            return Ok(());
        }
        let host = url.host_str().unwrap_or_default();
        let header = match challenge(headers) {
            None => return Err(self.denied(host, "it names no way to authenticate")),
            Some(Challenge::Basic) => match &self.credentials {
                Some(Credentials::Password(user, password)) if used.header.is_none() => basic(user, password),
                _ => return Err(self.denied(host, "")),
            },
            Some(Challenge::Bearer { realm, service }) => {
                let realm = Url::parse(&realm).map_err(|_| {
                    broken(anyhow!("the registry names a token server that is no URL: {realm:?}"))
                })?;
                hop::allowed(url, &realm).map_err(|why| {
                    let server = format!("{}://{}", realm.scheme(), realm.host_str().unwrap_or_default());
                    failure(
                        Kind::Broken,
                        format!("the registry names a token server at {server}: {why}"),
                        "check the registry's address; if it is right, its administrator has to mend the realm",
                    )
                })?;
                Some(self.token(http, realm, service.as_deref()).await?)
            }
        };
        *current = Pass { header, count: used.count + 1 };
        Ok(())
    }

    // Our own scopes, not the challenge's: a registry doesn't choose what a token of ours is good for.
    async fn token(
        &self,
        http: &reqwest::Client,
        realm: Url,
        service: Option<&str>,
    ) -> Result<HeaderValue, Failure> {
        match self.token_for(http, realm.clone(), service, &self.scopes).await {
            Err(Failure { kind: Kind::Denied, .. }) if self.scopes.len() > 1 => {
                self.token_for(http, realm, service, &self.scopes[..1]).await
            }
            outcome => outcome,
        }
    }

    async fn token_for(
        &self,
        http: &reqwest::Client,
        realm: Url,
        service: Option<&str>,
        scopes: &[String],
    ) -> Result<HeaderValue, Failure> {
        let mut asked = realm.clone();
        let mut fields = asked.query_pairs_mut();
        if let Some(service) = service {
            fields.append_pair("service", service);
        }
        let request = match &self.credentials {
            Some(Credentials::Identity(token)) => {
                if !scopes.is_empty() {
                    fields.append_pair("scope", &scopes.join(" "));
                }
                fields.extend_pairs([
                    ("grant_type", "refresh_token"),
                    ("client_id", "ctr"),
                    ("refresh_token", token),
                ]);
                drop(fields);
                let form = asked.query().unwrap_or_default().to_owned();
                http.post(realm).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
            }
            Some(Credentials::Password(user, password)) => {
                fields.extend_pairs(scopes.iter().map(|scope| ("scope", scope))).append_pair("account", user);
                drop(fields);
                http.get(asked).basic_auth(user, Some(password))
            }
            None => {
                fields.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
                drop(fields);
                http.get(asked)
            }
        };
        let response = request.send().await;
        let response = response.map_err(|error| {
            let host = error.url().and_then(Url::host_str).unwrap_or("the token server").to_owned();
            transport(error, &host)
        })?;
        let host = response.url().host_str().unwrap_or_default().to_owned();
        if !response.status().is_success() {
            return Err(refused(response.status(), None, "by the token server", &host, &self.name));
        }
        let answer = body(response, TOKEN_LIMIT, "token", &host).await?;
        let answer: Token = serde_json::from_slice(&answer)
            .map_err(|_| broken(anyhow!("the token server {host} answers without a token")))?;
        let token = answer.token.or(answer.access_token).unwrap_or_default();
        let mut header = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| broken(anyhow!("the token of {host} can't stand in a header")))?;
        header.set_sensitive(true);
        Ok(header)
    }

    fn denied(&self, host: &str, told: &str) -> Failure {
        refused(reqwest::StatusCode::UNAUTHORIZED, None, told, host, &self.name)
    }
}

fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let mut header =
        HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))));
    if let Ok(header) = &mut header {
        header.set_sensitive(true);
    }
    header.ok()
}

/// The first challenge that we can answer; a token is better than a password.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE).iter().take(8) {
        let Some(text) = value.to_str().ok().filter(|text| text.len() <= 8 << 10) else { continue };
        for challenge in http_auth::parse_challenges(text).unwrap_or_default() {
            let parameter = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameter("realm")
            {
                return Some(Challenge::Bearer { realm, service: parameter("service") });
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
        };
        for (values, expected) in [
            (&[][..], None),
            (&["Basic realm=\"x\""], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (&["Digest realm=\"x\""], None),
            (
                &["Bearer realm=\"https://a/t\",service=\"s, t\",scope=\"x\""],
                bearer("https://a/t", Some("s, t")),
            ),
            (&["bearer Realm=\"https://a/t\""], bearer("https://a/t", None)),
            (&["Basic realm=\"x\", Bearer realm=\"https://a/t\""], bearer("https://a/t", None)),
            (&["Basic realm=\"x\"", "Bearer realm=\"https://a/t\""], bearer("https://a/t", None)),
            (&["Bearer service=\"s\""], None),
            (&["Bearer realm=\"unclosed"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
            }
            assert_eq!(challenge(&headers), expected, "{values:?}");
        }
    }
}
