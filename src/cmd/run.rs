//! `ctr run`: from a request to an exit status. The steps below are those of ARCHITECTURE.md's walk.

pub use super::run_args::Args;
use super::{Globals, foreground, log_options, run_args::Stream, start};
use crate::{
    container::{
        create::{self, Base, Container},
        remove::{self, Remains},
        request::{NetworkMode, Request, Source},
        userns::{self, Userns},
    },
    error::Explain,
    monitor::{self, Begun, Manner, Readiness},
    namespaces::{Ahead, Mapping, probe},
    network,
    registry::{self, Fetch},
    storage::{ContainerDir, Store},
};
use anyhow::{Result, anyhow};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::{ffi::OsString, fs, os::unix::ffi::OsStrExt, path::Path};

/// What almost every container needs, whatever its options are: its user namespace is mapped while they are read.
pub struct Early {
    mapping: Mapping,
    ahead: Option<Ahead>,
}

impl Default for Early {
    fn default() -> Early {
        Early { mapping: Mapping::detect(), ahead: None }
    }
}

impl Early {
    /// For a command `line` that seems to ask for a namespace that can be foreseen, and for nothing that descriptors of ours
    /// would trouble. If that is wrong, a process was started in vain.
    pub fn of(line: &[OsString]) -> Option<Early> {
        let verb = line.iter().skip(1).find(|word| !word.as_bytes().starts_with(b"-"))?;
        let troubled = |word: &OsString| {
            let options = ["--uidmap", "--gidmap", "--sub", "--pod", "--preserve-fd", "--help"];
            options.iter().any(|option| word.as_bytes().starts_with(option.as_bytes()))
        };
        if verb != "run" || line.iter().any(troubled) {
            return None;
        }
        let mut modes = line.iter().filter_map(|word| word.to_str()?.strip_prefix("--userns"));
        let userns = match modes.next() {
            Some(mode) => userns::parse(mode.strip_prefix('=')?).ok()?,
            None => Userns::Host,
        };
        let mapping = Mapping::detect();
        let ahead = userns.foreseen(&mapping).as_ref().and_then(Ahead::begin);
        Some(Early { mapping, ahead })
    }

    /// The namespace for `request`, where that can be foreseen. Who has namespaces in common with others lives in theirs.
    fn suit(self, request: &Request) -> (Mapping, Option<Ahead>) {
        let Early { mapping, ahead } = self;
        let alone = request.part.is_none() && request.sharing.containers().next().is_none();
        let wanted = request.userns.foreseen(&mapping).filter(|_| alone);
        let ahead = wanted
            .and_then(|wanted| ahead.filter(|ahead| ahead.suits(&wanted)).or_else(|| Ahead::begin(&wanted)));
        (mapping, ahead)
    }
}

/// Run it; the container's exit status.
pub fn run(args: Args, globals: &Globals, early: Early) -> Result<u8> {
    let (detach, die_with_parent, attach) = (args.detach, args.die_with_parent, args.attach.clone());
    let mut request = args.into_request()?;
    let store = globals.store()?;
    let (mapping, ahead) = early.suit(&request);
    let container = make(&store, globals, &mut request, &mapping)?;
    let (dir, record) = (container.dir.clone(), container.record.clone());
    // A pod is there for its members; any other has to run already (podman-run(1)).
    if record.member_of.is_some() {
        start::others(&store, &record)?;
    }
    if detach {
        started(
            &store,
            &request,
            &dir,
            monitor::begin(&store, container, &mapping, ahead, Manner::BACKGROUND),
        )?;
        warn_of_logout(&store);
        super::output::line(dir.id())?;
        return Ok(0);
    }
    if die_with_parent {
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
    let readiness = Readiness::new(request.tty && request.interactive)?;
    let attached = |stream| attach.is_empty() || attach.contains(&stream);
    let output = [attached(Stream::Stdout), attached(Stream::Stderr)];
    let manner = Manner { output, ..Manner::foreground(request.interactive) };
    let begun = started(&store, &request, &dir, monitor::begin(&store, container, &mapping, ahead, manner))?;
    foreground::attend(begun, &record, request.interactive, request.sig_proxy, &readiness)
}

/// Make the container and print its id.
pub fn create(args: Args, globals: &Globals) -> Result<u8> {
    if args.detach {
        return Err(anyhow!("--detach can't be used with create"))
            .hint("`ctr start` starts in the background");
    }
    let mut request = args.into_request()?;
    let container = make(&globals.store()?, globals, &mut request, &Mapping::detect())?;
    super::output::line(container.dir.id())?;
    Ok(0)
}

/// Pull the image if need be and make the container.
pub fn make(store: &Store, globals: &Globals, request: &mut Request, mapping: &Mapping) -> Result<Container> {
    warn_of_rights(request);
    request.storage_driver = globals.storage_driver()?.map(|driver| driver.word().to_owned());
    note_single_mapping(store, mapping);
    note_covered_proc(store, mapping);
    super::pod_create::enter(store, request)?;
    let base = base(store, request)?;
    connection(request)?;
    note_unreachable_ports(request);
    if let (true, Some(name)) = (request.replace, &request.name)
        && let Some(id) = store.named(name)?
    {
        super::rm::remove(store, &store.container(&id), true, false)?;
    }
    request.userns = request.sharing.settle(store, mapping.is_rootless(), &request.userns)?;
    request.hostname = request.sharing.hostname(store)?.or(request.hostname.take());
    let ids = request.userns.settle(store, &base, request.user.as_ref(), mapping.clone())?;
    create::create(store, request, &base, &ids, log_options::fill_tag)
}

/// As Podman does: who shares the host's network has its ports anyway.
fn note_unreachable_ports(request: &Request) {
    let ours = !matches!(request.network, NetworkMode::None | NetworkMode::Pasta(_));
    let wanted = !request.ports.is_empty() || request.publish_all;
    if wanted && !(request.own_network() && ours) {
        super::hint("ports can't be published without a network of the container's own, so none are");
    }
}

/// What `--device` can't do.
fn warn_of_rights(request: &Request) {
    for device in request.devices.iter().filter(|d| !d.rights.contains('r') || !d.rights.contains('w')) {
        super::hint(&format!(
            "--device {}:{}: there is no cgroup to hold root of the container to these rights; file modes alone say them",
            device.host.display(),
            device.rights
        ));
    }
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
        Source::Nothing => Ok(Base::Nothing),
    }
}

