//! From what the user asked for and what the image says to the OCI runtime specification of a container. Pure.

use super::{
    environment::{self, Variable},
    image_defaults::ImageDefaults,
    limits::Ulimit,
    profile,
    request::{Request, Systemd},
    signal::Signal,
    single,
    tmpfs::Tmpfs,
    users::UserSpec,
};
use crate::{error::Explain, namespaces::Mapping, security::CapSet, storage::ContainerId, weakened};
use anyhow::{Context, Result, anyhow};
use oci_spec::runtime::{
    Capabilities, Linux, LinuxCapabilities, LinuxDevice, LinuxDeviceType, Mount, PosixRlimit,
    PosixRlimitType, Process, Root, Spec, User,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where the container lies, and whose ids it has.
#[derive(Debug)]
pub struct Placement<'a> {
    /// Its id.
    pub id: &'a ContainerId,
    /// Its root file system on the host.
    pub root: &'a Path,
    /// The directory with the files of [`super::etc_files`].
    pub etc: &'a Path,
    /// Its ids.
    pub mapping: &'a Mapping,
    /// What the user mounts.
    pub volumes: &'a [Mount],
    /// The image's volumes that are kept in memory.
    pub memory: &'a [Tmpfs],
}

/// The specification. The user's ids, groups, home and lesser capabilities are not in it: they depend on files of the
/// root, which are read when it is mounted.
///
/// # Errors
/// Neither the user nor the image names a command.
pub fn build(request: &Request, image: &ImageDefaults<'_>, placement: &Placement<'_>) -> Result<Spec> {
    let hostname = hostname(request, placement.id);
    let mut root = Root::default();
    root.set_path(placement.root.to_owned()).set_readonly(Some(request.read_only));
    let annotations = match weakened::is("image-labels") {
        true => labels(request, image),
        false => request.annotations.clone(),
    };
    let mut mounts = profile::mounts(request, placement.etc, placement.volumes, placement.memory);
    if runs_systemd(request, image) {
        profile::for_systemd(&mut mounts);
    }
    if single::is_single(placement.mapping) {
        mounts.push(single::mount(placement.etc));
    }
    let mut spec = Spec::default();
    spec.set_root(Some(root))
        .set_mounts(Some(mounts))
        .set_process(Some(process(request, image, &hostname)?))
        .set_hostname(Some(hostname))
        .set_annotations(Some(annotations.into_iter().collect()))
        .set_linux(Some(linux(request, placement.mapping)));
    Ok(spec)
}

/// The container's host name.
pub fn hostname(request: &Request, id: &ContainerId) -> String {
    request.hostname.clone().unwrap_or_else(|| id.short().to_owned())
}

/// Whom to look up in the root: the user asked for, else the image's, else root.
pub fn user(request: &Request, image: &ImageDefaults<'_>) -> Result<UserSpec> {
    match &request.user {
        Some(user) => Ok(user.clone()),
        None => image.user.parse().context("read the image's user").hint("choose one with --user"),
    }
}

/// What asks the container to stop.
pub fn stop_signal(request: &Request, image: &ImageDefaults<'_>) -> Result<Signal> {
    match (request.stop_signal, image.stop_signal) {
        (Some(signal), _) => Ok(signal),
        (None, "") if runs_systemd(request, image) => "SIGRTMIN+3".parse(),
        (None, "") => Ok(Signal::TERM),
        (None, text) => {
            text.parse().context("read the image's stop signal").hint("choose one with --stop-signal")
        }
    }
}

/// Whether the first process is systemd, which wants some places to write in (systemd's CONTAINER_INTERFACE) and stops on a
/// signal of its own.
pub fn runs_systemd(request: &Request, image: &ImageDefaults<'_>) -> bool {
    let command = || arguments(request, image).ok()?.into_iter().next();
    match request.systemd {
        Systemd::Always => true,
        Systemd::False => false,
        Systemd::True => command().is_some_and(|command| {
            ["/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"].contains(&command.as_str())
                || command.rsplit('/').next() == Some("systemd")
        }),
    }
}

