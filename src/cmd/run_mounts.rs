//! The options of `ctr run` that mount something: sources of the host are looked at, and made absolute.

use super::{
    option_value::{each, read_bounded},
    run_args::Args,
};
use crate::{
    container::{
        cdi, devices,
        etc_files::HOSTS_LIMIT,
        mount_option::{self, MountOption},
        request::HostsFile,
        tmpfs::{self, Tmpfs},
        user_mount::{Source, UserMount, parse_target},
        volume_option,
    },
    error::Explain,
};
use anyhow::{Context, Result, anyhow, bail};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// What `--volume`, `--mount`, `--tmpfs` and `--device` ask for.
pub struct Wanted {
    pub mounts: Vec<UserMount>,
    pub tmpfs: Vec<Tmpfs>,
    pub devices: Vec<devices::Device>,
    pub env: Vec<(String, String)>,
}

impl Args {
    /// All of it, each place once.
    pub fn wanted(&self) -> Result<Wanted> {
        let (devices, edits) = self.devices()?;
        let mut wanted = Wanted { mounts: Vec::new(), tmpfs: Vec::new(), devices, env: Vec::new() };
        wanted.mounts =
            each("--volume", &self.volume, "--volume DIR:/data or --volume NAME:/data:ro", |text| {
                settle(volume_option::parse(text)?)
            })?;
        wanted.tmpfs = each("--tmpfs", &self.tmpfs, "--tmpfs /tmp:size=64m,noexec", tmpfs::parse)?;
        let example =
            "--mount type=bind,src=DIR,dst=/data, type=volume,src=NAME,dst=/data or type=tmpfs,dst=/data";
        let more: Vec<Vec<MountOption>> =
            each("--mount", &self.mount, example, |text| match mount_option::parse(text)? {
                MountOption::Glob { pattern, target, options } => {
                    expand(&pattern, target.as_deref(), &options)
                }
                MountOption::Mount(mount) => Ok(vec![MountOption::Mount(settle(mount)?)]),
                tmpfs => Ok(vec![tmpfs]),
            })?;
        for one in more.into_iter().flatten() {
            match one {
                MountOption::Mount(mount) => wanted.mounts.push(mount),
                MountOption::Tmpfs(tmpfs) => wanted.tmpfs.push(tmpfs),
                MountOption::Glob { .. } => {}
            }
        }
        for edit in edits {
            for mount in edit.mounts {
                wanted.mounts.push(settle(mount).context("--device")?);
            }
            wanted.env.extend(edit.env);
        }
        once(&mut wanted)?;
        Ok(wanted)
    }

    fn devices(&self) -> Result<(Vec<devices::Device>, Vec<cdi::Edits>)> {
        let directories: Vec<PathBuf> = match self.cdi_spec_dir.is_empty() {
            true => cdi::DIRECTORIES.map(PathBuf::from).to_vec(),
            false => self.cdi_spec_dir.clone(),
        };
        let find = |text: &str| match cdi::parse(text) {
            Some((kind, name)) => cdi::find(kind, name, &directories),
            None => {
                let (host, container, rights) = devices::parse(text)?;
                let devices = devices::find(Path::new(host), Path::new(container), rights)?;
                Ok(cdi::Edits { devices, ..cdi::Edits::default() })
            }
        };
        let mut edits: Vec<cdi::Edits> = each("--device", &self.device, "--device /dev/fuse", find)?;
        let mut all = if self.privileged { devices::of_host() } else { Vec::new() };
        for device in edits.iter_mut().flat_map(|edit| std::mem::take(&mut edit.devices)) {
            all.retain(|other| other.container != device.container);
            all.push(device);
        }
        Ok((all, edits))
    }

    pub fn hosts(&self) -> Result<HostsFile> {
        match self.hosts_file.as_deref() {
            None | Some("none" | "") => Ok(HostsFile::None),
            Some("image") => Ok(HostsFile::Image),
            Some(path) => {
                let text = read_bounded("--hosts-file", Path::new(path), HOSTS_LIMIT)?;
                Ok(HostsFile::Text(String::from_utf8_lossy(&text).into_owned()))
            }
        }
    }
}

