//! The volumes of a container: what it gets when it is made, what that is in the runtime specification, and what is removed
//! with it.

use super::{
    find,
    image_defaults::ImageDefaults,
    mount_copies::COPY,
    record::Record,
    remove,
    request::Request,
    tmpfs,
    user_mount::{Source, UserMount, complete, parse_target},
    userns::Settled,
    volume_option::{ImageVolumes, VolumesFrom},
};
use crate::{
    error::{Explain, OURS},
    namespaces::Mapping,
    registry,
    storage::{ContainerDir, Digest, Store, Volume, VolumeName},
};
use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::Mount;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::Command,
};

/// All that container `dir` mounts beside the profile's own: what was asked for, then what other containers have, then the
/// image's volumes, each at a place that those before leave free. Volumes that there are not yet are made, and from here on
/// none of them can be removed.
///
/// # Errors
/// There is no such container or image; podman-run(1).
pub fn attach(
    store: &Store,
    request: &Request,
    image: &ImageDefaults<'_>,
    ids: &Settled,
    dir: &ContainerDir,
) -> Result<Vec<UserMount>> {
    let mut mounts = request.mounts.clone();
    let taken = |mounts: &[UserMount], target: &Path| {
        mounts.iter().any(|mount| mount.target == target)
            || request.tmpfs.iter().any(|tmpfs| tmpfs.target == target)
    };
    for from in &request.volumes_from {
        let theirs =
            of_container(store, from).with_context(|| format!("--volumes-from {}", from.container))?;
        for mount in theirs {
            if !taken(&mounts, &mount.target) {
                mounts.push(mount);
            }
        }
    }
    for place in &image.volumes {
        // One that is no place for a mount is a directory of the image, no more.
        let Ok(target) = parse_target(place) else { continue };
        if request.image_volumes == ImageVolumes::Bind && !taken(&mounts, &target) {
            let source = Source::Volume { name: None, anonymous: true, subpath: None, path: PathBuf::new() };
            mounts.push(UserMount { source, target, options: complete(&[], true)? });
        }
    }
    if mounts.is_empty() {
        return Ok(mounts);
    }
    for mount in mounts.iter().filter(|_| ids.mapping.is_rootless()) {
        let place = mount.target.display();
        if mount.is_mapped() && ids.own.is_rootless() {
            return Err(anyhow!("idmap on {place}: the kernel lets only root show a mount's ids as others"))
                .hint("`:U` gives the files to the container's user");
        }
        if mount.source == Source::Ramfs {
            return Err(anyhow!("ramfs on {place}: only root can mount one"))
                .hint("type=tmpfs does the same for all");
        }
    }
    look_up_images(store, &mut mounts, ids, dir)?;
    make(store, &mut mounts, dir)?;
    Ok(mounts)
}

/// The places of image volumes that are to be in memory.
pub fn in_memory(request: &Request, image: &ImageDefaults<'_>, mounts: &[UserMount]) -> Vec<tmpfs::Tmpfs> {
    let wanted = request.image_volumes == ImageVolumes::Tmpfs;
    let places = image.volumes.iter().filter(|_| wanted).filter_map(|place| tmpfs::parse(place).ok());
    let free = |tmpfs: &tmpfs::Tmpfs| {
        mounts.iter().all(|mount| mount.target != tmpfs.target)
            && request.tmpfs.iter().all(|other| other.target != tmpfs.target)
    };
    places.filter(free).collect()
}

/// Only what others can see, too: directories of the host and volumes.
fn of_container(store: &Store, from: &VolumesFrom) -> Result<Vec<UserMount>> {
    let dir = find::find(store, &from.container).status(OURS)?;
    let record = Record::read(&dir)?.ok_or_else(|| anyhow!("it was never finished"))?;
    let mut mounts = record.mounts;
    mounts.retain(|mount| matches!(mount.source, Source::Bind { .. } | Source::Volume { .. }));
    for mount in mounts.iter_mut().filter(|_| from.read_only.is_some()) {
        mount.options.retain(|word| !matches!(word.as_str(), "ro" | "rw"));
        mount.options.push(if from.read_only == Some(true) { "ro" } else { "rw" }.to_owned());
    }
    Ok(mounts)
}

