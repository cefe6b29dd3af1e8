//! Makes clients for repositories: whom each of them trusts, who we are there, and where it may be led.

use super::{
    PullOptions,
    auth::Auth,
    client::{Client, Parts},
    credentials::{self, Credentials},
    hop,
    reference::DOCKER_HUB,
    registries::Source,
    tls,
};
use crate::{storage::Dirs, sys::signal};
use anyhow::{Context, Result};
use reqwest::redirect::Policy;
use rustls::RootCertStore;
use std::{cell::OnceCell, env, path::PathBuf, time::Duration};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A transfer may take any time, but not fall silent for longer.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
const REDIRECTS: usize = 5;
/// What a server may send ahead of a reader over HTTP/2, in bytes.
const STREAM_WINDOW: u32 = 4 << 20;

/// Makes clients; holds what they share.
pub struct Connector<'a> {
    dirs: &'a Dirs,
    options: &'a PullOptions,
    roots: OnceCell<RootCertStore>,
}

impl<'a> Connector<'a> {
    /// Nothing is read or connected yet.
    pub fn new(dirs: &'a Dirs, options: &'a PullOptions) -> Connector<'a> {
        signal::survive_broken_pipes();
        Connector { dirs, options, roots: OnceCell::new() }
    }

    /// A client for the repository of `source`.
    ///
    /// # Errors
    /// Certificates or credentials on this machine can't be read.
    pub fn client(&self, source: &Source) -> Result<Client> {
        self.client_for(source, vec![format!("repository:{}:pull", source.reference.repository)])
    }

    /// The same, with tokens for `scopes` (distribution's "Token Scope Documentation"); the first is what it can't do without.
    pub fn client_for(&self, source: &Source, scopes: Vec<String>) -> Result<Client> {
        let reference = &source.reference;
        let insecure = match self.options.tls_verify {
            Some(verify) => !verify,
            None => source.insecure,
        };
        let host = match reference.registry.as_str() {
            DOCKER_HUB => "registry-1.docker.io",
            host => host,
        };
        let auth = Auth::new(reference.name(), scopes, self.credentials(source)?);
        Ok(Client::new(Parts {
            http: self.http(&reference.registry, insecure, Some(STALL_TIMEOUT))?,
            bulk: self.http(&reference.registry, insecure, None)?,
            host: host.to_owned(),
            repository: reference.repository.clone(),
            insecure,
            auth,
            retry: self.options.retry,
            name: reference.name(),
        }))
    }

    fn credentials(&self, source: &Source) -> Result<Option<Credentials>> {
        if let Some((user, password)) = &self.options.credentials {
            return Ok(Some(Credentials::Password(user.clone(), password.clone())));
        }
        let reference = &source.reference;
        let file = self.options.auth_file.as_ref();
        credentials::find(self.dirs, file, &reference.registry, &reference.repository)
    }

    fn http(&self, registry: &str, insecure: bool, stall: Option<Duration>) -> Result<reqwest::Client> {
        let private = tls::read_private(&self.certificate_dirs(registry))?;
        let roots = (!insecure).then(|| self.roots.get_or_init(tls::system_roots).clone());
        let redirects = Policy::custom(|attempt| {
            let previous = attempt.previous();
            let Some(last) = previous.last() else { return attempt.follow() };
            if previous.len() > REDIRECTS {
                return attempt.error("too many redirects");
            }
            match hop::allowed(last, attempt.url()) {
                Ok(()) => attempt.follow(),
                Err(why) => attempt.error(why),
            }
        });
        let mut builder = reqwest::Client::builder();
        if hop::is_local(registry) || no_proxy_at_all() {
            builder = builder.no_proxy();
        }
        stall
            .into_iter()
            .fold(builder, reqwest::ClientBuilder::read_timeout)
            .tls_backend_preconfigured(tls::config(roots, private)?)
            // More than the layers that come at once can use up: one that unpacks slowly holds up no other.
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(5 * STREAM_WINDOW)
            .redirect(redirects)
            .referer(false)
            .user_agent(concat!("ctr/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .context("set up the HTTP client")
    }

    /// containers-certs.d(5); a directory given by the user stands for all others.
    fn certificate_dirs(&self, registry: &str) -> Vec<PathBuf> {
        if let Some(dir) = &self.options.cert_dir {
            return vec![dir.clone()];
        }
        let user = self.dirs.config.parent().unwrap_or(&self.dirs.config).join("containers");
        let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".config/containers"));
        let home = home.filter(|home| *home != user);
        let bases = ["/etc/docker".into(), "/etc/containers".into(), user];
        bases.iter().chain(&home).map(|base| base.join("certs.d").join(registry)).collect()
    }
}

/// `NO_PROXY=*`, which reqwest doesn't know for addresses.
fn no_proxy_at_all() -> bool {
    let all =
        |variable| env::var(variable).is_ok_and(|list| list.split(',').any(|entry| entry.trim() == "*"));
    all("NO_PROXY") || all("no_proxy")
}
