//! Who a container's process is: `USER[:GROUP]` looked up in the container's own /etc/passwd and /etc/group, by the
//! rules that runc and Podman share. The files are hostile: parsed as text, bounded, never through the C library.

use crate::{error::Explain, namespaces::Mapping, weakened};
use anyhow::{Result, anyhow, bail};
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2},
    io::Errno,
};
use std::{fmt, fs::File, io::Read, os::fd::BorrowedFd, str::FromStr};

/// A user or a group, by number or by name. All digits is always a number, as everywhere in the field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Who {
    /// 0 to 4294967294: the largest 32-bit value means "no change" to setresuid(2).
    Id(u32),
    /// To be found in the container's files.
    Name(String),
}

/// `USER[:GROUP]`. Empty parts mean root and "the user's own group".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserSpec {
    /// The user.
    pub user: Who,
    /// A group in place of the user's own; it also turns the user's supplementary groups off.
    pub group: Option<Who>,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Id(id) => write!(f, "{id}"),
            Who::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => write!(f, "{}", self.user),
        }
    }
}

/// A process's ids, settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// For setgroups(2): `gid` first (without it, a group's missing permission could be shed), each once.
    pub groups: Vec<u32>,
    /// Absolute, without control characters.
    pub home: String,
}

/// So much of each file is read, whole lines. What lies beyond is not found.
pub const FILE_LIMIT: u64 = 1 << 20;
/// A user in more groups than this is refused.
pub const GROUPS_LIMIT: usize = 256;

/// Look `user` up in /etc/passwd and /etc/group below the directory `root`, adding the groups of `--group-add`.
///
/// # Errors
/// A name that is not there; more than [`GROUPS_LIMIT`] groups; a file that can't be read. A missing file, and one that
/// is no regular file, count as empty.
pub fn lookup(root: BorrowedFd<'_>, user: &UserSpec, group_add: &[Who]) -> Result<Identity> {
    let (passwd, group) = read(root)?;
    resolve(&passwd, &group, user, group_add)
}

/// The texts that [`lookup`] looks in.
pub fn read(root: BorrowedFd<'_>) -> Result<(String, String)> {
    Ok((read_below(root, "etc/passwd")?, read_below(root, "etc/group")?))
}

/// [`lookup`] in the texts themselves.
pub fn resolve(passwd: &str, group: &str, user: &UserSpec, group_add: &[Who]) -> Result<Identity> {
    let entry = passwd.lines().filter_map(PasswdEntry::parse).find(|entry| match &user.user {
        Who::Id(id) => entry.uid == *id,
        Who::Name(name) => entry.name == name,
    });
    let uid = match (&entry, &user.user) {
        (Some(entry), _) => entry.uid,
        (None, Who::Id(id)) => *id,
        (None, Who::Name(name)) => return not_found("user", name, "passwd"),
    };
    let gid = match &user.group {
        Some(asked) => group_id(group, asked)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let mut groups = vec![gid];
    if let (Some(entry), None) = (&entry, &user.group) {
        let memberships = group.lines().filter_map(GroupEntry::parse);
        for id in memberships.filter(|g| g.members.split(',').any(|m| m == entry.name)).map(|g| g.gid) {
            join(&mut groups, id)?;
        }
    }
    for asked in group_add {
        join(&mut groups, group_id(group, asked)?)?;
    }
    let home = entry.map(|entry| entry.home).filter(|home| usable(home));
    let home = home.unwrap_or(if uid == 0 { "/root" } else { "/" }).to_owned();
    Ok(Identity { uid, gid, groups, home })
}

impl Default for UserSpec {
    fn default() -> UserSpec {
        UserSpec { user: Who::Id(0), group: None }
    }
}

impl FromStr for UserSpec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<UserSpec> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let part = |text: &str| if text.is_empty() { Ok(None) } else { text.parse().map(Some) };
        Ok(UserSpec { user: part(user)?.unwrap_or(Who::Id(0)), group: part(group)? })
    }
}