/// The image's labels, and the user's in their place or beside them.
pub fn labels(request: &Request, image: &ImageDefaults<'_>) -> BTreeMap<String, String> {
    let own = image.labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    own.chain(request.labels.clone()).collect()
}

fn process(request: &Request, image: &ImageDefaults<'_>, hostname: &str) -> Result<Process> {
    let mut user = User::default();
    user.set_umask(Some(request.umask));
    let env = environment(request, image, hostname);
    let env = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut process = Process::default();
    process
        .set_terminal(Some(request.tty))
        .set_user(user)
        .set_args(Some(arguments(request, image)?))
        .set_env(Some(env))
        .set_cwd(working_directory(request, image))
        .set_capabilities(Some(capabilities(request.capabilities)))
        .set_rlimits(Some(rlimits(request)?))
        .set_oom_score_adj(request.oom_score_adj)
        .set_apparmor_profile(request.apparmor.profile()?)
        .set_no_new_privileges(Some(request.no_new_privileges));
    Ok(process)
}

/// Docker's and Podman's rule: an entrypoint of the user's own turns the image's command off.
fn arguments(request: &Request, image: &ImageDefaults<'_>) -> Result<Vec<String>> {
    let entrypoint = request.entrypoint.as_deref().unwrap_or(image.entrypoint);
    let replaced = request.entrypoint.as_ref().is_some_and(|words| !words.is_empty());
    let command = match &request.command[..] {
        [] if !replaced => image.cmd,
        command => command,
    };
    let entrypoint = if matches!(entrypoint, [one] if one.is_empty()) { &[] } else { entrypoint };
    let arguments = [entrypoint, command].concat();
    if arguments.is_empty() {
        return Err(anyhow!("neither the command line nor the image says what to run"))
            .hint("name a command after the image: ctr run IMAGE COMMAND");
    }
    Ok(arguments)
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Ours, then the image's, then the user's. Programs that look for `container` to learn that they run in one take any
/// value (systemd's CONTAINER_INTERFACE). HOME comes with the user.
fn environment(request: &Request, image: &ImageDefaults<'_>, hostname: &str) -> Vec<Variable> {
    let mut env = Vec::new();
    let ours = [("PATH", PATH), ("container", "ctr"), ("HOSTNAME", hostname)];
    let terminal = request.tty.then_some(("TERM", "xterm"));
    let of_user = request.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in ours.into_iter().chain(terminal).chain(image.env.iter().copied()).chain(of_user) {
        environment::set(&mut env, name, value);
    }
    env
}

fn working_directory(request: &Request, image: &ImageDefaults<'_>) -> PathBuf {
    Path::new("/").join(request.workdir.as_deref().unwrap_or(image.workdir))
}

/// Root's sets. Inheritable and ambient stay empty (CVE-2022-24769); what another user keeps is settled with its ids.
fn capabilities(bounding: CapSet) -> LinuxCapabilities {
    let set: Capabilities = bounding.iter().filter_map(in_specification).collect();
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(set.clone()))
        .set_effective(Some(set.clone()))
        .set_permitted(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    sets
}

/// The specification's word for a capability. The two crates share only the kernel's names.
fn in_specification(capability: caps::Capability) -> Option<oci_spec::runtime::Capability> {
    serde_json::from_value(serde_json::Value::String(capability.to_string())).ok()
}

/// As many open files as Podman gives; where the host has a lower hard limit, setting it cuts it.
const OPEN_FILES: Ulimit = Ulimit { resource: PosixRlimitType::RlimitNofile, soft: 1 << 20, hard: 1 << 20 };

fn rlimits(request: &Request) -> Result<Vec<PosixRlimit>> {
    let default = Some(OPEN_FILES).filter(|_| !request.inherit_limits);
    let mut limits: Vec<Ulimit> = Vec::new();
    for limit in default.iter().chain(&request.ulimits) {
        limits.retain(|other| other.resource != limit.resource);
        limits.push(*limit);
    }
    limits.into_iter().map(Ulimit::to_rlimit).collect()
}

fn linux(request: &Request, mapping: &Mapping) -> Linux {
    let unless_privileged = |paths: &[&str]| {
        let paths = if request.privileged { &[] } else { paths };
        Some(paths.iter().map(|path| (*path).to_owned()).collect())
    };
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(profile::namespaces(request, mapping)))
        .set_sysctl(Some(profile::sysctls(request, mapping)))
        .set_devices(Some(request.devices.iter().map(device).collect()))
        .set_masked_paths(unless_privileged(&profile::MASKED))
        .set_readonly_paths(unless_privileged(&profile::READ_ONLY))
        .set_resources(None);
    linux
}