/// Which layers the images have; as long as the container is there nobody collects them.
fn look_up_images(store: &Store, mounts: &mut [UserMount], ids: &Settled, dir: &ContainerDir) -> Result<()> {
    let (mut list, mut views) = (String::new(), String::new());
    // Until the list is written.
    let _hold = store.hold()?;
    for mount in mounts {
        let is_mapped = mount.is_mapped();
        let Source::Image { name, layers, view, .. } = &mut mount.source else { continue };
        let image = registry::find(store, store.dirs(), name)?
            .ok_or_else(|| anyhow!("--mount type=image: there is no image {name:?}"))
            .hint(format!("ctr pull {name}"))?;
        list.extend(image.layers.iter().map(|layer| format!("{layer}\n")));
        *layers = image.layers;
        *view = match (&ids.own, &ids.maps) {
            (Mapping::Ranges { .. }, Some(maps)) => Some(store.make_view(layers, &ids.own, maps, false)?),
            // As root the kernel shows the layers with the container's ids.
            (Mapping::Root, Some(_)) if !is_mapped => {
                mount.options.push("idmap".to_owned());
                None
            }
            _ => None,
        };
        views.extend(view.iter().map(|key| format!("{key}\n")));
    }
    if !views.is_empty() {
        dir.write(MOUNTED_VIEWS, views.as_bytes())?;
    }
    if list.is_empty() { Ok(()) } else { dir.write(MOUNTED_LAYERS, list.as_bytes()) }
}

/// In a container's directory: the layers of images that it mounts, which the collector leaves alone.
const MOUNTED_LAYERS: &str = "mounted-layers";
/// The views that it mounts.
const MOUNTED_VIEWS: &str = "mounted-views";

/// Let the collector leave view `key` alone as long as the container in `dir` is there.
pub fn keep_view(dir: &ContainerDir, key: &str) -> Result<()> {
    let mut list = String::from_utf8_lossy(&dir.read(MOUNTED_VIEWS)?.unwrap_or_default()).into_owned();
    if list.lines().any(|line| line == key) {
        return Ok(());
    }
    list += &format!("{key}\n");
    dir.write(MOUNTED_VIEWS, list.as_bytes())
}

fn make(store: &Store, mounts: &mut [UserMount], dir: &ContainerDir) -> Result<()> {
    let mut used = HashSet::new();
    for mount in &mut *mounts {
        if let Source::Volume { name, .. } = &mut mount.source {
            let name = match name {
                Some(name) => name,
                None => name.insert(VolumeName::random()?),
            };
            used.insert(name.clone());
        }
    }
    if used.is_empty() {
        return Ok(());
    }
    let lock = store.lock_volumes()?;
    // First: who removes volumes looks at this list.
    store.use_volumes(dir, used.iter(), &lock)?;
    for mount in mounts {
        let Source::Volume { name: Some(name), anonymous, path, .. } = &mut mount.source else { continue };
        let volume = match store.volume(name)? {
            Some(volume) => volume,
            None => {
                let new = Volume { anonymous: *anonymous, ..Volume::new(name.clone()) };
                store.create_volume(&new, &lock)?;
                new
            }
        };
        *path = volume.stands_for().map_or_else(|| store.volume_data(name), Path::to_owned);
    }
    Ok(())
}

/// Where what is in volume `name` lies, mounted if it has to be. For each start.
pub fn data(store: &Store, name: &VolumeName) -> Result<PathBuf> {
    let volume = store.volume(name)?.ok_or_else(|| anyhow!("volume {name} is gone"));
    let volume = volume.hint(format!("`ctr volume create {name}` makes an empty one"))?;
    match volume.stands_for() {
        Some(path) => Ok(path.to_owned()),
        None if volume.is_mounted() => mount(store, &volume),
        None => Ok(store.volume_data(name)),
    }
}

