//! Logging in and out: whether a registry takes a password, and where it is kept.

use super::{
    PullOptions,
    auth_file::{self, Change},
    connector::Connector,
    credential_helper,
    credentials::{self, Credentials},
    failure::{Failure, Kind},
    reference::{Reference, Target},
    registries::Source,
    registries_files,
};
use crate::{error::Explain, storage::Dirs};
use anyhow::{Context, Result, anyhow};
use reqwest::{Method, header::HeaderMap};
use std::path::{Path, PathBuf};

/// A registry, or a namespace there, that one can log in to.
#[derive(Clone, Debug)]
pub struct Login<'a> {
    dirs: &'a Dirs,
    options: &'a PullOptions,
    /// `host[:port]`.
    pub registry: String,
    /// What credentials are filed under: the registry, or `registry/namespace`.
    pub key: String,
    insecure: bool,
}

impl<'a> Login<'a> {
    /// For what the user calls `name`; without a name the first registry of unqualified-search-registries.
    ///
    /// # Errors
    /// It can't be a registry's name.
    pub fn new(dirs: &'a Dirs, options: &'a PullOptions, name: Option<&str>) -> Result<Login<'a>> {
        let registries = registries_files::load(dirs)?;
        let first = registries.search().into_iter().next();
        let Some(typed) = name.map(str::to_owned).or(first) else {
            return Err(anyhow!("no registry is named, and unqualified-search-registries is empty"))
                .hint("name one: ctr login quay.io");
        };
        let bare = match typed.split_once("://") {
            Some(("http" | "https", rest)) => rest.split('/').next().unwrap_or(rest),
            _ => typed.trim_end_matches('/'),
        };
        let bare = match bare {
            "index.docker.io" | "registry-1.docker.io" => super::reference::DOCKER_HUB,
            bare => bare,
        };
        let reference = Reference::parse(&format!("{bare}/x"))
            .map_err(|_| anyhow!("{typed:?} is not the name of a registry"))
            .hint("names look like quay.io or registry.example.com:5000")?;
        let insecure = registries.own(&reference)?.insecure;
        Ok(Login { dirs, options, registry: reference.registry, key: bare.to_owned(), insecure })
    }

    /// The credentials that are kept for it.
    pub fn known(&self) -> Result<Option<Credentials>> {
        // A file that is named may be one that a login is to make.
        if !self.file().exists() && credentials::is_chosen(self.options.auth_file.as_ref()) {
            return Ok(None);
        }
        let namespace = self.key.strip_prefix(&self.registry).unwrap_or_default().trim_start_matches('/');
        credentials::find(self.dirs, self.options.auth_file.as_ref(), &self.registry, namespace)
    }

    /// Ask the registry whether it takes `user` with `password`.
    ///
    /// # Errors
    /// It doesn't, or can't be asked.
    pub fn verify(&self, user: &str, password: &str) -> Result<()> {
        let mut options = self.options.clone();
        options.credentials = Some((user.to_owned(), password.to_owned()));
        let reference = Reference {
            registry: self.registry.clone(),
            repository: String::new(),
            target: Target::Tag(String::new()),
        };
        let connector = Connector::new(self.dirs, &options);
        let source = Source { reference, insecure: self.insecure };
        let client = connector.client_for(&source, Vec::new())?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the login")?;
        match runtime.block_on(client.ask(Method::GET, "/v2/", HeaderMap::new())) {
            Ok(_) => Ok(()),
            Err(Failure { kind: Kind::Denied, .. }) => {
                Err(anyhow!("log in to {}: it doesn't take this user with this password", self.registry))
                    .hint("type them again; many registries want an access token in place of the password")
            }
            Err(failure) => Err(failure.cause.context(format!("log in to {}", self.registry))),
        }
    }

    /// Keep them, in the file that is handed back or with the helper that it names.
    pub fn keep(&self, user: &str, password: &str) -> Result<PathBuf> {
        let path = self.file();
        match self.keeper(&path)? {
            Some((name, server)) => credential_helper::store(&name, &server, user, password)?,
            None => drop(auth_file::change(&path, Change::Put(&self.key, user, password))?),
        }
        Ok(path)
    }

    /// Forget them; false when there were none.
    pub fn forget(&self) -> Result<bool> {
        let path = self.file();
        let erased = match self.keeper(&path)? {
            Some((name, server)) => credential_helper::erase(&name, &server)?,
            None => false,
        };
        Ok(auth_file::change(&path, Change::Remove(&self.key))? || erased)
    }

    fn file(&self) -> PathBuf {
        credentials::own_file(self.dirs, self.options.auth_file.as_ref())
    }

    fn keeper(&self, path: &Path) -> Result<Option<(String, String)>> {
        // Helpers know whole registries only.
        let text = auth_file::read(path)?.filter(|text| self.key == self.registry && !text.is_empty());
        let keeper = text.map(|text| credentials::keeper(&text, path, &self.registry));
        let keeper = keeper.transpose().with_context(|| format!("read {}", path.display()));
        Ok(keeper.hint(credentials::mend(path))?.flatten())
    }
}

/// Forget all credentials of the file that login writes.
pub fn forget_all(dirs: &Dirs, file: Option<&PathBuf>) -> Result<()> {
    let path = credentials::own_file(dirs, file);
    if let Some(text) = auth_file::read(&path)?.filter(|text| !text.is_empty()) {
        for (server, name) in credentials::keepers(&text).hint(credentials::mend(&path))? {
            credential_helper::erase(&name, &server)?;
        }
        auth_file::change(&path, Change::Clear)?;
    }
    Ok(())
}