/// One thing in one place. The same said twice is said once (podman-run(1)).
fn once(wanted: &mut Wanted) -> Result<()> {
    let mut mounts: Vec<UserMount> = Vec::new();
    for mount in std::mem::take(&mut wanted.mounts) {
        match mounts.iter().find(|other| other.target == mount.target) {
            None => mounts.push(mount),
            Some(same) if *same == mount => {}
            Some(_) => return duplicate(&mount.target),
        }
    }
    wanted.mounts = mounts;
    let targets = wanted.tmpfs.iter().enumerate().map(|(number, tmpfs)| (number, &tmpfs.target));
    for (number, target) in targets {
        let before = wanted.tmpfs[..number].iter().any(|other| other.target == *target);
        if before || wanted.mounts.iter().any(|mount| mount.target == *target) {
            return duplicate(target);
        }
    }
    Ok(())
}

fn duplicate(target: &Path) -> Result<()> {
    Err(anyhow!("{}: duplicate mount destination", target.display()))
        .hint("drop one of the two, or name another place")
}

/// Sources of the host, looked at.
fn settle(mut mount: UserMount) -> Result<UserMount> {
    let labelled = mount.options.iter().any(|word| matches!(word.as_str(), "z" | "Z"));
    if labelled && Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(anyhow!("SELinux labels (z, Z) are not built yet")).hint(
            "chcon -Rt container_file_t PATH labels it by hand; --security-opt label=disable does without",
        );
    }
    let (chown, link) = (mount.has("U"), mount.has("no-dereference"));
    match &mut mount.source {
        Source::Bind { path } => {
            *path = if link && path.is_symlink() { std::path::absolute(&*path)? } else { there(path)? };
            if chown {
                may_be_given(path)?;
            }
        }
        Source::Overlay { path, upper } => {
            *path = directory(path)?;
            if let Some((upper, work)) = upper {
                (*upper, *work) = (directory(upper)?, directory(work)?);
            }
        }
        _ => {}
    }
    Ok(mount)
}

/// The absolute path of something that is there. Podman makes nothing that is missing; nor do we.
fn there(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let looked = fs::metadata(&path).with_context(|| format!("statfs {}", path.display()));
    let parent = path.display();
    looked.hint(format!("make it first: `mkdir -p {parent}`"))?;
    Ok(path)
}

fn directory(path: &Path) -> Result<PathBuf> {
    let path = there(path)?;
    match path.is_dir() {
        true => Ok(path),
        false => bail!("{} is no directory", path.display()),
    }
}

/// `:U` changes the host: nothing that it stands on is given away.
fn may_be_given(path: &Path) -> Result<()> {
    const SYSTEM: [&str; 20] = [
        "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc",
        "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var",
    ];
    let real = fs::canonicalize(path).with_context(|| format!("look at {}", path.display()))?;
    let home = env::var_os("HOME").is_some_and(|home| real == Path::new(&home));
    let deep = ["/boot", "/dev", "/etc", "/proc", "/sys", "/usr", "/bin", "/sbin", "/lib"];
    if home || SYSTEM.iter().any(|dir| real == Path::new(dir)) || deep.iter().any(|dir| real.starts_with(dir))
    {
        return Err(anyhow!("U: chowning host path {} is not allowed", real.display()))
            .hint(format!("do it by hand if you have to: `chown -R UID:GID {}`", real.display()));
    }
    Ok(())
}

/// Each file and directory of a pattern, at a place of its own.
fn expand(pattern: &str, target: Option<&Path>, options: &[String]) -> Result<Vec<MountOption>> {
    let absolute = std::path::absolute(pattern)?;
    let text = absolute.to_str().context("the pattern is no text")?;
    let mut found = Vec::new();
    for path in glob::glob(text).with_context(|| format!("glob {pattern:?}"))? {
        let path = path.with_context(|| format!("look for {pattern:?}"))?;
        let place = match (target, path.file_name()) {
            (Some(directory), Some(name)) => directory.join(name),
            _ => path.clone(),
        };
        let target = parse_target(&place.to_string_lossy())?;
        let mount = UserMount { source: Source::Bind { path }, target, options: options.to_vec() };
        found.push(MountOption::Mount(settle(mount)?));
    }
    if found.is_empty() {
        return Err(anyhow!("no file paths matching glob {pattern:?}"))
            .hint("`ls` shows what there is; quote the pattern");
    }
    Ok(found)
}
