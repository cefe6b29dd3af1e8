//! From the options of `ctr run` to a [`Request`]: everything is checked here, before anything acts.

use super::{
    option_value::{each, one, read_bounded},
    run_args::Args,
    run_users::KEEP_GROUPS,
};
use crate::{
    cgroups::Limits,
    container::{
        environment,
        etc_files::{self, Dns},
        grammar, limits,
        pod::Part,
        record::Restart,
        request::{NetworkMode, Request},
        secrets, sysctl, timezone, volume_option,
    },
    error::Explain,
    network::ports::{self, Port},
    security::capabilities,
};
use anyhow::{Context, Result, anyhow, bail};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

impl Args {
    /// What these options ask for. Reads the files that they name.
    ///
    /// # Errors
    /// The first option whose value can't be, by name, with a value that could.
    pub fn into_request(self) -> Result<Request> {
        let mut words = self.image_and_command.iter().cloned();
        let image = words.next().unwrap_or_default();
        let sharing = self.sharing()?;
        let network = match sharing.network.is_own() {
            true => self.networks()?,
            false => NetworkMode::Private { explicit: false, host_loopback: false },
        };
        let dns = etc_files::parse_dns(&self.dns)
            .with_context(|| format!("--dns {}", self.dns.join(",")))
            .hint("write it as --dns 9.9.9.9 or --dns none")?;
        let said = [
            ("--dns", matches!(dns, Dns::Servers(_))),
            ("--dns-search", !self.dns_search.is_empty()),
            ("--dns-option", !self.dns_option.is_empty()),
        ];
        if let Some((option, _)) = said.iter().find(|(_, said)| *said) {
            let other = match (&network, &dns) {
                (NetworkMode::None, _) => Some("--network=none"),
                (_, Dns::Image) => Some("--dns=none"),
                _ => None,
            };
            if let Some(other) = other {
                return Err(anyhow!("{option} can't be used with {other}")).hint("drop one of the two");
            }
        }
        if self.no_hosts && (!self.add_host.is_empty() || self.hosts_file.is_some()) {
            return Err(anyhow!("--no-hosts can't be used with --add-host or --hosts-file"))
                .hint("drop one of the two");
        }
        let own_network = network != NetworkMode::Host && sharing.network.is_own();
        let (ulimits, inherit_limits) = self.ulimits()?;
        let (seccomp, apparmor, no_new_privileges) = self.security_options()?;
        let wanted = self.wanted()?;
        Ok(Request {
            source: self.source(image)?,
            command: words.collect(),
            entrypoint: self.entrypoint.as_deref().map(grammar::parse_entrypoint),
            name: one("--name", &self.name, "--name web", str::parse)?,
            user: one("--user", &self.user, "--user 1000:1000", str::parse)?,
            group_add: self.additional_groups()?,
            keep_groups: self.group_add.iter().any(|group| group == KEEP_GROUPS),
            userns: self.userns()?,
            sharing: sharing.clone(),
            ports: {
                let each: Vec<Vec<Port>> =
                    each("--publish", &self.publish, "--publish 8080:80", ports::parse)?;
                each.concat()
            },
            exposed: {
                let each: Vec<Vec<_>> = each("--expose", &self.expose, "--expose 80", ports::parse_exposed)?;
                each.concat()
            },
            publish_all: self.publish_all,
            part: self.pod.clone().map(|pod| Part::Asked { pod, chosen: self.chosen() }),
            entries: self.entries()?,
            workdir: one("--workdir", &self.workdir, "--workdir /srv", absolute)?,
            env: environment(&self.env, &self.env_file, wanted.env)?,
            tty: self.tty,
            interactive: self.interactive,
            sig_proxy: self.sig_proxy,
            init: self.init,
            remove: self.rm || self.rmi,
            cidfile: self.cidfile.as_deref().map(new_file).transpose()?,
            pidfile: self.pidfile.clone(),
            labels: each("--label", &self.label, "--label team=web", grammar::parse_label)?,
            annotations: each(
                "--annotation",
                &self.annotation,
                "--annotation team=web",
                grammar::parse_annotation,
            )?,
            network,
            hostname: one("--hostname", &self.hostname, "--hostname box", grammar::parse_hostname)?,
            add_hosts: each(
                "--add-host",
                &self.add_host,
                "--add-host db:10.0.0.2",
                etc_files::parse_add_host,
            )?,
            dns,
            dns_search: each(
                "--dns-search",
                &self.dns_search,
                "--dns-search example.org, or . for none",
                etc_files::parse_search,
            )?,
            dns_options: each(
                "--dns-option",
                &self.dns_option,
                "--dns-option ndots:2",
                etc_files::parse_option,
            )?,
            no_hosts: self.no_hosts,
            no_hostname: self.no_hostname,
            hosts_file: self.hosts()?,
            read_only: self.read_only,
            read_only_tmpfs: self.read_only_tmpfs,
            mounts: wanted.mounts,
            volumes_from: each(
                "--volumes-from",
                &self.volumes_from,
                "--volumes-from CONTAINER:ro",
                volume_option::parse_from,
            )?,
            image_volumes: one(
                "--image-volume",
                &self.image_volume,
                "--image-volume bind, tmpfs or ignore",
                volume_option::parse_image_volumes,
            )?
            .unwrap_or_default(),
            secrets: each("--secret", &self.secret, "--secret NAME,target=FILE,mode=0400", secrets::parse)?,
            tmpfs: wanted.tmpfs,
            shm_size: one("--shm-size", &self.shm_size, "--shm-size 64m", limits::parse_size)?
                .unwrap_or(64 << 20),
            devices: wanted.devices,
            privileged: self.privileged,
            capabilities: capabilities::select(&self.cap_add, &self.cap_drop, self.privileged)?,
            added_capabilities: self.added_capabilities()?,
            no_new_privileges,
            seccomp,
            apparmor,
            ulimits,
            inherit_limits,
            sysctls: each("--sysctl", &self.sysctl, "--sysctl net.ipv4.ip_forward=1", |text| {
                sysctl::parse(text, own_network, sharing.ipc.is_own())
            })?,
            umask: one("--umask", &self.umask, "--umask 0022", |text| grammar::parse_mode(text, 0o777))?
                .unwrap_or(0o022),
            timezone: one("--tz", &self.tz, "--tz Europe/Berlin or --tz local", timezone::read)?,
            stop_signal: one("--stop-signal", &self.stop_signal, "--stop-signal SIGINT", str::parse)?,
            stop_timeout: Duration::from_secs(self.stop_timeout.into()),
            timeout: (self.timeout > 0).then(|| Duration::from_secs(self.timeout.into())),
            storage_driver: None,
            monitor_pidfile: self.conmon_pidfile.clone(),
            log: self.log_config()?,
            restart: self.restart_policy()?,
            detach_keys: super::foreground::keys(self.detach_keys.as_deref())
                .map(|_| self.detach_keys.clone())?,
            replace: self.replace,
            remove_image: self.rmi,
            health: self.health.options()?,
            limits: self.limits()?,
            control_group: self.groups.request()?,
            preserve_fds: self.descriptors()?,
            sdnotify: self.notify()?,
            systemd: self.systemd_mode()?,
            oom_score_adj: self.oom_score()?,
        })
    }

