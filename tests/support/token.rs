//! A token server as Docker Hub has one (distribution spec: "Token Authentication Implementation"): anonymous users may
//! pull everything but `private/…`; that, and any push, wants the user `alice` with the password `wonder`.

use super::http::Head;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rcgen::{CertificateParams, KeyPair, SigningKey};
use std::{
    io::{BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

/// Listens until the process ends.
pub struct TokenServer {
    address: SocketAddr,
    issuer: Arc<Issuer>,
}

struct Issuer {
    key: KeyPair,
    certificate: rcgen::Certificate,
    /// Request lines and Authorization headers.
    seen: Mutex<Vec<(String, Option<String>)>>,
}

impl TokenServer {
    pub(super) fn start() -> TokenServer {
        let key = KeyPair::generate().expect("a key");
        let certificate =
            CertificateParams::new(Vec::new()).expect("a certificate").self_signed(&key).expect("sign it");
        let issuer = Arc::new(Issuer { key, certificate, seen: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address");
        let shared = issuer.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let _ = shared.answer(stream);
            }
        });
        TokenServer { address, issuer }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far: the first line and the Authorization header.
    pub fn seen(&self) -> Vec<(String, Option<String>)> {
        self.issuer.seen.lock().expect("no panic while held").clone()
    }

    pub(super) fn certificate(&self) -> String {
        self.issuer.certificate.pem()
    }
}

impl Issuer {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let Some(head) = Head::read(&mut BufReader::new(stream.try_clone()?))? else { return Ok(()) };
        let user = head.get("authorization").map(str::to_owned);
        self.seen.lock().expect("no panic while held").push((head.first.clone(), user.clone()));
        let alice = format!("Basic {}", STANDARD.encode("alice:wonder"));
        let query =
            decode(head.first.split(' ').nth(1).and_then(|path| path.split_once('?')).map_or("", |(_, q)| q));
        let scopes =
            query.split('&').filter_map(|pair| pair.strip_prefix("scope=")).flat_map(|s| s.split([' ', '+']));
        let mut access = Vec::new();
        for scope in scopes {
            let [kind, name, actions] = scope.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
            if name.starts_with("private/") && user.as_deref() != Some(&alice) {
                continue;
            }
            let may =
                |action: &&str| *action == "pull" || *action == "push" && user.as_deref() == Some(&alice);
            let actions: Vec<&str> = actions.split(',').filter(may).collect();
            access.push(serde_json::json!({ "type": kind, "name": name, "actions": actions }));
        }
        let (status, body) = match user {
            Some(other) if other != alice => {
                ("401 Unauthorized", serde_json::json!({ "details": "wrong password" }))
            }
            _ => ("200 OK", serde_json::json!({ "token": self.sign(access), "expires_in": 300 })),
        };
        let body = body.to_string();
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }

    /// A JSON Web Token (RFC 7519), ES256, that carries its certificate.
    fn sign(&self, access: Vec<serde_json::Value>) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let header = serde_json::json!({ "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(self.certificate.der())] });
        let claims = serde_json::json!({
            "iss": "test", "sub": "", "aud": "test", "jti": "1", "access": access,
            "iat": now - 10, "nbf": now - 10, "exp": now + 300,
        });
        let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(header), encode(claims));
        let signature = self.key.sign(text.as_bytes()).expect("sign a token");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(fixed(&signature)))
    }
}

/// An ECDSA signature in ASN.1 as the 64 bytes that RFC 7518 wants: SEQUENCE { INTEGER r, INTEGER s }.
fn fixed(der: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    let mut rest = &der[2..];
    for half in out.chunks_exact_mut(32) {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let number = &number[number.len().saturating_sub(32)..];
        half[32 - number.len()..].copy_from_slice(number);
        rest = &rest[2 + length..];
    }
    out
}

/// Percent-decoding.
fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(b'?');
        out.push(char::from(byte));
        out.push_str(part.get(2..).unwrap_or_default());
    }
    out
}
