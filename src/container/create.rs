//! Making a container: its directory, its name, the files that say what it is. When a step fails, those before it are
//! undone.

use super::{
    etc_files::{self, AddHost, Addresses, Dns},
    events, files, find, first_record, handover,
    health::Check,
    image_defaults::ImageDefaults,
    names, networks, places,
    record::Record,
    remove::{self, Remains},
    request::{HostsFile, NetworkMode, Request, Rootfs, SeccompChoice},
    rootfs::{FUSE, OVERLAY},
    secrets,
    sharing::{self, Whose},
    single,
    spec::{self, Placement},
    state,
    userns::Settled,
    volumes,
};
use crate::{
    error::Explain,
    namespaces::{Mapping, idmap},
    network::private,
    security::seccomp,
    storage::{ByErrno, ContainerDir, ContainerId, Digest, Image, Lock, Store},
};
use anyhow::{Context, Result, anyhow};
use oci_spec::{
    image::ImageConfiguration,
    runtime::{Mount, Spec},
};
use std::{
    fs,
    io::Write,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

/// What a container is made over.
#[derive(Debug)]
pub enum Base {
    /// An image of the store, its configuration, and the health check in it.
    Image(Box<Image>, Box<(ImageConfiguration, Option<Check>)>),
    /// A directory of the user's.
    Rootfs(Rootfs),
    /// Nothing.
    Nothing,
}

impl Base {
    /// Read the configuration of `image`.
    pub fn of_image(store: &Store, image: Image) -> Result<Base> {
        let config = store.read_blob(&image.config, CONFIG_LIMIT)?;
        let check = Check::of_image(&config);
        let config = ImageConfiguration::from_reader(config.as_slice())
            .with_context(|| format!("read the configuration of image {}", image.reference))?;
        Ok(Base::Image(Box::new(image), Box::new((config, check))))
    }

    /// What the image says about how to run it.
    pub fn defaults(&self) -> Result<ImageDefaults<'_>> {
        match self {
            Base::Image(_, config) => ImageDefaults::read(&config.0),
            Base::Rootfs(_) | Base::Nothing => Ok(ImageDefaults::default()),
        }
    }

    /// The lines of /etc/hosts that come before ours.
    fn hosts(&self, store: &Store, file: &HostsFile) -> Result<String> {
        let layers: Vec<PathBuf> = match (file, self) {
            (HostsFile::None, _) => return Ok(String::new()),
            (HostsFile::Text(text), _) => return Ok(text.clone()),
            (_, Base::Image(image, _)) => {
                image.layers.iter().rev().map(|layer| store.layer_path(layer)).collect()
            }
            (_, Base::Rootfs(rootfs)) => vec![rootfs.dir.clone()],
            (_, Base::Nothing) => return Ok(String::new()),
        };
        files::read_lower(&layers, b"etc/hosts", etc_files::HOSTS_LIMIT)
            .context("read the image's /etc/hosts")
    }

    fn layers(&self) -> &[Digest] {
        match self {
            Base::Image(image, ..) => &image.layers,
            Base::Rootfs(_) | Base::Nothing => &[],
        }
    }
}

/// A container that nobody else starts, stops or removes, because we hold its lock.
#[derive(Debug)]
pub struct Container {
    /// Where it lies.
    pub dir: ContainerDir,
    /// Held by whoever acts on it; by its monitor as long as it lives.
    pub lock: Lock,
    /// What was asked for.
    pub record: Record,
    /// How it will run.
    pub spec: Spec,
}

impl Container {
    /// The container in `dir`, made earlier.
    pub fn load(dir: ContainerDir, lock: Lock) -> Result<Container> {
        let reading = || format!("read container {}", dir.id().short());
        let record = Record::read(&dir).with_context(reading)?;
        let record = record.ok_or_else(|| anyhow!("it was never finished")).with_context(reading)?;
        let spec = read_spec(&dir)?;
        Ok(Container { dir, lock, record, spec })
    }
}

/// How the container in `dir` runs.
pub fn read_spec(dir: &ContainerDir) -> Result<Spec> {
    let spec = state::parse("specification", dir.read(SPEC)?)
        .and_then(|spec| spec.ok_or_else(|| anyhow!("its {SPEC} is missing")));
    spec.with_context(|| format!("read container {}", dir.id().short()))
}