impl FromStr for Who {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Who> {
        if let Some(id) = number(text) {
            return Ok(Who::Id(id));
        }
        let shown: String = text.chars().take(40).collect();
        if text.bytes().all(|b| b.is_ascii_digit()) {
            bail!("{shown:?} is no id of 0 to 4294967294");
        }
        // A leading sign is a number gone wrong; a colon or a line break could never match a line.
        let plain = !text.contains(|c: char| c.is_control() || c == ':' || c == ',');
        if !plain || text.starts_with(['-', '+']) || text.len() > 256 {
            bail!("{shown:?} is neither a name nor a number");
        }
        Ok(Who::Name(text.to_owned()))
    }
}

/// What /etc/passwd calls user `id`.
pub fn user_name(passwd: &str, id: u32) -> Option<&str> {
    passwd.lines().filter_map(PasswdEntry::parse).find(|entry| entry.uid == id).map(|entry| entry.name)
}

/// What /etc/group calls group `id`.
pub fn group_name(group: &str, id: u32) -> Option<&str> {
    group.lines().filter_map(GroupEntry::parse).find(|entry| entry.gid == id).map(|entry| entry.name)
}

/// Whether /etc/passwd has a user of this name or number.
pub fn has_user(passwd: &str, name: &str, id: u32) -> bool {
    passwd.lines().filter_map(PasswdEntry::parse).any(|entry| entry.name == name || entry.uid == id)
}

/// Whether /etc/group has a group of this name or number.
pub fn has_group(group: &str, name: &str, id: u32) -> bool {
    group.lines().filter_map(GroupEntry::parse).any(|entry| entry.name == name || entry.gid == id)
}

/// The number of group `name` in /etc/group.
pub fn group_number(group: &str, name: &str) -> Option<u32> {
    group.lines().filter_map(GroupEntry::parse).find(|entry| entry.name == name).map(|entry| entry.gid)
}

/// The largest number that either file names.
pub fn largest_id(passwd: &str, group: &str) -> u32 {
    let users = passwd.lines().filter_map(PasswdEntry::parse).map(|entry| entry.uid.max(entry.gid));
    let groups = group.lines().filter_map(GroupEntry::parse).map(|entry| entry.gid);
    users.chain(groups).max().unwrap_or(0)
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl PasswdEntry<'_> {
    /// passwd(5). A line whose ids are not numbers is no entry: read as 0 it would make its user root.
    fn parse(line: &str) -> Option<PasswdEntry<'_>> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (uid, gid) = (number(fields.nth(1)?)?, number(fields.next()?)?);
        Some(PasswdEntry { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    }
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl GroupEntry<'_> {
    /// group(5).
    fn parse(line: &str) -> Option<GroupEntry<'_>> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = number(fields.nth(1)?)?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or_default() })
    }
}

fn group_id(group: &str, asked: &Who) -> Result<u32> {
    match asked {
        Who::Id(id) => Ok(*id),
        Who::Name(name) => match group.lines().filter_map(GroupEntry::parse).find(|g| g.name == name) {
            Some(entry) => Ok(entry.gid),
            None => not_found("group", name, "group"),
        },
    }
}

fn join(groups: &mut Vec<u32>, id: u32) -> Result<()> {
    if groups.contains(&id) {
        return Ok(());
    }
    if groups.len() == GROUPS_LIMIT {
        return Err(anyhow!("the user is in more than {GROUPS_LIMIT} groups of the image's /etc/group"))
            .hint("name one group, as in --user 1000:1000");
    }
    groups.push(id);
    Ok(())
}

/// Digits only: no sign, no hexadecimal.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parse = || match weakened::is("user-ids") {
        true => text.parse().ok().map(|id: u64| id as u32),
        false => text.parse().ok(),
    };
    digits.then(parse).flatten().filter(|id| *id != u32::MAX)
}

fn usable(home: &str) -> bool {
    let printable = !home.contains(char::is_control) || weakened::is("home-characters");
    home.starts_with('/') && home.len() <= 1024 && printable
}

