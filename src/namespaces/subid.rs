//! Subordinate ids: the ranges that subuid(5) and subgid(5) give to a user.

use super::user::IdRange;
use anyhow::{Context, Result, bail};
use rustix::process::getuid;
use std::{env, fs, path::Path};

/// Whose lines count: those with the user's name or number.
#[derive(Debug)]
pub struct Owner {
    /// Nobody's when a user has none.
    name: Option<String>,
    number: String,
}

impl Owner {
    /// The user who runs us. The name is read from /etc/passwd, else from the environment (a directory service's users
    /// have no line there).
    pub fn current() -> Owner {
        let number = getuid().as_raw().to_string();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = name_of(&passwd, &number).map(str::to_owned).or_else(|| env::var("USER").ok());
        let name = name.filter(|name| !name.is_empty());
        Owner { name, number }
    }

    /// The owner of the ranges under `name`, a user's or a group's (podman-run(1), `--subuidname`).
    pub fn named(name: &str) -> Owner {
        Owner { name: Some(name.to_owned()), number: String::new() }
    }

    /// The map that `file` allows: `own` as 0, and every range of this owner after it, in the file's order.
    ///
    /// # Errors
    /// The file can't be read or has no line for this owner.
    pub fn ranges(&self, file: &Path, own: u32) -> Result<Vec<IdRange>> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let ranges = self.parse(&text, own);
        if ranges.len() < 2 {
            let who = self.name.as_ref().unwrap_or(&self.number);
            bail!("{} has no line for user {who}", file.display());
        }
        Ok(ranges)
    }

    /// [`Owner::ranges`] of a file's text; pure.
    pub fn parse(&self, text: &str, own: u32) -> Vec<IdRange> {
        let mut map = vec![IdRange { inside: 0, host: own, count: 1 }];
        let mut inside = 1u32;
        for line in text.lines() {
            let mut fields = line.trim().split(':');
            let owner = fields.next().unwrap_or_default();
            if owner.is_empty() || (Some(owner) != self.name.as_deref() && owner != self.number) {
                continue;
            }
            let mut number = || fields.next().and_then(|n| n.parse::<u32>().ok());
            let (Some(host), Some(count)) = (number(), number()) else { continue };
            let next = inside.checked_add(count);
            // One id can't appear twice in a map; the kernel takes at most 340 lines (user_namespaces(7)).
            let overlaps = map.iter().any(|r| overlap((r.host, r.count), (host, count)));
            let (Some(next), Some(_), false) = (next, host.checked_add(count), overlaps) else { continue };
            if count == 0 || map.len() == 340 {
                continue;
            }
            map.push(IdRange { inside, host, count });
            inside = next;
        }
        map
    }
}

fn overlap(a: (u32, u32), b: (u32, u32)) -> bool {
    let (a_start, a_end) = (u64::from(a.0), u64::from(a.0) + u64::from(a.1));
    let (b_start, b_end) = (u64::from(b.0), u64::from(b.0) + u64::from(b.1));
    a_start < b_end && b_start < a_end
}

/// The name in the first passwd(5) line whose uid is `number`.
fn name_of<'a>(passwd: &'a str, number: &str) -> Option<&'a str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_users_and_bad_lines_are_passed_over() {
        let owner = Owner { name: Some("alice".into()), number: "1000".into() };
        let range = |inside, host, count| IdRange { inside, host, count };
        let cases: [(&str, &[IdRange]); 7] = [
            ("", &[range(0, 1000, 1)]),
            ("bob:100000:65536\n", &[range(0, 1000, 1)]),
            ("alice:100000:65536\n", &[range(0, 1000, 1), range(1, 100_000, 65536)]),
            ("1000:5:2\nalice:100000:3", &[range(0, 1000, 1), range(1, 5, 2), range(3, 100_000, 3)]),
            ("alice:x:3\nalice:1\nalice::\nalice:7:0\n:1:1", &[range(0, 1000, 1)]),
            ("alice:4294967295:2\nalice:1:4294967295", &[range(0, 1000, 1)]),
            ("alice:1000:5\nalice:10:5\nalice:12:1", &[range(0, 1000, 1), range(1, 10, 5)]),
        ];
        for (text, expected) in cases {
            assert_eq!(owner.parse(text, 1000), expected, "{text:?}");
        }
    }

    #[test]
    fn names_come_from_the_third_field() {
        let passwd = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(name_of(passwd, "1000"), Some("alice"));
        assert_eq!(name_of(passwd, "1"), None);
    }

    #[test]
    fn a_user_without_a_name_is_called_by_number() {
        let nobody = Owner { name: None, number: "4711".into() };
        let refusal = nobody.ranges(Path::new("/dev/null"), 4711).unwrap_err();
        assert_eq!(refusal.to_string(), "/dev/null has no line for user 4711");
    }
}
