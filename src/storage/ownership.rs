//! Whose files a layer holds, and what becomes of owners that the user namespace has no id for. Pure.

use anyhow::{Context, Result};

/// Records an owner, mode or device that the file itself can't have: the field's format, from containers/storage, which
/// fuse-overlayfs reads (fuse-overlayfs(1), `xattr_permissions`).
pub const OVERRIDE_STAT: &str = "user.containers.override_stat";

/// The ids that exist in a user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids(Vec<(u64, u64)>);

impl Ids {
    /// Read /proc/PID/uid_map or gid_map (user_namespaces(7)): `inside outside count` on each line.
    pub fn parse(map: &str) -> Result<Ids> {
        let range = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
            let (first, count) = (numbers.next()?.ok()?, numbers.nth(1)?.ok()?);
            Some((first, count))
        };
        let ranges = map.lines().map(|line| range(line).with_context(|| format!("id map line {line:?}")));
        ranges.collect::<Result<_>>().map(Ids)
    }

    /// Does `id` exist?
    pub fn contains(&self, id: u64) -> bool {
        self.0.iter().any(|&(first, count)| id >= first && id - first < count)
    }

    /// Is this the initial user namespace, where each id is itself?
    pub fn is_everyone(&self) -> bool {
        self.0 == [(0, u64::from(u32::MAX))]
    }
}

/// The value of [`OVERRIDE_STAT`]; `kind` is `file`, `dir`, `char-MAJOR-MINOR` or `block-MAJOR-MINOR`.
pub fn override_stat(uid: u64, gid: u64, mode: u32, kind: &str) -> String {
    format!("{uid}:{gid}:{mode:04o}:{kind}")
}

/// Owner and group that a value of [`OVERRIDE_STAT`] names.
pub fn recorded_owner(value: &[u8]) -> Option<(u32, u32)> {
    let mut fields = std::str::from_utf8(value).ok()?.split(':').map(|field| field.parse().ok());
    Some((fields.next()??, fields.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_maps() {
        let rootless =
            Ids::parse("         0       1000          1\n         1     100000      65536\n").unwrap();
        for (id, exists) in [(0, true), (1, true), (65536, true), (65537, false), (u64::MAX, false)] {
            assert_eq!(rootless.contains(id), exists, "{id}");
        }
        assert!(!rootless.is_everyone());
        let initial = Ids::parse("         0          0 4294967295\n").unwrap();
        assert!(initial.is_everyone() && initial.contains(4_294_967_294) && !initial.contains(4_294_967_295));
        assert!(Ids::parse("0 1").is_err() && Ids::parse("a b c").is_err());
        assert!(!Ids::parse("").unwrap().contains(0));
    }

    #[test]
    fn recorded_owners() {
        assert_eq!(override_stat(70000, 5, 0o644, "file"), "70000:5:0644:file");
        assert_eq!(override_stat(0, 0, 0o4755, "char-1-3"), "0:0:4755:char-1-3");
        assert_eq!(recorded_owner(b"70000:5:0644:file"), Some((70000, 5)));
        assert_eq!((recorded_owner(b"x:5"), recorded_owner(b"5"), recorded_owner(b"")), (None, None, None));
    }
}