    fn limits(&self) -> Result<Limits> {
        Ok(Limits { files: self.groups.files()?, ..self.limits.limits()? })
    }

    fn restart_policy(&self) -> Result<Restart> {
        let restart = one(
            "--restart",
            &self.restart,
            "--restart on-failure:3, always, unless-stopped or no",
            grammar::parse_restart,
        )?
        .unwrap_or_default();
        if self.rm && !matches!(restart, Restart::No | Restart::OnFailure(_)) {
            return Err(anyhow!(
                "--rm can't be used with --restart {}",
                self.restart.as_deref().unwrap_or("")
            ))
            .hint("drop one of the two");
        }
        Ok(restart)
    }

    fn ulimits(&self) -> Result<(Vec<limits::Ulimit>, bool)> {
        let parsed: Vec<Option<limits::Ulimit>> =
            each("--ulimit", &self.ulimit, "--ulimit nofile=1024:2048", limits::parse_ulimit)?;
        let inherit = parsed.contains(&None);
        Ok((parsed.into_iter().flatten().collect(), inherit))
    }
}

fn absolute(text: &str) -> Result<String> {
    if !text.starts_with('/') {
        bail!("not an absolute path");
    }
    Ok(text.to_owned())
}

fn new_file(path: &Path) -> Result<PathBuf> {
    if path.symlink_metadata().is_ok() {
        return Err(anyhow!("--cidfile {}: the file exists", path.display()))
            .hint(format!("rm {}", path.display()));
    }
    Ok(path.to_owned())
}

