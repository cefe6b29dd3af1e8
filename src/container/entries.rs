//! Lines that a container's /etc/passwd and /etc/group lack: the user who runs it (`--userns=keep-id`, `--hostuser`) or the
//! number that `--user` named. What they say is decided by the starter and pure; the container's first process adds them.

use super::{
    link::Identity,
    users::{self, Who},
};
use crate::namespaces::{
    mount::{attach, clone_tree, new_filesystem},
    target::open_in_root,
};
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat},
    io::{Errno, Result},
    mount::MountAttrFlags,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
};

/// What was asked for (podman-run(1), `--passwd`, `--passwd-entry`, `--group-entry`, `--hostuser`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// `--passwd=false`: none.
    pub none: bool,
    /// `--passwd-entry`
    pub passwd: Option<String>,
    /// `--group-entry`
    pub group: Option<String>,
    /// Users of the host that the container knows, too: with keep-id the one who made it.
    pub users: Vec<HostUser>,
}

/// A user as the host knows it, with the ids that it has in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostUser {
    /// Login name.
    pub name: String,
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// Full name.
    pub gecos: String,
    /// The name of the group.
    pub group: String,
}

/// How lines get into the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Appended: then useradd(8) and its like can go on with the file.
    Append,
    /// On a copy that covers the file: where the root file system is read-only or the user's own.
    Cover,
    /// Appended for a process that is root, else on a copy: where what changed is about to be removed, which is cheaper when
    /// nothing did.
    AsNeeded,
}

/// The lines for /etc/passwd and /etc/group, which read `passwd` and `group`, of a container whose process is `user` and
/// `asked_group` and starts in `workdir`.
pub fn lines(
    entries: &Entries,
    passwd: &str,
    group: &str,
    user: &Who,
    asked_group: Option<&Who>,
    workdir: &str,
) -> [String; 2] {
    let mut added = [String::new(), String::new()];
    if entries.none {
        return added;
    }
    for host in &entries.users {
        let taken =
            users::has_user(passwd, &host.name, host.uid) || users::has_user(&added[0], &host.name, host.uid);
        if !taken {
            let line = passwd_line(entries, &host.name, host.uid, host.gid, &host.gecos, workdir);
            added[0].push_str(&line);
        }
        let taken = users::has_group(group, &host.group, host.gid)
            || users::has_group(&added[1], &host.group, host.gid);
        if !taken {
            added[1].push_str(&group_line(entries, &host.group, host.gid, &host.name));
        }
    }
    // Without a group its own is 0, as in users::resolve.
    let gid = match asked_group {
        Some(Who::Id(id)) => Some(*id),
        Some(Who::Name(name)) => users::group_number(group, name),
        None => Some(0),
    };
    if let (Who::Id(uid), Some(gid)) = (user, gid)
        && users::user_name(passwd, *uid).or_else(|| users::user_name(&added[0], *uid)).is_none()
    {
        let line = passwd_line(entries, &uid.to_string(), *uid, gid, "container user", workdir);
        added[0].push_str(&line);
    }
    if let Some(Who::Id(gid)) = asked_group
        && users::group_name(group, *gid).or_else(|| users::group_name(&added[1], *gid)).is_none()
    {
        added[1].push_str(&group_line(entries, &gid.to_string(), *gid, &user.to_string()));
    }
    for (text, line) in [passwd, group].into_iter().zip(&mut added) {
        if !line.is_empty() && !text.is_empty() && !text.ends_with('\n') {
            line.insert(0, '\n');
        }
    }
    added
}

fn passwd_line(entries: &Entries, name: &str, uid: u32, gid: u32, gecos: &str, home: &str) -> String {
    let template = entries.passwd.as_deref().unwrap_or("$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh");
    let (uid, gid) = (uid.to_string(), gid.to_string());
    fill(template, &[("$USERNAME", name), ("$UID", &uid), ("$GID", &gid), ("$NAME", gecos), ("$HOME", home)])
}

fn group_line(entries: &Entries, name: &str, gid: u32, member: &str) -> String {
    let template = entries.group.as_deref().unwrap_or("$GROUPNAME:x:$GID:$USERLIST");
    fill(template, &[("$GROUPNAME", name), ("$GID", &gid.to_string()), ("$USERLIST", member)])
}

