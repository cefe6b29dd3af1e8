//! Reader of the seccomp profiles of Docker and Podman: JSON in, validated rules out. build.rs compiles this file as well.

use super::{abi::Abi, capset::CapSet};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Deserializer};

/// A profile in the order of its file.
pub struct Profile {
    /// Verdict on calls that no rule matches.
    pub default: u32,
    /// Are 32-bit x86 calls judged as well, instead of killed?
    pub i386: bool,
    /// First match counts.
    pub rules: Vec<Rule>,
}

/// Calls, the conditions on their arguments, and the verdict on them.
pub struct Rule {
    /// System calls by name.
    pub names: Vec<String>,
    /// What the kernel does: a `SECCOMP_RET_*` value of linux/seccomp.h.
    pub verdict: u32,
    /// The arguments match when all conditions of one of these hold; none at all: always.
    pub alternatives: Vec<Vec<Condition>>,
    includes: Filter,
    excludes: Filter,
}

/// One comparison with an argument.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// What the argument is compared with; of `MaskedEqual` the mask.
    pub value: u64,
    /// Of `MaskedEqual` what the masked argument is compared with.
    #[serde(default)]
    pub value_two: u64,
    /// How, unsigned.
    pub op: Operator,
}

/// A comparison as in seccomp_rule_add(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[rustfmt::skip]
pub enum Operator {
    #[serde(rename = "SCMP_CMP_NE")] NotEqual,
    #[serde(rename = "SCMP_CMP_LT")] Less,
    #[serde(rename = "SCMP_CMP_LE")] LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")] Equal,
    #[serde(rename = "SCMP_CMP_GE")] GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")] Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")] MaskedEqual,
}

/// Where a filter is to be installed.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    /// The machine's own calls.
    pub abi: Abi,
    /// The container's bounding set.
    pub caps: CapSet,
    /// Major and minor version.
    pub kernel: (u32, u32),
}

/// Read a profile (the JSON of docker's `--security-opt seccomp=`, containers-seccomp.json(5)).
///
/// Calls that this version doesn't know are left to the default action, because profiles list newer ones than any
/// reader. Two conditions on the same argument are alternatives, as in runc and crun. Where rules overlap, the first one
/// counts; libseccomp, which both use, lets a rule without conditions override all others of the same call.
///
/// # Errors
/// Not JSON, an unknown action or operator (named, with its line), an argument beyond the sixth, an error number beyond
/// 4095, and what needs more than a filter: notification and the flags of seccomp(2).
pub fn parse(json: &[u8]) -> Result<Profile> {
    let document: Document = serde_json::from_slice(json)?;
    ensure!(document.listener_path.is_empty(), "listenerPath: {NO_LISTENER}");
    if let Some(flag) = document.flags.iter().find(|flag| *flag != "SECCOMP_FILTER_FLAG_TSYNC") {
        bail!("flag {flag} is not supported");
    }
    let named = |arch: &Architecture| arch.architecture == "SCMP_ARCH_X86_64";
    let sub_architectures = document.arch_map.iter().filter(|a| named(a)).flat_map(|a| &a.sub_architectures);
    Ok(Profile {
        default: verdict(document.default_action, document.default_errno_ret, &document.default_errno)
            .context("defaultAction")?,
        i386: document.architectures.iter().chain(sub_architectures).any(|name| name == "SCMP_ARCH_X86"),
        rules: document.syscalls.into_iter().map(rule).collect::<Result<_>>()?,
    })
}

impl Rule {
    /// Is the rule meant for this machine and these capabilities?
    pub fn applies(&self, to: &Environment) -> bool {
        let Filter { caps, arches, min_kernel } = &self.includes;
        let included = caps.iter().all(|name| held(name, to))
            && (arches.is_empty() || arches.iter().any(|name| name == to.abi.go_name()))
            && min_kernel.is_none_or(|version| to.kernel >= version);
        let Filter { caps, arches, min_kernel } = &self.excludes;
        let excluded = caps.iter().any(|name| held(name, to))
            || arches.iter().any(|name| name == to.abi.go_name())
            || min_kernel.is_some_and(|version| to.kernel >= version);
        included && !excluded
    }
}

const NO_LISTENER: &str = "notification of another process (seccomp_unotify(2)) is not supported";
/// Beyond it the kernel would quietly answer with this one (MAX_ERRNO of linux/err.h).
const LAST_ERRNO: u32 = 4095;
const EPERM: u32 = 1;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: Action,
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "or_null")]
    default_errno: String,
    #[serde(default, deserialize_with = "or_null")]
    arch_map: Vec<Architecture>,
    #[serde(default, deserialize_with = "or_null")]
    architectures: Vec<String>,
    #[serde(default, deserialize_with = "or_null")]
    flags: Vec<String>,
    #[serde(default, deserialize_with = "or_null")]
    listener_path: String,
    #[serde(default, deserialize_with = "or_null")]
    syscalls: Vec<Syscall>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    #[serde(default, deserialize_with = "or_null")]
    sub_architectures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    /// Docker's old spelling of one name.
    name: Option<String>,
    #[serde(default, deserialize_with = "or_null")]
    names: Vec<String>,
    action: Action,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "or_null")]
    errno: String,
    #[serde(default, deserialize_with = "or_null")]
    args: Vec<Condition>,
    #[serde(default, deserialize_with = "or_null")]
    includes: Filter,
    #[serde(default, deserialize_with = "or_null")]
    excludes: Filter,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default, deserialize_with = "or_null")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "or_null")]
    arches: Vec<String>,
    #[serde(default, deserialize_with = "version")]
    min_kernel: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[rustfmt::skip]