/// Make the container that `request` asks for over `base`; `complete` sees its record before it is written.
///
/// # Errors
/// Its name or its cidfile is taken, a layer of the image is gone, nobody says what to run, or what `complete` says.
pub fn create(
    store: &Store,
    request: &Request,
    base: &Base,
    ids: &Settled,
    complete: impl FnOnce(&ContainerDir, &mut Record) -> Result<()>,
) -> Result<Container> {
    let defaults = base.defaults()?;
    helpers_follow(request, ids)?;
    let id = ContainerId::random()?;
    let hold = store.hold()?;
    let missing = base.layers().iter().find(|layer| !store.layer_path(layer).is_dir());
    if let Some(layer) = missing {
        return Err(anyhow!("layer {layer} of the image is missing")).hint("ctr pull --policy=always IMAGE");
    }
    let (dir, lock) = store.create_container(&id, base.layers())?;
    drop(hold);
    match furnish(store, request, base, &defaults, ids, &dir, complete) {
        Ok((record, spec)) => {
            events::record(store, "create", &record);
            Ok(Container { dir, lock, record, spec })
        }
        Err(failure) => {
            // What could not be made is taken away again; the failure is what counts.
            let _ = remove::retire(store, &dir, &lock, None, true).and_then(Remains::delete);
            Err(failure)
        }
    }
}

fn furnish(
    store: &Store,
    request: &Request,
    base: &Base,
    defaults: &ImageDefaults<'_>,
    ids: &Settled,
    dir: &ContainerDir,
    complete: impl FnOnce(&ContainerDir, &mut Record) -> Result<()>,
) -> Result<(Record, Spec)> {
    let root = store.mount_point();
    let mapping = &ids.mapping;
    let mounts = volumes::attach(store, request, defaults, ids, dir)?;
    let specified = |(number, mount)| volumes::specified(store, mount, dir.path(), number);
    let volumes: Vec<Mount> = mounts.iter().enumerate().map(specified).collect::<Result<_>>()?;
    let memory = volumes::in_memory(request, defaults, &mounts);
    let placement =
        Placement { id: dir.id(), root: &root, etc: dir.path(), mapping, volumes: &volumes, memory: &memory };
    let spec = spec::build(request, defaults, &placement)?;
    let secrets = secrets::copy(store, &request.secrets, dir)?;
    let mut record =
        Record { mounts, secrets, ..first_record::record(request, base, defaults, ids, dir, &spec)? };
    // Until the record is there nobody else takes the addresses.
    let _chosen = match &request.network {
        NetworkMode::Networks(wishes) if request.sharing.network.is_own() => {
            let lock = store.lock_networks()?;
            record.networks = networks::attach(store, dir.id().as_str(), wishes)?;
            Some(lock)
        }
        _ => None,
    };
    record.view = view(store, request, base, ids, dir)?;
    record.places = places::made(store, base, ids, dir, &record)?;
    // Where the user who runs us exists in the container, its first process sees to that.
    if ids.own.is_rootless() && handover::is_needed(mapping) {
        handover::upper(&ids.own, mapping, dir)?;
    }
    name(store, request, &mut record)?;
    complete(dir, &mut record)?;
    if let Dns::Servers(servers) = &request.dns
        && networks::forward_to(store, &record.networks, servers)?
    {
        record.dns.clone_from(servers);
    }
    let addresses = addresses(store, &record)?;
    let unknown = request.add_hosts.iter().find(|host| host.address.is_none() && addresses.host.is_none());
    if let Some(AddHost { names, .. }) = unknown {
        return Err(anyhow!(
            "--add-host {}:host-gateway: this network doesn't lead to the host",
            names.join(";")
        ))
        .hint("choose --network=private, or one that is not internal");
    }
    let resolv_conf = etc_files::host_resolv_conf(request);
    let files = etc_files::contents(
        request,
        dir.id().as_str(),
        record.name.as_str(),
        &record.hostname,
        &addresses,
        &resolv_conf,
        &base.hosts(store, &request.hosts_file)?,
    );
    let single = single::is_single(&ids.mapping).then(single::file);
    for file in files.into_iter().chain(single) {
        let path = dir.path().join(file.name);
        fs::write(&path, file.contents)
            .with_context(|| format!("write {}", path.display()))
            .hint_by_errno()?;
        // Readable by every user of the container whatever the umask was.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .with_context(|| format!("set the mode of {}", path.display()))?;
        if let Some((uid, gid)) = root_on_host(ids) {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid))
                .with_context(|| format!("give {} to the container's root", path.display()))?;
        }
    }
    if let SeccompChoice::File { path, json } = &request.seccomp {
        seccomp::from_profile(json, request.capabilities)
            .with_context(|| format!("read {}", path.display()))?;
        dir.write(PROFILE, json)?;
    }
    dir.write(SPEC, &serde_json::to_vec(&spec).context("encode the specification")?)?;
    sharing::mark(store, &record)?;
    // Last: a container that has a record is complete.
    record.write(dir)?;
    if let Some(cidfile) = &request.cidfile {
        fs::File::create_new(cidfile)
            .and_then(|mut file| file.write_all(dir.id().as_str().as_bytes()))
            .with_context(|| format!("write the container's id to {}", cidfile.display()))
            .hint("choose a file that doesn't exist yet")?;
    }
    Ok((record, spec))
}

