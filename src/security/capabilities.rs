//! Which capabilities a container gets: `--cap-add`, `--cap-drop`, `--privileged`.

pub use super::capset::CapSet;
use crate::error::Explain;
use anyhow::{Result, anyhow, bail};
use caps::Capability;
use nix::unistd::geteuid;

/// The bounding set that `--cap-add`, `--cap-drop` (comma-separated names or `ALL` in each item) and `--privileged` ask
/// for. `ALL` dropped leaves what is added; `ALL` added, and `--privileged`, leave everything but what is dropped.
///
/// # Errors
/// An unknown name; a capability both added and dropped; one added by name that `ctr` doesn't have itself.
pub fn select(add: &[String], drop: &[String], privileged: bool) -> Result<CapSet> {
    let (add, drop) = (Asked::parse("--cap-add", add)?, Asked::parse("--cap-drop", drop)?);
    let wanted = merge(&add, &drop, privileged, all_of_kernel)?;
    // Only root meets a limit here: the others get a user namespace, whose bounding set starts full (user_namespaces(7)).
    let held = if geteuid().is_root() { bounding(wanted) } else { wanted };
    let missing = add.named.difference(drop.named).difference(held).intersection(wanted);
    if !missing.is_empty() {
        return Err(anyhow!("--cap-add {missing}: not in the bounding set of ctr itself"))
            .hint("start ctr outside of the service or container that took it away");
    }
    Ok(held)
}

/// Every capability that a container of this caller can have.
pub fn all_of_kernel() -> CapSet {
    let known = CapSet::from_bits(u64::MAX).iter().fold(CapSet::EMPTY, |set, c| set.union(CapSet::of(&[c])));
    if geteuid().is_root() {
        return bounding(known);
    }
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
    match last.and_then(|text| text.trim().parse::<u32>().ok()) {
        Some(last) if last < 63 => known.intersection(CapSet::from_bits((1 << (last + 1)) - 1)),
        _ => known,
    }
}

/// What one of the two options names.
struct Asked {
    all: bool,
    named: CapSet,
}

impl Asked {
    fn parse(option: &str, items: &[String]) -> Result<Asked> {
        let mut asked = Asked { all: false, named: CapSet::EMPTY };
        for name in items.iter().flat_map(|item| item.split(',')) {
            if name.eq_ignore_ascii_case("all") {
                asked.all = true;
            } else {
                let named = CapSet::named(name).ok_or_else(|| anyhow!("{option} {name}: unknown capability"));
                asked.named = asked.named.union(named.hint(
                    "`man 7 capabilities` lists them; CAP_NET_ADMIN, net_admin and ALL are all understood",
                )?);
            }
        }
        Ok(asked)
    }
}

fn merge(add: &Asked, drop: &Asked, privileged: bool, all: impl FnOnce() -> CapSet) -> Result<CapSet> {
    if add.all && drop.all {
        bail!("--cap-add ALL and --cap-drop ALL contradict each other");
    }
    if drop.all {
        return Ok(add.named);
    }
    let both = add.named.intersection(drop.named);
    if !add.all && !both.is_empty() {
        bail!("{both} cannot be both added and dropped");
    }
    let base = if add.all || privileged { all() } else { CapSet::DEFAULT };
    Ok(base.union(add.named).difference(drop.named))
}

/// Those of `wanted` in our bounding set; the kernel answers EINVAL for a capability newer than itself.
fn bounding(wanted: CapSet) -> CapSet {
    let held = |c: &Capability| caps::has_cap(None, caps::CapSet::Bounding, *c).unwrap_or(false);
    wanted.iter().filter(held).fold(CapSet::EMPTY, |set, c| set.union(CapSet::of(&[c])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: CapSet = CapSet::from_bits((1 << 41) - 1);

    fn chosen(add: &str, drop: &str, privileged: bool) -> Result<String> {
        let items = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
        let (add, drop) =
            (Asked::parse("--cap-add", &items(add))?, Asked::parse("--cap-drop", &items(drop))?);
        let set = merge(&add, &drop, privileged, || EVERYTHING)?;
        Ok(set.to_string().replace("CAP_", "").to_lowercase())
    }

    #[test]
    fn default_is_podmans_eleven() {
        // The mask as `grep CapBnd /proc/self/status` prints it in a container of Podman 4.
        assert_eq!(CapSet::DEFAULT.bits(), 0x800405fb);
        assert_eq!(CapSet::DEFAULT.iter().count(), 11);
    }

    #[test]
    fn merges_like_podman() -> Result<()> {
        let default = chosen("", "", false)?;
        let all = EVERYTHING.to_string().replace("CAP_", "").to_lowercase();
        assert_eq!(chosen("", "all", false)?, "");
        assert_eq!(chosen("NET_ADMIN,cap_chown Sys_Time", "ALL", false)?, "chown net_admin sys_time");
        assert_eq!(chosen("ALL", "", false)?, all);
        assert_eq!(chosen("all", "CAP_BPF", false)?, all.replace("bpf ", ""));
        assert_eq!(chosen("", "", true)?, all);
        assert_eq!(chosen("", "bpf", true)?, all.replace("bpf ", ""));
        assert_eq!(chosen("", "all", true)?, "");
        assert_eq!(chosen("chown", "", false)?, default);
        assert_eq!(chosen("", "net_admin", false)?, default);
        assert_eq!(chosen("", "chown", false)?, default.replace("chown ", ""));
        Ok(())
    }

    #[test]
    fn refuses_contradictions_and_unknown_names() {
        let refused = |add, drop| format!("{:#}", chosen(add, drop, false).unwrap_err());
        assert_eq!(refused("net_raw", "cap_net_raw"), "CAP_NET_RAW cannot be both added and dropped");
        assert!(refused("ALL", "ALL").contains("contradict"));
        for bad in ["NET_ADMON", "CAP_", "", "CHOWN\n", "CAP_CAP_CHOWN", "ALLE", "\u{0}"] {
            let error = Asked::parse("--cap-add", &[bad.into()]).err().unwrap();
            assert_eq!(format!("{error:#}"), format!("--cap-add {bad}: unknown capability"));
            assert!(crate::error::hint(&error).unwrap().contains("capabilities"));
        }
    }

    #[test]
    fn everything_is_within_the_kernel() {
        let all = all_of_kernel();
        assert_eq!(all.intersection(EVERYTHING), all);
        assert!(!all.contains(Capability::CAP_SYS_ADMIN) || all.contains(Capability::CAP_CHOWN));
    }
}