enum Action {
    #[serde(rename = "SCMP_ACT_ALLOW")] Allow,
    #[serde(rename = "SCMP_ACT_ERRNO")] Errno,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")] KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")] KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")] Trap,
    #[serde(rename = "SCMP_ACT_LOG")] Log,
    #[serde(rename = "SCMP_ACT_TRACE")] Trace,
    #[serde(rename = "SCMP_ACT_NOTIFY")] Notify,
}

fn rule(syscall: Syscall) -> Result<Rule> {
    let mut names = syscall.names;
    names.extend(syscall.name);
    let about = || format!("rule for {}", names.first().map_or("no system call", |name| name));
    if let Some(condition) = syscall.args.iter().find(|c| c.index > 5) {
        bail!("{}: args: index {} is beyond the sixth argument", about(), condition.index);
    }
    let verdict = verdict(syscall.action, syscall.errno_ret, &syscall.errno).with_context(about)?;
    let repeated = (0..6).any(|index| syscall.args.iter().filter(|c| c.index == index).count() > 1);
    let alternatives = match syscall.args {
        args if args.is_empty() => vec![],
        args if repeated => args.into_iter().map(|condition| vec![condition]).collect(),
        args => vec![args],
    };
    Ok(Rule { names, verdict, alternatives, includes: syscall.includes, excludes: syscall.excludes })
}

/// The `SECCOMP_RET_*` value of an action; its error number may come by name (Podman) or as a number (Docker).
fn verdict(action: Action, number: Option<u32>, name: &str) -> Result<u32> {
    let named = match name {
        "" => None,
        name => Some((1..=LAST_ERRNO).find(|&n| syscalls::Errno::new(n as i32).name() == Some(name)))
            .map(|found| found.with_context(|| format!("unknown error {name}")))
            .transpose()?,
    };
    let number = named.or(number);
    ensure!(number.is_none_or(|n| n <= LAST_ERRNO), "error number {number:?} is beyond {LAST_ERRNO}");
    let data = number.unwrap_or(EPERM);
    let carries_data = matches!(action, Action::Errno | Action::Trace);
    ensure!(number.is_none() || carries_data, "an error number makes sense with SCMP_ACT_ERRNO only");
    Ok(match action {
        Action::KillProcess => 0x8000_0000,
        Action::KillThread => 0x0000_0000,
        Action::Trap => 0x0003_0000,
        Action::Errno => 0x0005_0000 | data,
        Action::Trace => 0x7ff0_0000 | data,
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
        Action::Notify => bail!("SCMP_ACT_NOTIFY: {NO_LISTENER}"),
    })
}

fn held(name: &str, by: &Environment) -> bool {
    CapSet::named(name).is_some_and(|capability| by.caps.intersection(capability) == capability)
}

/// Go writes an absent list or object as `null`.
fn or_null<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

fn version<'de, D: Deserializer<'de>>(input: D) -> Result<Option<(u32, u32)>, D::Error> {
    let Some(text) = Option::<String>::deserialize(input)? else { return Ok(None) };
    let parts =
        text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parts
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("minKernel {text:?} is not like \"5.11\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_rule(rest: &str) -> Rule {
        let rule = format!(r#"{{"names":["read"],"action":"SCMP_ACT_ALLOW",{rest}}}"#);
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_KILL","syscalls":[{rule}]}}"#);
        parse(json.as_bytes()).unwrap().rules.remove(0)
    }

    #[test]
    fn filters_choose_rules() {
        let to = Environment { abi: Abi::X86_64, caps: CapSet::DEFAULT, kernel: (5, 11) };
        #[rustfmt::skip]
        let cases = [
            (r#""includes":{}"#, true),
            (r#""includes":{"caps":["CAP_CHOWN"]}"#, true),
            (r#""includes":{"caps":["CAP_CHOWN","CAP_BPF"]}"#, false),
            (r#""includes":{"caps":["CAP_OF_TOMORROW"]}"#, false),
            (r#""excludes":{"caps":["CAP_CHOWN","CAP_BPF"]}"#, false),
            (r#""excludes":{"caps":["CAP_BPF"]}"#, true),
            (r#""includes":{"arches":["arm64","amd64"]}"#, true),
            (r#""includes":{"arches":["arm64","x86"]}"#, false),
            (r#""excludes":{"arches":["arm64","amd64"]}"#, false),
            (r#""excludes":{"arches":["s390x"]}"#, true),
            (r#""includes":{"minKernel":"5.11"}"#, true),
            (r#""includes":{"minKernel":"5.12"}"#, false),
            (r#""includes":{"minKernel":"4.18"}"#, true),
            (r#""includes":{"minKernel":"6.0"}"#, false),
            (r#""excludes":{"minKernel":"5.11"}"#, false),
            (r#""excludes":{"minKernel":"5.12"}"#, true),
            (r#""includes":{"caps":["CAP_CHOWN"]},"excludes":{"arches":["amd64"]}"#, false),
        ];
        for (filter, expected) in cases {
            assert_eq!(only_rule(filter).applies(&to), expected, "{filter}");
        }
    }

    #[test]
    fn conditions_on_one_argument_are_alternatives() {
        let shape = |indices: &[u8]| -> Vec<usize> {
            let args = indices.iter().map(|i| format!(r#"{{"index":{i},"op":"SCMP_CMP_EQ","value":1}}"#));
            let rule = only_rule(&format!(r#""args":[{}]"#, args.collect::<Vec<_>>().join(",")));
            rule.alternatives.iter().map(Vec::len).collect()
        };
        assert_eq!(shape(&[]), [0; 0]);
        assert_eq!(shape(&[0]), [1]);
        assert_eq!(shape(&[0, 5]), [2]);
        assert_eq!(shape(&[0, 1, 0]), [1, 1, 1]);
    }
}
