//! The options of `ctr run` that say who is who: user namespaces, groups, entries of /etc/passwd; and which other namespaces a
//! container has in common with others.

use super::{
    option_value::{each, one},
    run_args::Args,
};
use crate::{
    container::{
        entries::Entries,
        grammar,
        pod::Kind,
        request::NetworkMode,
        sharing::{self, Sharing, Whose},
        userns::{self, Userns},
        users::Who,
    },
    error::Explain,
    namespaces::idmap,
    network::networks,
};
use anyhow::{Result, anyhow, bail};

impl Args {
    /// `--group-add`.
    pub fn additional_groups(&self) -> Result<Vec<Who>> {
        if self.group_add.iter().any(|group| group == KEEP_GROUPS) && self.group_add.len() > 1 {
            return Err(anyhow!("--group-add {KEEP_GROUPS} can't be used with any other --group-add"))
                .hint("drop one of the two");
        }
        let named: Vec<String> =
            self.group_add.iter().filter(|group| *group != KEEP_GROUPS).cloned().collect();
        each("--group-add", &named, "--group-add audio", group)
    }

    /// `--userns`, `--uidmap`, `--gidmap`, `--subuidname`, `--subgidname`.
    pub fn userns(&self) -> Result<Userns> {
        let example = "--uidmap 0:1:1000 or --uidmap +1000:@1000:1";
        let uids: Vec<idmap::Entry> = each("--uidmap", &self.uidmap, example, str::parse)?;
        let gids: Vec<idmap::Entry> = each("--gidmap", &self.gidmap, example, str::parse)?;
        if !uids.is_empty() || !gids.is_empty() {
            // One of the two alone is meant for both.
            let both = uids.is_empty() || gids.is_empty();
            let of = |entries: Vec<idmap::Entry>, users: bool| {
                entries.into_iter().map(move |entry| idmap::Entry {
                    uids: entry.uids && (users || both),
                    gids: entry.gids && (!users || both),
                    ..entry
                })
            };
            return Ok(Userns::Maps(of(uids, true).chain(of(gids, false)).collect()));
        }
        if let Some(name) = self.subuidname.as_ref().or(self.subgidname.as_ref()) {
            let or = |other: &Option<String>| other.clone().unwrap_or_else(|| name.clone());
            return Ok(Userns::Names { uids: or(&self.subuidname), gids: or(&self.subgidname) });
        }
        let example =
            "--userns keep-id, keep-id:uid=1000,gid=1000, nomap, auto:size=8192, container:NAME or ns:PATH";
        Ok(one("--userns", &self.userns, example, userns::parse)?.unwrap_or_default())
    }

    /// `--pid`, `--ipc`, `--uts`.
    pub fn sharing(&self) -> Result<Sharing> {
        let of = |option: &str, value: &Option<String>, parse: fn(&str) -> Result<Whose>| {
            let whose =
                one(option, value, &format!("{option} private, host, container:NAME or ns:PATH"), parse)?;
            Ok::<_, anyhow::Error>(whose.unwrap_or_default())
        };
        let sharing = Sharing {
            pid: of("--pid", &self.pid, sharing::parse)?,
            ipc: of("--ipc", &self.ipc, sharing::parse_ipc)?,
            uts: of("--uts", &self.uts, sharing::parse)?,
            network: match self.network.last() {
                Some(text) if text.starts_with("container:") || text.starts_with("ns:") => {
                    of("--network", &Some(text.clone()), sharing::parse)?
                }
                _ => Whose::Private,
            },
        };
        if !sharing.uts.is_own() && self.hostname.is_some() {
            return Err(anyhow!("--hostname can't be used with --uts={}", sharing.uts.shown("private")))
                .hint("drop one of the two");
        }
        Ok(sharing)
    }

    /// `--network`, and what else is said of one.
    pub fn networks(&self) -> Result<NetworkMode> {
        let example = "--network private, private:host-loopback, none, host, container:NAME or a network of `ctr network ls`";
        let shared = |text: &&String| text.starts_with("container:") || text.starts_with("ns:");
        let asked: Vec<String> = self.network.iter().filter(|text| !shared(text)).cloned().collect();
        let modes: Vec<NetworkMode> = each("--network", &asked, example, grammar::parse_network)?;
        // Networks add to each other; any other mode is that of the last word, as with all options.
        let last = modes.into_iter().fold(None, |before, mode| match (before, mode) {
            (Some(NetworkMode::Networks(all)), NetworkMode::Networks(more)) => {
                Some(NetworkMode::Networks([all, more].concat()))
            }
            (_, mode) => Some(mode),
        });
        let mut mode = last.unwrap_or(NetworkMode::Private { explicit: false, host_loopback: false });
        let mac =
            one("--mac-address", &self.mac_address, "--mac-address 92:d0:c6:0a:29:33", networks::parse_mac)?;
        let aliases: Vec<String> =
            each("--network-alias", &self.network_alias, "--network-alias db", networks::parse_alias)?;
        let one_alone = self.ip.is_some() || self.ip6.is_some() || mac.is_some();
        match &mut mode {
            NetworkMode::Networks(wishes) if !one_alone || wishes.len() == 1 => {
                for wish in wishes {
                    wish.v4 = self.ip.or(wish.v4);
                    wish.v6 = self.ip6.or(wish.v6);
                    wish.mac = mac.or(wish.mac);
                    wish.aliases.extend(aliases.clone());
                }
            }
            _ if !one_alone && aliases.is_empty() => {}
            _ => {
                return Err(anyhow!(
                    "--ip, --ip6, --mac-address and --network-alias are for a network that was made"
                ))
                .hint("ctr network create web; then --network web, or --network web:ip=10.89.0.5");
            }
        }
        Ok(mode)
    }

    /// The namespaces that the user said something about.
    pub fn chosen(&self) -> Vec<Kind> {
        let said = [
            (self.ipc.is_some(), Kind::Ipc),
            (!self.network.is_empty(), Kind::Net),
            (self.pid.is_some(), Kind::Pid),
            (self.uts.is_some() || self.hostname.is_some(), Kind::Uts),
        ];
        said.into_iter().filter_map(|(said, kind)| said.then_some(kind)).collect()
    }

    /// What /etc/passwd and /etc/group get.
    pub fn entries(&self) -> Result<Entries> {
        let line = |option: &str, value: &Option<String>| match value {
            Some(text) if text.len() > 1000 || text.contains(char::is_control) => {
                Err(anyhow!("{option}: not one line of up to 1000 characters"))
                    .hint("write it as '$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh'")
            }
            value => Ok(value.clone()),
        };
        Ok(Entries {
            none: !self.passwd,
            passwd: line("--passwd-entry", &self.passwd_entry)?,
            group: line("--group-entry", &self.group_entry)?,
            users: each(
                "--hostuser",
                &self.hostuser,
                "--hostuser NAME, a user of /etc/passwd",
                userns::host_user,
            )?,
        })
    }
}

fn group(text: &str) -> Result<Who> {
    match text {
        "" => bail!("the group is empty"),
        _ => text.parse(),
    }
}

pub const KEEP_GROUPS: &str = "keep-groups";