/// Mount the file system that `volume` is, for root and all containers, unless it is.
pub fn mount(store: &Store, volume: &Volume) -> Result<PathBuf> {
    let place = store.volume_data(&volume.name);
    let _lock = store.lock_volumes()?;
    if is_mount_point(&place)? {
        return Ok(place);
    }
    let option = |key: &str| volume.options.get(key).map(String::as_str);
    let words: Vec<&str> = volume
        .mount_options()
        .filter(|word| !word.starts_with("uid=") && !word.starts_with("gid="))
        .collect();
    let mut command = Command::new("mount");
    for (flag, value) in
        [("-t", option("type")), ("-o", Some(words.join(",")).as_deref().filter(|o| !o.is_empty()))]
    {
        command.args(value.into_iter().flat_map(|value| [flag, value]));
    }
    let ran =
        command.arg("--").arg(option("device").or(option("type")).unwrap_or("none")).arg(&place).output();
    let ran = ran.context("run mount(8)").hint("Debian: apt install mount")?;
    if !ran.status.success() {
        return Err(anyhow!("mount volume {}: {}", volume.name, String::from_utf8_lossy(&ran.stderr).trim()))
            .hint(format!("`ctr volume inspect {}` shows its options", volume.name));
    }
    Ok(place)
}

/// Unmount `volume` if it is mounted.
pub fn unmount(store: &Store, volume: &Volume) -> Result<()> {
    let place = store.volume_data(&volume.name);
    while volume.is_mounted() && is_mount_point(&place)? {
        let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
        rustix::mount::unmount(&place, flags).with_context(|| format!("unmount {}", place.display()))?;
    }
    Ok(())
}

fn is_mount_point(place: &Path) -> Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    let looked = statx(CWD, place, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE);
    let stat = looked.with_context(|| format!("look at {}", place.display()))?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Remove volume `name` and what is in it. Must be called before any thread exists.
///
/// # Errors
/// A container uses it, with exit status 2.
pub fn remove(store: &Store, name: &VolumeName) -> Result<()> {
    // A mount is no part of the store: it is not for us to delete what is in it.
    if let Ok(Some(volume)) = store.volume(name) {
        unless_used(store, name)?;
        unmount(store, &volume)?;
    }
    let lock = store.lock_volumes()?;
    let corpse = store.retire_volume(name, &lock)?;
    drop(lock);
    corpse.map_or(Ok(()), |corpse| remove::delete(&corpse))
}

fn unless_used(store: &Store, name: &VolumeName) -> Result<()> {
    match store.volume_in_use_by(name)?.is_empty() {
        true => Ok(()),
        // In its words.
        false => store.retire_volume(name, &store.lock_volumes()?).map(drop),
    }
}

/// Remove those of `volumes` that nobody has named and nobody uses any more.
pub fn remove_anonymous(store: &Store, volumes: &[VolumeName]) -> Result<()> {
    for name in volumes {
        if store.volume(name)?.is_some_and(|volume| volume.anonymous)
            && store.volume_in_use_by(name)?.is_empty()
        {
            remove(store, name)?;
        }
    }
    Ok(())
}

