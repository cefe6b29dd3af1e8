//! `ctr run`: from a request to an exit status. The steps below are those of ARCHITECTURE.md's walk.

pub use super::run_args::Args;
use super::{Globals, foreground};
use crate::{
    container::{
        create::{self, Base, Container},
        remove,
        request::{NetworkMode, Request, Source},
    },
    monitor::{self, Manner},
    namespaces::Mapping,
    network,
    registry::{self, Fetch},
    storage::Store,
};
use anyhow::Result;
use std::{fs, path::Path};

/// Run it; the container's exit status.
pub fn run(args: Args, globals: &Globals) -> Result<u8> {
    let detach = args.detach;
    let mut request = args.into_request()?;
    request.storage_driver = globals.storage_driver.map(|driver| driver.word().to_owned());
    let store = globals.store()?;
    let mapping = Mapping::detect();
    let container = make(&store, &mut request, &mapping)?;
    let manner = Manner { foreground: !detach, stdin: request.interactive && !detach, output: !detach };
    let readiness = match detach {
        true => None,
        false => Some(monitor::Readiness::new(request.tty && request.interactive)?),
    };
    let (dir, record) = (container.dir.clone(), container.record.clone());
    let begun = match monitor::begin(&store, container, &mapping, manner) {
        Ok(begun) => begun,
        Err(failure) => {
            undo(&store, &request, &dir);
            return Err(failure);
        }
    };
    match readiness {
        Some(readiness) => foreground::attend(begun, &record, request.sig_proxy, &readiness),
        None => {
            super::output::print(&format!("{}\n", dir.id()))?;
            Ok(0)
        }
    }
}

/// Pull the image if need be and make the container.
pub fn make(store: &Store, request: &mut Request, mapping: &Mapping) -> Result<Container> {
    note_single_mapping(store, mapping);
    let base = base(store, request)?;
    connection(request)?;
    create::create(store, request, &base, mapping)
}

/// The image, pulled if need be, or the directory that was named.
fn base(store: &Store, request: &Request) -> Result<Base> {
    match &request.source {
        Source::Image { name, pull } => {
            let fetch = Fetch {
                platform: pull.platform.as_deref(),
                quiet: pull.quiet,
                tls_verify: pull.tls_verify,
                authfile: pull.authfile.as_deref(),
            };
            Base::of_image(store, registry::ensure(store, name, pull.policy, &fetch)?)
        }
        Source::Rootfs(rootfs) => Ok(Base::Rootfs(rootfs.clone())),
    }
}

/// The network there can be. From here on the request says the same.
fn connection(request: &mut Request) -> Result<()> {
    if let NetworkMode::Private { explicit } = request.network
        && let (_, Some(missing)) = network::private(explicit)?
    {
        super::hint(&missing);
        request.network = NetworkMode::None;
    }
    Ok(())
}

/// Nothing is left of a container that never started.
fn undo(store: &Store, request: &Request, dir: &crate::storage::ContainerDir) {
    // Its monitor is about to let go.
    if let Ok(Some(lock)) = dir.lock() {
        let _ = remove::retire(store, dir, &lock, None);
    }
    for file in request.cidfile.iter().chain(&request.pidfile) {
        let _ = fs::remove_file(file);
    }
}

/// Once a boot: a container of one id surprises those who know the full mapping.
fn note_single_mapping(store: &Store, mapping: &Mapping) {
    let Mapping::Single { why } = mapping else { return };
    let noted: &Path = &store.dirs().runtime.join("single-id-noted");
    if fs::File::create_new(noted).is_ok() {
        super::hint(&format!(
            "{why}; containers run with your own id only. `sudo usermod --add-subuids 100000-165535 --add-subgids \
             100000-165535 $USER` gives them more"
        ));
    }
}