/// `--env` and `--env-file`, after what is in `list`.
pub fn environment(
    options: &[String],
    files: &[PathBuf],
    mut list: Vec<environment::Variable>,
) -> Result<Vec<environment::Variable>> {
    let host = environment::of_host();
    for path in files {
        let text = read_bounded("--env-file", path, 1 << 20)?;
        let text = String::from_utf8(text).with_context(|| format!("--env-file {}", path.display()))?;
        environment::apply_file(&mut list, &text, &host)
            .with_context(|| format!("--env-file {}", path.display()))
            .hint("each line is NAME=VALUE, NAME, or a # comment")?;
    }
    for text in options {
        environment::apply(&mut list, text, &host)
            .with_context(|| format!("--env {text}"))
            .hint("write it as --env NAME=VALUE")?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::request::{Rootfs, SeccompChoice, Source};
    use clap::{Args as _, FromArgMatches};

    fn request(line: &[&str]) -> Result<Request> {
        let command = Args::augment_args(clap::Command::new("run").no_binary_name(true));
        Args::from_arg_matches(&command.try_get_matches_from(line)?)?.into_request()
    }

    #[test]
    fn defaults_are_podmans() {
        let request = request(&["ubuntu", "echo", "-n", "x"]).unwrap();
        assert_eq!(request.command, ["echo", "-n", "x"]);
        assert!(matches!(&request.source, Source::Image { name, .. } if name == "ubuntu"));
        assert_eq!(request.network, NetworkMode::Private { explicit: false, host_loopback: false });
        assert_eq!((request.umask, request.shm_size, request.stop_timeout.as_secs()), (0o022, 64 << 20, 10));
        assert!(request.sig_proxy && !request.tty && request.timeout.is_none());
        assert!(request.added_capabilities.is_empty());
        assert_eq!(request.seccomp, SeccompChoice::Default);
    }

    #[test]
    fn files_and_pairs() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("env"), "A=file\nB=file\n").unwrap();
        std::fs::write(path("seccomp"), "{}").unwrap();
        let seccomp = format!("seccomp={}", path("seccomp"));
        let line = ["-eB=option", "--env-file", &path("env"), "--security-opt", &seccomp, "-la=b", "x"];
        let request = request(&line).unwrap();
        assert_eq!(request.env, [("A".into(), "file".into()), ("B".into(), "option".into())]);
        assert!(matches!(&request.seccomp, SeccompChoice::File { json, .. } if json == b"{}"));
        assert_eq!(request.labels["a"], "b");
        let rootfs = self::request(&["--rootfs", &format!("{}:O", dir.path().display()), "sh"]).unwrap();
        assert!(matches!(rootfs.source, Source::Rootfs(Rootfs { overlay: true, .. })));
        assert_eq!(rootfs.command, ["sh"]);
    }

    #[test]
    fn every_failure_names_its_option_and_an_example() {
        for (option, value) in [
            ("--name", "../x"),
            ("--user", "-1x"),
            ("--user", "4294967296"),
            ("--group-add", "a:b"),
            ("--userns", "keepid"),
            ("--uidmap", "0"),
            ("--gidmap", "x"),
            ("--hostuser", "no-such-user"),
            ("--passwd-entry", "a\nb"),
            ("--workdir", "srv"),
            ("--env", "=x"),
            ("--env-file", "/nonexistent"),
            ("--label", "=x"),
            ("--annotation", "x"),
            ("--network", "slirp4netns"),
            ("--publish", "80/sctp"),
            ("--pid", "pod"),
            ("--hostname", "a b"),
            ("--add-host", "x"),
            ("--add-host", "a:host-gate"),
            ("--dns", "x"),
            ("--dns-search", "a b"),
            ("--dns-option", "a\nb"),
            ("--tmpfs", "/t:bogus"),
            ("--shm-size", "1x"),
            ("--device", "/nonexistent"),
            ("--ulimit", "nofile"),
            ("--sysctl", "kernel.core_pattern=x"),
            ("--umask", "9"),
            ("--tz", "../x"),
            ("--stop-signal", "SIGNO"),
            ("--pull", "sometimes"),
            ("--platform", "x"),
            ("--security-opt", "label=x"),
            ("--security-opt", "seccomp=/nonexistent"),
            ("--cap-add", "bogus"),
            ("--cidfile", "/etc/passwd"),
            ("--detach-keys", "ctrl-"),
            ("--log-driver", "syslog"),
            ("--log-opt", "max-file=3"),
        ] {
            let error = request(&[&format!("{option}={value}"), "ubuntu"]).unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains(option), "{option} {value}: {text}");
            assert!(crate::error::hint(&error).is_some(), "{option} {value}: no hint");
        }
    }

    #[test]
    fn contradictions() {
        for line in [
            &["--network=none", "--dns=1.1.1.1", "x"][..],
            &["--network=none", "--dns-search=a", "x"],
            &["--dns=none", "--dns-option=a", "x"],
            &["--no-hosts", "--add-host=a:1.1.1.1", "x"],
            &["--network=host", "--sysctl=net.ipv4.ip_forward=1", "x"],
            &["--rootfs", "--pull=always", "/"],
            &["--rootfs", "/nonexistent"],
            &["--rootfs", "/etc/passwd"],
            &["--dns=none,1.1.1.1", "x"],
            &["--group-add=keep-groups,audio", "x"],
            &["--userns=keep-id", "--uidmap=0:1:1", "x"],
            &["--subuidname=a", "--gidmap=0:1:1", "x"],
            &[""],
        ] {
            assert!(request(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn privileges() {
        let open = request(&["--privileged", "x"]).unwrap();
        assert_eq!(open.seccomp, SeccompChoice::Unconfined);
        let more = request(&["--cap-add=net_admin,CHOWN", "--cap-drop=kill", "x"]).unwrap();
        assert_eq!((more.added_capabilities.iter().count(), more.capabilities.iter().count()), (2, 11));
        let some = request(&["--ulimit=host", "--ulimit=core=0", "x"]).unwrap();
        assert!(some.inherit_limits && some.ulimits.len() == 1);
    }
}
