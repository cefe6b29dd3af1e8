//! Debian's docker-registry on loopback: one storage with three fronts, plain, over TLS with a private CA, and with
//! token authentication. Images are pushed to the plain front and seen at all of them.

use super::{http, token::TokenServer};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
};

/// A running registry; it ends and its files vanish when the test process does, however it ends.
pub struct Registry {
    address: SocketAddr,
    dir: PathBuf,
    /// Its access log.
    log: Arc<(Mutex<Vec<String>>, Condvar)>,
    // Its standard input is a pipe: the shell around the registry cleans up when our end closes.
    _child: Mutex<Child>,
}

impl Registry {
    /// Plain HTTP.
    pub fn plain() -> &'static Registry {
        static PLAIN: OnceLock<Registry> = OnceLock::new();
        PLAIN.get_or_init(|| Registry::start(None, |_| String::new()))
    }

    /// HTTPS; [`Registry::authority`] signed its certificate.
    pub fn tls() -> &'static Registry {
        static TLS: OnceLock<Registry> = OnceLock::new();
        TLS.get_or_init(|| {
            Registry::start(Some(Registry::plain()), |dir| {
                certify(dir);
                let dir = dir.display();
                format!("  tls: {{ certificate: {dir}/leaf.pem, key: {dir}/leaf.key }}\n")
            })
        })
    }

    /// [`Registry::tls`] that wants a certificate of its clients, too: the one of [`Registry::identity`].
    pub fn mutual_tls() -> &'static Registry {
        static MUTUAL: OnceLock<Registry> = OnceLock::new();
        MUTUAL.get_or_init(|| {
            Registry::start(Some(Registry::plain()), |dir| {
                certify(dir);
                let dir = dir.display();
                format!(
                    "  tls: {{ certificate: {dir}/leaf.pem, key: {dir}/leaf.key, clientcas: [{dir}/ca.pem] }}\n"
                )
            })
        })
    }

    /// Plain HTTP with tokens of [`Registry::tokens`].
    pub fn token() -> &'static Registry {
        static TOKEN: OnceLock<Registry> = OnceLock::new();
        TOKEN.get_or_init(|| {
            let server = Registry::tokens();
            Registry::start(Some(Registry::plain()), |dir| {
                let bundle = dir.join("issuer.pem");
                fs::write(&bundle, server.certificate()).expect("write the issuer's certificate");
                format!(
                    "auth:\n  token: {{ realm: \"http://{}/token\", service: test, issuer: test, rootcertbundle: {} }}\n",
                    server.address(),
                    bundle.display()
                )
            })
        })
    }

    /// Plain HTTP with a password: alice's is wonder.
    pub fn basic() -> &'static Registry {
        static BASIC: OnceLock<Registry> = OnceLock::new();
        BASIC.get_or_init(|| {
            Registry::start(Some(Registry::plain()), |dir| {
                let file = dir.join("htpasswd");
                // bcrypt, as htpasswd -B writes it.
                let line = "alice:$2b$04$R99WWGfWP6yRCxjGwQRw8u6I5YZgcKlGskmXGPpaoVD5q3THaYzZq\n";
                fs::write(&file, line).expect("write the passwords");
                format!("auth:\n  htpasswd: {{ realm: test, path: {} }}\n", file.display())
            })
        })
    }

    /// The token server of [`Registry::token`].
    pub fn tokens() -> &'static TokenServer {
        static SERVER: OnceLock<TokenServer> = OnceLock::new();
        SERVER.get_or_init(TokenServer::start)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The CA's certificate of [`Registry::tls`], PEM.
    pub fn authority(&self) -> Vec<u8> {
        fs::read(self.dir.join("ca.pem")).expect("read the CA's certificate")
    }

    /// A certificate of that CA and its key, PEM.
    pub fn identity(&self) -> [Vec<u8>; 2] {
        ["leaf.pem", "leaf.key"].map(|file| fs::read(self.dir.join(file)).expect("read a certificate"))
    }

    /// `NAME` of `repository` here: `127.0.0.1:5000/library/tiny:latest`.
    pub fn name(&self, target: &str) -> String {
        format!("{}/{target}", self.address)
    }

    /// A registries.conf that makes this the insecure mirror of docker.io and lets it be named by its address, too.
    pub fn as_docker_hub(&self) -> String {
        let address = self.address;
        format!(
            "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"{address}\"\ninsecure = true\n\n{}",
            insecure(address)
        )
    }

    /// Begin an upload; where it goes on.
    pub fn begin_upload(&self, repository: &str) -> String {
        let start = format!("/v2/{repository}/blobs/uploads/");
        let (head, _) = http::request(self.address, "POST", &start, "", &[]).expect("start an upload");
        head.get("location").expect("an upload's location").to_owned()
    }

    /// Block until its access log has a line with `part`; that line.
    pub fn wait_logged(&self, part: &str) -> String {
        let found = |lines: &[String]| lines.iter().find(|line| line.contains(part)).cloned();
        let lines = self.log.0.lock().expect("no panic while held");
        let lines =
            self.log.1.wait_while(lines, |lines| found(lines).is_none()).expect("no panic while held");
        found(&lines).expect("the line that was waited for")
    }

    /// Upload a blob.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) {
        let _alone = pushing();
        let location = self.begin_upload(repository);
        let path = location.trim_start_matches("http://").trim_start_matches(&self.address.to_string());
        let joint = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{joint}digest={}", super::image::digest(bytes));
        let (head, body) = http::request(self.address, "PUT", &path, "application/octet-stream", bytes)
            .expect("upload a blob");
        assert_eq!(head.status(), 201, "upload a blob: {}", String::from_utf8_lossy(&body));
    }

    /// Put a manifest.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        let _alone = pushing();
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (head, body) =
            http::request(self.address, "PUT", &path, media_type, bytes).expect("put a manifest");
        assert_eq!(head.status(), 201, "put a manifest: {}", String::from_utf8_lossy(&body));
    }

    fn start(storage_of: Option<&Registry>, extra: impl FnOnce(&Path) -> String) -> Registry {
        let dir = tempfile::Builder::new()
            .prefix("ctr-registry-")
            .tempdir_in("/var/tmp")
            .expect("make a directory");
        let dir = dir.keep();
        let storage = storage_of.map_or(dir.as_path(), |other| &other.dir).join("storage");
        let config = dir.join("registry.yml");
        // `extra` continues the last section or opens another.
        let text = format!(
            "version: 0.1\nlog: {{ level: info, accesslog: {{ disabled: false }} }}\n\
             storage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp:\n  addr: 127.0.0.1:0\n{}",
            storage.display(),
            extra(&dir)
        );
        fs::write(&config, text).expect("write the registry's configuration");
        let script = r#"docker-registry serve "$1" & registry=$!; cat >/dev/null; exec 2>/dev/null; kill $registry; wait $registry; rm -rf "$2""#;
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .args([&config, &dir])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start docker-registry");
        let log = BufReader::new(child.stderr.take().expect("the registry's log"));
        let accesses = BufReader::new(child.stdout.take().expect("the registry's accesses"));
        let kept = Arc::<(Mutex<Vec<String>>, Condvar)>::default();
        let keeping = kept.clone();
        thread::spawn(move || {
            for line in accesses.lines().map_while(Result::ok) {
                keeping.0.lock().expect("no panic while held").push(line);
                keeping.1.notify_all();
            }
        });
        let (found, listening) = mpsc::channel();
        thread::spawn(move || {
            let mut before = String::new();
            for line in log.lines().map_while(Result::ok) {
                // level=info msg="listening on 127.0.0.1:35271, tls"
                let port = line.split_once("listening on 127.0.0.1:").map(|(_, rest)| {
                    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u16>()
                });
                match port {
                    Some(Ok(port)) => drop(found.send(Ok(port))),
                    _ if before.len() < 10_000 => before.push_str(&format!("{line}\n")),
                    _ => {}
                }
            }
            let _ = found.send(Err(before));
        });
        let port = listening
            .recv()
            .expect("the registry's log")
            .unwrap_or_else(|log| panic!("docker-registry:\n{log}"));
        Registry { address: (Ipv4Addr::LOCALHOST, port).into(), dir, log: kept, _child: Mutex::new(child) }
    }
}

/// The registry's storage is not made for two uploads of one blob at the same moment.
fn pushing() -> MutexGuard<'static, ()> {
    static PUSHING: Mutex<()> = Mutex::new(());
    PUSHING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The registries.conf entry for a registry that speaks plain HTTP.
pub fn insecure(address: SocketAddr) -> String {
    format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n")
}

/// A CA and a certificate of it for loopback, written as PEM to `dir`.
fn certify(dir: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).expect("a CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test authority");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("sign the CA");
    let key = KeyPair::generate().expect("a key");
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let leaf = CertificateParams::new(names).expect("a certificate").signed_by(&key, &ca).expect("sign it");
    for (file, content) in [("ca.pem", ca.pem()), ("leaf.pem", leaf.pem()), ("leaf.key", key.serialize_pem())]
    {
        fs::write(dir.join(file), content).expect("write a certificate");
    }
}