fn not_found<T>(what: &str, name: &str, file: &str) -> Result<T> {
    Err(anyhow!("look up {what} {name:?}: not in the image's /etc/{file}"))
        .hint("name one that is there, or give numbers, as in --user 1000:1000")
}

/// At most [`FILE_LIMIT`] of a regular file below `root`, cut at a line's end.
pub(super) fn read_below(root: BorrowedFd<'_>, path: &str) -> Result<String> {
    // Symbolic links of the image resolve inside the image.
    let open = |flags| {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), inside)
    };
    // Looked at before it is opened: to open a device or a FIFO has effects of its own.
    let explain = |cause| anyhow!("read /{path} of the container: {cause}");
    match open(OFlags::PATH).and_then(fstat) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
        Ok(_) if weakened::is("regular-users") => {}
        // Not to be seen is not the same as not to be there.
        Err(Errno::ACCESS) => return Err(explain(Errno::ACCESS.into())),
        _ => return Ok(String::new()),
    }
    let limit = if weakened::is("passwd-size") { u64::MAX } else { FILE_LIMIT + 1 };
    let mut text = Vec::new();
    open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
        .map_err(std::io::Error::from)
        .and_then(|file| File::from(file).take(limit).read_to_end(&mut text))
        .map_err(explain)?;
    if text.len() as u64 > FILE_LIMIT {
        text.truncate(text.iter().rposition(|b| *b == b'\n').unwrap_or(0));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Whether these ids can be had: the kernel would say no more than EINVAL.
pub fn exist(mapping: &Mapping, who: &Identity) -> Result<()> {
    // A namespace of one id keeps its caller's groups in place of these.
    let groups = if matches!(mapping, Mapping::Single { .. }) { &who.groups[..1] } else { &who.groups };
    if mapping.has_user(who.uid) && groups.iter().all(|gid| mapping.has_group(*gid)) {
        return Ok(());
    }
    Err(anyhow!("run as user {}, groups {groups:?}: these ids are beyond the subordinate ids of this user", who.uid))
        .hint("`ctr info` shows which there are; `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER` adds some")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{fs, os::fd::AsFd, time::Instant};

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        # comment\n\
        short\n\
        overflow:x:4294967296:0::/:\n\
        minus:x:-1:0::/:\n\
        hex:x:0x0:0x0::/:\n\
        app:x:1000:1000:App:/home/app:/bin/sh\n\
        1000:x:5:5::/digits:\n\
        app:x:7:7::/second:\n\
        bare:x:8:9\n\
        odd:x:10:10::relative/home:\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\napp:x:1000:\naudio:x:29:app\nagain:x:29:app\nbroken:x:y:app\n77:x:78:\n";

    fn identity(text: &str, add: &[&str]) -> Result<Identity> {
        let add: Result<Vec<Who>> = add.iter().map(|who| who.parse()).collect();
        resolve(PASSWD, GROUP, &text.parse()?, &add?)
    }

    #[test]
    fn users_and_groups() {
        for (text, add, uid, gid, groups, home) in [
            ("", &[][..], 0, 0, &[0, 10][..], "/root"),
            ("root", &[], 0, 0, &[0, 10], "/root"),
            ("0", &[], 0, 0, &[0, 10], "/root"),
            ("app", &[], 1000, 1000, &[1000, 10, 29], "/home/app"),
            ("1000", &[], 1000, 1000, &[1000, 10, 29], "/home/app"),
            ("1000:", &[], 1000, 1000, &[1000, 10, 29], "/home/app"),
            ("app:wheel", &[], 1000, 10, &[10], "/home/app"),
            ("app:5", &[], 1000, 5, &[5], "/home/app"),
            ("4242", &[], 4242, 0, &[0], "/"),
            ("4242:4343", &[], 4242, 4343, &[4343], "/"),
            ("4294967294", &[], 4294967294, 0, &[0], "/"),
            (":audio", &[], 0, 29, &[29], "/root"),
            ("app:77", &[], 1000, 77, &[77], "/home/app"),
            ("bare", &[], 8, 9, &[9], "/"),
            ("odd", &[], 10, 10, &[10], "/"),
            ("4242", &["audio", "29", "6"], 4242, 0, &[0, 29, 6], "/"),
            ("app:app", &["wheel"], 1000, 1000, &[1000, 10], "/home/app"),
        ] {
            let found = identity(text, add).unwrap();
            let expected = Identity { uid, gid, groups: groups.to_vec(), home: home.into() };
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn refused() {
        for bad in [
            "4294967296",
            "4294967295",
            "-1",
            "+1",
            "0x0",
            "overflow",
            "minus",
            "hex",
            "short",
            "nobody",
            "app:nogroup",
            "app:4294967296",
            "app:-1",
            "app:broken",
            "a\nb",
            "app:app:app",
            "root\n",
            "#",
            "99999999999999999999",
        ] {
            assert!(identity(bad, &[]).is_err(), "{bad}");
        }
        assert!(identity("app", &["nogroup"]).is_err());
        let many: String = (1..=400).map(|id| format!("g{id}:x:{id}:app\n")).collect();
        assert!(resolve(PASSWD, &many, &"app".parse().unwrap(), &[]).is_err());
        assert!(resolve(PASSWD, &many, &"app:1".parse().unwrap(), &[]).is_ok());
    }

    #[test]
    fn without_files_root_is_still_root() {
        let root = resolve("", "", &UserSpec::default(), &[]).unwrap();
        assert_eq!(root, Identity { uid: 0, gid: 0, groups: vec![0], home: "/root".into() });
    }

    #[test]
    fn hostile_files() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        fs::create_dir(&etc).unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        let look = |text: &str| lookup(root.as_fd(), &text.parse().unwrap(), &[]);
        let start = Instant::now();

        assert_eq!(look("5").unwrap().uid, 5, "no files at all");

        rustix::fs::mknodat(rustix::fs::CWD, etc.join("passwd"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(look("5").unwrap().uid, 5, "a FIFO");
        assert!(look("app").is_err());
        fs::remove_file(etc.join("passwd")).unwrap();

        fs::write(etc.join("passwd"), PASSWD).unwrap();
        fs::write(etc.join("group"), GROUP).unwrap();
        File::options().write(true).open(etc.join("group")).unwrap().set_len(2 << 30).unwrap();
        assert_eq!(look("app").unwrap().groups, [1000, 10, 29], "a file of 2 GiB");
        fs::remove_file(etc.join("passwd")).unwrap();

        std::os::unix::fs::symlink("/etc/passwd", etc.join("loop")).unwrap();
        std::os::unix::fs::symlink("/../../etc/inner", etc.join("passwd")).unwrap();
        assert!(look("root").is_err(), "the host's file is out of reach");
        fs::write(etc.join("inner"), PASSWD).unwrap();
        assert_eq!(look("app").unwrap().uid, 1000, "a link inside the root");
        fs::remove_file(etc.join("passwd")).unwrap();
        std::os::unix::fs::symlink("/proc/self/fd/0", etc.join("passwd")).unwrap();
        assert_eq!(look("5").unwrap().uid, 5);

        assert!(start.elapsed().as_secs() < 5);
    }

    proptest! {
        #[test]
        fn nothing_panics(spec: String, passwd: String, group: String) {
            if let Ok(spec) = spec.parse() {
                let _ = resolve(&passwd, &group, &spec, &[Who::Name("a".into())]);
            }
        }

        #[test]
        fn numbers_are_kept(uid in 0..u32::MAX, gid in 0..u32::MAX) {
            let spec = format!("{uid}:{gid}").parse().unwrap();
            let found = resolve("", "", &spec, &[]).unwrap();
            prop_assert_eq!((found.uid, found.gid), (uid, gid));
        }
    }
}