/// One line, whatever the values hold; none with a line break of its own could be told from two.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut line = template.to_owned();
    for (variable, value) in values {
        let plain: String =
            value.chars().filter(|c| !c.is_control() && (*c != ':' || *variable == "$HOME")).collect();
        line = line.replace(variable, &plain);
    }
    line.retain(|c| c != '\n' && c != '\0');
    line + "\n"
}

/// Add the lines of `identity` to the files below `root`. A file that the image doesn't have, or that is no regular file, is left
/// alone, as Podman does.
pub(super) fn add(root: &OwnedFd, way: &Way, identity: &Identity) -> Result<()> {
    for (path, line) in [c"etc/passwd", c"etc/group"].into_iter().zip(identity.lines()) {
        if line.is_empty() {
            continue;
        }
        let find = |flags| open_in_root(root, path, flags, ResolveFlags::empty());
        let Ok(place) = find(OFlags::PATH) else { continue };
        if FileType::from_raw_mode(fstat(&place)?.st_mode) != FileType::RegularFile {
            continue;
        }
        let failed = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
        match way {
            Way::Append => append(find(OFlags::WRONLY | OFlags::APPEND)?, line)?,
            Way::AsNeeded if identity.uid == 0 => append(find(OFlags::WRONLY | OFlags::APPEND)?, line)?,
            _ => {
                let tmpfs = new_filesystem(
                    c"tmpfs",
                    &[],
                    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
                )?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
                let mut copy = File::from(openat(&tmpfs, c"file", flags, Mode::from_raw_mode(0o644))?);
                let mut text = Vec::new();
                let mut file = File::from(find(OFlags::RDONLY)?).take(users::FILE_LIMIT);
                file.read_to_end(&mut text)
                    .and_then(|_| copy.write_all(&text))
                    .and_then(|()| copy.write_all(line))
                    .map_err(failed)?;
                rustix::fs::fchmod(&copy, Mode::from_raw_mode(0o644))?;
                attach(clone_tree(&tmpfs, c"file", false)?, place)?;
            }
        }
    }
    Ok(())
}

fn append(file: OwnedFd, line: &[u8]) -> Result<()> {
    File::from(file).write_all(line).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\napp:x:1000:";

    fn alice(uid: u32) -> Entries {
        let user =
            HostUser { name: "alice".into(), uid, gid: uid, gecos: "Alice".into(), group: "staff".into() };
        Entries { users: vec![user], ..Entries::default() }
    }

    fn added(entries: &Entries, user: &str, group: Option<&str>) -> [String; 2] {
        let who = |text: &str| text.parse::<Who>().unwrap();
        lines(entries, PASSWD, GROUP, &who(user), group.map(who).as_ref(), "/w")
    }

    #[test]
    fn who_is_missing() {
        let nothing = ["", ""].map(str::to_owned);
        let plain = Entries::default();
        assert_eq!(added(&plain, "root", None), nothing);
        assert_eq!(added(&plain, "1000", Some("1000")), nothing);
        assert_eq!(added(&plain, "nobody", None), nothing);
        assert_eq!(added(&plain, "7", None), ["7:*:7:0:container user:/w:/bin/sh\n", ""]);
        assert_eq!(added(&plain, "7", Some("8")), ["7:*:7:8:container user:/w:/bin/sh\n", "\n8:x:8:7\n"]);
        assert_eq!(added(&plain, "7", Some("app")), ["7:*:7:1000:container user:/w:/bin/sh\n", ""]);
        assert_eq!(added(&Entries { none: true, ..Entries::default() }, "7", Some("8")), nothing);
        let expected = ["alice:*:1001:1001:Alice:/w:/bin/sh\n", "\nstaff:x:1001:alice\n"];
        assert_eq!(added(&alice(1001), "1001", Some("1001")), expected);
        assert_eq!(added(&alice(1001), "0", None), expected);
        assert_eq!(added(&alice(1000), "1000", Some("1000")), nothing, "the image knows the number");
    }

    #[test]
    fn templates_make_one_line() {
        let mut entries = alice(1001);
        entries.passwd = Some("$USERNAME:x:$UID:$GID:$NAME!:/h/$USERNAME:/bin/zsh\nroot2::0:0".into());
        entries.group = Some("$GROUPNAME:!:$GID:x,$USERLIST".into());
        entries.users[0].gecos = "A:l\nice".into();
        let [passwd, group] = added(&entries, "1001", None);
        assert_eq!(passwd, "alice:x:1001:1001:Alice!:/h/alice:/bin/zshroot2::0:0\n");
        assert_eq!(group, "\nstaff:!:1001:x,alice\n");
    }
}