fn device(device: &super::devices::Device) -> LinuxDevice {
    let mut specified = LinuxDevice::default();
    specified
        .set_path(device.container.clone())
        .set_typ(if device.block { LinuxDeviceType::B } else { LinuxDeviceType::C })
        .set_major(device.major.into())
        .set_minor(device.minor.into())
        .set_file_mode(Some(device.mode));
    specified
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{
        grammar::parse_entrypoint, image_defaults::tests::image, limits::parse_ulimit,
        request::tests::request,
    };

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn specified(request: &Request, config: &str) -> Result<Spec> {
        let placement = Placement {
            id: &ID.parse().unwrap(),
            root: Path::new("/c/merged"),
            etc: Path::new("/c"),
            mapping: &Mapping::Root,
            volumes: &[],
            memory: &[],
        };
        build(request, &ImageDefaults::read(&image(config))?, &placement)
    }

    fn process_of(request: &Request, config: &str) -> Process {
        specified(request, config).unwrap().process().clone().unwrap()
    }

    #[test]
    fn entrypoint_and_command() {
        let both = r#"{"Entrypoint":["e","f"],"Cmd":["c"]}"#;
        let cmd = r#"{"Cmd":["c","d"]}"#;
        for (config, entrypoint, command, expected) in [
            (both, None, &[][..], Some(&["e", "f", "c"][..])),
            (both, None, &["x"], Some(&["e", "f", "x"])),
            (both, Some("n"), &[], Some(&["n"])),
            (both, Some("n"), &["x"], Some(&["n", "x"])),
            (both, Some(r#"["n","m"]"#), &["x"], Some(&["n", "m", "x"])),
            (both, Some(""), &["x"], Some(&["x"])),
            (both, Some(""), &[], None),
            (both, Some("[]"), &[], Some(&["c"])),
            (cmd, None, &[], Some(&["c", "d"])),
            (cmd, None, &["x", "-y"], Some(&["x", "-y"])),
            (r#"{"Entrypoint":[""],"Cmd":["c"]}"#, None, &[], Some(&["c"])),
            (r#"{"Entrypoint":["e"]}"#, None, &[], Some(&["e"])),
            ("{}", None, &[], None),
            ("null", None, &["x"], Some(&["x"])),
        ] {
            let mut request = request();
            request.entrypoint = entrypoint.map(parse_entrypoint);
            request.command = command.iter().map(|word| word.to_string()).collect();
            let spec = specified(&request, config);
            let args = spec.as_ref().ok().and_then(|spec| spec.process().as_ref()?.args().as_deref());
            let expected: Option<Vec<String>> = expected.map(|w| w.iter().map(|w| w.to_string()).collect());
            assert_eq!(args, expected.as_deref(), "{config} {entrypoint:?} {command:?}");
        }
    }

    #[test]
    fn environment_by_precedence() {
        let mut request = request();
        request.command = vec!["x".into()];
        let env = |request: &Request, config| process_of(request, config).env().clone().unwrap().join(" ");
        let path = format!("PATH={PATH}");
        assert_eq!(env(&request, "null"), format!("{path} container=ctr HOSTNAME=0123456789ab"));
        request.tty = true;
        request.hostname = Some("box".into());
        request.env = vec![("B".into(), "user".into()), ("TERM".into(), "dumb".into())];
        assert_eq!(
            env(&request, r#"{"Env":["PATH=/bin","A=image","B=image","SECRET"]}"#),
            "PATH=/bin container=ctr HOSTNAME=box TERM=dumb A=image B=user"
        );
    }

    #[test]
    fn an_image_chooses_no_policy() {
        let mut request = request();
        request.command = vec!["x".into()];
        let loud = r#"{"Labels":{"io.containers.seccomp.profile":"unconfined","run.oci.keep_original_groups":"1"},
            "StopSignal":"SIGINT","Volumes":{"/v":{}},"ExposedPorts":{"80/tcp":{}},"User":"5"}"#;
        let value = |config| serde_json::to_value(specified(&request, config).unwrap()).unwrap();
        let (mut loud, mut plain) = (value(loud), value("{}"));
        for spec in [&mut loud, &mut plain] {
            for set in ["bounding", "effective", "permitted"] {
                let names = spec["process"]["capabilities"][set].as_array_mut().unwrap();
                names.sort_by_key(|name| name.as_str().unwrap().to_owned());
            }
        }
        assert_eq!(loud, plain);
    }

    #[test]
    fn what_the_user_asked_for() {
        let mut request = request();
        request.command = vec!["x".into()];
        request.umask = 0o077;
        request.read_only = true;
        request.no_new_privileges = true;
        request.ulimits =
            vec![parse_ulimit("nofile=1:2").unwrap().unwrap(), parse_ulimit("core=0").unwrap().unwrap()];
        let spec = specified(&request, r#"{"WorkingDir":"srv"}"#).unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.cwd(), Path::new("/srv"));
        assert_eq!((process.user().umask(), process.no_new_privileges()), (Some(0o077), Some(true)));
        assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
        let limits: Vec<_> = process
            .rlimits()
            .iter()
            .flatten()
            .map(|limit| (limit.typ(), limit.soft(), limit.hard()))
            .collect();
        assert_eq!(limits, [(PosixRlimitType::RlimitNofile, 1, 2), (PosixRlimitType::RlimitCore, 0, 0)]);
        let sets = process.capabilities().as_ref().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 11);
        assert!(sets.inheritable().is_none() && sets.ambient().is_none());
        assert_eq!(spec.linux().as_ref().unwrap().masked_paths().as_ref().unwrap().len(), 14);
        request.privileged = true;
        let spec = specified(&request, "{}").unwrap();
        let linux = spec.linux().as_ref().unwrap();
        assert!(
            linux.masked_paths().as_ref().unwrap().is_empty()
                && linux.readonly_paths().as_ref().unwrap().is_empty()
        );
    }

    #[test]
    fn what_the_image_says_and_the_user_changes() {
        let config = image(r#"{"User":"app","StopSignal":"SIGINT","Labels":{"a":"image","b":"image"}}"#);
        let image = ImageDefaults::read(&config).unwrap();
        let mut request = request();
        request.labels.insert("b".into(), "user".into());
        assert_eq!(user(&request, &image).unwrap(), "app".parse().unwrap());
        assert_eq!(stop_signal(&request, &image).unwrap().to_string(), "SIGINT");
        assert_eq!(labels(&request, &image).values().collect::<Vec<_>>(), ["image", "user"]);
        request.user = Some("1:2".parse().unwrap());
        request.stop_signal = Some("9".parse().unwrap());
        assert_eq!(user(&request, &image).unwrap(), "1:2".parse().unwrap());
        assert_eq!(stop_signal(&request, &image).unwrap().number(), 9);
        let nothing = ImageDefaults::default();
        request = super::super::request::tests::request();
        assert_eq!(user(&request, &nothing).unwrap(), UserSpec::default());
        assert_eq!(stop_signal(&request, &nothing).unwrap(), Signal::TERM);
        let bad = ImageDefaults { user: "-1", stop_signal: "SIGNO", ..nothing };
        assert!(user(&request, &bad).is_err() && stop_signal(&request, &bad).is_err());
    }
}