/// What the files in /etc say of the network of `record`.
fn addresses(store: &Store, record: &Record) -> Result<Addresses> {
    let mut whose = record.clone();
    while let Whose::Container(id) = &whose.sharing.network {
        whose = Record::finished(&find::find(store, id)?)?;
    }
    if let Some(first) = whose.networks.first() {
        let dns = networks::nameserver(store, &whose.networks)?;
        let host = networks::lead_out(store, &whose.networks)?.then_some(private::HOST.into());
        return Ok(Addresses { own: Some(first.v4.into()), host, dns, asks: !record.dns.is_empty() });
    }
    if whose.network == "host" {
        return Ok(Addresses { host: Some(Ipv4Addr::LOCALHOST.into()), ..Addresses::default() });
    }
    let private = whose.network.starts_with("private") && whose.sharing.network.is_own();
    let ours = |address: Ipv4Addr| Some(IpAddr::from(address)).filter(|_| private);
    Ok(Addresses {
        own: ours(private::OWN),
        host: ours(private::HOST),
        dns: ours(private::DNS),
        ..Addresses::default()
    })
}

/// Claim the name that was asked for, or the first made-up one that nobody has.
fn name(store: &Store, request: &Request, record: &mut Record) -> Result<()> {
    if request.name.is_some() {
        return store.claim_name(&record.name, &record.id);
    }
    for attempt in 1.. {
        match store.claim_name(&record.name, &record.id) {
            Err(_) if attempt < 100 => record.name = names::made_up(attempt)?,
            claimed => return claimed,
        }
    }
    Ok(())
}

/// fuse-overlayfs works as user 0 of the container.
fn helpers_follow(request: &Request, ids: &Settled) -> Result<()> {
    let has_root = ids.mapping.has_user(0) && ids.mapping.has_group(0);
    let driver = request.storage_driver.as_deref().unwrap_or(OVERLAY);
    if driver == OVERLAY || ids.maps.is_none() {
        return Ok(());
    }
    if !ids.own.is_rootless() {
        return Err(anyhow!("{driver} can't map the ids of root's files")).hint("drop --storage-driver");
    }
    if driver == FUSE && !(ids.mapping.has_caller() && has_root) {
        return Err(anyhow!(
            "fuse-overlayfs can't reach your files in a user namespace without you and a user 0"
        ))
        .hint("drop --storage-driver, or map both, as --userns=keep-id does");
    }
    Ok(())
}

/// What shows the image's files with the container's ids. Root's are shown by idmapped mounts, made at each start.
fn view(
    store: &Store,
    request: &Request,
    base: &Base,
    ids: &Settled,
    dir: &ContainerDir,
) -> Result<Option<String>> {
    match (base, &ids.own, &ids.maps) {
        (Base::Image(image, ..), Mapping::Ranges { .. }, Some(maps)) => {
            let copies = request.storage_driver.as_deref().is_some_and(|driver| driver != OVERLAY);
            let key = store.make_view(&image.layers, &ids.own, maps, copies)?;
            // For the collector, which reads no records.
            dir.write("view", key.as_bytes())?;
            Ok(Some(key))
        }
        _ => Ok(None),
    }
}

/// Whom root has to give the container's own files to.
fn root_on_host(ids: &Settled) -> Option<(u32, u32)> {
    let maps = ids.maps.as_ref().filter(|_| !ids.own.is_rootless())?;
    let (uid, gid) = ids.mapping.builder();
    idmap::to_host(&maps.uids, uid).zip(idmap::to_host(&maps.gids, gid))
}

const SPEC: &str = "config.json";
/// The seccomp profile that the user chose.
pub const PROFILE: &str = "seccomp.json";
/// No configuration needs more, in bytes.
const CONFIG_LIMIT: u64 = 8 << 20;
