//! The keys of each kind of unit and the options they stand for: one line a key (podman-systemd.unit(5)). Whether `ctr` has
//! an option is asked of its command line, so a line here needs no change when a verb is built.

use super::{quote, unit_file::UnitFile};
use anyhow::{Context, Result, bail};

/// A key and what becomes of it.
pub struct Key(pub &'static str, pub Takes);

/// How the values of a key become words of a command line. What is given with it is what a word begins with.
pub enum Takes {
    /// The last value.
    One(&'static str),
    /// The last value, which may be empty.
    Even(&'static str),
    /// Each value, as it is.
    Each(&'static str),
    /// Each word of each value; a backslash is one.
    List(&'static str),
    /// Each word of each value, escapes resolved.
    Words(&'static str),
    /// NAME=VALUE words: of one name the last counts.
    Pairs(&'static str),
    /// A truth value.
    Truth(&'static str),
    /// This word if it is true.
    Flag(&'static str),
    /// Code of the kind of unit reads it.
    Read,
    /// Podman has it; why we don't.
    Refused(&'static str),
}

/// The words that one key made, to name it when they are refused.
pub struct Word {
    /// The key.
    pub key: &'static str,
    /// `--option=value`.
    pub text: String,
}

/// Refuse keys of `section` that are in no table.
pub fn check(unit: &UnitFile, section: &str, keys: &[&[Key]]) -> Result<()> {
    for key in unit.keys(section) {
        match keys.iter().copied().flatten().find(|known| known.0 == key) {
            None => bail!("[{section}] has no key {key}"),
            Some(Key(_, Takes::Refused(why))) => bail!("{key}= is not built: {why}"),
            Some(_) => {}
        }
    }
    Ok(())
}

/// The words for the keys of `section`, in the order of the tables.
pub fn words(unit: &UnitFile, section: &str, keys: &[&[Key]]) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    for &Key(key, ref takes) in keys.iter().copied().flatten() {
        let made = takes.of(unit, section, key).with_context(|| format!("{key}="))?;
        words.extend(made.into_iter().map(|text| Word { key, text }));
    }
    Ok(words)
}

impl Takes {
    fn of(&self, unit: &UnitFile, section: &str, key: &str) -> Result<Vec<String>> {
        let last = || unit.last(section, key);
        let all = || unit.all(section, key);
        let after = |start: &str, values: Vec<String>| -> Vec<String> {
            values.into_iter().map(|value| format!("{start}{value}")).collect()
        };
        Ok(match self {
            Takes::One(start) => {
                after(start, last().filter(|v| !v.is_empty()).map(str::to_owned).into_iter().collect())
            }
            Takes::Even(start) => after(start, last().map(str::to_owned).into_iter().collect()),
            Takes::Each(start) => after(start, all().into_iter().map(str::to_owned).collect()),
            Takes::List(start) => after(start, list(unit, section, key)?),
            Takes::Words(start) => after(start, arguments(unit, section, key)?),
            Takes::Pairs(start) => after(start, pairs(arguments(unit, section, key)?)),
            Takes::Truth(start) => {
                after(start, unit.truth(section, key)?.map(|truth| truth.to_string()).into_iter().collect())
            }
            Takes::Flag(word) if unit.truth(section, key)? == Some(true) => vec![(*word).to_owned()],
            Takes::Flag(_) | Takes::Read | Takes::Refused(_) => Vec::new(),
        })
    }
}

/// The words of all values of a key; a backslash is one.
pub fn list(unit: &UnitFile, section: &str, key: &str) -> Result<Vec<String>> {
    let words: Result<Vec<_>> = unit.all(section, key).into_iter().map(quote::split_list).collect();
    Ok(words?.concat())
}

/// The words of all values of a key, escapes resolved.
pub fn arguments(unit: &UnitFile, section: &str, key: &str) -> Result<Vec<String>> {
    let words: Result<Vec<_>> = unit.all(section, key).into_iter().map(quote::split).collect();
    Ok(words?.concat())
}

fn pairs(words: Vec<String>) -> Vec<String> {
    let name = |word: &str| word.split_once('=').map_or(word, |(name, _)| name).to_owned();
    words.into_iter().fold(Vec::new(), |mut kept: Vec<String>, word| {
        kept.retain(|earlier| name(earlier) != name(&word));
        kept.push(word);
        kept
    })
}

use Takes::{Each, Even, Flag, List, One, Pairs, Read, Refused, Truth, Words};

const REMAP: &str = "Podman has given it up; UserNS= and UIDMap= took its place";

/// `[Quadlet]`.
pub const QUADLET: &[Key] = &[Key("DefaultDependencies", Read)];

/// What every kind has.
pub const EVERY: &[Key] = &[
    Key("ContainersConfModule", Read),
    Key("GlobalArgs", Read),
    Key("PodmanArgs", Read),
    Key("ServiceName", Read),
];

/// Networks and user namespaces, of containers and pods.
pub const OF_PODS: &[Key] = &[
    Key("Network", Read),
    Key("NetworkAlias", Each("--network-alias=")),
    Key("IP", One("--ip=")),
    Key("IP6", One("--ip6=")),
    Key("DNS", Each("--dns=")),
    Key("DNSOption", Each("--dns-option=")),
    Key("DNSSearch", Each("--dns-search=")),
    Key("AddHost", Each("--add-host=")),
    Key("HostName", One("--hostname=")),
    Key("PublishPort", Each("--publish=")),
    Key("ShmSize", One("--shm-size=")),
    Key("UserNS", One("--userns=")),
    Key("UIDMap", List("--uidmap=")),
    Key("GIDMap", List("--gidmap=")),
    Key("SubUIDMap", One("--subuidname=")),
    Key("SubGIDMap", One("--subgidname=")),
    Key("RemapUsers", Refused(REMAP)),
    Key("RemapUid", Refused(REMAP)),
    Key("RemapGid", Refused(REMAP)),
    Key("RemapUidSize", Refused(REMAP)),
    Key("Label", Pairs("--label=")),
    Key("Volume", Read),
];

/// `[Container]`.
pub const CONTAINER: &[Key] = &[
    Key("Image", Read),
    Key("Rootfs", Read),
    Key("Exec", Read),
    Key("ContainerName", Read),
    Key("Notify", Read),
    Key("Pod", Read),
    Key("StartWithPod", Read),
    Key("ReloadCmd", Read),
    Key("ReloadSignal", Read),
    Key("AddDevice", Read),
    Key("EnvironmentFile", Read),
    Key("Mount", Read),
    Key("User", Read),
    Key("Group", Read),
    Key("CgroupsMode", Read),
    Key("LogDriver", Read),
    Key("LogOpt", List("--log-opt=")),
    Key("Entrypoint", Even("--entrypoint=")),
    Key("Environment", Pairs("--env=")),
    Key("EnvironmentHost", Truth("--env-host=")),
    Key("HttpProxy", Truth("--http-proxy=")),
    Key("WorkingDir", One("--workdir=")),
    Key("GroupAdd", Each("--group-add=")),
    Key("Annotation", Pairs("--annotation=")),
    Key("AutoUpdate", Refused("ctr has no auto-update")),
    Key("Secret", Words("--secret=")),
    Key("Tmpfs", Each("--tmpfs=")),
    Key("VolatileTmp", Flag("--tmpfs=/tmp:rw,size=512M,mode=1777")),
    Key("ReadOnly", Truth("--read-only=")),
    Key("ReadOnlyTmpfs", Truth("--read-only-tmpfs=")),
    Key("RunInit", Truth("--init=")),
    Key("StopSignal", One("--stop-signal=")),
    Key("StopTimeout", One("--stop-timeout=")),
    Key("Timezone", One("--tz=")),
    Key("Pull", One("--pull=")),
    Key("Retry", One("--retry=")),
    Key("RetryDelay", One("--retry-delay=")),
    Key("Memory", One("--memory=")),
    Key("PidsLimit", One("--pids-limit=")),
    Key("Ulimit", Each("--ulimit=")),
    Key("Sysctl", List("--sysctl=")),
    Key("DropCapability", List("--cap-drop=")),
    Key("AddCapability", List("--cap-add=")),
    Key("NoNewPrivileges", Flag("--security-opt=no-new-privileges")),
    Key("SeccompProfile", One("--security-opt=seccomp=")),
    Key("AppArmor", One("--security-opt=apparmor=")),
    Key("SecurityLabelDisable", Flag("--security-opt=label=disable")),
    Key("SecurityLabelNested", Flag("--security-opt=label=nested")),
    Key("SecurityLabelType", One("--security-opt=label=type:")),
    Key("SecurityLabelFileType", One("--security-opt=label=filetype:")),
    Key("SecurityLabelLevel", One("--security-opt=label=level:")),
    Key("Mask", Words("--security-opt=mask=")),
    Key("Unmask", Words("--security-opt=unmask=")),
    Key("ExposeHostPort", Each("--expose=")),
    Key("HealthCmd", One("--health-cmd=")),
    Key("HealthInterval", One("--health-interval=")),
    Key("HealthLogDestination", One("--health-log-destination=")),
    Key("HealthMaxLogCount", One("--health-max-log-count=")),
    Key("HealthMaxLogSize", One("--health-max-log-size=")),
    Key("HealthOnFailure", One("--health-on-failure=")),
    Key("HealthRetries", One("--health-retries=")),
    Key("HealthStartPeriod", One("--health-start-period=")),
    Key("HealthTimeout", One("--health-timeout=")),
    Key("HealthStartupCmd", One("--health-startup-cmd=")),
    Key("HealthStartupInterval", One("--health-startup-interval=")),
    Key("HealthStartupRetries", One("--health-startup-retries=")),
    Key("HealthStartupSuccess", One("--health-startup-success=")),
    Key("HealthStartupTimeout", One("--health-startup-timeout=")),
];

/// `[Volume]`.
pub const VOLUME: &[Key] = &[
    Key("VolumeName", Read),
    Key("Driver", One("--driver=")),
    Key("Image", Refused("ctr has no volumes of the driver image")),
    Key("Copy", Read),
    Key("Device", One("--opt=device=")),
    Key("Type", One("--opt=type=")),
    Key("Options", Read),
    Key("User", Read),
    Key("Group", Read),
    Key("UID", One("--uid=")),
    Key("GID", One("--gid=")),
    Key("Label", Pairs("--label=")),
];

/// `[Network]`.
pub const NETWORK: &[Key] = &[
    Key("NetworkName", Read),
    Key("NetworkDeleteOnStop", Read),
    Key("Subnet", Read),
    Key("Gateway", Read),
    Key("IPRange", Read),
    Key("DisableDNS", Truth("--disable-dns=")),
    Key("Internal", Truth("--internal=")),
    Key("IPv6", Truth("--ipv6=")),
    Key("Driver", One("--driver=")),
    Key("IPAMDriver", One("--ipam-driver=")),
    Key("InterfaceName", Refused("a network of ctr is no interface of the host")),
    Key("DNS", Each("--dns=")),
    Key("Options", Pairs("--opt=")),
    Key("Label", Pairs("--label=")),
];

/// `[Image]`.
pub const IMAGE: &[Key] = &[
    Key("Image", Read),
    Key("ImageTag", Read),
    Key("AllTags", Truth("--all-tags=")),
    Key("Arch", One("--arch=")),
    Key("OS", One("--os=")),
    Key("Variant", One("--variant=")),
    Key("AuthFile", One("--authfile=")),
    Key("CertDir", One("--cert-dir=")),
    Key("Creds", One("--creds=")),
    Key("DecryptionKey", One("--decryption-key=")),
    Key("Policy", One("--policy=")),
    Key("Retry", One("--retry=")),
    Key("RetryDelay", One("--retry-delay=")),
    Key("TLSVerify", Truth("--tls-verify=")),
];

/// `[Build]`.
pub const BUILD: &[Key] = &[
    Key("ImageTag", Each("--tag=")),
    Key("File", Read),
    Key("SetWorkingDirectory", Read),
    Key("Network", Read),
    Key("Volume", Read),
    Key("Pull", One("--pull=")),
    Key("Arch", One("--arch=")),
    Key("Variant", One("--variant=")),
    Key("AuthFile", One("--authfile=")),
    Key("IgnoreFile", One("--ignorefile=")),
    Key("Target", One("--target=")),
    Key("Retry", One("--retry=")),
    Key("RetryDelay", One("--retry-delay=")),
    Key("TLSVerify", Truth("--tls-verify=")),
    Key("ForceRM", Truth("--force-rm=")),
    Key("DNS", Each("--dns=")),
    Key("DNSOption", Each("--dns-option=")),
    Key("DNSSearch", Each("--dns-search=")),
    Key("GroupAdd", Each("--group-add=")),
    Key("BuildArg", Pairs("--build-arg=")),
    Key("Environment", Pairs("--env=")),
    Key("Label", Pairs("--label=")),
    Key("Annotation", Pairs("--annotation=")),
    Key("Secret", Words("--secret=")),
];

/// `[Pod]`.
pub const POD: &[Key] = &[Key("PodName", Read), Key("ExitPolicy", Read), Key("StopTimeout", Read)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_words() {
        for (text, takes, expected) in [
            ("k=a\nk=b c", One("--x="), &["--x=b c"][..]),
            ("k=a\nk=", One("--x="), &[]),
            ("k=", Even("--x="), &["--x="]),
            ("k=a\nk=\nk=b c\nk=d", Each("--x="), &["--x=b c", "--x=d"]),
            (r#"k=a\n "b c""#, List("--x="), &[r"--x=a\n", "--x=b c"]),
            (r#"k=a\tb "b c""#, Words("--x="), &["--x=a\tb", "--x=b c"]),
            (
                r#"k=A=1 B="2 3"
k="A=4 5" C"#,
                Pairs("--x="),
                &["--x=B=2 3", "--x=A=4 5", "--x=C"],
            ),
            ("k=off", Truth("--x="), &["--x=false"]),
            ("k=yes", Flag("--x"), &["--x"]),
            ("k=no", Flag("--x"), &[]),
        ] {
            let unit = UnitFile::parse(&format!("[A]\n{text}\n")).unwrap();
            assert_eq!(takes.of(&unit, "A", "k").unwrap(), expected, "{text}");
        }
        let unit = UnitFile::parse("[A]\nk=it's\nb=perhaps\n").unwrap();
        assert!(Words("-").of(&unit, "A", "k").is_err() && Truth("-").of(&unit, "A", "b").is_err());
    }

    #[test]
    fn no_key_is_listed_twice() {
        for tables in [
            &[EVERY, OF_PODS, CONTAINER][..],
            &[EVERY, OF_PODS, POD],
            &[EVERY, VOLUME],
            &[EVERY, NETWORK],
            &[EVERY, IMAGE],
            &[EVERY, BUILD],
        ] {
            let mut names: Vec<&str> = tables.iter().copied().flatten().map(|key| key.0).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }
}
