//! Whom we trust: the system's CAs, the private ones of containers-certs.d(5), or anyone when told so.

use crate::error::Explain;
use anyhow::{Context, Result, anyhow};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// One file is read in half the time of a directory of 290.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What a `certs.d/HOST[:PORT]` directory holds.
#[derive(Default)]
pub struct Private {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// The CAs that this machine trusts; Mozilla's when it names none.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let overridden = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|variable| env::var_os(variable).is_some());
    if !overridden {
        for bundle in BUNDLES {
            let found = rustls_native_certs::load_certs_from_paths(Some(Path::new(bundle)), None);
            if roots.add_parsable_certificates(found.certs).0 > 0 {
                return roots;
            }
        }
    }
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    }
    roots
}

/// Read all `certs.d` directories of `host` among `dirs` that exist: `*.crt` are CAs, `*.cert` with `*.key` is ours.
///
/// # Errors
/// A file there can't be read or isn't PEM; the error names it.
pub fn read_private(dirs: &[PathBuf]) -> Result<Private> {
    let mut private = Private::default();
    for dir in dirs {
        let entries = match fs::read_dir(dir) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                continue;
            }
            entries => entries.with_context(|| format!("list {}", dir.display()))?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.with_context(|| format!("list {}", dir.display()))?.path());
        }
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => private.authorities.extend(certificates(&path)?),
                Some("cert") => {
                    let key = path.with_extension("key");
                    let secret = PrivateKeyDer::from_pem_file(&key)
                        .map_err(|error| anyhow!("read private key {}: {error}", key.display()))
                        .hint(LAYOUT)?;
                    private.identity = Some((certificates(&path)?, secret));
                }
                _ => {}
            }
        }
    }
    Ok(private)
}

const LAYOUT: &str =
    "ca.crt, client.cert and client.key there are PEM; man containers-certs.d describes them";

/// The TLS settings for one registry; without `roots`, any certificate will do.
pub fn config(roots: Option<RootCertStore>, private: Private) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("set up TLS")?
        .dangerous();
    let mut verifier = Verifier { usual: None, pinned: Vec::new(), algorithms: provider.clone() };
    if let Some(mut roots) = roots {
        for authority in &private.authorities {
            roots.add(authority.clone()).context("trust the CA in certs.d")?;
        }
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        verifier.usual = Some(usual.context("set up TLS with the CAs of this machine")?);
        verifier.pinned = private.authorities;
    }
    let builder = builder.with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match private.identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain, key).context("use the client certificate in certs.d")?
        }
    };
    config.alpn_protocols = ["h2", "http/1.1"].map(Into::into).to_vec();
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| anyhow!("read certificate {}: {error}", path.display())).hint(LAYOUT)?;
    match found.is_empty() {
        true => Err(anyhow!("read certificate {}: no PEM certificate in it", path.display())).hint(LAYOUT),
        false => Ok(found),
    }
}

#[derive(Debug)]
struct Verifier {
    /// `None` for `--tls-verify=false`.
    usual: Option<Arc<WebPkiServerVerifier>>,
    /// Besides the usual: a certificate that certs.d holds byte for byte is trusted for the names in it.
    /// `openssl req -x509` makes such ones with CA:TRUE, which webpki refuses as a server's own.
    pinned: Vec<CertificateDer<'static>>,
    algorithms: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(usual) = &self.usual else { return Ok(ServerCertVerified::assertion()) };
        match usual.verify_server_cert(own, chain, name, ocsp, now) {
            // Its dates come before this error in webpki, its name does not.
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if self.pinned.contains(own) => {
                verify_server_name(&ParsedCertificate::try_from(own)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.algorithms.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.algorithms.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.signature_verification_algorithms.supported_schemes()
    }
}