/// The network there can be. From here on the request says the same.
fn connection(request: &mut Request) -> Result<()> {
    let explicit = match &request.network {
        _ if !request.sharing.network.is_own() => return Ok(()),
        NetworkMode::Private { explicit, .. } => *explicit,
        NetworkMode::Networks(_) => true,
        NetworkMode::None | NetworkMode::Host | NetworkMode::Pasta(_) => return Ok(()),
    };
    if let Some(missing) = network::fallback(explicit)? {
        super::hint(&missing);
        request.network = NetworkMode::None;
    }
    Ok(())
}

/// Nothing is left of a container of `run` that never started.
fn started(store: &Store, request: &Request, dir: &ContainerDir, begun: Result<Begun>) -> Result<Begun> {
    begun.inspect_err(|_| {
        // Its monitor is about to let go.
        if let Ok(Some(lock)) = dir.lock() {
            let _ = remove::retire(store, dir, &lock, None, true).and_then(Remains::delete);
        }
        for file in request.cidfile.iter().chain(&request.pidfile) {
            let _ = fs::remove_file(file);
        }
    })
}

/// Once a boot: systemd ends what a user left behind at the last logout, unless the user lingers (loginctl(1)).
fn warn_of_logout(store: &Store) {
    let uid = rustix::process::getuid().as_raw();
    let user = std::env::var("USER").unwrap_or_default();
    let managed = uid != 0 && Path::new(&format!("/run/systemd/users/{uid}")).exists();
    if !managed || user.is_empty() || Path::new("/var/lib/systemd/linger").join(&user).exists() {
        return;
    }
    if fs::File::create_new(store.dirs().runtime.join("linger-noted")).is_ok() {
        super::hint("the container ends when you log out; `loginctl enable-linger` keeps it running");
    }
}

/// Once a boot: inside another container /proc may be the outer one's.
fn note_covered_proc(store: &Store, mapping: &Mapping) {
    let noted: &Path = &store.dirs().runtime.join("proc-noted");
    if probe::proc_is_covered() && fs::File::create_new(noted).is_ok() && probe::proc(mapping).is_err() {
        super::hint(
            "/proc is covered in part here, so containers see this one in place of their own; the outer container's \
             --privileged, or in Podman --security-opt unmask=ALL, would change that",
        );
    }
}

/// Once a boot: a container of one id surprises those who know the full mapping.
fn note_single_mapping(store: &Store, mapping: &Mapping) {
    let Mapping::Single { why, .. } = mapping else { return };
    let noted: &Path = &store.dirs().runtime.join("single-id-noted");
    if fs::File::create_new(noted).is_ok() {
        super::hint(&format!(
            "{why}; containers run with your own id only. `sudo usermod --add-subuids 100000-165535 --add-subgids \
             100000-165535 $USER` gives them more"
        ));
    }
}