/// `mount`, number `number` of the container in `dir`, in the runtime specification's words and some of our own.
pub fn specified(store: &Store, mount: &UserMount, dir: &Path, number: usize) -> Result<Mount> {
    let mut options = mount.options.clone();
    let own = || dir.join(OVERLAYS).join(number.to_string());
    if matches!(mount.source, Source::Overlay { upper: None, .. } | Source::Image { .. }) {
        options.push(format!("copydir={}", own().join(COPY).display()));
    }
    let mut part = |subpath: &Option<PathBuf>| {
        options.extend(subpath.iter().map(|path| format!("subpath={}", path.display())));
    };
    let (kind, source) = match &mount.source {
        Source::Bind { path } => ("bind", path.clone()),
        Source::Volume { name, subpath, path, .. } => {
            part(subpath);
            let name = name.as_ref().context("a volume without a name")?;
            // Of one that stands for another directory there is nothing to fill.
            if *path == store.volume_data(name) {
                options.push(format!("volume={name}"));
            }
            ("bind", path.clone())
        }
        Source::Overlay { path, upper } => {
            let (upper, work) = match upper {
                Some(dirs) => dirs.clone(),
                None => {
                    options.push("volatile".to_owned());
                    (own().join("upper"), own().join("work"))
                }
            };
            options.push(format!("lowerdir={}", path.display()));
            options.extend([format!("upperdir={}", upper.display()), format!("workdir={}", work.display())]);
            ("overlay", PathBuf::from("overlay"))
        }
        Source::Image { subpath, layers, view, .. } => {
            part(subpath);
            let layer = |layer: &Digest| format!("lowerdir={}", store.layer_path(layer).display());
            match view.as_ref().map(|key| store.view(key, layers)) {
                None => options.extend(layers.iter().rev().map(layer)),
                Some(view) => {
                    options.push(format!("lowerdir={}", view.lower.display()));
                    options.extend(view.data.iter().map(|data| format!("datadir={}", data.display())));
                }
            }
            // Overlay wants two directories or one to write to; and right below a view what that points into.
            if !options.iter().any(|option| option.starts_with("datadir=")) {
                options.push(format!("lowerdir={}", store.skeleton().join("sys").display()));
            }
            if mount.has("rw") {
                options.push("volatile".to_owned());
                let dirs = [("upper", own().join("upper")), ("work", own().join("work"))];
                options.extend(dirs.map(|(name, dir)| format!("{name}dir={}", dir.display())));
            }
            ("overlay", PathBuf::from("overlay"))
        }
        Source::Devpts => {
            options.extend(["newinstance", "ptmxmode=0666", "nosuid", "noexec"].map(str::to_owned));
            ("devpts", PathBuf::from("devpts"))
        }
        Source::Ramfs => ("ramfs", PathBuf::from("ramfs")),
    };
    let mut specified = Mount::default();
    specified
        .set_destination(mount.target.clone())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source))
        .set_options(Some(options));
    Ok(specified)
}

/// In a container's directory: what is written to its overlays.
pub(super) const OVERLAYS: &str = "overlays";

/// The options of a new volume (podman-volume-create(1)): what this user can't have is refused by name.
pub fn check_options(volume: &Volume, rootless: bool) -> Result<()> {
    for key in volume.options.keys() {
        if !matches!(key.as_str(), "type" | "device" | "o") {
            bail!("{key}: invalid volume option: type, device and o are");
        }
    }
    let memory = volume.options.get("type").is_some_and(|kind| kind == "tmpfs");
    for word in volume.mount_options() {
        let key = word.split_once('=').map_or(word, |(key, _)| key);
        if matches!(key, "size" | "inodes") && !memory {
            return Err(anyhow!(
                "o={word}: a volume of limited size needs project quotas, which are not built"
            ))
            .hint("as root, --opt type=tmpfs --opt device=tmpfs --opt o=size=SIZE keeps one in memory");
        }
        if matches!(key, "uid" | "gid") && word[key.len()..].trim_start_matches('=').parse::<u32>().is_err() {
            bail!("o={word}: no number");
        }
    }
    if let Some(path) = volume.stands_for() {
        if !path.is_dir() {
            return Err(anyhow!("device={}: no such directory", path.display()))
                .hint(format!("mkdir -p {}", path.display()));
        }
        if !path.is_absolute() {
            bail!("device={}: not an absolute path", path.display());
        }
    } else if volume.is_mounted() && rootless {
        return Err(anyhow!("volumes with the options type and device have to be mounted, which only root can"))
            .hint("--opt o=bind --opt device=DIR shows a directory; `ctr run --tmpfs` mounts a file system in memory");
    }
    Ok(())
}
